"""The rows of a batch as a window takes them: with keys, event times and places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any, TypeAlias

from raystream.flow.batch import NO_TIME, Batch, Int64s, Objects
from raystream.flow.key import canonical_keys
from raystream.operators.pyrows import to_rows, to_values

Row: TypeAlias = tuple[Any, Any, Any, int | None, int]
"""A row, its key as users know it, its canonical key, its event time or None, its place."""


@dataclass(frozen=True, slots=True, eq=False)
class Incoming:
    """Rows, and what belongs to each."""

    rows: list[Any]
    keys: Sequence[Any] | None
    ids: Sequence[Any] | None
    times: list[Any] | None

    def walk(self, left: Iterator[Any]) -> Iterator[Row]:
        """Go through rows; ``left`` is an iterator over them, that tells how far it has come."""
        keys: Any = repeat(None) if self.keys is None else self.keys
        ids: Any = repeat(None) if self.ids is None else self.ids
        times: Any = repeat(None) if self.times is None else self.times
        return zip(left, keys, ids, times, count())


def read_rows(batch: Batch, keys: Sequence[str], times: Int64s | None) -> Incoming:
    """Read the rows of a batch, and the key of each.

    ``keys`` are the key columns of a columnar batch, and tell of an object batch only whether the
    keys that it carries matter: behind ``key_by`` it has some, also where all rows are one.
    """
    moments: list[Any] | None = None if times is None else times.tolist()
    if moments is not None and NO_TIME in moments:
        moments = [None if time == NO_TIME else time for time in moments]
    if isinstance(batch, Objects):
        if not keys:
            return Incoming(batch.values, None, None, moments)
        assert batch.keys is not None, "a keyed object stream carries its keys"
        return Incoming(batch.values, batch.keys, canonical_keys(batch.keys), moments)
    rows = to_rows(batch.record)
    if not keys:
        return Incoming(rows, None, None, moments)
    columns = [to_values(batch.record.column(name)) for name in keys]
    values: Sequence[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    return Incoming(rows, values, canonical_keys(values), moments)
