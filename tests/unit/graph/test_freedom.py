"""How many subtasks each chain may have where the job chooses."""

from __future__ import annotations

import pyarrow as pa

import raystream as rs
from raystream.graph.freedom import freedoms
from raystream.graph.rescaling import Replan

ROWS = pa.schema([("k", pa.int64())])


def same(row):
    return row


def found(build, parallelism=2, **settings):
    job = rs.Job("sized", parallelism=parallelism)
    build(job.from_items([{"k": 1}], schema=ROWS))
    replan = Replan(job._draft.plan())
    return freedoms(replan, replan.plan({}), rs.Autoscale(**settings))


def test_everybody_has_the_bounds_of_the_job():
    free = found(lambda rows: rows.key_by("k").aggregate(n=rs.count()).print(), max_parallelism=9)
    assert {(one.least, one.most, one.fixed) for one in free.values()} == {(1, 9, False)}
    most = found(lambda rows: rows.print())
    assert {one.most for one in most.values()} == {128}


def test_bounds_of_its_own_go_before_those_of_the_job():
    def build(rows):
        rows.rebalance().map(same, schema=ROWS).named("few").with_parallelism((2, 3)).print()

    free = found(build, max_parallelism=2)
    (few,) = [one for name, one in free.items() if name.startswith("few")]
    assert (few.least, few.most, few.fixed) == (2, 3, False)
    assert few.why == '"few" has at most 3 subtasks by with_parallelism()'


def test_who_is_pinned_or_sees_all_rows_is_left_alone():
    def build(rows):
        pinned = rows.rebalance().map(same, schema=ROWS).named("pinned").with_parallelism(3)
        pinned.window_all(rs.TumblingCount(2)).aggregate(n=rs.count()).named("all").print()

    free = found(build)
    fixed = {name: one.why for name, one in free.items() if one.fixed}
    assert sorted(fixed) == ["all", "pinned"] or set(fixed) == {"all→print#1", "pinned"}
    assert fixed["pinned"] == '"pinned" is pinned by with_parallelism()'
    assert any(why == '"all" sees all rows in one subtask' for why in fixed.values())


def test_a_chain_of_one_subtask_has_the_pieces_into_which_it_would_part():
    def build(rows):
        counted = rows.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS)
        counted.named("count").with_parallelism((1, 5)).print()

    (whole,) = found(build, parallelism=1).values()
    assert [piece.uids for piece in whole.pieces] == [("source#1",), ("count", "print#1")]
    assert (whole.most, whole.only_reads) == (128, False)
    assert whole.scale(4, splits=1) == {"source#1": 1, "count": 4, "print#1": 4}
    assert whole.scale(9, splits=30) == {"source#1": 9, "count": 5, "print#1": 5}


def test_forward_makes_chains_move_together():
    def build(rows):
        rows.disable_chaining().forward().map(same, schema=ROWS).named("beside").print()

    free = found(build)
    assert len(free) == 2
    assert {one.together for one in free.values()} == {frozenset(free)}
