"""Join two streams, or tables whose changes flow, on all rows that came: nothing waits for time.

As keys alone decide, a row has a match as soon as the other side has a row of its key, and all rows
of a key have one or none. So a batch is done by column, whatever it takes back: its rows meet those
of the other side, and where the first or the last row of a key comes or goes, the other side's rows
that nothing matched, or matches any more, go or come by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.window_lengths import text
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.changes import OP, takes_back
from raystream.keyed.groups import Grouper, Groups
from raystream.keyed.join_side import JoinSide
from raystream.keyed.key_index import KeyIndex
from raystream.keyed.snapshot import Snapshot, section
from raystream.operators.join_items import BEFORE, BEHIND, OTHER, Items, JoinedRows, merged
from raystream.operators.join_plan import JoinPlan
from raystream.operators.operator import Operator, Output

UNKNOWN_REMOVALS = "unknown_removals"
"""Counts rows that take back what is not there, and are ignored."""

_KEYS_MIN = 65_536
_SIDES = ("left", "right")

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RegularJoinSpec:
    """Each row beside all rows of the other side that have its key and are there.

    A row is forgotten ``ttl_us`` of processing time after it came; nothing comes out for that. A
    side whose wire schema has kinds is a changelog, of which each row that goes is told whole.
    """

    plan: JoinPlan
    ttl_us: int | None

    @property
    def verb(self) -> str:
        return "join"

    def describe(self) -> str:
        return f"{self.plan}  ttl={'forever' if self.ttl_us is None else text(self.ttl_us)}"

    def build(self) -> RegularJoin:
        return RegularJoin(self)


class RegularJoin(Operator):
    """The operator of one subtask: the rows of both sides, by keys that they share."""

    def __init__(self, spec: RegularJoinSpec) -> None:
        self._plan = plan = spec.plan
        self._ttl_us = spec.ttl_us
        self._index = KeyIndex(plan.key_types)
        self._grouper = Grouper()
        self._sides = tuple(
            JoinSide(
                pa.schema([field for field in schema if field.name != OP]),
                keys,
                changes=OP in schema.names,
                ages=spec.ttl_us is not None,
            )
            for schema, keys in ((plan.left, plan.left_keys), (plan.right, plan.right_keys))
        )

    def open(self, ctx: OpenContext) -> None:
        self._ctx = ctx

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "the stream is columnar"
        if not batch.num_rows:
            return
        now_us = 0
        if self._ttl_us is not None:
            now_us = self._ctx.clock.now_us()
            for side in self._sides:
                side.expire(now_us - self._ttl_us)
        self._compact()
        for _ in self._index.grow():
            yield Columns(pa.RecordBatch.from_pylist([], schema=self._plan.output))
        rows = Columns(batch.record.select(self._sides[port].schema.names))
        ops = batch.ops
        removes = np.zeros(batch.num_rows, np.bool_) if ops is None else takes_back(ops)
        valid = self._plan.matchable(port, batch.record)
        if valid is None:
            items, turned = self._keep(port, rows.record, removes, now_us)
        else:
            kept = np.flatnonzero(valid)
            items, turned = self._keep(port, rows.take(kept).record, removes[kept], now_us)
            items = items.placed(kept)
            if self._keeps(port):
                items = merged([items, Items.own(np.flatnonzero(~valid), removes)])
        limit = max(self._ctx.limits.batch_rows_max, batch.num_rows)
        yield from JoinedRows(self._plan, port, rows, self._sides[1 - port]).of(items, limit)
        if turned is not None and self._ttl_us is not None:
            self._sides[1 - port].mark_met(turned, self._sides[port].live(turned) > 0)

    def snapshot(self) -> Snapshot:
        groups = self._ctx.max_parallelism
        return tuple(
            side.section(name, groups) for side, name in zip(self._sides, _SIDES, strict=True)
        )

    def changes(self) -> Snapshot:
        groups = self._ctx.max_parallelism
        return tuple(
            side.changes(name, groups) for side, name in zip(self._sides, _SIDES, strict=True)
        )

    def restore(self, snapshot: Snapshot) -> None:
        for port, (side, name) in enumerate(zip(self._sides, _SIDES, strict=True)):
            table = section(snapshot, name)
            assert table is not None, "both sides are kept, be they empty"
            for rows, came, met in side.read(table):
                side.restore(rows, self._lookup(port, rows), came, met)

    def _lookup(self, port: int, record: pa.RecordBatch) -> Int64s:
        slots, _ = self._index.lookup(self._plan.keys(port, record))
        for side in self._sides:
            side.reserve(self._index.count)
        return slots

    def _keeps(self, port: int) -> bool:
        """Tell whether rows of a side come out while nothing matches them."""
        return self._plan.keeps_right if port else self._plan.keeps_left

    def _keep(
        self, port: int, rows: pa.RecordBatch, removes: Bools, now_us: int
    ) -> tuple[Items, Int64s | None]:
        """Take rows in, and say what comes out for them; and for which keys that may have turned.

        Shapes: rows [n] without null keys, removes bool [n].
        """
        mine, other = self._sides[port], self._sides[1 - port]
        if not rows.num_rows:
            return Items.none(), None
        slots = self._lookup(port, rows)
        groups = self._grouper.group(slots, self._index.count)
        before = mine.live(groups.slots)
        matched = other.live(slots) > 0
        met = matched
        if not removes.any():
            mine.add(rows, groups, now_us, matched)
            acts = None
        else:
            numbers = mine.apply(rows, groups, removes, now_us, matched)
            acts = numbers >= 0
            self._ctx.metrics.counter(UNKNOWN_REMOVALS).inc(int((~acts).sum()))
            if self._ttl_us is not None:
                # What a row gave when it came is taken back, though its partner may be forgotten.
                met = np.where(removes, mine.met(numbers), matched)
        items = self._own_items(port, slots, matched, met, removes)
        if acts is not None:
            items = items.take(acts[items.positions])
        if not self._turns(port):
            return items, None
        turns, turned = self._turn_items(port, groups, before, removes, acts)
        return merged([items, turns]), turned

    def _own_items(
        self, port: int, slots: Int64s, matched: Bools, met: Bools, removes: Bools
    ) -> Items:
        """Say what comes out for rows themselves: beside their partners, or alone."""
        plan, lists = self._plan, self._sides[1 - port].lists
        if plan.left_only:
            if port:
                return Items.none()
            alone = met if plan.how == "semi" else ~met
            return Items.own(np.flatnonzero(alone), removes)
        pairs = np.flatnonzero(matched)
        items = Items.beside(pairs, *lists.spans(slots[pairs]), removes)
        if not self._keeps(port):
            return items
        return merged([items, Items.own(np.flatnonzero(~matched & ~met), removes)])

    def _turns(self, port: int) -> bool:
        """Tell whether the other side's rows come or go as those of this side do."""
        return self._keeps(1 - port) or (port == 1 and self._plan.how == "semi")

    def _turn_items(
        self, port: int, groups: Groups, before: Int64s, removes: Bools, acts: Bools | None
    ) -> tuple[Items, Int64s | None]:
        """Say which rows of the other side come or go: their key's first row came, or last went.

        Shapes: groups of n rows and m keys, before int64 [m], removes bool [n], acts bool [n].
        """
        other = self._sides[1 - port]
        if acts is None:
            keys = np.flatnonzero((before == 0) & (other.live(groups.slots) > 0))
            places, up = groups.starts[keys], np.ones(len(keys), np.bool_)
        else:
            steps = np.where(removes, -1, 1) * acts
            steps = steps[groups.order]
            walk = np.cumsum(steps)
            base = groups.spread(before - walk[groups.starts] + steps[groups.starts])
            after = walk + base
            turn = ((steps == 1) & (after == 1)) | ((steps == -1) & (after == 0))
            places = np.flatnonzero(turn & groups.spread(other.live(groups.slots) > 0))
            up, keys = steps[places] == 1, groups.segments[places]
        if not len(places):
            return Items.none(), None
        slots = groups.slots[keys]
        # Semi gives rows as they are matched, the others while they are not.
        removed = up if self._plan.how != "semi" else ~up
        # Rows may have met one that is forgotten: for them the first to come now is not the first.
        first = np.diff(keys, prepend=-1) != 0
        items = Items(
            groups.order[places],
            np.full(len(places), OTHER, np.int8),
            *other.lists.spans(slots),
            removed,
            np.where(up, BEFORE, BEHIND).astype(np.int8),
            up & first & (self._ttl_us is not None),
        )
        return items, np.unique(slots)

    def _compact(self) -> None:
        """Forget what is dead, once that is the larger part: rows, and keys without rows."""
        count = sum(side.row_count for side in self._sides)
        stale = self._index.count > max(_KEYS_MIN, 2 * count)
        if stale:
            self._index = KeyIndex(self._plan.key_types)
        for port, side in enumerate(self._sides):
            if stale or side.is_sparse:
                numbers, slots = side.rows()
                if stale:
                    keys = self._plan.keys(port, side.take(numbers))
                    slots, _ = self._index.lookup(keys)
                side.rebuild(numbers, slots, self._index.count)
        if stale:
            for side in self._sides:
                side.reserve(self._index.count)
