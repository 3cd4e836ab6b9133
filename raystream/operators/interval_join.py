"""Join rows of two streams whose event times lie within an interval of each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import text
from raystream.errors import UserError
from raystream.flow.batch import NO_TIME, Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.ordering import by_key_and_time
from raystream.keyed.first_partners import first_partners, ranges_once
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.snapshot import (
    Section,
    Snapshot,
    restored_watermark,
    watermark_section,
)
from raystream.keyed.time_segments import spread
from raystream.keyed.waiting_rows import WaitingRows
from raystream.keyed.waiting_snapshot import WaitingSnapshot
from raystream.operators.join_plan import JoinPlan
from raystream.operators.operator import Operator, Output
from raystream.operators.window_aggregate import LATE_ROWS

_COMPACT_MIN = 4_096
_COMPACT_BYTES_MIN = 16 << 20
_STEP = 32_768
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class IntervalJoinSpec:
    """Pairs of rows of one key with ``lower_us <= right - left <= upper_us`` between their times.

    A pair has the later of its times. A row that the watermark has reached is late: dropped, and
    counted. Rows without a partner, where they come out, do when the watermark says that none can
    come any more, and those with a null in their key at once; the watermark goes on behind them.
    """

    plan: JoinPlan
    lower_us: int
    upper_us: int

    def __post_init__(self) -> None:
        assert self.lower_us <= self.upper_us, "an interval has a lower end"

    @property
    def verb(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"{self.plan} within {text(self.lower_us)} to {text(self.upper_us)}"

    def build(self) -> IntervalJoin:
        return IntervalJoin(self)


class IntervalJoin(Operator):
    """The operator of one subtask: the rows of both sides that a row to come may match.

    A row waits until no row above the watermark can match it: ``reach`` behind its own time, which
    is ``upper`` for the left and ``-lower`` for the right, and may be less than nothing.
    """

    def __init__(self, spec: IntervalJoinSpec) -> None:
        plan = self._plan = spec.plan
        lower_us, upper_us = spec.lower_us, spec.upper_us
        self._spans_us = (lower_us, upper_us), (-upper_us, -lower_us)
        self._reach_us = upper_us, -lower_us
        self._keeps = plan.keeps_left, plan.keeps_right
        self._watermark_us = MIN_TIME
        self._giving = False
        self._index = KeyIndex(plan.key_types)
        self._sides = WaitingRows(plan.left), WaitingRows(plan.right)

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)
        flagged = self._keeps[0] or self._plan.left_only, self._keeps[1]
        self._kept = [
            WaitingSnapshot(
                name,
                self._keys_of,
                ctx.max_parallelism,
                flagged=flagged[port],
            )
            for port, name in enumerate(("left", "right"))
        ]

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "the stream is columnar"
        if not batch.num_rows:
            return
        record, times = batch.record, self._times(batch)
        fits = times > self._watermark_us
        if not fits.all():
            self._late.inc(int(len(fits) - fits.sum()))
            record, times = _filtered(record, times, fits)
        valid = self._plan.matchable(port, record)
        if valid is not None and not valid.all():
            if self._keeps[port]:
                # Above the watermark, so never late.
                yield self._alone(port, *_filtered(record, times, ~valid))
            record, times = _filtered(record, times, valid)
        if record.num_rows:
            yield from self._join(port, record, times)

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        self._watermark_us = max(self._watermark_us, time_us)
        self._giving = True
        for port, side in enumerate(self._sides):
            if not self._keeps[port]:
                side.take(self._over_us(port), side.live)
                continue
            while len(numbers := self._unmatched(port)):
                yield self._alone(port, side.store.take(numbers), side.times(numbers))
        self._giving = False
        yield from self._compact()

    def output_watermark(self, time_us: int) -> int | None:
        if time_us == MAX_TIME:
            return time_us
        reaches = zip(self._reach_us, self._keeps, strict=True)
        held_us = max([0, *(reach_us for reach_us, keeps in reaches if keeps)])
        return max(time_us - held_us, MIN_TIME)

    def snapshot(self) -> Snapshot:
        told = zip(self._kept, self._sides, strict=True)
        return (
            *(one for kept, side in told for one in kept.whole(side)),
            watermark_section(self._watermark_us),
        )

    def changes(self) -> Snapshot:
        sections: list[Section] = []
        for port, kept in enumerate(self._kept):
            # In the middle of a watermark some rows of one time have left, and some have not.
            gone_to = None if self._giving else self._over_us(port)
            sections += kept.changes(self._sides[port], gone_to)
        return *sections, watermark_section(self._watermark_us)

    def restore(self, snapshot: Snapshot) -> None:
        # The least of all: a row may wait in the channel of the subtask that was behind.
        watermark_us = restored_watermark(snapshot)
        self._watermark_us = MIN_TIME if watermark_us is None else watermark_us
        self._giving = True
        for port, (kept, side) in enumerate(zip(self._kept, self._sides, strict=True)):
            for rows in kept.restored(snapshot, side.store.schema):
                slots, _ = self._index.lookup(self._plan.keys(port, rows.record))
                times = Columns(rows.record).timestamps
                assert times is not None, "the stream has event time"
                side.append(rows.record, slots, times, rows.matched)

    def _keys_of(self, slots: Int64s) -> list[pa.Array]:
        return self._index.keys(slots)

    def _times(self, batch: Columns) -> Int64s:
        times = batch.timestamps
        if times is None or int(times.min()) == NO_TIME:
            raise UserError(
                f"{self._ctx.operator} joins rows by their event times, and a row has none",
                hint="the watermark strategy is missing: give the source "
                'watermark=rs.WatermarkStrategy("column"), or call assign_timestamps(...) before '
                "the join",
                where=self._ctx.where or None,
            )
        return times

    def _join(self, port: int, record: pa.RecordBatch, times: Int64s) -> Iterator[Output]:
        """Put rows of one side beside those of the other that wait, then let them wait too."""
        slots, _ = self._index.lookup(self._plan.keys(port, record))
        lower_us, upper_us = self._spans_us[port]
        lows, highs = _shifted(times, lower_us), _shifted(times, upper_us)
        firsts, stops = self._sides[1 - port].segments.find(slots, lows, highs)
        matched = stops > firsts
        if not self._plan.left_only:
            yield from self._pairs(port, record, times, firsts, stops - firsts)
        elif port:
            yield from self._lefts(slots, times, firsts, stops)
        elif self._plan.how == "semi" and matched.any():
            # Of all partners the earliest makes the earliest pair.
            earliest = self._sides[1].segments.times(firsts[matched])
            rows, own = _filtered(record, times, matched)
            yield self._plan.lefts(rows, np.maximum(own, earliest))
        waits = times > self._over_us(port)
        if self._keeps[port] and (over := ~(waits | matched)).any():
            yield self._alone(port, *_filtered(record, times, over))
        if self._plan.left_only and not port:
            waits &= ~matched  # the first partner decided
        rows, times = _filtered(record, times, waits)
        self._sides[port].append(rows, slots[waits], times, matched[waits])

    def _pairs(
        self, port: int, record: pa.RecordBatch, times: Int64s, firsts: Int64s, counts: Int64s
    ) -> Iterator[Output]:
        """Give each row beside its partners, which stand from ``firsts`` on, so many."""
        other = self._sides[1 - port]
        ends = np.cumsum(counts)
        total, limit = int(ends[-1]), max(self._ctx.limits.batch_rows_max, record.num_rows)
        for start in range(0, total, limit):
            numbers = np.arange(start, min(start + limit, total))
            rows = np.searchsorted(ends, numbers, side="right")
            places = numbers - (ends - counts - firsts)[rows]
            partners = other.segments.numbers(places)
            if self._keeps[1 - port]:
                other.match(partners)
            both = record.take(pa.array(rows)), other.store.take(partners)
            left, right = both[::-1] if port else both
            later = np.maximum(times[rows], other.segments.times(places))
            yield self._plan.pairs(left, right, later)

    def _lefts(
        self, slots: Int64s, times: Int64s, firsts: Int64s, stops: Int64s
    ) -> Iterator[Output]:
        """Let rows of the right decide on those of the left that wait: each once, by the first."""
        left = self._sides[0]
        order = by_key_and_time(slots, times)
        slots, times = slots[order], times[order]
        lefts = left.segments.numbers(spread(*ranges_once(slots, firsts[order], stops[order])))
        lefts = lefts[~left.matched(lefts)]
        left.match(lefts)
        left.segments.forget(left.slots(lefts), left.matched)
        if self._plan.how == "anti" or not len(lefts):
            return
        own, (lower_us, upper_us) = left.times(lefts), self._spans_us[0]
        spans = _shifted(own, lower_us), _shifted(own, upper_us)
        partners = first_partners((slots, times), order, left.slots(lefts), spans)
        later = np.maximum(own, times[partners])
        came = np.argsort(order[partners], kind="stable")
        limit = max(self._ctx.limits.batch_rows_max, len(slots))
        for start in range(0, len(came), limit):
            some = came[start : start + limit]
            yield self._plan.lefts(left.store.take(lefts[some]), later[some])

    def _alone(self, port: int, record: pa.RecordBatch, times: Int64s) -> Columns:
        return self._plan.rights(record, times) if port else self._plan.lefts(record, times)

    def _over_us(self, port: int) -> int:
        """Give the time up to which rows of a side can match nothing that is still to come."""
        if self._watermark_us == MAX_TIME:
            return MAX_TIME
        return min(max(self._watermark_us - self._reach_us[port], MIN_TIME), MAX_TIME)

    def _unmatched(self, port: int) -> Int64s:
        """Take rows that have waited in vain, as many as a batch holds."""
        side, rows_max = self._sides[port], self._ctx.limits.batch_rows_max
        found: list[Int64s] = []
        count = 0
        while count < rows_max:
            numbers = side.take(self._over_us(port), rows_max - count)
            if not len(numbers):
                break
            found.append(numbers[~side.matched(numbers)])
            count += len(found[-1])
        return np.concatenate([_NONE, *found])

    def _compact(self) -> Iterator[Output]:
        """Forget rows and keys that nobody waits for, when they are more than the others.

        What is left is copied in steps; until the last one nothing has changed.
        """
        sides = self._sides
        live = sum(side.live for side in sides)
        dead = sum(side.dead for side in sides)
        few = max(dead - live, self._index.count - 2 * live) <= _COMPACT_MIN
        if few and (dead <= live or sum(side.nbytes for side in sides) <= _COMPACT_BYTES_MIN):
            return
        nothing = self._plan.lefts(sides[0].store.take(_NONE), _NONE)
        numbers = [side.numbers() for side in sides]
        used = np.zeros(self._index.count, np.bool_)
        for side, some in zip(sides, numbers, strict=True):
            used[side.slots(some)] = True
        index = KeyIndex(self._plan.key_types)
        slot_of = np.full(len(used), -1)
        for slots in _steps(np.flatnonzero(used)):
            slot_of[slots], _ = index.lookup(self._index.keys(slots))
            yield nothing
        copies = WaitingRows(self._plan.left), WaitingRows(self._plan.right)
        for side, copy, kept in zip(sides, copies, numbers, strict=True):
            for some in _steps(kept):
                copy.copy(side, some, slot_of)
                yield nothing
            copy.succeed(side, kept)
        self._index, self._sides = index, copies


def _steps(numbers: Int64s) -> Iterator[Int64s]:
    """Cut numbers into parts that are worked through in a small part of a tenth of a second."""
    for start in range(0, len(numbers), _STEP):
        yield numbers[start : start + _STEP]


def _filtered(
    record: pa.RecordBatch, times: Int64s, kept: npt.NDArray[np.bool_]
) -> tuple[pa.RecordBatch, Int64s]:
    """Copy some rows, and their times."""
    return record.take(pa.array(np.flatnonzero(kept))), times[kept]


def _shifted(times: Int64s, by_us: int) -> Int64s:
    """Add to times; the ends of time are not passed."""
    if by_us >= 0:
        return np.minimum(times, MAX_TIME - by_us) + by_us
    return np.maximum(times, MIN_TIME - by_us) + by_us
