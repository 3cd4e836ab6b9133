"""Keep the best rows of each key row by row: long lists, and lists with ties."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.changes import INSERT
from raystream.keyed.ranking import Change, Ranking, Told, sort_values
from raystream.keyed.snapshot import Section
from raystream.operators.operator import Output
from raystream.operators.running_top_k import ARRIVAL, RunningTopK, TopKPlan

_Change = TypeVar("_Change")

_COMPACT_MIN = 8_192


class TopKByRow(RunningTopK):
    """The operator of one subtask.

    A batch is thinned out by columns first: a row that is worse in the first column than the worst
    of a full list cannot enter. What may enter is taken in row by row.
    """

    def __init__(self, spec: TopKPlan) -> None:
        super().__init__(spec)
        self._ranking = Ranking(spec.k, ties=spec.ties)
        self._arrived = 0
        self._live = 0
        self._given: set[int] = set()

    @property
    def _entries(self) -> Mapping[Any, Sequence[tuple[Any, ...]]]:
        """What is held of each key: ``(sort, arrival, number of the row, …)``."""
        return self._ranking.best

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        slots, hopeful = self._hopeful(batch.record)
        if len(hopeful):
            yield from self._told(self._take(batch.take(hopeful), slots[hopeful]))
        self._compact()

    def _rows(self) -> Section:
        entries = [
            entry[1:3]
            for slot, best in self._entries.items()
            if slot not in self._given
            for entry in best
        ]
        arrivals, numbers = (np.array([entry[i] for entry in entries], np.int64) for i in (0, 1))
        return self._section("rows", numbers, {ARRIVAL: arrivals})

    def _leaving(self, rows_max: int) -> tuple[Int64s, Int64s] | None:
        told: list[Told] = []
        for slot in self._entries:
            if slot not in self._given:
                self._given.add(slot)
                told += self._whole(slot)
            if len(told) >= rows_max:
                break
        numbers, ranks = ([one[part] for one in told] for part in (0, 1))
        return (np.array(numbers, np.int64), np.array(ranks, np.int64)) if told else None

    def _resume(self, rows: Columns, slots: Int64s, arrivals: Int64s) -> None:
        self._arrived = int(arrivals[-1]) + 1
        for _ in self._changes(rows, slots, arrivals):
            pass  # taking a row in is what restores it

    def _changes(
        self, rows: Columns, slots: Int64s, arrivals: Int64s
    ) -> Iterator[tuple[int, int, Change]]:
        """Take rows in; give the place, the slot and what it did of each that entered."""
        first = self._store.append(rows.record)
        columns = [
            sort_values(rows.record.column(name), descending=descending)
            for name, descending in self._spec.by
        ]
        # A loop over rows: each meets the list that the one before left. Few come this far.
        for place, (slot, arrival, *sort) in enumerate(
            zip(slots.tolist(), arrivals.tolist(), *columns, strict=True)
        ):
            change = self._ranking.offer(slot, (tuple(sort), arrival, first + place))
            if change is None:
                continue
            worst = self._ranking.worst(slot)
            if worst is not None:
                self._bars.learn_one(slot, worst[0])
            yield place, slot, change

    def _take(self, rows: Columns, slots: Int64s) -> Iterator[tuple[int, Told]]:
        """Take rows in, and give what is to be told, with its event time."""
        arrivals = self._arrived + np.arange(rows.num_rows)
        self._arrived += rows.num_rows
        return self._timed(rows, self._changes(rows, slots, arrivals), self._news)

    def _timed(
        self,
        rows: Columns,
        changes: Iterable[tuple[int, int, _Change]],
        news: Callable[[_Change], Iterator[Told]],
    ) -> Iterator[tuple[int, Told]]:
        """Give what changes of lists tell, each at the time of the row that made it.

        A change is told by the place of its row, the slot of its key, and what it did.
        """
        times = rows.timestamps
        at = [0] * rows.num_rows if times is None else times.tolist()
        changed: dict[int, int] = {}
        for place, slot, change in changes:
            if self._spec.emit in ("row", "changes"):
                for told in news(change):
                    yield at[place], told
            else:
                changed[slot] = max(at[place], changed.get(slot, at[place]))
        if self._spec.emit == "batch":
            for slot, time_us in changed.items():
                for told in self._whole(slot):
                    yield time_us, told

    def _news(self, change: Change) -> Iterator[Told]:
        ranked = self._spec.rank is not None
        if self._spec.emit == "row":
            return self._ranking.newest(change, ranked=ranked)
        if ranked and not self._spec.ties:
            return self._ranking.by_rank(change, before=self._spec.before)
        return self._ranking.by_row(change, ranked=ranked)

    def _whole(self, slot: int) -> Iterator[Told]:
        best = self._ranking.best[slot]
        for entry, rank in zip(best, self._ranking.ranks(best), strict=True):
            yield Told(entry[2], rank, INSERT)

    def _told(self, news: Iterable[tuple[int, Told]]) -> Iterator[Output]:
        """Make bounded batches of rows, each at the time that is told."""
        rows_max = self._ctx.limits.batch_rows_max
        waiting: list[tuple[int, Told]] = []
        for one in news:
            waiting.append(one)
            if len(waiting) == rows_max:
                yield self._at_times(waiting)
                waiting = []
        if waiting:
            yield self._at_times(waiting)

    def _at_times(self, news: list[tuple[int, Told]]) -> Columns:
        numbers, ranks, ops = (np.array([told[part] for _, told in news]) for part in range(3))
        times = np.array([time_us for time_us, _ in news])
        return self._batch(numbers, ranks, ops.astype(np.int8), times)

    def _compact(self) -> None:
        """Forget rows that have been pushed out, once they are half of what is held."""
        # Lists seldom shrink, so what was counted last will do: not all keys at every batch.
        if self._store.row_count <= 2 * self._live + _COMPACT_MIN:
            return
        self._live = sum(map(len, self._ranking.best.values()))
        if self._store.row_count <= 2 * self._live + _COMPACT_MIN:
            return
        numbers = [entry[2] for best in self._ranking.best.values() for entry in best]
        self._store.keep(np.array(numbers, np.int64))
        number = iter(range(len(numbers)))
        for best in self._ranking.best.values():
            best[:] = [(sort, arrival, next(number)) for sort, arrival, _ in best]
