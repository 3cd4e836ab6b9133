"""Regular joins: at every prefix, the changes that came out make the table of a join from scratch.

And, row by row, they are those of a model that goes through the rows in a loop.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from conformance import plain
from hypothesis import given, settings
from hypothesis import strategies as st
from join_model import JoinModel, regular_plan, table_of

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME, Columns, visible_names, wire_schema
from raystream.flow.changes import DELETE, INSERT, OP, UPDATE_AFTER, UPDATE_BEFORE, op_names
from raystream.keyed.snapshot import share
from raystream.operators.join_plan import HOWS
from raystream.operators.regular_join import UNKNOWN_REMOVALS, RegularJoinSpec

NAN = float("nan")
LEFT = pa.schema([("k", pa.int32()), ("a", pa.float64())])
RIGHT = pa.schema([("id", pa.int64()), ("a", pa.string()), ("l", pa.list_(pa.int8()))])
LIMITS = Limits(batch_rows_max=8)

KEYS = st.sampled_from([None, 0, 0, 0, 0, 1, 1, 2, 3])
LEFTS = st.fixed_dictionaries({"k": KEYS, "a": st.sampled_from([None, NAN, 0.5])})
RIGHTS = st.fixed_dictionaries(
    {
        "id": KEYS,
        "a": st.sampled_from([None, "", "x"]),
        "l": st.sampled_from([None, [], [1, None]]),
    }
)
TIMES = st.integers(0, 30)
# What happens to a table: a row comes, one changes to another, one goes; the number says which.
ACTS = st.one_of(
    st.tuples(st.just("left"), LEFTS, TIMES, st.sampled_from("IIIUD"), st.integers(0, 99)),
    st.tuples(st.just("right"), RIGHTS, TIMES, st.sampled_from("IIIUD"), st.integers(0, 99)),
)
STORIES = st.lists(st.tuples(st.lists(ACTS, min_size=1, max_size=7), st.integers(0, 4)), max_size=6)
SHAPES = st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans())


def changes_of(acts: list[Any], held: tuple[list[Any], list[Any]]) -> list[Any]:
    """Write acts down as (port, time, row with its kind), and keep the two tables."""
    out = []
    for side, row, time, act, which in acts:
        port = int(side == "right")
        table = held[port]
        there = bool(table) and which < 90
        # Now and then what is taken back was never there: rows without a key are not kept, and
        # what takes them back is taken at its word.
        if act != "I" and (there or row["id" if port else "k"] is not None):
            old = table.pop(which % len(table)) if there else dict(row)
            if not there and (same := [one for one in table if plain(one) == plain(old)]):
                table.remove(same[0])
            out.append((port, time, {**old, OP: UPDATE_BEFORE if act == "U" else DELETE}))
        if act != "D":
            table.append(row)
            out.append((port, time, {**row, OP: UPDATE_AFTER if act == "U" else INSERT}))
    return out


def batches_of(rows: list[Any], wires: tuple[pa.Schema, pa.Schema], cut: int) -> list[Any]:
    """Put neighbours of one side in batches, of ``cut`` + 1 rows at most."""
    batches: list[Any] = []
    for port, time, row in rows:
        if not batches or batches[-1][0] != port or len(batches[-1][1]) > cut:
            batches.append((port, []))
        batches[-1][1].append({**row, EVENT_TIME: time})
    return [
        (
            port,
            [(one[EVENT_TIME] if EVENT_TIME in wires[port].names else None, one) for one in some],
            Columns(pa.RecordBatch.from_pylist(some, schema=wires[port])),
        )
        for port, some in batches
    ]


def shown(out: Any, wire: pa.Schema) -> list[Any]:
    assert out.record.schema.equals(wire)
    out.record.validate(full=True)
    ops = ["+I"] * out.num_rows if out.ops is None else op_names(out.ops)
    times = [None] * out.num_rows if out.timestamps is None else out.timestamps.tolist()
    return list(zip(times, ops, map(plain, out.visible.to_pylist()), strict=True))


class Driven:
    """An operator, and the model beside it."""

    def __init__(self, how: str, shape: tuple[bool, ...], ttl_us: int | None = None) -> None:
        left = wire_schema(LEFT, timed=shape[0], changes=shape[2])
        right = wire_schema(RIGHT, timed=shape[1], changes=shape[3])
        self.wires = (left, right)
        self.plan = regular_plan(how, left, right, ("k",), ("id",))
        self.spec = RegularJoinSpec(self.plan, ttl_us)
        self.clock = ManualClock(0)
        self.ctx = OpenContext("it", "job.py:1", clock=self.clock, limits=LIMITS)
        self.operator = self.spec.build()
        self.operator.open(self.ctx)
        self.model = JoinModel(self.plan, ttl_us)
        self.table: Counter[Any] = Counter()

    def feed(self, port: int, rows: list[Any], batch: Columns) -> None:
        got = []
        for out in self.operator.on_batch(port, batch):
            assert 0 < out.num_rows <= max(8, batch.num_rows)
            got += shown(out, self.plan.output)
        self.model.now_us = self.clock.now_us()
        names = set(self.wires[port].names) - {EVENT_TIME}
        wanted = []
        for time, row in rows:
            some = {name: value for name, value in row.items() if name in names}
            wanted += self.model.take(port, time, some)
        assert got == [(time, op, plain(row)) for time, op, row in wanted]
        for _, op, row in got:
            self.table[row] += 1 if op == "+I" else -1
            assert self.table[row] >= 0, "what is taken back had come"
        assert self.ctx.metrics.counter(UNKNOWN_REMOVALS).value == self.model.unknown

    def reborn(self, parallelism: int = 3) -> None:
        """Let three subtasks take up what was kept, and one what those three keep."""
        parts = []
        for index in range(parallelism):
            one = self.spec.build()
            one.open(self.ctx)
            one.restore(share([self.operator.snapshot()], index, parallelism, 128))
            parts.append(one.snapshot())
        # Twice: what turns the order of rows around must not do so unseen.
        for _ in range(2):
            self.operator = self.spec.build()
            self.operator.open(self.ctx)
            self.operator.restore(share(parts, 0, 1, 128))
            parts = [self.operator.snapshot()]


@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=30)  # for each of the kinds
@given(STORIES, SHAPES)
def test_changes_make_the_table_at_every_prefix(how, story, shape):
    driven = Driven(how, shape)
    held: tuple[list[Any], list[Any]] = ([], [])
    for acts, cut in story:
        # What a plain side cannot say is only that a row came.
        some = [
            (*act[:3], act[3] if shape[2 + (act[0] == "right")] else "I", act[4]) for act in acts
        ]
        # Cut within what happens at once too: the tables stand where rows end.
        for port, rows, batch in batches_of(changes_of(some, held), driven.wires, cut):
            driven.feed(port, rows, batch)
        assert +driven.table == table_of(driven.plan, *held)
        if cut == 3:
            driven.reborn()


@given(st.sampled_from(HOWS), STORIES, SHAPES)
def test_rows_that_expire_are_met_no_more(how, story, shape):
    driven = Driven(how, shape, ttl_us=5)
    held: tuple[list[Any], list[Any]] = ([], [])
    for acts, cut in story:
        some = [
            (*act[:3], act[3] if shape[2 + (act[0] == "right")] else "I", act[4]) for act in acts
        ]
        for port, rows, batch in batches_of(changes_of(some, held), driven.wires, cut):
            driven.feed(port, rows, batch)
            driven.clock.advance(cut)
        if cut == 3:
            driven.reborn()


@given(st.sampled_from(HOWS), STORIES, st.booleans(), st.sets(st.integers(0, 4)))
def test_a_join_of_fewer_columns_gives_them_as_one_of_all_would(how, story, timed, places):
    whole = Driven(how, (timed, timed, False, False))
    names = visible_names(whole.plan.output)
    plan = whole.plan.narrowed({names[place % len(names)] for place in places})
    kept = plan.output.names
    few = RegularJoinSpec(plan, None).build()
    few.open(whole.ctx)
    for acts, cut in story:
        some = [(*act[:3], "I", act[4]) for act in acts]
        for port, _, batch in batches_of(changes_of(some, ([], [])), whole.wires, cut):
            wanted = [out.record.select(kept) for out in whole.operator.on_batch(port, batch)]
            got = [out.record for out in few.on_batch(port, batch)]
            assert all(one.schema.equals(plan.output) for one in got)
            assert [repr(one.to_pylist()) for one in got] == [
                repr(one.to_pylist()) for one in wanted
            ]
        if cut == 3:
            # What a join kept with all of its columns is taken up by one of fewer.
            held = whole.operator.snapshot()
            whole.operator, few = whole.spec.build(), RegularJoinSpec(plan, None).build()
            for operator in (whole.operator, few):
                operator.open(whole.ctx)
                operator.restore(held)
