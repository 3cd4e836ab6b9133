"""What a message of a broker holds: how lists of values become rows, and rows become values.

A *format* is a frozen value that travels with the plan; what it opens in the subtask decodes or
encodes a batch of values at a time. Every value stands alone: one that is broken takes no
neighbour with it, and rows keep the order of their values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.errors import PlanError, RaystreamError, SourceError
from raystream.flow.batch import Int64s
from raystream.operators.guard import attempt
from raystream.operators.rejecting import by_halves

Rows: TypeAlias = pa.RecordBatch | list[Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows, and the place of the value that each was in; None: one row a value.

    Shapes: rows [n], places int64 [n].
    """

    rows: Rows
    places: Int64s | None = None


Decode: TypeAlias = Callable[[Sequence[bytes]], Decoded]
"""Makes rows of values. Raises: SourceError if any of them is broken."""

Encode: TypeAlias = Callable[[Rows], pa.Array]
"""Makes a binary column of values, one a row. Raises: SinkError for rows that have no such form."""


class Format(Protocol):
    """How values are written; picklable, and never with a secret in its ``repr``."""

    @property
    def name(self) -> str:
        """The word for it in ``explain``."""

    def columns(self, schema: pa.Schema | None) -> pa.Schema | None:
        """Give the columns of the values; ``schema`` is what the user asks for.

        None makes an object stream. Raises: PlanError for a schema that this format cannot give.
        """

    def decoder(self, columns: pa.Schema | None) -> Decode:
        """Open what reads values; called where they are read."""

    def encoder(self) -> Encode:
        """Open what makes values; called where they are written."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a batch of values held: rows, the place of the value of each, and what is broken."""

    rows: Rows
    places: Int64s
    broken: tuple[tuple[int, RaystreamError], ...] = ()


def decoded(values: Sequence[bytes | None], decode: Decode, nothing: Rows) -> Found:
    """Decode values, whatever is broken among them; ``nothing`` is a batch of no rows.

    A value that is not there (a tombstone) is broken: it holds no row.
    """
    whole = None not in values
    there: Sequence[int] = range(len(values))
    given: Sequence[Any] = values
    if not whole:
        there = [place for place, value in enumerate(values) if value is not None]
        given = [values[place] for place in there]
    parts: list[tuple[int, int, Decoded]] = []

    def some(start: int, count: int) -> None:
        parts.append((start, count, decode(given[start : start + count])))

    failures = by_halves(len(given), some)[1] if given else []
    places = [
        np.arange(start, start + count) if part.places is None else part.places + start
        for start, count, part in parts
    ]
    at = np.concatenate(places) if places else np.empty(0, np.int64)
    if not whole:
        at = np.asarray(there, np.int64)[at]
    broken = [(there[place], error) for place, error in failures]
    missing = set(range(len(values))).difference(there) if not whole else ()
    broken += [(place, SourceError("the message has no value: a tombstone")) for place in missing]
    rows = _joined([part.rows for _, _, part in parts], nothing)
    return Found(rows, at, tuple(sorted(broken, key=lambda one: one[0])))


def each_decoded(
    values: Sequence[bytes],
    read: Callable[[bytes], Any],
    columns: pa.Schema | None,
    name: str,
) -> Decoded:
    """Read values one by one, for formats that have no columns; dicts become columns, if any.

    Raises: SourceError if one of them is broken; ConnectionError goes through.
    """
    outcome = attempt(lambda: [read(value) for value in values])
    if isinstance(outcome, RaystreamError | ConnectionError):
        raise outcome
    if isinstance(outcome, Exception):
        raise SourceError(f"the value cannot be read as {name}: {outcome!r:.200}") from outcome
    if columns is None:
        return Decoded(outcome)
    try:
        return Decoded(pa.RecordBatch.from_pylist(outcome, columns))
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise SourceError(f"the value does not fit the schema: {error}") from error


def unknown_format(name: object, known: Sequence[str]) -> PlanError:
    """Say that there is no such format."""
    return PlanError(f"unknown format {name!r:.60}", hint=f"known: {', '.join(known)}")


def _joined(parts: list[Rows], nothing: Rows) -> Rows:
    if len(parts) == 1:
        return parts[0]
    if isinstance(nothing, list):
        return [row for part in parts for row in part]
    return pa.concat_batches([nothing, *parts])
