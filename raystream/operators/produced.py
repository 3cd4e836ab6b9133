"""Rows that calls of user code have made and that have not left the operator yet.

They wait here until they make a batch. What waits belongs to the operator's snapshot: the timer
that made it is gone from state by then.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

import numpy as np
import pyarrow as pa

from raystream.flow.batch import NO_TIME, Batch, Int64s, Objects
from raystream.flow.element import Side
from raystream.keyed.key_form import pickled
from raystream.keyed.snapshot import Section, Share, Snapshot, section
from raystream.operators.keyed_rows import make_batch
from raystream.operators.operator import Output

_SECTION: Final = "produced"
_SCHEMA: Final = pa.schema([("tag", pa.string()), ("time", pa.int64()), ("row", pa.large_binary())])


class Produced:
    """Rows and side rows in the making; ``take`` gives them in batches of at most ``limit``.

    ``values`` are the rows; ``stamps`` and ``counts`` tell the event time of each run of them, None
    for none. ``full`` is true while side rows ask to leave. ``output`` is the wire schema, None for
    objects; rows have an event time where ``timed``.
    """

    def __init__(
        self, output: pa.Schema | None, *, timed: bool, limit: int, operator: str, where: str
    ) -> None:
        self.values: list[Any] = []
        self.stamps: list[int | None] = []
        self.counts: list[int] = []
        self.full: list[bool] = []
        self._output = output
        self._timed = timed
        self._limit = limit
        self._operator = operator
        self._where = where
        self._sides: dict[str, list[tuple[int | None, Any]]] = {}
        self._side_rows = 0
        self._kept: list[tuple[str | None, int | None, Any]] = []
        self.nothing: Batch = self._batch([], [])

    def __bool__(self) -> bool:
        return bool(self.values or self._sides or self._kept)

    def aside(self, tag: str, value: Any, time_us: int | None) -> None:
        """Take a row for a side output."""
        self._sides.setdefault(tag, []).append((time_us, value))
        self._side_rows += 1
        if self._side_rows >= self._limit and not self.full:
            self.full.append(True)

    def take(self) -> Output | None:
        """Give the next batch, and forget its rows; None where no row waits."""
        if self._kept:
            return self._take_kept()
        if self.values:
            values, stamps, counts = self.values[:], self.stamps[:], self.counts[:]
            # In place: whoever fills these lists holds on to them.
            for each in (self.values, self.stamps, self.counts):
                each.clear()
            return self._batch(values, _repeated(stamps, counts) if self._timed else None)
        for tag in self._sides:
            return self._take_side(tag)
        return None

    def set_aside(self) -> None:
        """Let rows wait that make a batch and cannot leave now."""
        stamps = _each(self.stamps, self.counts)
        self._kept += [(None, *pair) for pair in zip(stamps, self.values, strict=True)]
        for filled in (self.values, self.stamps, self.counts):
            filled.clear()
        for tag, some in self._sides.items():
            self._kept += [(tag, *pair) for pair in some]
        self._sides.clear()
        self._side_rows = 0
        self.full.clear()

    def _take_side(self, tag: str) -> Side:
        waiting = self._sides[tag]
        pairs, rest = waiting[: self._limit], waiting[self._limit :]
        self._side_rows -= len(pairs)
        if rest:
            self._sides[tag] = rest
        else:
            del self._sides[tag]
        if self._side_rows < self._limit:
            self.full.clear()
        return self._side(tag, [value for _, value in pairs], [time for time, _ in pairs])

    def _take_kept(self) -> Output:
        tag = self._kept[0][0]
        count = 1
        while count < min(self._limit, len(self._kept)) and self._kept[count][0] == tag:
            count += 1
        rows = self._kept[:count]
        del self._kept[:count]
        values, times = [value for _, _, value in rows], [time for _, time, _ in rows]
        if tag is not None:
            return self._side(tag, values, times)
        return self._batch(values, _array(times) if self._timed else None)

    def _side(self, tag: str, values: list[Any], times: list[int | None]) -> Side:
        return Side(tag, Objects(values, _array(times) if self._timed else None))

    def _batch(self, values: list[Any], times: Any) -> Batch:
        if self._timed:
            times = np.asarray(times, np.int64)
        return make_batch(
            values, times if self._timed else None, self._output, self._operator, self._where
        )

    # What is kept ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Give what waits; nothing where nothing does."""
        rows = [
            *self._kept,
            *(
                (None, *pair)
                for pair in zip(_each(self.stamps, self.counts), self.values, strict=True)
            ),
            *((tag, *pair) for tag, some in self._sides.items() for pair in some),
        ]
        if not rows:
            return ()
        tags, times, values = zip(*rows, strict=True)
        table = pa.table([list(tags), list(times), pickled(values)], schema=_SCHEMA)
        # Whoever takes them sends them on: they wait for nothing but a batch.
        return (Section(_SECTION, table, Share.SPLIT),)

    def restore(self, snapshot: Snapshot) -> None:
        """Take up what waited."""
        table = section(snapshot, _SECTION)
        if table is not None:
            tags, times, packed = (column.to_pylist() for column in table.columns)
            values = map(pickle.loads, packed)
            self._kept = list(zip(tags, times, values, strict=True))


def _each(stamps: list[int | None], counts: list[int]) -> list[int | None]:
    return [stamp for stamp, count in zip(stamps, counts, strict=True) for _ in range(count)]


def _repeated(stamps: list[int | None], counts: list[int]) -> Int64s:
    """Give the event time of each row from those of runs of rows."""
    return np.repeat(_array(stamps), counts)


def _array(times: list[int | None]) -> Int64s:
    if None in times:
        return np.array([NO_TIME if time is None else time for time in times], np.int64)
    return np.array(times, np.int64)
