"""Keep the best Python rows of each key, as rows come."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np

from raystream.contracts.context import OpenContext
from raystream.flow.batch import NO_TIME, Batch, Objects
from raystream.flow.changes import INSERT
from raystream.flow.key import canonical_keys
from raystream.keyed.key_rows import ChangedRows, key_rows, read_key_rows
from raystream.keyed.ranking import Ranking, Told, object_sort
from raystream.keyed.snapshot import Section, Snapshot
from raystream.operators.emitting import EmittingOperator
from raystream.operators.keyed_rows import each_row
from raystream.operators.operator import Output


@dataclass(frozen=True, eq=False)
class ObjectTopKSpec:
    """As ``TopKSpec``, over objects with keys; ``emit`` is row, batch or final.

    ``by`` are pairs of (name in a dict row or function of the row, descending); with a ``rank``
    rows are dicts, and get it as one more item.
    """

    k: int
    by: tuple[tuple[str | Callable[[Any], Any], bool], ...]
    ties: bool
    rank: str | None
    emit: str
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "top_k"

    def describe(self) -> str:
        names = [(getattr(by, "__name__", by), down) for by, down in self.by]
        order = ", ".join(f"{name}{' desc' if down else ''}" for name, down in names)
        return f"{self.k} by {order}{', with ties' if self.ties else ''}  emit={self.emit}"

    def build(self) -> ObjectTopK:
        return ObjectTopK(self)


class ObjectTopK(EmittingOperator):
    """The operator of one subtask; what stands for a row is the row, beside its event time."""

    def __init__(self, spec: ObjectTopKSpec) -> None:
        super().__init__(spec.emit)
        self._spec = spec
        self._ranking = Ranking(spec.k, ties=spec.ties)
        self._reads = [
            (itemgetter(by) if isinstance(by, str) else by, down) for by, down in spec.by
        ]
        self._arrived = 0
        self._timed = False
        self._waiting: list[Told] = []
        self._changed = ChangedRows("best")

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Objects), "the stream is one of objects"
        self._timed = batch.timestamps is not None
        assert batch.keys is not None, "a keyed object stream carries its keys"
        left = iter(batch.values)
        times: Any = repeat(None) if batch.timestamps is None else batch.timestamps.tolist()
        every = zip(left, canonical_keys(batch.keys), times)  # noqa: B905  repeat() has no end
        changed: dict[Hashable, int | None] = {}
        news: list[tuple[int | None, Told]] = []
        each_row(
            partial(self._take, every, changed, news),
            batch.values,
            left,
            batch.timestamps,
            self._ctx.errors,
            operator=self._spec.operator,
            where=self._spec.where,
        )
        if self._spec.emit == "batch":
            for key, latest_us in changed.items():
                news += [(latest_us, told) for told in self._whole(key)]
        rows_max = self._ctx.limits.batch_rows_max
        for start in range(0, len(news), rows_max):
            yield self._batch(news[start : start + rows_max])

    def on_end(self) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        while self._spec.emit == "final":
            while len(self._waiting) < rows_max and self._ranking.best:
                key = next(iter(self._ranking.best))
                self._waiting += self._whole(key)
                del self._ranking.best[key]
                self._changed.mark([key])
            if not self._waiting:
                return
            some, self._waiting = self._waiting[:rows_max], self._waiting[rows_max:]
            yield self._batch([(told.row[0], told) for told in some])

    def snapshot(self) -> Snapshot:
        held = ((key, self._entries(key)) for key in self._ranking.best)
        return key_rows("best", held, self._ctx.max_parallelism), self._waiting_section()

    def changes(self) -> Snapshot:
        best, groups = self._ranking.best, self._ctx.max_parallelism
        return self._changed.section(best, self._entries, groups), self._waiting_section()

    def _entries(self, key: Hashable) -> list[Any]:
        return [entry[1:] for entry in self._ranking.best[key]]

    def _waiting_section(self) -> Section:
        waiting = ((told.row[2], tuple(told)) for told in self._waiting)
        made = key_rows("waiting", waiting, self._ctx.max_parallelism)
        return replace(made, key=())  # several rows of one key

    def restore(self, snapshot: Snapshot) -> None:
        for key, entries in read_key_rows(snapshot, "best"):
            for arrival, kept in sorted(entries):
                self._ranking.offer(key, (self._sort(kept[1]), arrival, kept))
                self._arrived = max(self._arrived, arrival + 1)
                self._timed = kept[0] is not None
        for _, told in read_key_rows(snapshot, "waiting"):
            self._waiting.append(Told(*told))
            self._timed = told[0][0] is not None

    def _take(
        self,
        every: Iterator[Any],
        changed: dict[Hashable, int | None],
        news: list[tuple[int | None, Told]],
    ) -> None:
        each, ranked = self._spec.emit == "row", self._spec.rank is not None
        # A loop over rows: they are Python objects, and each meets what the one before left.
        for row, key, time_us in every:
            entry = (self._sort(row), self._arrived, (time_us, row, key))
            self._arrived += 1
            change = self._ranking.offer(key, entry)
            if change is None:
                continue
            self._changed.mark((key,))
            if each:
                newest = self._ranking.newest(change, ranked=ranked)
                news += [(time_us, told) for told in newest]
            elif time_us is None:
                changed[key] = None
            else:
                changed[key] = max(time_us, changed.get(key) or time_us)

    def _sort(self, row: Any) -> tuple[Any, ...]:
        return tuple(object_sort(read(row), descending=down) for read, down in self._reads)

    def _whole(self, key: Hashable) -> Iterable[Told]:
        best = self._ranking.best[key]
        ranks = self._ranking.ranks(best)
        return [Told(entry[2], rank, INSERT) for entry, rank in zip(best, ranks, strict=True)]

    def _batch(self, news: list[tuple[int | None, Told]]) -> Objects:
        rank = self._spec.rank
        rows = [
            told.row[1] if rank is None else {**told.row[1], rank: told.rank} for _, told in news
        ]
        times = [NO_TIME if time_us is None else time_us for time_us, _ in news]
        return Objects(rows, np.array(times, np.int64) if self._timed else None)
