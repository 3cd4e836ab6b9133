"""The life of a job, event by event."""

from __future__ import annotations

import pytest
from plans import KeepingSink, NumberSource, two_chains

from raystream.contracts.source import Split
from raystream.coordinator.events import (
    AbortSinks,
    CloseSubtask,
    CommitSubtask,
    Deploy,
    Done,
    Failed,
    GiveSplits,
    ListSplits,
    Ready,
    SplitsListed,
    StartSubtask,
    StopAsked,
    SubtaskClosed,
    SubtaskCommitted,
    SubtaskEnded,
)
from raystream.coordinator.machine import CoordinatorMachine
from raystream.errors import ProtocolError
from raystream.flow.exchange import Rebalance
from raystream.flow.ids import SubtaskId

READ = [SubtaskId("read", 0, 2), SubtaskId("read", 1, 2)]
WRITE = SubtaskId("write", 0, 1)
ALL = [*READ, WRITE]
SPLITS = tuple(Split(f"s{i}") for i in range(3))


def starting(source: NumberSource | None = None) -> CoordinatorMachine:
    machine = CoordinatorMachine(
        two_chains(Rebalance(), KeepingSink(), up=2, down=1, source=source)
    )
    assert machine.begin() == [Deploy(), ListSplits("read")]
    return machine


def running(source: NumberSource | None = None) -> CoordinatorMachine:
    machine = starting(source)
    machine.step(SplitsListed("read", SPLITS))
    for subtask in ALL:
        machine.step(Ready(subtask))
    assert machine.state == "running"
    return machine


def test_subtasks_start_when_all_are_ready_and_splits_are_listed():
    machine = starting()
    assert machine.step(Ready(READ[0])) == []
    assert machine.step(Ready(WRITE)) == []
    assert machine.step(SplitsListed("read", SPLITS)) == []
    assert machine.step(Ready(READ[1])) == [
        StartSubtask(READ[0], (SPLITS[0], SPLITS[2]), more_splits=False),
        StartSubtask(READ[1], (SPLITS[1],), more_splits=False),
        StartSubtask(WRITE, (), more_splits=False),
    ]


def test_what_was_prepared_is_committed_once_all_have_ended():
    machine = running()
    assert machine.step(SubtaskEnded(READ[0], {})) == []
    assert machine.step(SubtaskEnded(WRITE, {"w": ["file"]})) == []
    assert machine.step(SubtaskEnded(READ[1], {})) == [CommitSubtask(WRITE, {"w": ["file"]})]
    assert machine.step(SubtaskCommitted(WRITE)) == [CloseSubtask(s) for s in ALL]
    assert machine.step(SubtaskClosed(WRITE)) == []
    assert machine.step(SubtaskClosed(READ[0])) == []
    assert machine.step(SubtaskClosed(READ[1])) == [Done("finished", None)]


def test_a_failure_after_the_end_of_one_sink_throws_its_rows_away():
    machine = running()
    machine.step(SubtaskEnded(WRITE, {"w": ["file"]}))
    error = ValueError("boom")
    assert machine.step(Failed(READ[0], error)) == [CloseSubtask(s) for s in ALL]
    assert machine.step(Failed(READ[1], KeyError("later"))) == []
    for subtask in ALL[:-1]:
        assert machine.step(SubtaskClosed(subtask)) == []
    assert machine.step(SubtaskClosed(WRITE)) == [
        AbortSinks({"w": ["file"]}),
        Done("failed", error),
    ]
    assert machine.step(Ready(WRITE)) == []


def test_a_failure_while_letting_go_fails_a_job_that_had_finished():
    machine = running()
    for subtask in ALL:
        effects = machine.step(SubtaskEnded(subtask, {}))
    assert effects == [CloseSubtask(s) for s in ALL]
    error = OSError("close failed")
    machine.step(Failed(WRITE, error))
    for subtask in ALL:
        effects = machine.step(SubtaskClosed(subtask))
    assert effects == [Done("failed", error)]


@pytest.mark.parametrize(("finished", "outcome"), [(True, "finished"), (False, "canceled")])
def test_whoever_stops_a_job_says_how_it_counts(finished, outcome):
    machine = starting()
    machine.step(StopAsked(finished))
    for subtask in ALL:
        effects = machine.step(SubtaskClosed(subtask))
    assert effects == [Done(outcome, None)]
    assert machine.over


class Growing(NumberSource):
    bounded = False
    discover_every_us = 500


def test_new_splits_go_round_and_known_ones_stay_where_they_are():
    machine = running(Growing(1, 1, 1))
    more = (*SPLITS, Split("s3"), Split("s4"), Split("s5"))
    assert machine.step(SplitsListed("read", more)) == [
        GiveSplits(READ[1], (Split("s3"), Split("s5"))),
        GiveSplits(READ[0], (Split("s4"),)),
        ListSplits("read", 500),
    ]


def test_a_subtask_that_closes_while_the_job_runs_is_a_bug():
    with pytest.raises(ProtocolError, match="closed while the job is running"):
        running().step(SubtaskClosed(WRITE))


def test_enough_seen_while_sinks_commit_does_not_take_their_rows_back():
    machine = running()
    for subtask in READ:
        machine.step(SubtaskEnded(subtask, {}))
    assert machine.step(SubtaskEnded(WRITE, {"w": [1]})) == [CommitSubtask(WRITE, {"w": [1]})]
    assert machine.step(StopAsked(finished=True)) == []
    assert machine.step(SubtaskCommitted(WRITE)) == [CloseSubtask(s) for s in ALL]
    assert machine.state == "closing"
