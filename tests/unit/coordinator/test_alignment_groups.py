"""What a coordinator makes of the times of aligned sources."""

from __future__ import annotations

import dataclasses
from typing import Any

from plans import KeepingSink, NumberSource, two_chains

from raystream.contracts.source import Split
from raystream.contracts.watermark import Alignment, WatermarkStrategy
from raystream.coordinator.events import (
    AlignSource,
    Ready,
    SourceTime,
    SplitsListed,
    StartSubtask,
    StopAsked,
    SubtaskEnded,
)
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.pacing import AlignmentGroups
from raystream.flow.element import MIN_TIME
from raystream.flow.exchange import Rebalance
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import PhysicalPlan

READ = [SubtaskId("read", i, 3) for i in range(3)]
WRITE = SubtaskId("write", 0, 1)


def plan_of(alignment: Alignment | None, up: int = 3) -> PhysicalPlan:
    plan = two_chains(Rebalance(), KeepingSink(), up=up, source=NumberSource(3, 1, 1))
    read, write = plan.chains
    strategy = WatermarkStrategy("n", alignment=alignment)
    spec: Any = read.nodes[0].spec
    head = dataclasses.replace(read.nodes[0], spec=dataclasses.replace(spec, watermark=strategy))
    read = dataclasses.replace(read, nodes=(head, *read.nodes[1:]))
    return dataclasses.replace(plan, chains=(read, write))


def running(alignment: Alignment | None) -> tuple[CoordinatorMachine, list[Any]]:
    machine = CoordinatorMachine(plan_of(alignment))
    machine.begin()
    machine.step(SplitsListed("read", (Split("s0"),)))
    for subtask in READ:
        machine.step(Ready(subtask))
    return machine, machine.step(Ready(WRITE))


def test_nobody_runs_ahead_of_subtasks_that_have_told_nothing_yet():
    _, started = running(Alignment("g", 5))
    others = {e.subtask: e.others_us for e in started if isinstance(e, StartSubtask)}
    assert others == {**dict.fromkeys(READ, MIN_TIME), WRITE: None}


def test_each_hears_of_the_least_of_the_others_when_it_changes():
    machine, _ = running(Alignment("g", 5))
    assert machine.step(SourceTime(READ[0], 10)) == []
    assert machine.step(SourceTime(READ[1], 20)) == [AlignSource(READ[2], 10)]
    assert machine.step(SourceTime(READ[2], 30)) == [
        AlignSource(READ[0], 20),
        AlignSource(READ[1], 10),
    ]
    assert machine.step(SourceTime(READ[2], 40)) == []
    assert machine.step(SourceTime(READ[0], 35)) == [
        AlignSource(READ[1], 35),
        AlignSource(READ[2], 20),
    ]
    # A split that was idle, and behind, is active again.
    assert machine.step(SourceTime(READ[2], 3)) == [
        AlignSource(READ[0], 3),
        AlignSource(READ[1], 3),
    ]


def test_who_has_nothing_or_has_ended_holds_nobody():
    machine, _ = running(Alignment("g", 5))
    machine.step(SourceTime(READ[0], 10))
    machine.step(SourceTime(READ[1], 20))
    assert machine.step(SourceTime(READ[2], None)) == [
        AlignSource(READ[0], 20),
        AlignSource(READ[1], 10),
    ]
    assert machine.step(SubtaskEnded(READ[0], {})) == [
        AlignSource(READ[1], None),
        AlignSource(READ[2], 20),
    ]
    assert machine.step(SubtaskEnded(READ[1], {})) == [AlignSource(READ[2], None)]
    # Those that have ended hear nothing of what comes behind.
    assert machine.step(SourceTime(READ[2], 5)) == []


def test_a_time_that_comes_when_the_job_closes_changes_nothing():
    machine, _ = running(Alignment("g", 5))
    machine.step(StopAsked())
    assert machine.step(SourceTime(READ[0], 10)) == []


def test_without_alignment_there_are_no_groups():
    machine, started = running(None)
    assert all(e.others_us is None for e in started if isinstance(e, StartSubtask))
    assert machine.step(SubtaskEnded(READ[0], {})) == []


def test_a_lone_subtask_has_no_others():
    groups = AlignmentGroups(plan_of(Alignment("g", 5), up=1))
    (lone,) = plan_of(Alignment("g", 5), up=1).chain("read").subtasks
    assert groups.others_us(lone) is None
    assert groups.take(lone, 7) == []
