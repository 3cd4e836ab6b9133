"""What a coordinator makes of the times of aligned sources."""

from __future__ import annotations

import dataclasses
from typing import Any

from plans import KeepingSink, NumberSource, two_chains

from raystream.clock import ManualClock
from raystream.contracts.source import Split
from raystream.contracts.watermark import Alignment, WatermarkStrategy
from raystream.coordinator.events import Said, SplitsListed, StopAsked, Tell
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.pacing import AlignmentGroups
from raystream.flow.element import MIN_TIME
from raystream.flow.exchange import Rebalance
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import AlignTo, Ended, Ready, SourceTime
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


def say(machine: CoordinatorMachine, subtask: SubtaskId, report: Any) -> list[Any]:
    return machine.step(Said(subtask, 1, report))


def running(alignment: Alignment | None) -> tuple[CoordinatorMachine, list[Any]]:
    machine = CoordinatorMachine(plan_of(alignment), ManualClock())
    machine.begin()
    machine.step(SplitsListed("read", (Split("s0"),)))
    for subtask in READ:
        say(machine, subtask, Ready())
    return machine, say(machine, WRITE, Ready())


def test_nobody_runs_ahead_of_subtasks_that_have_told_nothing_yet():
    _, started = running(Alignment("g", 5))
    others = {e.subtask: e.order.others_us for e in started}
    assert others == {**dict.fromkeys(READ, MIN_TIME), WRITE: None}


def test_each_hears_of_the_least_of_the_others_when_it_changes():
    machine, _ = running(Alignment("g", 5))
    assert say(machine, READ[0], SourceTime(10)) == []
    assert say(machine, READ[1], SourceTime(20)) == [Tell(READ[2], AlignTo(10))]
    assert say(machine, READ[2], SourceTime(30)) == [
        Tell(READ[0], AlignTo(20)),
        Tell(READ[1], AlignTo(10)),
    ]
    assert say(machine, READ[2], SourceTime(40)) == []
    assert say(machine, READ[0], SourceTime(35)) == [
        Tell(READ[1], AlignTo(35)),
        Tell(READ[2], AlignTo(20)),
    ]
    # A split that was idle, and behind, is active again.
    assert say(machine, READ[2], SourceTime(3)) == [
        Tell(READ[0], AlignTo(3)),
        Tell(READ[1], AlignTo(3)),
    ]


def test_who_has_nothing_or_has_ended_holds_nobody():
    machine, _ = running(Alignment("g", 5))
    say(machine, READ[0], SourceTime(10))
    say(machine, READ[1], SourceTime(20))
    assert say(machine, READ[2], SourceTime(None)) == [
        Tell(READ[0], AlignTo(20)),
        Tell(READ[1], AlignTo(10)),
    ]
    assert say(machine, READ[0], Ended()) == [
        Tell(READ[1], AlignTo(None)),
        Tell(READ[2], AlignTo(20)),
    ]
    assert say(machine, READ[1], Ended()) == [Tell(READ[2], AlignTo(None))]
    # Those that have ended hear nothing of what comes behind.
    assert say(machine, READ[2], SourceTime(5)) == []


def test_a_time_that_comes_when_the_job_closes_changes_nothing():
    machine, _ = running(Alignment("g", 5))
    machine.step(StopAsked())
    assert say(machine, READ[0], SourceTime(10)) == []


def test_without_alignment_there_are_no_groups():
    machine, started = running(None)
    assert all(e.order.others_us is None for e in started)
    assert say(machine, READ[0], Ended()) == []


def test_a_lone_subtask_has_no_others():
    groups = AlignmentGroups(plan_of(Alignment("g", 5), up=1))
    (lone,) = plan_of(Alignment("g", 5), up=1).chain("read").subtasks
    assert groups.others_us(lone) is None
    assert groups.take(lone, 7) == []
