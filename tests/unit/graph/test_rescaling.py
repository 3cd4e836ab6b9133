"""The plan of a running job at other parallelisms: what may be asked for, and what comes of it."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs
from raystream.errors import PlanError
from raystream.graph.logical import EVERY
from raystream.graph.rescaling import Replan

NUMBERS = pa.schema([("k", pa.int64()), ("v", pa.int64())])
ROWS = [{"k": 1, "v": 2}]


def counting(state, row):
    return (state or 0) + 1, row


def replan(parallelism=2, **settings):
    """A source, a map with a name, a count by key with a uid, a sink."""
    job = rs.Job("sized", parallelism=parallelism, **settings)
    rows = job.from_items(ROWS, schema=NUMBERS).map(lambda row: row, schema=NUMBERS).named("plain")
    counted = rows.key_by("k").map_with_state(counting, schema=NUMBERS).named("count").uid("by-key")
    counted.sink(rs.MemorySink())
    return Replan(job._draft.plan())


def sizes(replanned, asked, current=()):
    scale = replanned.scale(dict(current), asked)
    return {
        node.name: chain.parallelism
        for chain in replanned.plan(scale).chains
        for node in chain.nodes
        if node.name in ("plain", "count", "sink#1")
    }


def test_a_number_is_that_of_everybody_who_has_none_of_their_own():
    made = replan()
    assert sizes(made, {EVERY: 3}) == {"plain": 3, "count": 3, "sink#1": 3}
    once = made.scale({}, {"by-key": 4})
    assert sizes(made, {EVERY: 3}, once) == {"plain": 3, "count": 4, "sink#1": 4}


@pytest.mark.parametrize("name", ["count", "by-key", "sink#1"])
def test_operators_of_one_chain_move_together_whoever_is_named(name):
    assert sizes(replan(), {name: 4}) == {"plain": 2, "count": 4, "sink#1": 4}


def test_what_was_asked_before_stays():
    made = replan()
    once = made.scale({}, {"by-key": 4})
    assert sizes(made, {"plain": 3}, once) == {"plain": 3, "count": 4, "sink#1": 4}


def test_keys_that_were_chained_at_one_subtask_part_at_more_and_come_together_again():
    made = replan(parallelism=1)
    assert len(made.plan({}).chains) == 1
    # One subtask has no exchange: all that runs in it moves as one.
    assert sizes(made, {"by-key": 2}) == {"plain": 2, "count": 2, "sink#1": 2}
    many = made.scale({}, {EVERY: 3})
    assert len(made.plan(many).chains) == 2
    assert len(made.plan(made.scale(many, {EVERY: 1})).chains) == 1


@pytest.mark.parametrize(
    ("asked", "why", "hint"),
    [
        ({EVERY: 0}, "at least 1, got 0", ""),
        ({EVERY: True}, "at least 1, got True", ""),
        ({EVERY: "4"}, "at least 1, got '4'", ""),
        ({EVERY: 9}, "its max_parallelism is 8", "started with a larger one"),
        ({"by-key": 9}, "its max_parallelism is 8", "started with a larger one"),
        ({"by-kee": 2}, 'no operator "by-kee"', 'did you mean "by-key"?'),
        ({"xyz": 2}, 'no operator "xyz"', "plain"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_the_reason(asked, why, hint):
    with pytest.raises(PlanError, match=why) as caught:
        replan(max_parallelism=8).scale({}, asked)
    assert hint in (caught.value.hint or "")


def test_who_must_see_all_rows_stays_alone():
    job = rs.Job("single", parallelism=2)
    rows = job.from_items(ROWS, schema=NUMBERS).map(lambda row: row, schema=NUMBERS)
    rows.window_all(rs.TumblingCount(2)).aggregate(n=rs.count()).named("all").sink(rs.MemorySink())
    made = Replan(job._draft.plan())
    with pytest.raises(PlanError, match='"all" sees all rows in one subtask: it cannot have 2'):
        made.scale({}, {"all": 2})
    chains = made.plan(made.scale({}, {EVERY: 4})).chains
    alone = next(chain for chain in chains if any(node.name == "all" for node in chain.nodes))
    assert (alone.parallelism, max(chain.parallelism for chain in chains)) == (1, 4)


def test_bounds_hold_for_a_number_of_all_and_refuse_one_of_their_own():
    job = rs.Job("bounded", parallelism=2)
    rows = job.from_items(ROWS, schema=NUMBERS).map(lambda row: row, schema=NUMBERS)
    rows.named("few").with_parallelism((1, 3)).sink(rs.MemorySink())
    made = Replan(job._draft.plan())
    chains = made.plan(made.scale({}, {EVERY: 5})).chains
    assert {c.parallelism for c in chains for n in c.nodes if n.name == "few"} == {3}
    with pytest.raises(PlanError, match='"few" runs with 1 to 3 subtasks, got 4'):
        made.scale({}, {"few": 4})
