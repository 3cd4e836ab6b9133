"""What an operator's conformance case is, and the ways in which one is driven by hand.

A *story* is a list of batches, each a list of (event time or None, row), and between them
watermarks, which are ints; it always ends with the end of input. A case knows the story and,
computed in plain Python, what must have come out after any beginning of it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s, Objects, with_times
from raystream.flow.element import MAX_TIME, MIN_TIME, Watermark
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceOperator

Row: TypeAlias = tuple[Any, Any]
"""(event time or None, row)."""

Story: TypeAlias = list[Any]
"""Lists of rows, and ints."""

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
    Watermarks go on as they came, where the operator ``forwards`` them.
    ``shown`` turns a batch that comes out into rows.
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
    watermark: int | None = None
    late: int | None = 0
    promises: bool = False
    shown: Callable[[Batch], list[Row]] = field(default=lambda batch: plain_rows(batch))  # noqa: PLW0108  defined below

    @property
    def timed(self) -> bool:
        if self.input is not None:
            return EVENT_TIME in self.input.names
        return all(time is not None for item in self.story if is_batch(item) for time, _ in item)


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
    place = (case, sum(not is_batch(item) for item in story), ended)
    if place not in _EXPECTED:
        _EXPECTED[place] = case.expect(story, ended)
    return _EXPECTED[place]


# Batches -----------------------------------------------------------------------------------------


def times_of(rows: list[Row]) -> Int64s:
    return np.array([time for time, _ in rows], np.int64)


def to_batch(case: Case, rows: list[Row]) -> Batch:
    """Make one batch of rows."""
    values = [row for _, row in rows]
    times = times_of(rows) if case.timed else None
    if case.input is not None:
        visible = case.input.remove(len(case.input) - 1) if case.timed else case.input
        return with_times(pa.RecordBatch.from_pylist(values, schema=visible), times)
    keys = None if case.key_of is None else [case.key_of(value) for value in values]
    return Objects(values, times, keys)


def as_told(story: Story, rng: random.Random) -> Story:
    return list(story)


def one_by_one(story: Story, rng: random.Random) -> Story:
    """Each row alone."""
    cut: Story = []
    for item in story:
        cut += [[row] for row in item] if is_batch(item) else [item]
    return cut


def at_once(story: Story, rng: random.Random) -> Story:
    """All rows between two watermarks together."""
    joined: Story = []
    for item in story:
        if is_batch(item) and joined and is_batch(joined[-1]):
            joined[-1] = joined[-1] + item
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
            cut.append(item[start : start + count])
            start += count
    return cut


def with_gaps(story: Story, rng: random.Random) -> Story:
    """With batches that hold no rows, everywhere."""
    gaps: Story = [[]]
    for item in story:
        gaps += [item, []]
    return gaps


# Driving an operator -----------------------------------------------------------------------------


class Run:
    """One operator, opened, and everything that has come out of it."""

    def __init__(self, case: Case, *, starved: bool = False, views: bool = False) -> None:
        self.case = case
        self.spec = case.spec()
        self.operator = self.spec.build()
        self.context = OpenContext("it", "case.py:1", clock=ManualClock(), limits=TIGHT)
        self.operator.open(self.context)
        self.rows: list[Row] = []
        self.batches: list[tuple[Batch, list[Row]]] = []
        self.watermark_us = MIN_TIME
        self._starved = starved
        self._views = views

    def play(self, story: Story) -> None:
        """Go through a story; after each watermark exactly what is due has come out."""
        for at, item in enumerate(story):
            if is_batch(item):
                self.batch(item)
            else:
                self.watermark(item)
                self.check(story[: at + 1], ended=False)
        self.end()
        self.check(story, ended=True)
        self.finish()

    def finish(self) -> None:
        """Close; and see that what went out is still what it was."""
        self.operator.close()
        for batch, rows in self.batches:
            assert self.case.shown(batch) == rows, "a batch has changed after it had left"
        if self.case.watermark is not None:
            assert self.watermark_us == self.case.watermark
        if self.case.late is not None:
            assert self.context.metrics.counter("late_rows").value == self.case.late

    def batch(self, rows: list[Row]) -> None:
        for given in self._given(rows):
            if isinstance(self.operator, SourceOperator):
                raw = self.spec.source.raw(given)
                for batch, watermark_us in self.operator.convert(raw, self.watermark_us):
                    self.take(batch, len(rows))
                    if watermark_us is not None:
                        self.take(Watermark(watermark_us), 0)
                continue
            for out in self.operator.on_batch(0, given):
                self.take(out, len(rows))

    def watermark(self, time_us: int) -> None:
        self._all(self.operator.on_watermark, time_us)
        forwarded = self.operator.output_watermark(time_us)
        assert forwarded == (time_us if self.case.forwards else None)
        if forwarded is not None:
            self.watermark_us = max(self.watermark_us, forwarded)

    def end(self) -> None:
        self._all(self.operator.on_watermark, MAX_TIME)
        forwarded = self.operator.output_watermark(MAX_TIME)
        assert forwarded == (None if isinstance(self.spec, SinkSpec) else MAX_TIME)
        for out in self.operator.on_end():
            self.take(out, 0)

    def take(self, out: Batch | Watermark, rows_in: int) -> None:
        if isinstance(out, Watermark):
            assert out.time_us > self.watermark_us, "a watermark rises"
            self.watermark_us = out.time_us
            return
        assert out.num_rows <= max(ROWS_MAX, rows_in), "a batch has a bound"
        check_batch(self.case, out)
        rows = self.case.shown(out)
        if self.case.promises:
            assert all(time > self.watermark_us for time, _ in rows), "a watermark is a promise"
        self.rows += rows
        self.batches.append((out, rows))

    def leave(self, item: Any) -> None:
        """Stop in the middle: pull one batch, no more, and see that nothing comes after that."""
        if item is None or not is_batch(item):
            given = [self.operator.on_watermark(MAX_TIME if item is None else item)]
        elif isinstance(self.operator, SourceOperator):
            return
        else:
            given = [self.operator.on_batch(0, batch) for batch in self._given(item)]
        for outs in given:
            next(outs, None)
            if hasattr(outs, "close"):
                outs.close()
                assert next(outs, None) is None

    def check(self, story: Story, *, ended: bool) -> None:
        got = self.rows
        if isinstance(self.spec, SinkSpec):
            got = [row for _, batch in self.spec.sink.batches for row in written(batch)]
        wanted = expected(self.case, story, ended=ended)
        if not self.case.exact:
            assert self.case.view is not None
            assert self.case.view(got) == self.case.view(wanted)
            return
        assert same(got, wanted, ordered=self.case.ordered), difference(got, wanted)

    def _all(self, give: Callable[[int], Iterator[Batch]], time_us: int) -> None:
        while True:
            outs = give(time_us)
            for out in outs:
                self.take(out, 0)
                if self._starved:
                    break
            else:
                return
            # Closed after each batch; the next call with the same watermark gives the rest.
            outs.close()  # type: ignore[attr-defined]

    def _given(self, rows: list[Row]) -> Iterator[Batch]:
        if not self._views:
            yield to_batch(self.case, rows)
            return
        # Rows in the middle of a larger buffer, as exchanges cut them.
        around = to_batch(self.case, [*rows[:1], *rows, *rows[-1:]])
        yield around.slice(1 if rows else 0, len(rows))


def written(batch: Any) -> list[Row]:
    """Give what a sink's writer was given, in plain form."""
    times = [None] * len(batch) if batch.timestamps is None else batch.timestamps.tolist()
    return [(time, plain(row)) for time, row in zip(times, batch.to_pylist(), strict=True)]


def check_batch(case: Case, batch: Batch) -> None:
    """See that a batch is what the plan says."""
    if case.output is None:
        assert isinstance(batch, Objects), "the plan says objects"
        for beside in (batch.timestamps, batch.keys):
            assert beside is None or len(beside) == batch.num_rows
        return
    assert isinstance(batch, Columns), "the plan says columns"
    record = batch.record
    assert record.schema.equals(case.output), f"{record.schema} is not {case.output}"
    assert EVENT_TIME not in record.schema.names[:-1]
    record.validate(full=True)
    for one, column in zip(case.output, record.columns, strict=True):
        assert one.nullable or not column.null_count, f"{one.name} is never null"
