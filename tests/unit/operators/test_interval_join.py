"""Interval joins by hand: who meets whom, when what has no partner comes out, what is kept."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.errors import UserError
from raystream.flow.batch import NO_TIME, Columns, wire_schema, with_times
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.keyed.snapshot import BUCKET, GONE, share
from raystream.operators.interval_join import IntervalJoinSpec
from raystream.operators.join_plan import JoinPlan

PLAIN = pa.schema([("k", pa.string()), ("v", pa.int64())])
WIRE = wire_schema(PLAIN, timed=True)
KINDS = ["inner", "left", "right", "full", "semi", "anti"]


def batch(*told):
    """Make rows of (key, time); a row is named by its time unless a name comes third."""
    rows = [{"k": k, "v": (rest or [time])[0]} for k, time, *rest in told]
    times = np.array([time for _, time, *_ in told], np.int64)
    return with_times(pa.RecordBatch.from_pylist(rows, schema=PLAIN), times)


class Driven:
    """An operator, and what comes out of it as (key, left, right, time)."""

    def __init__(self, how, lower, upper, rows_max=1_000):
        kept = () if how in ("semi", "anti") else (("v", "w"),)
        fields = [*PLAIN, *(PLAIN.field(name).with_name(out) for name, out in kept)]
        output = wire_schema(pa.schema(fields), timed=True)
        plan = JoinPlan(how, WIRE, WIRE, ("k",), ("k",), (pa.string(),), kept, output)
        self.spec = IntervalJoinSpec(plan, lower, upper)
        self.context = OpenContext("it", "it.py:1", limits=Limits(batch_rows_max=rows_max))
        self.operator = self.spec.build()
        self.operator.open(self.context)

    def left(self, *told):
        return self.shown(self.operator.on_batch(0, batch(*told)))

    def right(self, *told):
        return self.shown(self.operator.on_batch(1, batch(*told)))

    def watermark(self, time_us):
        return self.shown(self.operator.on_watermark(time_us))

    def shown(self, outs):
        rows = []
        for out in outs:
            visible = [tuple(row.values()) for row in out.visible.to_pylist()]
            rows += [
                (*row, time) for row, time in zip(visible, out.timestamps.tolist(), strict=True)
            ]
        return rows

    @property
    def late(self):
        return self.context.metrics.counter("late_rows").value


def rights(*times):
    return [("a", time) for time in times]


def test_c23_both_ends_belong_to_the_interval():
    join = Driven("inner", -2, 1)
    assert join.left(("a", 5)) == []
    pairs = [("a", 5, right, max(5, right)) for right in (3, 4, 5, 6)]
    assert join.right(*rights(2, 3, 4, 5, 6, 7)) == pairs
    # And the other way round: the rows of the right wait.
    join = Driven("inner", -2, 1)
    assert join.right(*rights(7, 6, 5, 4, 3, 2)) == []
    assert join.left(("a", 5)) == pairs


@pytest.mark.parametrize(
    ("how", "pairs", "alone"),
    [
        ("inner", [("a", 5, 6, 6)], []),
        ("left", [("a", 5, 6, 6)], [("b", 5, None, 5)]),
        ("right", [("a", 5, 6, 6)], [("c", None, 6, 6)]),
        ("full", [("a", 5, 6, 6)], [("b", 5, None, 5), ("c", None, 6, 6)]),
        ("semi", [("a", 5, 6)], []),
        ("anti", [], [("b", 5, 5)]),
    ],
)
def test_every_kind_gives_pairs_at_once_and_the_rest_when_nothing_can_come(how, pairs, alone):
    join = Driven(how, -2, 1)
    assert join.left(("a", 5), ("b", 5)) == []
    assert join.right(("a", 6), ("c", 6)) == pairs
    assert join.watermark(5) == []
    # The left waits for 5 + 1, the right for 6 + 2.
    assert join.watermark(6) == [row for row in alone if row[-1] == 5]
    assert join.watermark(7) == []
    assert join.watermark(8) == [row for row in alone if row[-1] == 6]
    assert join.watermark(MAX_TIME) == []


@pytest.mark.parametrize(
    ("how", "held"),
    [("inner", 0), ("semi", 0), ("left", 7), ("anti", 7), ("right", 3), ("full", 7)],
)
def test_the_watermark_is_held_back_where_rows_come_out_alone(how, held):
    operator = Driven(how, -3, 7).operator
    assert operator.output_watermark(100) == 100 - held
    assert operator.output_watermark(MAX_TIME) == MAX_TIME
    assert operator.output_watermark(MIN_TIME + 1) in (MIN_TIME, MIN_TIME + 1)


@pytest.mark.parametrize("how", KINDS)
def test_the_watermark_is_never_put_forward(how):
    left = Driven(how, -9, -3).operator.output_watermark(100)
    right = Driven(how, 3, 9).operator.output_watermark(100)
    assert (left, right) == {
        "right": (91, 100),
        "full": (91, 91),
        "left": (100, 91),
        "anti": (100, 91),
    }.get(how, (100, 100))


@pytest.mark.parametrize("how", KINDS)
def test_rows_that_the_watermark_has_reached_are_dropped_and_counted(how):
    join = Driven(how, -5, 5)
    join.watermark(10)
    assert join.left(("a", 10), ("b", 9)) == []
    assert join.right(("a", 10), ("a", 3)) == []
    assert join.late == 4
    join.left(("a", 11))
    assert len(join.right(("a", 11))) == (how != "anti")
    assert join.late == 4
    assert join.watermark(MAX_TIME) == []


@pytest.mark.parametrize("how", KINDS)
def test_rows_with_a_null_in_their_key_match_nothing_and_wait_for_nothing(how):
    join = Driven(how, -5, 5)
    alone = [(None, 1, None, 1)] if how in ("left", "full") else []
    assert join.left((None, 1)) == ([(None, 1, 1)] if how == "anti" else alone)
    alone = [(None, None, 2, 2)] if how in ("right", "full") else []
    assert join.right((None, 2)) == alone
    assert join.watermark(MAX_TIME) == []


@pytest.mark.parametrize("how", ["left", "full", "anti"])
def test_a_row_that_nothing_to_come_can_match_looks_back_and_goes_out_at_once(how):
    join = Driven(how, -9, -3)
    join.right(("a", 4))
    join.watermark(5)
    matched = [] if how == "anti" else [("a", 8, 4, 8)]
    alone = ("b", 7, 7) if how == "anti" else ("b", 7, None, 7)
    assert join.left(("a", 8), ("b", 7)) == [*matched, alone]
    assert all(side.live == 0 for side in join.operator._sides[:1])


def test_semi_gives_a_row_once_at_its_first_match():
    join = Driven("semi", -9, 9)
    join.left(("a", 10), ("a", 4))
    # Of those that came together, the first that fits: 14 for 10, 12 for 4.
    assert join.right(("a", 14), ("a", 12), ("a", 11)) == [("a", 10, 14), ("a", 4, 12)]
    assert join.right(("a", 11)) == []
    # Of those that wait, the earliest.
    assert join.left(("a", 10, 77)) == [("a", 77, 11)]


def test_anti_forgets_a_row_that_has_had_a_partner():
    join = Driven("anti", -9, 9)
    join.left(("a", 10), ("a", 30), ("b", 10))
    join.right(("a", 14))
    assert join.left(("a", 11)) == []
    assert join.watermark(MAX_TIME) == [("b", 10, 10), ("a", 30, 30)]


def test_an_outer_row_with_several_partners_never_comes_out_alone():
    join = Driven("full", 0, 10)
    join.left(("a", 0), ("a", 1))
    assert len(join.right(("a", 5), ("a", 10), ("a", 11))) == 5
    assert join.watermark(MAX_TIME) == []


def test_millions_of_pairs_come_in_batches_of_bounded_size():
    join = Driven("left", -5, 5, rows_max=100)
    join.left(*[("a", 5)] * 60)
    sizes = [out.num_rows for out in join.operator.on_batch(1, batch(*[("a", 6)] * 50))]
    assert sum(sizes) == 3_000
    assert max(sizes) == 100


def test_what_comes_out_alone_comes_in_batches_of_bounded_size_and_leaves_before():
    join = Driven("left", -5, 5, rows_max=10)
    join.left(*[("a", time) for time in range(35)])
    join.right(("a", 0))  # takes the first six
    outs = join.operator.on_watermark(100)
    assert next(outs).num_rows == 10
    outs.close()
    kept = {one.name: one.table for one in join.operator.snapshot()}
    assert kept["left"].num_rows == 19
    assert [row[1] for row in join.watermark(100)] == list(range(16, 35))


@pytest.mark.parametrize("times", [[5, NO_TIME], None], ids=["a row without", "rows without"])
def test_rows_need_event_time(times):
    join = Driven("inner", -5, 5)
    rows = batch(("a", 5), ("a", 5)).visible
    told = Columns(rows) if times is None else with_times(rows, np.array(times, np.int64))
    with pytest.raises(UserError, match="joins rows by their event times") as error:
        list(join.operator.on_batch(0, told))
    assert "assign_timestamps" in error.value.hint


@pytest.mark.parametrize("ends", [(-(1 << 61), 1 << 61), (1 << 61, 1 << 61), (-(1 << 61), 0)])
def test_intervals_beyond_the_end_of_time(ends):
    join = Driven("full", *ends)
    far = MAX_TIME - 5
    got = join.left(("a", far, 1), ("a", MIN_TIME + 5, 2), ("b", 0, 3))
    got += join.right(("a", far - 1, 4), ("a", MIN_TIME + 4, 5), ("b", 1 << 61, 6))
    got += join.watermark(MAX_TIME)
    rights = {1: (far, 4), 2: (MIN_TIME + 5, 5), 3: (0, 6)}
    times = {4: far - 1, 5: MIN_TIME + 4, 6: 1 << 61}
    pairs = {(n, m) for n, (t, m) in rights.items() if ends[0] <= times[m] - t <= ends[1]}
    assert {(row[1], row[2]) for row in got if None not in row} == pairs
    assert len(got) == 6 - len(pairs)


@pytest.mark.parametrize("how", ["inner", "full", "semi"])
def test_memory_is_that_of_the_rows_that_can_still_match(how):
    join = Driven(how, -100, 100, rows_max=5_000)
    rng = np.random.default_rng(1)
    pairs = 0
    for start in range(0, 20_000, 1_000):
        times = start + rng.permutation(1_000)
        for port in (0, 1):
            columns = [(times // 5).astype("U"), times, times]
            record = pa.RecordBatch.from_arrays(list(map(pa.array, columns)), schema=WIRE)
            pairs += sum(out.num_rows for out in join.operator.on_batch(port, Columns(record)))
        # Nothing comes out alone: each row has four partners and itself.
        assert sum(out.num_rows for out in join.operator.on_watermark(start + 900)) == 0
        held = [side.store.row_count for side in join.operator._sides]
        assert sum(held) < 10_000
        assert join.operator._index.count < 6_000
    assert pairs == {"semi": 1, "inner": 5, "full": 5}[how] * 20_000


def test_few_rows_that_are_large_are_forgotten_too():
    join = Driven("inner", 0, 0)
    schema = pa.schema([("k", pa.string()), ("v", pa.int64())])
    for start in range(0, 200, 20):
        rows = [{"k": "x" * 500_000, "v": start}] * 20
        times = np.arange(start, start + 20)
        told = with_times(pa.RecordBatch.from_pylist(rows, schema=schema), times)
        assert list(join.operator.on_batch(0, told)) == []
        join.watermark(start + 19)
        assert join.operator._sides[0].store.nbytes < 20_000_000


@pytest.mark.parametrize("how", ["semi", "anti"])
def test_what_has_had_its_partner_is_not_looked_at_again(how):
    join = Driven(how, -1_000, 1_000)
    join.left(*[("a", time) for time in range(500)])
    join.left(("b", 0))
    assert len(join.right(("a", -700))) == (301 if how == "semi" else 0)
    firsts, stops = join.operator._sides[0].segments.find(*np.array([[0], [0], [999]]))
    assert (stops - firsts).tolist() == [199]
    assert len(join.right(("a", -690), ("b", 5), ("a", -695))) == (11 if how == "semi" else 0)
    alone = [("a", time, time) for time in range(311, 500)] if how == "anti" else []
    assert join.watermark(MAX_TIME) == alone


def moved(join):
    """Throw the operator away, and let another take up what it kept."""
    kept = join.operator.snapshot()
    join.operator = join.spec.build()
    join.operator.open(join.context)
    join.operator.restore(share([kept], 0, 1, 128))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["left", "full"])
def test_forgetting_can_be_left_anywhere(how):
    wanted = []
    for steps in (0, 1, 2, 3, 4):
        join = Driven(how, -10, 10)
        keys = [f"{time % 3_000}" for time in range(9_000)]
        join.left(*zip(keys, range(9_000), strict=True))
        join.right(*zip(keys[5_000:], range(5_000, 9_000), strict=True))
        rows = []
        outs = join.operator.on_watermark(8_500)
        for _ in range(4 + steps):
            rows += join.shown([next(outs, batch())])
        outs.close()
        if steps % 2:
            moved(join)
        rows += join.watermark(8_500)
        assert join.operator._sides[0].store.row_count < 600
        rows += join.left((keys[8_600], 8_601)) + join.watermark(MAX_TIME)
        wanted = wanted or rows
        assert rows == wanted


def test_changes_are_what_came_since_and_how_far_all_is_gone():
    join = Driven("left", -5, 5)
    join.left(*[("a", time) for time in range(100)])
    assert not any(one.delta for one in join.operator.changes())
    join.right(("a", 90))
    join.left(("b", 100))
    join.watermark(50)
    told = {one.name: one for one in join.operator.changes()}
    rows, gone = (
        told["left"].table.filter(told["left"].table[GONE]),
        told["left"].table.filter(pc.invert(told["left"].table[GONE])),
    )[::-1]
    assert rows["row.v"].to_pylist() == [100]
    assert gone[BUCKET].to_pylist() == [45]
    assert told["left.matched"].table[BUCKET].to_pylist() == list(range(85, 96))
