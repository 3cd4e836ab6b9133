"""Rows that calls of user code have made and that have not left the operator yet.

They wait here until they make a batch. What waits belongs to the operator's snapshot: the timer
that made it is gone from state by then.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from raystream.contracts.rejects import Rejects
from raystream.errors import UserError
from raystream.flow.batch import NO_TIME, Batch, Int64s, Objects
from raystream.flow.element import Side
from raystream.keyed.key_form import pickled
from raystream.keyed.snapshot import Section, Share, Snapshot, section
from raystream.operators.keyed_rows import make_batch
from raystream.operators.operator import Output
from raystream.operators.rejecting import columns_of

_SECTION: Final = "produced"
_SCHEMA: Final = pa.schema([("tag", pa.string()), ("time", pa.int64()), ("row", pa.large_binary())])


class Produced:
    """Rows and side rows in the making; ``take`` gives them in batches of at most ``limit``.

    ``values`` are the rows and ``stamps`` their event times, None for none. ``full`` is true while
    side rows ask to leave. ``output`` is the wire schema, None for objects; rows have an event time
    where ``timed``.

    Where calls may fail each is begun, its rows are added together, and undone where it fails.
    """

    def __init__(
        self,
        output: pa.Schema | None,
        rejects: Rejects,
        *,
        timed: bool,
        limit: int,
        operator: str,
        where: str,
    ) -> None:
        self._rejects = rejects
        self.values: list[Any] = []
        self.stamps: list[int | None] = []
        self.full: list[bool] = []
        self._output = output
        self._timed = timed
        self._limit = limit
        self._operator = operator
        self._where = where
        self._sides: dict[str, list[tuple[int | None, Any]]] = {}
        self._side_rows = 0
        self._kept: list[tuple[str | None, int | None, Any]] = []
        self._calls: list[tuple[Any, int | None]] = []
        self._origins: list[int] = []
        self._begun: tuple[int, dict[str, int]] = (0, {})
        self.nothing: Batch = self._batch([], [])

    def __bool__(self) -> bool:
        return bool(self.values or self._sides or self._kept)

    def aside(self, tag: str, value: Any, time_us: int | None) -> None:
        """Take a row for a side output."""
        if type(tag) is not str:
            raise UserError(f"ctx.output() takes a tag, which is a text, got {tag!r:.60}")
        self._sides.setdefault(tag, []).append((time_us, value))
        self._side_rows += 1
        if self._side_rows >= self._limit and not self.full:
            self.full.append(True)

    def begin(self, row: Any, time_us: int | None) -> None:
        """Note where a call begins that may fail; ``row`` is what the call is for."""
        if not self.values:
            self._calls.clear()
            self._origins.clear()
        self._begun = (len(self.values), {tag: len(some) for tag, some in self._sides.items()})
        self._calls.append((row, time_us))

    def add(self, rows: Iterator[Any]) -> None:
        """Take all rows of the call that was begun last, with its event time."""
        before, time_us = len(self.values), self._calls[-1][1]
        self.values.extend(rows)
        count = len(self.values) - before
        self.stamps.extend([time_us] * count)
        self._origins.extend([len(self._calls) - 1] * count)

    def undo(self) -> None:
        """Drop what the call has given that was begun last, and failed."""
        before, sides = self._begun
        for made in (self.values, self.stamps, self._origins):
            del made[before:]
        for tag, some in list(self._sides.items()):
            del some[sides.get(tag, 0) :]
            if not some:
                del self._sides[tag]
        self._side_rows = sum(map(len, self._sides.values()))
        if self._side_rows < self._limit:
            self.full.clear()

    def take(self) -> Output | None:
        """Give the next batch, and forget its rows; None where no row waits."""
        if self._kept:
            return self._take_kept()
        if self._calls:
            self._leave_misfits()
        if len(self.values) > self._limit:
            self.set_aside()
            return self._take_kept()
        if self.values:
            values, stamps = self.values[:], self.stamps[:]
            # In place: whoever fills these lists holds on to them.
            self.values.clear()
            self.stamps.clear()
            return self._batch(values, _array(stamps) if self._timed else None)
        if self._side_rows > self._limit:
            self.set_aside()
            return self._take_kept()
        if self._sides:
            tag = next(iter(self._sides))
            stamps, values = map(list, zip(*self._sides.pop(tag), strict=True))
            self._side_rows -= len(values)
            self.full.clear()
            return self._side(tag, values, stamps)
        return None

    def set_aside(self) -> None:
        """Let rows wait that cannot leave now; there may be more of them than a batch holds."""
        if self._calls:
            self._leave_misfits()
        rows: list[tuple[str | None, int | None, Any]] = [
            (None, *pair) for pair in zip(self.stamps, self.values, strict=True)
        ]
        rows += [(tag, *pair) for tag, some in self._sides.items() for pair in some]
        # Last comes first: rows are then taken from the end, at no cost for those that stay.
        self._kept = rows[::-1] + self._kept
        for filled in (self.values, self.stamps, self.full):
            filled.clear()
        self._sides.clear()
        self._side_rows = 0

    def _leave_misfits(self) -> None:
        """Give up the calls of which a row does not fit its column."""
        calls, origins = self._calls, np.array(self._origins, np.int64)
        self._calls, self._origins = [], []
        if self._output is None or not self.values:
            return
        rows, times = zip(*calls, strict=True)
        _, kept = columns_of(
            self.values,
            self._output,
            list(rows),
            _array(list(times)) if self._timed else None,
            self._rejects,
            operator=self._operator,
            where=self._where,
            origins=origins,
        )
        if kept is not None:
            for made in (self.values, self.stamps):
                made[:] = [made[place] for place in kept.tolist()]

    def _take_kept(self) -> Output:
        kept, tag, count = self._kept, self._kept[-1][0], 1
        while count < min(self._limit, len(kept)) and kept[-1 - count][0] == tag:
            count += 1
        rows = kept[: -1 - count : -1]
        del kept[-count:]
        values, times = [value for _, _, value in rows], [time for _, time, _ in rows]
        if tag is not None:
            return self._side(tag, values, times)
        return self._batch(values, _array(times) if self._timed else None)

    def _side(self, tag: str, values: list[Any], times: list[int | None]) -> Side:
        return Side(tag, Objects(values, _array(times) if self._timed else None))

    def _batch(self, values: list[Any], times: Any) -> Batch:
        if self._timed:
            times = np.asarray(times, np.int64)
        made = make_batch(
            values,
            self._output,
            values,
            times if self._timed else None,
            Rejects(),
            operator=self._operator,
            where=self._where,
        )
        assert made is not None, "nothing is given up"
        return made

    # What is kept ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Give what waits; nothing where nothing does."""
        self.set_aside()
        if not self._kept:
            return ()
        tags, times, values = zip(*reversed(self._kept), strict=True)
        table = pa.table([list(tags), list(times), pickled(values)], schema=_SCHEMA)
        # Whoever takes them sends them on: they wait for nothing but a batch.
        return (Section(_SECTION, table, Share.SPLIT),)

    def restore(self, snapshot: Snapshot) -> None:
        """Take up what waited."""
        table = section(snapshot, _SECTION)
        if table is not None:
            tags, times, packed = (column.to_pylist() for column in table.columns)
            values = map(pickle.loads, packed)
            self._kept = list(zip(tags, times, values, strict=True))[::-1]


def _array(times: list[int | None]) -> Int64s:
    if None in times:
        return np.array([NO_TIME if time is None else time for time in times], np.int64)
    return np.array(times, np.int64)
