"""How a job sizes itself, in a queueing model: steps, ramps, waves, skew, backlogs, no room."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pyarrow as pa
import pytest
from queueing import Model, Stage

import raystream as rs
from raystream.coordinator.autoscale import Policy
from raystream.coordinator.loads import Load, Meter
from raystream.flow.control import OperatorFigures, SubtaskFigures
from raystream.graph.freedom import freedoms
from raystream.graph.rescaling import Replan

ROWS = pa.schema([("k", pa.int64())])
MINUTE, HOUR = 60.0, 3_600.0


def line(*, count: Any = None, read: Any = None, parallelism: int = 1, **settings: Any) -> Replan:
    """Read, count by key, and add up by another: three chains."""
    job = rs.Job(
        "sized",
        parallelism=parallelism,
        checkpoint="memory://sized",
        autoscale=rs.Autoscale(**settings),
    )
    rows = job.source(rs.DataGenSource(ROWS, rows_per_second=1), name="read")
    if read is not None:
        rows.with_parallelism(read)
    counted = rows.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS).named("count")
    if count is not None:
        counted.with_parallelism(count)
    added = counted.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS)
    added.named("add").print()
    return Replan(job._draft.plan())


def model(arrives: Any, replan: Replan | None = None, **settings: Any) -> Model:
    """Reading is cheap, counting is not: 1,000 rows/s a subtask."""
    replan = replan or line()
    stages = {
        "read": settings.pop("read", Stage(50_000)),
        "count": settings.pop("count", Stage(1_000)),
        "add": settings.pop("add", Stage(20_000)),
    }
    return Model(replan, stages, arrives, **settings)


def size(it: Model, chain: str = "count") -> int:
    return it.size(chain)


def steady(it: Model, seconds: float = 10 * MINUTE) -> None:
    """Nothing is done while the load stays."""
    before = len(it.told)
    it.run(seconds)
    assert len(it.told) == before, [one.reason for _, one in it.told[before:]]


def step(at_s: float, low: float, high: float) -> Any:
    return lambda now_s: low if now_s < at_s else high


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("high", [1_500, 3_000, 9_000])
def test_a_step_up_is_met_and_then_nothing_moves(high, tells):
    it = model(step(120, 500, high), tells=tells, live=not tells).run(120)
    assert it.told == []
    it.run(10 * MINUTE)
    assert 1 <= len(it.told) <= 3
    assert math.ceil(high / 700) <= size(it) <= math.ceil(high / 700) * 4 / 3 + 1
    it.run(10 * MINUTE)
    assert it.backlog < high
    assert len(it.told) <= 3
    steady(it)


def test_without_a_backlog_that_is_known_a_job_doubles_until_its_source_is_dry():
    it = model(step(60, 500, 9_000), tells=False).run(40 * MINUTE)
    assert len([one for one in it.grown() if one["count"] > 1]) <= 5
    assert it.backlog < 9_000
    assert size(it) >= 13
    before = len(it.told)
    it.run(30 * MINUTE)
    assert len(it.told) <= before + 1  # what it took too much while it drained
    steady(it)


def test_a_step_down_is_followed_once_it_has_lasted():
    it = model(step(5 * MINUTE, 5_000, 600), line(parallelism=8))
    it.run(5 * MINUTE + 4.5 * MINUTE)
    assert size(it) == 8
    it.run(20 * MINUTE)
    assert size(it) == 1
    assert len(it.told) <= 3
    steady(it)


def test_a_ramp_is_met_in_three_decisions_up_and_three_down():
    def ramp(now_s: float) -> float:
        up = min(1.0, max(0.0, (now_s - 120) / 600))
        down = min(1.0, max(0.0, (now_s - 2_400) / 600))
        return 500 + 4_000 * (up - down)

    it = model(ramp).run(2_300)
    assert len(it.told) <= 3
    assert it.backlog < 4_500
    assert 7 <= size(it) <= 10
    it.run(2_400)
    assert len(it.told) <= 6
    assert size(it) <= 2
    steady(it)


@pytest.mark.slow
def test_a_daily_wave_costs_three_decisions_up_and_three_down():
    def wave(now_s: float) -> float:
        return 2_500 - 1_500 * math.cos(2 * math.pi * now_s / (24 * HOUR))

    it = model(wave, line(parallelism=2, cooldown="3m"), step_s=20.0).run(24 * HOUR)
    first = [one for at_s, one in it.told if at_s < 12 * HOUR]
    second = [one for at_s, one in it.told if at_s >= 12 * HOUR]
    assert len(first) <= 3
    assert len(second) <= 3
    assert size(it) == 2
    assert it.backlog < 1_000


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_moves_nothing(noise):
    it = model(lambda _: 2_800, line(parallelism=4), noise=noise, step_s=2.0).run(10 * MINUTE)
    assert size(it) == 4
    steady(it, 50 * MINUTE)


def test_a_backlog_drains_and_what_it_took_is_given_back():
    it = model(lambda _: 1_000, line(parallelism=2), backlog=2_000_000.0).run(20 * MINUTE)
    assert it.backlog < 1_000
    assert max(one.get("count", 0) for one in it.grown()) >= 5
    it.run(20 * MINUTE)
    assert size(it) == 2
    assert len(it.told) <= 3
    steady(it)


def test_one_hot_key_is_not_answered_with_more_subtasks():
    it = model(lambda _: 3_000, count=Stage(1_000, hot=0.9)).run(30 * MINUTE)
    assert len(it.told) <= 3
    assert size(it) <= 6
    assert "one key has 90% of the rows" in it.scaler.said or "do no more" in it.scaler.said
    steady(it)


def test_some_skew_takes_some_more_subtasks():
    it = model(lambda _: 2_000, count=Stage(1_000, hot=0.2)).run(30 * MINUTE)
    assert len(it.told) <= 3
    assert it.backlog < 2_000
    assert size(it) >= 4
    steady(it)


def test_a_source_of_one_split_keeps_its_size_and_says_so():
    it = model(lambda _: 3_000, line(count=(2, 8)), read=Stage(1_000), splits=1).run(20 * MINUTE)
    assert size(it, "read") == 1
    assert "read would need more, but it reads 1 split" in it.scaler.said
    assert size(it) <= 3  # nobody is sized for what the source cannot give
    steady(it)


def test_subtasks_that_only_share_the_same_cores_are_not_added_again():
    it = model(lambda _: 6_000, line(count=(1, 64)), count=Stage(1_000, cores=1)).run(30 * MINUTE)
    assert len(it.told) <= 3
    assert "do no more than" in it.scaler.said
    steady(it)


def test_a_cluster_without_room_leaves_the_job_as_it_is_and_says_why():
    it = model(lambda _: 3_000, room=3)
    it.run(30 * MINUTE)
    assert it.sizes == {"read→print#1": 1}
    assert "no room for" in it.scaler.said
    refused = [one for _, one in it.told if one.outcome != "done"]
    assert 1 <= len(refused) <= 4  # it does not ask again and again
    assert it.did > 0.99 * 935 * 30 * MINUTE
    it.room = 100
    it.run(90 * MINUTE)
    assert size(it) >= 5


def test_a_cluster_with_some_room_gives_what_it_has():
    it = model(lambda _: 5_000, room=6).run(40 * MINUTE)
    assert 2 <= size(it) <= 4
    sizes, before = it.sizes, len(it.told)
    it.run(60 * MINUTE)
    assert it.sizes == sizes
    assert len(it.told) - before <= 4  # it asks now and then: the cluster may have grown


def test_bounds_and_pins_hold_and_are_named():
    bounded = model(lambda _: 9_000, line(count=(1, 3))).run(10 * MINUTE)
    assert size(bounded) == 3
    assert '"count" has at most 3 subtasks by with_parallelism()' in bounded.scaler.said
    pinned = model(lambda _: 9_000, line(count=2)).run(10 * MINUTE)
    assert (size(pinned), pinned.told) == (2, [])
    assert '"count" is pinned by with_parallelism()' in pinned.scaler.said
    most = model(lambda _: 9_000, line(max_parallelism=4)).run(10 * MINUTE)
    assert size(most) == 4
    assert "4 subtasks an operator are the most" in most.scaler.said


def test_cost_that_falls_with_larger_batches_is_no_reason_to_grow():
    """Busy for nine tenths of its time, and yet it could do twice as much."""
    it = model(lambda _: 900, count=Stage(2_000, small=1.4))
    steady(it, 30 * MINUTE)


def test_a_bottleneck_behind_the_first_is_found_next():
    it = model(lambda _: 3_000, add=Stage(800)).run(20 * MINUTE)
    assert (size(it) >= 5, size(it, "add") >= 6) == (True, True)
    assert len(it.told) <= 3
    it.run(10 * MINUTE)
    assert it.backlog < 3_000
    steady(it)


def test_rows_that_multiply_on_their_way_are_sized_for():
    it = model(lambda _: 300, count=Stage(1_000, gives=20), add=Stage(2_000)).run(20 * MINUTE)
    assert size(it, "add") in (5, 6)
    assert size(it) == 1
    steady(it)


def test_every_decision_is_a_sentence_with_its_figures():
    it = model(step(60, 500, 3_000)).run(10 * MINUTE)
    (at_s, told), *_ = it.told
    assert 60 + 30 <= at_s <= 60 + 2 * MINUTE
    assert told.reason.startswith("read→print#1: 1 → 5, for 3,0")
    assert "rows/s where one subtask does 935" in told.reason
    assert "is to be busy 70% of its time" in told.reason
    assert it.scaler.said.startswith("the size fits: count is busiest")


@pytest.mark.parametrize(
    ("queued_s", "busy", "grows"), [(6, 1.0, True), (0.5, 1.0, False), (6, 0.8, False)]
)
def test_a_chain_that_is_never_idle_and_has_seconds_of_work_queued_is_full(queued_s, busy, grows):
    """Slow rows are small: the credit of their channel lasts for minutes beyond what is done."""
    replan = line(cooldown="30s", parallelism=2)
    plan, policy = replan.plan({}), Policy(replan.logical.autoscale)
    names = {node.name: chain.name for chain in plan.chains for node in chain.nodes}
    edges = {edge.upstream: {edge.id: 420.0} for edge in plan.edges}
    loads = {
        name: Load(name, (210.0, 210.0), (0.05, 0.05), (0.0, 0.0), edges.get(name, {}))
        for name in names.values()
    }
    read, count = names["read"], names["count"]
    loads[read] = dataclasses.replace(loads[read], splits=2, backlog=0)
    loads[count] = dataclasses.replace(loads[count], busy=(busy, busy), queued=(queued_s, 0.0))
    free = freedoms(replan, plan, policy.settings)
    found = [policy.look(plan, free, loads, s * 1_000_000) for s in range(0, 25, 5)]
    targets = [decision.targets for decision in found if decision]
    assert targets[:1] == ([{count: 3}] if grows else [])


def test_a_queue_that_drains_is_no_sign_that_a_size_did_not_help():
    """Sources read all that comes while rows queue, at whatever size."""
    replan = line(cooldown="30s", parallelism=2)
    policy, now_s = Policy(replan.logical.autoscale), 0

    def looks(size, came, done, *, held=0.0, queued=0.0, busy=1.0, seconds=25):
        nonlocal now_s
        plan = replan.plan({"count": size})
        names = {node.name: chain.name for chain in plan.chains for node in chain.nodes}
        read, count = names["read"], names["count"]
        edges = {edge.upstream: {edge.id: float(came)} for edge in plan.edges}
        loads = {
            name: Load(name, (float(done),), (0.1,), (0.0,), edges.get(name, {}))
            for name in names.values()
        }
        source = {"rows": (float(came),), "held": (held,), "splits": 2, "backlog": 0}
        loads[read] = dataclasses.replace(loads[read], **source)
        parts = {"rows": (done / size,), "busy": (busy,), "held": (0.0,), "queued": (queued,)}
        loads[count] = dataclasses.replace(
            loads[count], **{name: part * size for name, part in parts.items()}
        )
        free, found = freedoms(replan, plan, policy.settings), []
        for _ in range(0, seconds, 5):
            now_s += 5
            found.append(policy.look(plan, free, loads, now_s * 1_000_000))
        return [decision.targets[count] for decision in found if decision], found[-1].reason

    grown, said = looks(2, 600, 200, queued=6.0)  # a burst
    assert grown[:1] == [3], said
    policy.done(now_s * 1_000_000)
    policy.began(now_s * 1_000_000)
    # What has queued meanwhile keeps all busy, though less comes than two could do.
    looks(3, 150, 300, queued=6.0, seconds=40)
    looks(3, 150, 150, busy=0.5, seconds=40)
    # Now there is more than three can do.
    grown, said = looks(3, 300, 300, held=0.3, queued=6.0, seconds=60)
    assert grown, said
    assert grown[0] > 3


def test_what_is_queued_is_told_in_seconds_of_work():
    plan = line().plan({})
    meter = Meter(1_000_000)
    for second, (came, queued) in enumerate([(0, 0), (3_000, 1_000)]):
        for subtask in plan.subtasks:
            operators = tuple(
                OperatorFigures(n.name, 0, 0) for n in plan.chain(subtask.chain).nodes
            )
            told = SubtaskFigures(subtask, operators, None, second * 2_000_000, 0, 0, queued, 0)
            meter.take(dataclasses.replace(told, bytes_in=came))
    loads = meter.loads(plan, 0)
    assert loads is not None
    assert {load.queued for load in loads.values()} == {(1.0,)}
