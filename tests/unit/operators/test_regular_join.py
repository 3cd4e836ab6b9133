"""Regular joins by hand: each kind, what is taken back, times, and how much is kept."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from join_model import regular_plan

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.errors import RestoreRefused
from raystream.flow.batch import EVENT_TIME, Columns, wire_schema
from raystream.flow.changes import OP, OPS, op_names
from raystream.operators.regular_join import UNKNOWN_REMOVALS, RegularJoin, RegularJoinSpec

LEFT = pa.schema([("k", pa.int64()), ("l", pa.string())])
RIGHT = pa.schema([("k", pa.int64()), ("r", pa.string())])


class Driven:
    """A join whose rows are written (kind, key, value)."""

    def __init__(self, how, *, timed=False, changes=(True, True), ttl_us=None):
        self.wires = [
            wire_schema(one, timed=timed, changes=flag)
            for one, flag in zip((LEFT, RIGHT), changes, strict=True)
        ]
        self.clock = ManualClock(0)
        self.ctx = OpenContext("it", "job.py:1", clock=self.clock, limits=Limits())
        self.spec = RegularJoinSpec(regular_plan(how, *self.wires, ("k",)), ttl_us)
        self.operator: RegularJoin = self.spec.build()
        self.operator.open(self.ctx)

    def feed(self, port, *rows):
        names = LEFT.names if not port else RIGHT.names
        given = [
            {OP: OPS.index(op), names[0]: key, names[1]: value, EVENT_TIME: rest[0] if rest else 0}
            for op, key, value, *rest in rows
        ]
        batch = Columns(pa.RecordBatch.from_pylist(given, schema=self.wires[port]))
        got = []
        for out in self.operator.on_batch(port, batch):
            assert isinstance(out, Columns)
            ops = ["+I"] * out.num_rows if out.ops is None else op_names(out.ops)
            values = [tuple(row.values()) for row in out.visible.to_pylist()]
            times = [()] * out.num_rows
            if out.timestamps is not None:
                times = [(time,) for time in out.timestamps.tolist()]
            got += [(op, *row, *time) for op, row, time in zip(ops, values, times, strict=True)]
        return got

    def left(self, *rows):
        return self.feed(0, *rows)

    def right(self, *rows):
        return self.feed(1, *rows)


def test_a_row_without_a_match_is_taken_back_when_one_comes():
    join = Driven("left")
    assert join.left(("+I", 1, "l")) == [("+I", 1, "l", None)]
    assert join.right(("+I", 1, "r")) == [("-D", 1, "l", None), ("+I", 1, "l", "r")]
    assert join.right(("-D", 1, "r")) == [("-D", 1, "l", "r"), ("+I", 1, "l", None)]
    assert join.left(("-D", 1, "l")) == [("-D", 1, "l", None)]
    assert join.right(("+I", 1, "r")) == []


EACH = {
    "inner": [[], [], [("+I", 1, "a", "x")], [("+I", 1, "a", "y")], [], [("-D", 1, "a", "x")]],
    "left": [
        [("+I", 1, "a", None)],
        [],
        [("-D", 1, "a", None), ("+I", 1, "a", "x")],
        [("+I", 1, "a", "y")],
        [("-D", 1, "a", "y")],
        [("-D", 1, "a", "x"), ("+I", 1, "a", None)],
    ],
    "right": [
        [],
        [("+I", 2, None, "z")],
        [("+I", 1, "a", "x")],
        [("+I", 1, "a", "y")],
        [("-D", 1, "a", "y")],
        [("-D", 1, "a", "x")],
    ],
    "full": [
        [("+I", 1, "a", None)],
        [("+I", 2, None, "z")],
        [("-D", 1, "a", None), ("+I", 1, "a", "x")],
        [("+I", 1, "a", "y")],
        [("-D", 1, "a", "y")],
        [("-D", 1, "a", "x"), ("+I", 1, "a", None)],
    ],
    "semi": [[], [], [("+I", 1, "a")], [], [], [("-D", 1, "a")]],
    "anti": [[("+I", 1, "a")], [], [("-D", 1, "a")], [], [], [("+I", 1, "a")]],
}
EACH["inner"][4] = [("-D", 1, "a", "y")]


@pytest.mark.parametrize("how", EACH)
def test_each_kind(how):
    join = Driven(how)
    got = [
        join.left(("+I", 1, "a")),
        join.right(("+I", 2, "z")),
        join.right(("+I", 1, "x")),
        join.right(("+I", 1, "y")),
        join.right(("-D", 1, "y")),
        join.right(("-U", 1, "x")),
    ]
    assert got == EACH[how]


def test_an_update_in_one_batch_is_done_in_order():
    join = Driven("left")
    join.left(("+I", 1, "a"))
    join.right(("+I", 1, "x"))
    assert join.right(("-U", 1, "x"), ("+U", 1, "y"), ("-U", 1, "y"), ("+U", 1, "z")) == [
        ("-D", 1, "a", "x"),
        ("+I", 1, "a", None),
        ("-D", 1, "a", None),
        ("+I", 1, "a", "y"),
        ("-D", 1, "a", "y"),
        ("+I", 1, "a", None),
        ("-D", 1, "a", None),
        ("+I", 1, "a", "z"),
    ]


def test_rows_that_come_and_go_for_several_keys_stand_in_order_of_what_caused_them():
    join = Driven("anti", changes=(False, True))
    join.left(("+I", 1, "a"), ("+I", 2, "b"))
    assert join.right(("+I", 1, "x"), ("+I", 2, "y"), ("-D", 1, "x")) == [
        ("-D", 1, "a"),
        ("-D", 2, "b"),
        ("+I", 1, "a"),
    ]


def test_inner_and_semi_joins_of_plain_rows_are_plain():
    for how in ("inner", "semi"):
        assert OP not in Driven(how, changes=(False, False)).spec.plan.output.names
    for how in ("left", "right", "full", "anti"):
        assert OP in Driven(how, changes=(False, False)).spec.plan.output.names
    assert OP in Driven("inner", changes=(False, True)).spec.plan.output.names


def test_a_null_key_matches_nothing_and_passes_where_rows_come_out_alone():
    join = Driven("full")
    assert join.left(("+I", None, "a"), ("-D", None, "a")) == [
        ("+I", None, "a", None),
        ("-D", None, "a", None),
    ]
    assert join.right(("+I", None, "x")) == [("+I", None, None, "x")]
    assert Driven("semi").left(("+I", None, "a")) == []
    assert [one.table.num_rows for one in join.operator.snapshot()] == [0, 0]


def test_of_equal_rows_one_goes_and_what_is_not_there_is_counted():
    join = Driven("inner")
    join.left(("+I", 1, "a"), ("+I", 1, "a"))
    join.right(("+I", 1, "x"))
    assert join.left(("-D", 1, "a")) == [("-D", 1, "a", "x")]
    assert join.left(("-D", 1, "b"), ("-D", 2, "a"), ("-D", 1, "a"), ("-D", 1, "a")) == [
        ("-D", 1, "a", "x")
    ]
    assert join.ctx.metrics.counter(UNKNOWN_REMOVALS).value == 3


def test_times_are_the_later_of_the_two_and_an_unmatched_row_keeps_its_own():
    join = Driven("left", timed=True)
    assert join.left(("+I", 1, "a", 5)) == [("+I", 1, "a", None, 5)]
    assert join.right(("+I", 1, "x", 9)) == [("-D", 1, "a", None, 9), ("+I", 1, "a", "x", 9)]
    assert join.right(("+I", 1, "y", 2)) == [("+I", 1, "a", "y", 5)]
    assert join.right(("-D", 1, "y", 2), ("-D", 1, "x", 9)) == [
        ("-D", 1, "a", "y", 5),
        ("-D", 1, "a", "x", 9),
        ("+I", 1, "a", None, 5),
    ]


def test_a_row_that_has_expired_is_met_no_more_and_nothing_comes_out_for_that():
    join = Driven("left", ttl_us=10)
    join.left(("+I", 1, "a"))
    join.right(("+I", 1, "x"))
    join.clock.advance(9)
    assert join.left(("+I", 1, "b")) == [("+I", 1, "b", "x")]
    join.clock.advance(1)
    assert join.left(("+I", 1, "c")) == [("+I", 1, "c", None)]
    # b has met x, which is forgotten: what came out for it is not taken back.
    assert join.right(("+I", 1, "y")) == [
        ("-D", 1, "c", None),
        ("+I", 1, "b", "y"),
        ("+I", 1, "c", "y"),
    ]


def test_many_pairs_come_in_bounded_pieces():
    join = Driven("inner", changes=(False, False))
    join.right(*[("+I", 1, str(n)) for n in range(300)])
    rows = pa.RecordBatch.from_pylist([{"k": 1, "l": str(n)} for n in range(300)], schema=LEFT)
    sizes = [out.num_rows for out in join.operator.on_batch(0, Columns(rows))]
    assert sum(sizes) == 90_000
    assert max(sizes) <= join.ctx.limits.batch_rows_max


def numbers(port, start, count, op=None):
    """Make rows of keys that are counted up."""
    keys = np.arange(start, start + count)
    arrays = [pa.array(keys), pa.array(keys).cast(pa.string())]
    names = list((RIGHT if port else LEFT).names)
    if op is not None:
        arrays.append(pa.array(np.full(count, OPS.index(op)), pa.int8()))
        names.append(OP)
    record = pa.RecordBatch.from_arrays(arrays, names)
    if op is not None:
        record = record.cast(wire_schema(RIGHT if port else LEFT, timed=False, changes=True))
    return Columns(record)


def run(join, port, batch):
    return sum(out.num_rows for out in join.operator.on_batch(port, batch))


def test_what_is_taken_back_is_forgotten():
    join = Driven("left")
    for start in range(0, 200_000, 20_000):
        assert run(join, 0, numbers(0, start, 20_000, "+I")) == 20_000
        assert run(join, 0, numbers(0, start, 20_000, "-D")) == 20_000
    left, right = join.operator._sides
    assert left.row_count == right.row_count == 0
    assert left._store.row_count <= 20_000
    assert join.operator._index.count <= 100_000
    run(join, 0, numbers(0, 7, 2, "+I"))
    assert join.right(("+I", 8, "x")) == [("-D", 8, "8", None), ("+I", 8, "8", "x")]


def test_what_has_expired_is_forgotten():
    join = Driven("inner", changes=(False, False), ttl_us=10)
    for start in range(0, 200_000, 20_000):
        run(join, 0, numbers(0, start, 20_000))
        join.clock.advance(5)
    left, _ = join.operator._sides
    assert left.row_count == 40_000
    assert left._store.row_count <= 100_000
    assert join.operator._index.count <= 120_000
    assert join.right(("+I", 199_999, "x"), ("+I", 1, "x")) == [("+I", 199_999, "199999", "x")]


def test_columns_that_were_not_kept_are_asked_for_in_vain():
    driven = Driven("inner", changes=(False, False))
    few = RegularJoinSpec(driven.spec.plan.narrowed({"k"}), None).build()
    few.open(driven.ctx)
    list(few.on_batch(0, numbers(0, 0, 3)))
    with pytest.raises(RestoreRefused, match="have no column l, which nobody"):
        driven.operator.restore(few.snapshot())
