"""Rows that have left their windows and wait for somebody to take them, a batch at a time."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.flow.batch import NO_TIME, Int64s
from raystream.keyed.key_form import pickled
from raystream.keyed.snapshot import Section, Share, Snapshot, section

SECTION = "window:firing"


class Firing:
    """The results of windows, in order; of a result that is long only so much is made at a time.

    No more than ``rows_max`` rows are held, and the iterators that give the rest; behind a
    snapshot, which has to make them, also more.
    """

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._rows: list[Any] = []
        self._times: list[int] = []
        # At most the windows of one row: nobody puts more while a batch is full.
        self._rest: list[tuple[Iterator[Any], int]] = []

    def __bool__(self) -> bool:
        return bool(self._rows or self._rest)

    @property
    def full(self) -> bool:
        """Whether a batch should be taken before another window fires."""
        return len(self._rows) >= self._rows_max or bool(self._rest)

    def put(self, rows: Iterable[Any], time_us: int | None) -> None:
        """Add the result of a window, all rows with one event time."""
        time = NO_TIME if time_us is None else time_us
        if type(rows) is tuple and len(rows) == 1 and not self.full:
            self._rows.append(rows[0])
            self._times.append(time)
            return
        self._rest.append((iter(rows), time))
        self.fill()

    def fill(self) -> None:
        """Make rows until a batch is full; this may call the user's generators."""
        while self._rest and (room := self._rows_max - len(self._rows)) > 0:
            rest, time = self._rest[0]
            made = list(islice(rest, room))
            self._rows += made
            self._times += [time] * len(made)
            if len(made) < room:
                del self._rest[0]

    def take(self) -> tuple[list[Any], Int64s]:
        """Take the next batch: rows [n], event times int64 [n]."""
        size = self._rows_max
        rows, times = self._rows[:size], self._times[:size]
        del self._rows[:size], self._times[:size]
        return rows, np.array(times, np.int64)

    def snapshot(self) -> list[Section]:
        """Give the rows that wait; what generators still hold is made now."""
        for rest, time in self._rest:
            made = list(rest)
            self._rows += made
            self._times += [time] * len(made)
        self._rest.clear()
        if not self._rows:
            return []
        columns = {
            "row": pa.array(pickled(self._rows), pa.large_binary()),
            "time": pa.array(self._times, pa.int64()),
        }
        return [Section(SECTION, pa.table(columns), Share.SPLIT)]

    def restore(self, snapshot: Snapshot) -> None:
        """Take up rows that waited."""
        table = section(snapshot, SECTION)
        if table is None:
            return
        self._rows += [pickle.loads(row) for row in table.column("row").to_pylist()]
        self._times += table.column("time").to_pylist()
