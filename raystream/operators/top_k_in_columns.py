"""Keep the best rows of each key, many rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.changes import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE
from raystream.flow.element import MIN_TIME
from raystream.keyed.best_rows import CELLS_MAX, NOBODY, BestRows, Entries
from raystream.keyed.slots import distinct
from raystream.keyed.snapshot import Section, Snapshot
from raystream.keyed.sort_codes import sort_codes
from raystream.keyed.touched import Lineage, TouchedSlots
from raystream.operators.operator import Output
from raystream.operators.running_top_k import ARRIVAL, RunningTopK, TopKPlan

_T = TypeVar("_T", bound=np.generic)

_COMPACT_MIN: Final = 8_192
_PLACE: Final = "__place"


class _News(NamedTuple):
    """Rows to give.

    Shapes: numbers, ranks from 1, entries which they are about, int64 [n]; ops int8 [n].
    """

    numbers: Int64s
    ranks: Int64s
    ops: npt.NDArray[np.int8]
    entries: Int64s


class TopKInColumns(RunningTopK):
    """The operator of one subtask; the number of a row says when it came.

    A batch is thinned out first: a row that is worse in the first column than the worst of a full
    list cannot enter.
    """

    def __init__(self, spec: TopKPlan) -> None:
        super().__init__(spec)
        self._best = BestRows(spec.k)
        self._touched = TouchedSlots()
        self._lineage = Lineage()
        self._live = 0
        # The first key that has not left at the end.
        self._staying = 0

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a columnar operator takes columns"
        if not batch.num_rows:
            return
        record = batch.record
        slots, hopeful = self._hopeful(record)
        changed: list[tuple[Int64s, Int64s]] = []
        times = batch.timestamps
        for some in self._steps(hopeful):
            entries = self._offer(record, some, slots[some])
            at = some[entries.rows]
            times_of = np.zeros(len(at), np.int64) if times is None else times[at]
            if self._spec.emit in ("row", "changes"):
                news = self._news(entries)
                yield from self._batches(news, times_of[news.entries])
            else:
                changed.append((entries.slots, times_of))
        if self._spec.emit == "batch" and changed:
            yield from self._changed(*map(np.concatenate, zip(*changed, strict=True)))
        self._compact()

    def changes(self) -> Snapshot:
        """Give the whole lists of keys that have changed; a list never becomes shorter."""
        touched = self._touched.take(self._index.count)
        # At the end keys go one after the other: no delta says so.
        if (
            touched is None
            or self._staying
            or self._lineage.wants_whole(int(self._best.counts(touched).sum()))
        ):
            rows = self._rows()
        else:
            rows = self._lists(touched, delta=True)
        return self._lineage.given(rows), self._going_out()

    def _rows(self) -> Section:
        return self._lists(np.arange(self._staying, self._index.count))

    def _lists(self, slots: Int64s, *, delta: bool = False) -> Section:
        numbers, ranks, _ = self._best.whole(slots)
        beside, key = {ARRIVAL: numbers, _PLACE: ranks}, (*self._spec.keys, _PLACE)
        return self._section("rows", numbers, beside, key, delta=delta)

    def _leaving(self, rows_max: int) -> tuple[Int64s, Int64s] | None:
        slots = np.arange(self._staying, min(self._staying + rows_max, self._index.count))
        if not len(slots):
            return None
        rows = np.cumsum(self._best.counts(slots))
        slots = slots[: int(np.searchsorted(rows, rows_max)) + 1]
        self._staying += len(slots)
        numbers, ranks, _ = self._best.whole(slots)
        return numbers, ranks

    def _resume(self, rows: Columns, slots: Int64s, arrivals: Int64s) -> None:
        for some in self._steps(np.arange(len(slots))):
            self._offer(rows.record, some, slots[some])

    def _steps(self, rows: Int64s) -> Iterator[Int64s]:
        step = max(1, CELLS_MAX // self._spec.k)
        return (rows[start : start + step] for start in range(0, len(rows), step))

    def _offer(self, record: pa.RecordBatch, some: Int64s, slots: Int64s) -> Entries:
        """Take some rows in; those that enter are held.

        Shapes: record [n], some, which of its rows, slots int64 [m].
        """
        by = self._spec.by
        names = list(dict(by))
        comes = record.select(names).take(pa.array(some))

        def codes_of(held: Int64s) -> Int64s:
            return sort_codes(pa.concat_batches([self._store.take(held, names), comes]), by)

        entries = self._best.offer(slots, self._store.stop, codes_of, self._index.count)
        self._store.append(record.take(pa.array(some[entries.rows])))
        self._live += int(np.count_nonzero(entries.gone == NOBODY))
        touched = distinct(entries.slots)
        self._touched.mark(touched, self._index.count)
        full = touched[self._best.counts(touched) == self._spec.k]
        if self._bars.able and len(full):
            name = self._spec.by[0][0]
            self._bars.learn(full, self._store.take(self._best.last(full), [name]).column(0))
        return entries

    def _news(self, entries: Entries) -> _News:
        """Tell what each entry changes."""
        ranked = self._spec.rank is not None
        if self._spec.emit == "row":
            return _of_ranks(entries) if ranked else _of_rows(entries)
        return _replaced(entries, before=self._spec.before) if ranked else _taken_back(entries)

    def _changed(self, slots: Int64s, times: Int64s) -> Iterator[Output]:
        """Give all the best of keys that have changed, each at the latest time of a change."""
        keys, firsts, which = np.unique(slots, return_index=True, return_inverse=True)
        latest = np.full(len(keys), MIN_TIME)
        np.maximum.at(latest, which, times)
        order = np.argsort(firsts)
        numbers, ranks, owners = self._best.whole(keys[order])
        ops = np.full(len(numbers), INSERT, np.int8)
        return self._batches(_News(numbers, ranks, ops, owners), latest[order][owners])

    def _batches(self, news: _News, times: Int64s) -> Iterator[Output]:
        rows_max = self._ctx.limits.batch_rows_max
        for start in range(0, len(times), rows_max):
            some = slice(start, start + rows_max)
            yield self._batch(news.numbers[some], news.ranks[some], news.ops[some], times[some])

    def _compact(self) -> None:
        """Forget rows that are not among the best, once they are half of what is held."""
        if self._store.row_count > 2 * self._live + _COMPACT_MIN:
            kept = self._best.held()
            self._store.keep(kept)
            self._best.renumber(kept)


def _of_rows(entries: Entries) -> _News:
    """Give the rows that came."""
    each = np.arange(len(entries.rows))
    ops = np.full(len(each), INSERT, np.int8)
    return _News(entries.lists[each, entries.places], entries.places + 1, ops, each)


def _of_ranks(entries: Entries) -> _News:
    """Give the rows that came, and those whose rank that changed."""
    each, places = _from_place_on(entries)
    ops = np.full(len(each), INSERT, np.int8)
    return _News(entries.lists[each, places], places + 1, ops, each)


def _replaced(entries: Entries, *, before: bool) -> _News:
    """Give the change of a table whose key is the rank: rows replace those of their rank.

    With ``before``, what is replaced goes out first.
    """
    each, places = _from_place_on(entries)
    replaces = places < entries.before[each]
    ops = np.where(replaces, UPDATE_AFTER, INSERT)
    news = _News(entries.lists[each, places], places + 1, ops.astype(np.int8), each)
    if not before:
        return news
    lists = np.concatenate((entries.lists, entries.gone[:, None]), axis=1)
    taken = np.full(len(each), UPDATE_BEFORE, np.int8)
    return _in_turns(news._replace(numbers=lists[each, places + 1], ops=taken), replaces, news)


def _taken_back(entries: Entries) -> _News:
    """Give the change of a table of whole rows: what is gone is taken back."""
    news = _of_rows(entries)
    taken = np.full(len(news.ops), DELETE, np.int8)
    gone = entries.gone != NOBODY
    return _in_turns(news._replace(numbers=entries.gone, ops=taken), gone, news)


def _from_place_on(entries: Entries) -> tuple[Int64s, Int64s]:
    """Give all that stand where an entry came to stand or behind it, entry by entry.

    Shapes: -> which entry int64 [n], places int64 [n].
    """
    behind = np.arange(entries.lists.shape[1]) >= entries.places[:, None]
    each, places = np.nonzero(behind & (entries.lists != NOBODY))
    return each, places


def _in_turns(first: _News, some: npt.NDArray[np.bool_], then: _News) -> _News:
    """Give each of ``then``, before it the one of ``first`` at its place if that is of ``some``."""
    kept = np.column_stack((some, np.ones(len(some), np.bool_))).ravel()

    def turns(one: npt.NDArray[_T], other: npt.NDArray[_T]) -> npt.NDArray[_T]:
        told: npt.NDArray[_T] = np.column_stack((one, other)).ravel()[kept]
        return told

    return _News(
        turns(first.numbers, then.numbers),
        turns(first.ranks, then.ranks),
        turns(first.ops, then.ops),
        turns(first.entries, then.entries),
    )
