"""What an operator's conformance case is, and the ways in which one is driven by hand.

A *story* is a list of batches, each a list of (event time or None, row), and between them
watermarks, which are ints, and ``Advance``s of processing time; rows in a ``Right`` come in at the
second port. It always ends with the end of input. A case knows the story and,
computed in plain Python, what must have come out after any beginning of it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.config import Limits
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s, Objects, with_times

Row: TypeAlias = tuple[Any, Any]
"""(event time or None, row)."""

Story: TypeAlias = list[Any]
"""Lists of rows, ints, and Advances."""


class Right(list[Row]):
    """Rows that come in at the second port."""


@dataclass(frozen=True)
class Advance:
    """So much processing time passes; timers that become due fire in between, in order."""

    us: int


_OFF_THE_EDGE = 1.0000000314159

ROWS_MAX = 8
TIGHT = Limits(
    batch_rows_max=ROWS_MAX,
    row_batch_rows_max=ROWS_MAX,
    firing_rows_max=2 * ROWS_MAX,
    pane_copies_max=4,
    envelope_bytes_inline=1_500,
    envelope_bytes_large=6_000,
    envelope_bytes_max=12_000,
    input_bytes_max=24_000,
    channel_bytes_min=3_000,
)
"""Every bound is met by a story of a hundred rows."""


@dataclass(frozen=True, eq=False)
class Case:
    """One operator, its input, and what must come out.

    ``expect(story, ended)`` gives all rows that must be out after a beginning of the story.
    ``input`` and ``output`` are wire schemas, None for objects; ``key_of`` keys an object input,
    ``keys`` are the columns by which the operator may be divided among subtasks, () for the keys of
    objects, None where it may not. ``view`` turns rows into what is the same however rows are
    batched, where the rows themselves are not; without ``exact`` they are not even compared.
    Watermarks go on as they came, where the operator ``forwards`` them, or ``holds`` them back by
    so much.
    ``shown`` turns a batch that comes out into rows. ``sides`` gives, by tag, what must be out on
    side outputs at the end; ``right`` is the wire schema of the second port, ``right_key_of`` keys
    its objects. ``keeps`` False: the operator has no snapshot (yet). ``on_error`` is what
    becomes of rows that fail.
    """

    name: str
    spec: Callable[[], Any]
    story: Story
    expect: Callable[[Story, bool], list[Row]]
    input: pa.Schema | None = None
    output: pa.Schema | None = None
    key_of: Callable[[Any], Any] | None = None
    keys: tuple[str, ...] | None = None
    ordered: bool = True
    view: Callable[[list[Row]], Any] | None = None
    exact: bool = True
    forwards: bool = True
    holds: int = 0
    watermark: int | None = None
    late: int | None = 0
    promises: bool = False
    sides: Callable[[Story], dict[str, list[Row]]] | None = None
    right: pa.Schema | None = None
    right_key_of: Callable[[Any], Any] | None = None
    keeps: bool = True
    on_error: str = "fail"
    shown: Callable[[Batch], list[Row]] = field(default=lambda batch: plain_rows(batch))  # noqa: PLW0108  defined below

    @property
    def timed(self) -> bool:
        if self.input is not None:
            return EVENT_TIME in self.input.names
        return all(time is not None for item in self.story if is_batch(item) for time, _ in item)

    @property
    def told(self) -> bool:
        """Whether a job can tell the story: rows over one channel, and watermarks."""
        return not any(isinstance(item, Right | Advance) for item in self.story)


def is_batch(item: Any) -> bool:
    return isinstance(item, list)


# Rows --------------------------------------------------------------------------------------------


def plain(value: Any) -> Hashable:
    """Give a value in a form that compares as values do: NaN equals NaN, 1 is not 1.0, not True."""
    match value:
        case None | str() | bytes():
            return value
        case bool():
            return ("bool", value)
        case float():
            # Nine digits; moved a little, because binary fractions lie just where digits are cut.
            moved = value * _OFF_THE_EDGE
            return "NaN" if math.isnan(value) else ("float", float(f"{moved:.9g}") + 0.0)
        case int():
            return ("int", value)
        case datetime():
            aware = value.tzinfo is not None
            moment = value.astimezone(timezone.utc).replace(tzinfo=None) if aware else value
            return ("datetime", aware, moment)
        case date() | Decimal():
            return (type(value).__name__, value)
        case dict():
            return ("dict", frozenset((key, plain(inner)) for key, inner in value.items()))
        case list() | tuple():
            return (type(value).__name__, *map(plain, value))
        case _:
            raise TypeError(f"no plain form of {value!r}")


def plain_rows(batch: Batch) -> list[Row]:
    """Give the rows of a batch in plain form, with their event times."""
    columns = isinstance(batch, Columns)
    rows = batch.visible.to_pylist() if columns else batch.values
    times = [None] * len(rows) if batch.timestamps is None else batch.timestamps.tolist()
    return [(time, plain(row)) for time, row in zip(times, rows, strict=True)]


def keyed_rows(batch: Batch) -> list[Row]:
    """Give the rows of a batch of objects beside their keys."""
    assert isinstance(batch, Objects)
    assert batch.keys is not None
    pairs = list(zip(batch.keys, batch.values, strict=True))
    return plain_rows(Objects(pairs, batch.timestamps))


def same(got: list[Row], wanted: list[Row], *, ordered: bool) -> bool:
    return got == wanted if ordered else Counter(got) == Counter(wanted)


def difference(got: list[Row], wanted: list[Row]) -> str:
    more, fewer = Counter(got) - Counter(wanted), Counter(wanted) - Counter(got)
    text = [f"+ {row}" for row in list(more)[:5]] + [f"- {row}" for row in list(fewer)[:5]]
    return "\n".join(text) or "the same rows in another order"


_EXPECTED: dict[tuple[Case, int, bool], list[Row]] = {}


def expected(case: Case, story: Story, *, ended: bool) -> list[Row]:
    """Ask a case what must be out; where batches do not matter, once for all ways to cut them."""
    if case.view is not None:
        return case.expect(story, ended)
    if not case.told:  # processing time and the second port make what was said elsewhere matter
        return case.expect(story, ended)
    place = (case, sum(not is_batch(item) for item in story), ended)
    if place not in _EXPECTED:
        _EXPECTED[place] = case.expect(story, ended)
    return _EXPECTED[place]


# Batches -----------------------------------------------------------------------------------------


def times_of(rows: list[Row]) -> Int64s:
    return np.array([time for time, _ in rows], np.int64)


def to_batch(case: Case, rows: list[Row]) -> Batch:
    """Make one batch of rows."""
    right = isinstance(rows, Right)
    schema, key_of = (case.right, case.right_key_of) if right else (case.input, case.key_of)
    values = [row for _, row in rows]
    timed = case.timed if schema is None else EVENT_TIME in schema.names
    times = times_of(rows) if timed else None
    if schema is not None:
        visible = schema.remove(len(schema) - 1) if timed else schema
        return with_times(pa.RecordBatch.from_pylist(values, schema=visible), times)
    keys = None if key_of is None else [key_of(value) for value in values]
    return Objects(values, times, keys)


def as_told(story: Story, rng: random.Random) -> Story:
    return list(story)


def one_by_one(story: Story, rng: random.Random) -> Story:
    """Each row alone."""
    cut: Story = []
    for item in story:
        cut += [type(item)([row]) for row in item] if is_batch(item) else [item]
    return cut


def at_once(story: Story, rng: random.Random) -> Story:
    """All rows between two watermarks together."""
    joined: Story = []
    for item in story:
        if is_batch(item) and joined and type(joined[-1]) is type(item):
            joined[-1] = type(item)([*joined[-1], *item])
        else:
            joined.append(item)
    return joined


def at_random(story: Story, rng: random.Random) -> Story:
    """Cut anywhere."""
    cut: Story = []
    for item in at_once(story, rng):
        if not is_batch(item):
            cut.append(item)
            continue
        start = 0
        while start < len(item):
            count = rng.choice([1, 2, 3, ROWS_MAX, 3 * ROWS_MAX])
            cut.append(type(item)(item[start : start + count]))
            start += count
    return cut


def with_gaps(story: Story, rng: random.Random) -> Story:
    """With batches that hold no rows, everywhere."""
    gaps: Story = [[]]
    for item in story:
        gaps += [item, []]
    return gaps


def written(batch: Any) -> list[Row]:
    """Give what a sink's writer was given, in plain form."""
    times = [None] * len(batch) if batch.timestamps is None else batch.timestamps.tolist()
    return [(time, plain(row)) for time, row in zip(times, batch.to_pylist(), strict=True)]
