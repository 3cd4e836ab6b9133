"""The rows of one side of a join that waits for partners: found by key, taken back by value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.errors import RestoreRefused
from raystream.flow.batch import NO_TIME, Int64s, visible_names
from raystream.flow.gather import take_rows
from raystream.flow.hashing import hash_table
from raystream.keyed.groups import Grouper, Groups
from raystream.keyed.row_ids import RowIds
from raystream.keyed.row_store import RowStore
from raystream.keyed.slot_lists import SlotLists
from raystream.keyed.slots import SlotColumn
from raystream.keyed.snapshot import GONE, Section, keyed_section
from raystream.keyed.touched import Lineage, TouchedSlots

Bools = npt.NDArray[np.bool_]

_DEAD_MIN = 8_192
_ROW, _CAME, _MET = "__row", "__came", "__met"


class JoinSide:
    """Rows by number, and for each key's slot the numbers of its rows, in order of arrival.

    A row that is gone stays where it is, dead, until half of all are: ``lists`` may still name it,
    as ``alive`` tells. With ``changes`` rows can be taken back; with ``ages`` each has the time at
    which it came, and whether it has met a partner, which may be gone by then.
    """

    def __init__(
        self, schema: pa.Schema, keys: tuple[str, ...], *, changes: bool, ages: bool
    ) -> None:
        self.schema = schema
        self._keys = keys
        self._visible = visible_names(schema)
        self._types = [schema.field(name).type for name in self._visible]
        self._changes, self._ages = changes, ages
        self._grouper, self._row_grouper = Grouper(), Grouper()
        self._lineage = Lineage()
        self._store = RowStore(schema)
        self._came_us = NO_TIME
        self._begin(0)

    def _begin(self, slot_count: int) -> None:
        """Forget how rows are found."""
        self.lists = SlotLists()
        self._live = SlotColumn("i8")
        self._slots = SlotColumn("i8")
        self._alive = SlotColumn("?", False)
        self._came = SlotColumn("i8")
        self._met = SlotColumn("?", False)
        self._row_ids = SlotColumn("i8")
        self._ids = RowIds(self._types)
        self._queues = SlotLists()
        self._expired = 0
        self._given = 0
        self.dead = 0
        self._touched = TouchedSlots()  # numbers are others: all is given anew
        self.reserve(slot_count)

    @property
    def row_count(self) -> int:
        """Rows that are there."""
        return self._store.stop - self.dead

    @property
    def is_sparse(self) -> bool:
        """Tell whether so much is dead that living rows are better put together anew."""
        # Rows that were taken back though they had never come have ids too.
        ids = self._ids.count > 2 * (self.row_count + _DEAD_MIN)
        return ids or self.dead > max(_DEAD_MIN, self.row_count)

    def reserve(self, slot_count: int) -> None:
        """Make room for keys; asked before their slots are named."""
        self.lists.reserve(slot_count)
        self._live.reserve(slot_count)
        self._slot_count = slot_count

    def live(self, slots: Int64s) -> Int64s:
        """Give how many rows each key has."""
        counts: Int64s = self._live.values[slots]
        return counts

    def alive(self, numbers: Int64s) -> Bools:
        """Tell which rows are still there."""
        alive: Bools = self._alive.values[numbers]
        return alive

    def met(self, numbers: Int64s) -> Bools:
        """Tell which rows have met a partner, as was said of them."""
        met: Bools = self._met.values[numbers]
        return met

    def take(self, numbers: Int64s) -> pa.RecordBatch:
        """Copy rows."""
        return self._store.take(numbers)

    def add(
        self, rows: pa.RecordBatch, groups: Groups, came_us: int, met: Bools | None = None
    ) -> Int64s:
        """Take rows that come; ``groups`` are these rows by the slots of their keys.

        Shapes: rows [n], groups of n rows, met bool [n] -> numbers int64 [n].
        """
        ids = self._lookup(rows) if self._changes else None
        return self._enter(rows, groups, ids, self._ages_of(rows, came_us), met)

    def apply(
        self,
        rows: pa.RecordBatch,
        groups: Groups,
        removes: Bools,
        came_us: int,
        met: Bools | None = None,
    ) -> Int64s:
        """Take rows that come, and rows that take an equal one back, in order.

        Of equal rows the oldest goes; -1 is the number of a row that takes back what is not there.
        Shapes: rows [n], groups of n rows, removes bool [n], met bool [n] -> numbers int64 [n].
        """
        assert self._changes, "rows of this side stay"
        ids = self._lookup(rows)
        adds = np.flatnonzero(~removes)
        by_id = self._row_grouper.group(ids, self._ids.count)
        taking, nth = _takers(by_id, removes, self._queues.counts(by_id.slots))
        numbers = np.full(len(ids), -1)
        if len(adds):
            given = rows.take(pa.array(adds))
            added = _renumbered(groups.only(~removes[groups.order]), adds, len(ids))
            some = None if met is None else met[adds]
            numbers[adds] = self._enter(
                given, added, ids[adds], self._ages_of(given, came_us), some
            )
        if len(taking):
            # Equal rows stand in a queue: what comes behind has joined it, the oldest leave.
            starts = by_id.spread(self._queues.starts(by_id.slots))
            gone = self._queues.at(starts[taking] + nth)
            numbers[by_id.order[taking]] = gone
            self._remove(gone)
        return numbers

    def expire(self, oldest_us: int) -> None:
        """Let rows go that came at ``oldest_us`` or earlier."""
        start, stop = self._expired, self._store.stop
        came = self._came.values[start:stop]
        self._expired += int(np.searchsorted(came, oldest_us, side="right"))
        numbers = start + np.flatnonzero(self._alive.values[start : self._expired])
        if len(numbers):
            self._remove(numbers)

    def mark_met(self, slots: Int64s, met: Bools) -> None:
        """Say of all rows of some keys whether they have met a partner.

        Shapes: slots int64 [m], met bool [m].
        """
        numbers, counts = self.lists.read(slots)
        values = np.repeat(met, counts)
        changed = self._met.values[numbers] != values
        self._met.values[numbers[changed]] = values[changed]
        self._touched.mark(numbers[changed], self._store.stop)

    def rows(self) -> tuple[Int64s, Int64s]:
        """Give the numbers of all rows that are there, and the slots of their keys."""
        numbers = np.flatnonzero(self._alive.values[: self._store.stop])
        return numbers, self._slots.values[numbers]

    def rebuild(self, numbers: Int64s, slots: Int64s, slot_count: int) -> None:
        """Keep these rows only, numbered anew, at these slots; nothing is dead behind it.

        Shapes: numbers int64 [n], ascending, slots int64 [n].
        """
        ages = self._came.values[numbers] if self._ages else None
        had_met = self._met.values[numbers] if self._ages else None
        kept = self._store.table(numbers).to_batches()
        self._store = RowStore(self.schema)
        self._begin(slot_count)
        start = 0
        for rows in kept:
            some = slice(start, start + rows.num_rows)
            start += rows.num_rows
            came = None if ages is None else ages[some]
            met = None if had_met is None else had_met[some]
            self.restore(rows, slots[some], came, met)

    def section(self, name: str, max_parallelism: int) -> Section:
        """Give all rows that are there."""
        return self._section(name, self.rows()[0], max_parallelism)

    def changes(self, name: str, max_parallelism: int) -> Section:
        """Give the rows that have come, have met a partner or are gone since the last call."""
        touched = self._touched.take(self._store.stop)
        if touched is not None:
            # What has come and gone since then was never given.
            touched = touched[(touched < self._given) | self.alive(touched)]
        self._given = self._store.stop
        if touched is None or self._lineage.wants_whole(len(touched)):
            return self._lineage.given(self.section(name, max_parallelism))
        return self._lineage.given(self._section(name, touched, max_parallelism, delta=True))

    def read(self, table: pa.Table) -> Iterator[tuple[pa.RecordBatch, Int64s | None, Bools | None]]:
        """Read what was kept: rows in order of arrival, when they came, whether they had met one.

        What several subtasks kept is put in order too: the rows of a key are from one of them.
        """
        rows = table.column(_ROW).to_numpy()
        came = table.column(_CAME).to_numpy() if self._ages else np.zeros(len(rows), np.int64)
        names = [f"row.{name}" for name in self.schema.names]
        missing = [name for name in self.schema.names if f"row.{name}" not in table.column_names]
        if missing:
            raise RestoreRefused(
                f"the rows that were kept have no column {', '.join(missing)}, which nobody behind "
                "the join read then",
                hint="read the columns that were read before, or give the join another uid",
            )
        for record in take_rows(table, np.lexsort((rows, came))).to_batches():
            held = pa.RecordBatch.from_arrays(record.select(names).columns, schema=self.schema)
            if self._ages:
                met = record.column(_MET).to_numpy(zero_copy_only=False)
                yield held, record.column(_CAME).to_numpy(), met
            else:
                yield held, None, None

    def restore(
        self, rows: pa.RecordBatch, slots: Int64s, came: Int64s | None, met: Bools | None
    ) -> None:
        """Take up rows that were kept, at these slots."""
        if rows.num_rows:
            groups = self._grouper.group(slots, self._slot_count)
            self._enter(rows, groups, self._lookup(rows) if self._changes else None, came, met)

    def _lookup(self, rows: pa.RecordBatch) -> Int64s:
        ids = self._ids.lookup([rows.column(name) for name in self._visible])
        self._queues.reserve(self._ids.count)
        return ids

    def _ages_of(self, rows: pa.RecordBatch, came_us: int) -> Int64s | None:
        if not self._ages:
            return None
        # A clock that is set back makes no row older than those before.
        self._came_us = max(self._came_us, came_us)
        return np.full(rows.num_rows, self._came_us)

    def _enter(
        self,
        rows: pa.RecordBatch,
        groups: Groups,
        ids: Int64s | None,
        came: Int64s | None,
        met: Bools | None,
    ) -> Int64s:
        first = self._store.append(rows)
        stop = self._store.stop
        numbers = np.arange(first, stop)
        for column in (self._slots, self._alive):
            column.reserve(stop)
        self._slots.values[first + groups.order] = groups.spread(groups.slots)
        self._alive.values[first:stop] = True
        if came is not None:
            self._came.reserve(stop)
            self._met.reserve(stop)
            self._came.values[first:stop] = came
            self._came_us = max(self._came_us, int(came[-1]))
            assert met is not None, "rows that age have met a partner or not"
            self._met.values[first:stop] = met
        if ids is not None:
            self._row_ids.reserve(stop)
            self._row_ids.values[first:stop] = ids
            self._queues.append(self._row_grouper.group(ids, self._ids.count), numbers)
        self.lists.append(groups, numbers)
        self._live.values[groups.slots] += groups.lengths
        self._touched.mark(numbers, stop)
        return numbers

    def _remove(self, numbers: Int64s) -> None:
        """Let rows go; of equal ones the oldest."""
        self._alive.values[numbers] = False
        self.dead += len(numbers)
        self._touched.mark(numbers, self._store.stop)
        groups = self._grouper.group(self._slots.values[numbers], self._slot_count)
        self._live.values[groups.slots] -= groups.lengths
        if self._changes:
            queues = self._row_grouper.group(self._row_ids.values[numbers], self._ids.count)
            self._queues.shorten(queues.slots, queues.lengths)
        # A list that is half dead is cleaned: what is read of it is at most twice what lives.
        foul = groups.slots[2 * self.live(groups.slots) <= self.lists.counts(groups.slots)]
        if len(foul):
            self.lists.keep(foul, self.alive(self.lists.read(foul)[0]))

    def _section(
        self, name: str, numbers: Int64s, max_parallelism: int, *, delta: bool = False
    ) -> Section:
        rows = self._store.table(numbers)
        columns = {_ROW: pa.array(numbers)}
        columns |= {f"row.{name}": rows.column(name) for name in rows.column_names}
        if self._ages:
            columns[_CAME] = pa.array(self._came.values[numbers])
            columns[_MET] = pa.array(self._met.values[numbers])
        if delta:
            columns[GONE] = pa.array(~self.alive(numbers))
        hashes = hash_table(rows.select(self._keys))
        table = pa.table(columns)
        return keyed_section(name, table, hashes, max_parallelism, (_ROW,), delta=delta)


def _takers(by_id: Groups, removes: Bools, there: Int64s) -> tuple[Int64s, Int64s]:
    """Find the rows that take one back which is there, and which of its queue each takes.

    ``there`` is how many equal rows there were before. Those that are there can never be less than
    none: a row that would make them so takes nothing back.
    Shapes: by_id of n rows and m ids, removes bool [n], there int64 [m] -> positions int64 [k],
    int64 [k].
    """
    away = removes[by_id.order]
    steps = np.where(away, -1, 1)
    walk = np.cumsum(steps)
    base = by_id.spread(np.minimum(there, len(steps)) - walk[by_id.starts] + steps[by_id.starts])
    # Lowest so far, by id: each id lies below the one before, so that its minimum begins anew.
    floors = by_id.segments * (len(steps) + 1)
    lowest = np.minimum.accumulate(np.minimum(walk + base, 0) - floors) + floors
    before = np.where(by_id.places == 0, 0, np.append(0, lowest[:-1]))
    takes = away & (lowest >= before)
    taken: Int64s = np.cumsum(takes)
    nth = taken - by_id.spread(taken[by_id.starts] - takes[by_id.starts]) - 1
    taking = np.flatnonzero(takes)
    return taking, nth[taking]


def _renumbered(groups: Groups, rows: Int64s, count: int) -> Groups:
    """Name the rows of groups by their place among ``rows``, of ``count``."""
    places = np.empty(count, np.int64)
    places[rows] = np.arange(len(rows))
    return Groups(places[groups.order], groups.starts, groups.slots)
