"""The life of a job, event by event: without a log here, with one in ``test_attempts``."""

from __future__ import annotations

import pickle

import pytest
from plans import KeepingSink, NumberSource, two_chains

from raystream.clock import ManualClock
from raystream.coordinator.events import (
    AbortSinks,
    CloseSubtask,
    Deploy,
    Done,
    Failed,
    ListSplits,
    Said,
    SplitsListed,
    StopAsked,
    Tell,
)
from raystream.coordinator.machine import CoordinatorMachine
from raystream.errors import ProtocolError
from raystream.flow.exchange import Rebalance
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import (
    Acked,
    Closed,
    Commit,
    Committed,
    Completed,
    Ended,
    Ready,
    Settled,
    SplitsFound,
    Start,
    Trigger,
)
from raystream.flow.snapshots import SubtaskSnapshot
from raystream.flow.split import Split

READ = [SubtaskId("read", 0, 2), SubtaskId("read", 1, 2)]
WRITE = SubtaskId("write", 0, 1)
ALL = [*READ, WRITE]
SPLITS = tuple(Split(f"s{i}") for i in range(3))
PREPARED = ((1, {"w": pickle.dumps(["file"])}),)


class Committing(KeepingSink):
    def commit(self, checkpoint_id, committables):
        return


def say(machine, subtask, report, attempt=1):
    return machine.step(Said(subtask, attempt, report))


def opening(source: NumberSource | None = None) -> CoordinatorMachine:
    plan = two_chains(Rebalance(), Committing(), up=2, down=1, source=source)
    machine = CoordinatorMachine(plan, ManualClock())
    assert machine.begin() == [ListSplits("read")]
    return machine


def running(source: NumberSource | None = None) -> CoordinatorMachine:
    machine = opening(source)
    (deploy,) = machine.step(SplitsListed("read", SPLITS))
    assert (type(deploy), deploy.attempt) == (Deploy, 1)
    for subtask in ALL:
        say(machine, subtask, Ready())
    assert machine.state == "running"
    return machine


def finishing() -> CoordinatorMachine:
    """A job whose rows have ended, and whose sink has prepared what is to become visible."""
    machine = running()
    for subtask in ALL[:-1]:
        assert say(machine, subtask, Ended()) == []
    assert say(machine, WRITE, Ended()) == [Tell(read, Trigger(1)) for read in READ]
    return machine


def test_subtasks_start_when_all_are_ready():
    machine = opening()
    machine.step(SplitsListed("read", SPLITS))
    assert say(machine, READ[0], Ready()) == []
    assert say(machine, WRITE, Ready()) == []
    assert say(machine, READ[1], Ready()) == [
        Tell(READ[0], Start((SPLITS[0], SPLITS[2]))),
        Tell(READ[1], Start((SPLITS[1],))),
        Tell(WRITE, Start()),
    ]


def test_the_final_checkpoint_commits_and_then_the_job_ends():
    machine = finishing()
    for read in READ:
        assert say(machine, read, Acked(1, SubtaskSnapshot(read))) == []
    acked = say(machine, WRITE, Acked(1, SubtaskSnapshot(WRITE, {}, PREPARED)))
    assert acked == [
        *(Tell(read, Completed(1)) for read in READ),
        Tell(WRITE, Commit(1, PREPARED)),
    ]
    committed = say(machine, WRITE, Committed(1))
    assert committed == [Tell(WRITE, Settled(1)), *(CloseSubtask(s) for s in ALL)]
    assert say(machine, READ[0], Closed()) == []
    assert say(machine, READ[1], Closed()) == []
    assert say(machine, WRITE, Closed()) == [Done("finished", None)]


def test_a_failure_before_the_commit_throws_away_what_was_prepared():
    machine = finishing()
    say(machine, WRITE, Acked(1, SubtaskSnapshot(WRITE, {}, PREPARED)))
    error = ValueError("no")
    assert machine.step(Failed(READ[0], error, 1)) == [CloseSubtask(s) for s in ALL]
    closed = [say(machine, subtask, Closed()) for subtask in ALL]
    assert closed == [[], [], [AbortSinks(PREPARED), Done("failed", error)]]


def test_the_first_failure_counts():
    machine = running()
    first, second = ValueError("first"), ValueError("second")
    machine.step(Failed(WRITE, first, 1))
    assert machine.step(Failed(READ[0], second, 1)) == []
    for subtask in ALL:
        say(machine, subtask, Closed())
    assert (machine.state, machine.error) == ("failed", first)


def test_words_of_another_attempt_change_nothing():
    machine = running()
    assert say(machine, WRITE, Ended(), attempt=2) == []
    assert machine.step(Failed(WRITE, ValueError("old"), 7)) == []
    assert machine.state == "running"


def test_a_job_that_is_stopped_is_canceled_or_finished():
    for finished, outcome in ((False, "canceled"), (True, "finished")):
        machine = running()
        assert machine.step(StopAsked(finished)) == [CloseSubtask(s) for s in ALL]
        for subtask in ALL:
            say(machine, subtask, Closed())
        assert machine.state == outcome


def test_enough_seen_does_not_cut_a_commit_short():
    machine = finishing()
    assert machine.step(StopAsked(finished=True)) == []
    assert machine.step(StopAsked(finished=False)) == [CloseSubtask(s) for s in ALL]


class Found(NumberSource):
    bounded = False

    def discover(self):
        return ()


def test_found_splits_go_round_and_known_ones_are_not_given_again():
    machine = opening(Found(3, 1, 1))
    machine.step(SplitsListed("read", SPLITS[:1]))
    started = [effect for s in ALL for effect in say(machine, s, Ready())]
    assert started[0] == Tell(READ[0], Start((SPLITS[0],), more_splits=True))
    assert ListSplits("read", 1_000_000) in started
    assert machine.step(SplitsListed("read", SPLITS)) == [
        Tell(READ[1], SplitsFound((SPLITS[1],))),
        Tell(READ[0], SplitsFound((SPLITS[2],))),
        ListSplits("read", 1_000_000),
    ]


def test_an_illegal_transition_is_an_error_of_ours():
    machine = running()
    with pytest.raises(ProtocolError, match="cannot go from running to created"):
        machine._to("created")
