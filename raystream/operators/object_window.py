"""Aggregate Python rows in event-time windows, per key: dicts of key, window and aggregates."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count as counting
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from raystream.contracts.aggregate import Aggregate
from raystream.contracts.context import OpenContext
from raystream.contracts.window import GridWindow
from raystream.flow.batch import Batch, Int64s, Objects
from raystream.flow.element import MIN_TIME
from raystream.flow.key import canonical, canonical_keys
from raystream.flow.time import moment
from raystream.keyed.key_rows import key_rows, read_key_rows
from raystream.keyed.object_accumulators import object_accumulator
from raystream.keyed.snapshot import (
    Snapshot,
    arrival_section,
    restored_arrival,
    restored_watermark,
    watermark_section,
)
from raystream.keyed.window_admission import admit
from raystream.operators.keyed_rows import each_result, each_row
from raystream.operators.operator import Operator
from raystream.operators.window_aggregate import LATE_ROWS
from raystream.operators.window_times import event_times

Accumulators: TypeAlias = tuple[Any, list[Any]]
"""A key, and the accumulator of each aggregate."""


@dataclass(frozen=True, eq=False)
class ObjectWindowSpec:
    """One dict per key and window, when the watermark passes the window's last instant.

    ``key_names`` name the key in the dicts: one name, one for each part of keys that are tuples, or
    none where all rows are gathered together.
    Raises: PlanError where an aggregate has a column expression.
    """

    window: GridWindow
    aggregates: tuple[tuple[str, Aggregate], ...]
    key_names: tuple[str, ...]
    operator: str
    where: str

    def __post_init__(self) -> None:
        # Made for its checks: an expression is refused before any actor starts.
        for name, aggregate in self.aggregates:
            object_accumulator(name, aggregate)

    @property
    def verb(self) -> str:
        return "window_aggregate"

    def describe(self) -> str:
        aggregates = ", ".join(f"{name}={aggregate.kind}" for name, aggregate in self.aggregates)
        by = f" by {', '.join(self.key_names)}" if self.key_names else ""
        return f"{self.window}{by}: {aggregates}"

    def build(self) -> ObjectWindow:
        return ObjectWindow(self)


class ObjectWindow(Operator):
    """The operator of one subtask; its state is (key, accumulators) by window and canonical key.

    A row is added to each of its windows: accumulators may not be merged more than once, so
    windows cannot share them.
    """

    def __init__(self, spec: ObjectWindowSpec) -> None:
        self._spec = spec
        self._grid = spec.window.grid
        self._cover = self._grid.cover
        self._names = [name for name, _ in spec.aggregates]
        rules = [object_accumulator(name, aggregate) for name, aggregate in spec.aggregates]
        self._creates = [rule.create for rule in rules]
        self._adds = list(enumerate(rule.add for rule in rules))
        self._results = [rule.result for rule in rules]
        self._windows: dict[int, dict[Hashable, Accumulators]] = {}
        self._order: list[int] = []
        self._firing: list[Accumulators] = []
        self._firing_window = 0
        self._watermark_us = MIN_TIME
        self._arrived = 0

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx
        self._late = ctx.metrics.counter(LATE_ROWS)

    def restore(self, snapshot: Snapshot) -> None:
        watermark_us = restored_watermark(snapshot)
        assert watermark_us is not None, "a watermark is kept, be it the least"
        self._watermark_us = watermark_us
        self._arrived = restored_arrival(snapshot)
        kept = sorted(read_key_rows(snapshot, "windows"), key=lambda pair: pair[1][0])
        for key_id, (_, window, key, accs) in kept:
            self._windows.setdefault(window, {})[key_id] = (key, accs)
        # A sorted list is a heap.
        self._order = sorted(self._windows)

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch]:
        assert isinstance(batch, Objects), "the stream is one of objects"
        if batch.num_rows:
            self._add(batch, event_times(batch, self._ctx))
        yield from ()

    def on_watermark(self, time_us: int) -> Iterator[Batch]:
        self._watermark_us = max(self._watermark_us, time_us)
        while True:
            due = self._grid.due(self._watermark_us)
            rows, times = self._take(due)
            if not rows and not self._firing and not (self._order and self._order[0] <= due):
                return
            yield Objects(rows, times)

    def snapshot(self) -> Snapshot:
        rows = ((key_id, (place, *held)) for place, (key_id, *held) in enumerate(self._held()))
        kept = key_rows("windows", rows, self._ctx.max_parallelism)
        return kept, watermark_section(self._watermark_us), arrival_section(self._arrived)

    def _held(self) -> Iterator[tuple[Hashable, int, Any, list[Any]]]:
        """Give canonical key, window, key and accumulators, of the window that is firing first."""
        for key, accs in reversed(self._firing):
            yield canonical(key), self._firing_window, key, accs
        for window, keys in self._windows.items():
            for key_id, (key, accs) in keys.items():
                yield key_id, window, key, accs

    def _add(self, batch: Objects, times: Int64s) -> None:
        admitted = admit(self._grid, times, self._watermark_us)
        if admitted.rows is not None:
            self._late.inc(admitted.late_count)
            if not len(admitted.rows):
                return
            batch, times = batch.take(admitted.rows), times[admitted.rows]
        panes = self._grid.panes_of(times)
        open_from = max(self._grid.due(self._watermark_us) + 1, MIN_TIME)
        first = np.maximum(self._cover.first(panes), open_from)
        last = self._cover.last(panes)
        # All rows may be gathered together behind a key, too.
        keyed = batch.keys if self._spec.key_names else None
        keys: Any = repeat(None) if keyed is None else keyed
        ids: Any = repeat(None) if keyed is None else canonical_keys(keyed)
        left = iter(batch.values)
        arrivals = counting(self._arrived)
        self._arrived += batch.num_rows
        every = zip(  # noqa: B905  some have no end
            left, keys, ids, times.tolist(), first.tolist(), last.tolist(), arrivals
        )
        each_row(
            partial(self._add_rows, every),
            batch.values,
            left,
            times,
            self._ctx.errors,
            operator=self._spec.operator,
            where=self._spec.where,
        )

    def _add_rows(self, every: Iterator[Any]) -> None:
        # A loop over rows: they are Python objects.
        for row, key, key_id, time_us, begin, end, arrival in every:
            for window in range(begin, end + 1):
                held = self._windows.get(window, {}).get(key_id)
                accs = [create() for create in self._creates] if held is None else held[1]
                # All or none: a row that fails is in no aggregate that it has not changed in place.
                accs[:] = [add(accs[place], row, time_us, arrival) for place, add in self._adds]
                if held is None:  # last: of a row that failed there is no window
                    self._open(window)[key_id] = (key, accs)

    def _open(self, window: int) -> dict[Hashable, Accumulators]:
        keys = self._windows.get(window)
        if keys is None:
            keys = self._windows[window] = {}
            heapq.heappush(self._order, window)
        return keys

    def _take(self, due: int) -> tuple[list[Any], Int64s]:
        """Take the next rows that are due out of state: one batch of them, of many windows."""
        room = self._ctx.limits.row_batch_rows_max
        rows: list[Any] = []
        windows: list[int] = []
        letters_max = len(self._ctx.errors.letters) + room
        while len(rows) < room and len(self._ctx.errors.letters) < letters_max:
            if not self._firing:
                if not self._order or self._order[0] > due:
                    break
                self._firing_window = heapq.heappop(self._order)
                # Reversed, so that taking from the end keeps the order in which keys came.
                self._firing = list(self._windows.pop(self._firing_window).values())[::-1]
            count = min(room - len(rows), len(self._firing))
            some = self._firing[-count:][::-1]
            del self._firing[-count:]
            made = self._rows(some, self._firing_window)
            rows += made
            windows += [self._firing_window] * len(made)
        return rows, self._grid.ends(np.array(windows, np.int64)) - 1

    def _rows(self, states: list[Accumulators], window: int) -> list[Any]:
        names, index = self._spec.key_names, np.array([window])
        start = int(self._grid.starts(index)[0])
        end = int(self._grid.ends(index)[0])

        def named(key: Any, bounds: tuple[Any, Any]) -> dict[str, Any]:
            row = {names[0]: key} if len(names) == 1 else dict(zip(names, key or (), strict=True))
            row["window_start"], row["window_end"] = bounds
            return row

        def make(state: Accumulators) -> dict[str, Any]:
            row = named(state[0], moments)
            for name, result, acc in zip(self._names, self._results, state[1], strict=True):
                row[name] = result(acc)
            return row

        moments = (moment(start), moment(end))
        rows, _ = each_result(
            make,
            states,
            lambda state: (named(state[0], (start, end)), end - 1),
            self._ctx.errors,
            operator=self._spec.operator,
            where=self._spec.where,
        )
        return rows
