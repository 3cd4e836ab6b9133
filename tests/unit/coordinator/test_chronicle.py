"""What a job tells of its past goes on being told when its coordinator has died."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from watched import Endless

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator import events as asked
from raystream.coordinator.chronicle import LISTED_CHARS_MAX, TEXT_CHARS_MAX, Chronicle
from raystream.coordinator.history import History, history_of
from raystream.coordinator.moves import Moves
from raystream.coordinator.report import JobReport
from raystream.coordinator.states import Beginning
from raystream.flow.control import Rescaling
from raystream.flow.past import Failure, Past, StateChange
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry, EndedEntry
from raystream.graph.rescaling import Replan
from raystream.runtime.local_job import LocalJob
from raystream.runtime.vault import Home, Vault
from raystream.storage.codec import encode_entry
from raystream.storage.log import read_log
from raystream.storage.opening import open_store

ROWS = pa.schema([("k", pa.int64())])


class Job:
    """A job in this thread whose coordinator may die; time passes where nothing else can happen."""

    def __init__(self, folder: str, **settings: Any) -> None:
        self.folder = folder
        self.clock = ManualClock()
        settings = {"restart": rs.Restart.fixed(3, "1s"), **settings}
        made = rs.Job("told", checkpoint=rs.Checkpointing(folder, every="5s"), **settings)
        rows = Endless({"a": lambda: iter([[{"k": 1}]] + [None] * 10_000)}, ROWS)
        counted = made.source(rows, name="read").key_by("k")
        counted = counted.map_with_state(lambda s, row: (s, row), schema=ROWS).named("count")
        counted.sink(rs.CallbackSink(lambda row: None))
        self.replan = Replan(made._draft.plan())
        self._born = 0
        self.local = self._bear(Beginning("c0", 0))

    def _bear(self, beginning: Beginning) -> LocalJob:
        plan = self.replan.plan({})
        vault = Vault(plan, Home(self.folder, "1", beginning))
        local = LocalJob(
            plan, self.clock, None, vault=vault, beginning=beginning, replan=self.replan
        )
        local.begin()
        return local

    def coordinator_dies(self, *, resumed: bool = False) -> None:
        """Begin another, with nothing but the log; all subtasks have died too."""
        self._born += 1
        came = Beginning(f"c{self._born}", self.clock.now_us(), resumed=True, came_back=not resumed)
        self.local = self._bear(came)
        self.until(lambda: self.local.state == "running")

    def until(self, holds: Any) -> None:
        for _ in range(3_000):
            if holds():
                return
            if not self.local.advance():
                self.clock.advance(500_000)
        raise AssertionError(self.local.report())

    def subtask_dies(self) -> None:
        self.until(lambda: self.local.state == "running")
        attempt = self.report.attempt
        self.local.crash(self.local.alive[0])
        self.until(lambda: self.report.attempt > attempt and self.local.state == "running")

    def checkpointed(self, more: int = 1) -> None:
        before = self.report.checkpoints_completed
        self.until(lambda: self.report.checkpoints_completed >= before + more)

    def rescale(self, count: int, request: str) -> None:
        self.local.ask(asked.RescaleAsked(request, {"count": count}))
        self.until(lambda: request in self.local.answers and self.local.state == "running")

    @property
    def report(self) -> JobReport:
        return self.local.report()

    @property
    def rescalings(self) -> tuple[Rescaling, ...]:
        return self.local._coordinator.moves.shown

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.report.failures]


def test_restarts_and_failures_are_told_on_and_the_coordinators_death_is_one_of_them():
    it = Job("memory://told-1")
    it.subtask_dies()
    it.subtask_dies()
    assert (it.report.restarts, it.kinds) == (2, ["SubtaskLost"] * 2)
    before = it.report.failures
    it.coordinator_dies()
    assert it.report.failures[:-1] == before
    assert (it.report.restarts, it.kinds[-1]) == (3, "CoordinatorLost")
    it.subtask_dies()
    it.coordinator_dies()
    kinds = ["SubtaskLost", "SubtaskLost", "CoordinatorLost"]
    assert (it.report.restarts, it.kinds) == (5, [*kinds, "SubtaskLost", "CoordinatorLost"])
    assert it.report.attempt == 6
    assert it.local.report().restarts == 5


def test_a_takeover_counts_no_attempt_of_the_strategy_and_the_failures_before_it_do():
    it = Job("memory://told-2", restart=rs.Restart.fixed(2, "1s"))
    it.subtask_dies()
    it.coordinator_dies()
    it.coordinator_dies()
    it.subtask_dies()
    assert it.report.restarts == 4
    it.local.crash(*it.local.alive)
    it.until(lambda: it.local.over)
    assert it.local.state == "failed"


def test_checkpoints_and_states_are_told_on_without_a_gap():
    it = Job("memory://told-3")
    it.checkpointed(3)
    it.coordinator_dies()
    assert it.report.checkpoints_completed == 2  # the newest entry cannot count itself
    changes = it.report.changes
    assert all(one.after == next_.before for one, next_ in itertools.pairwise(changes))
    assert [one.after for one in changes] == ["opening", "starting", "running"] * 2
    assert [one.at_us for one in changes] == sorted(one.at_us for one in changes)


def test_changes_of_size_are_told_on_with_what_became_of_them():
    it = Job("memory://told-4")
    it.rescale(2, "r1")
    it.checkpointed()
    done = it.rescalings
    assert [one.outcome for one in done] == ["done"]
    it.coordinator_dies()
    assert it.rescalings == done
    it.rescale(3, "r2")
    it.coordinator_dies()  # before the next checkpoint: the attempt's entry says it
    assert [(one.after["count→sink#1"], one.outcome) for one in it.rescalings] == [
        (2, "done"),
        (3, "done"),
    ]
    assert {one.parallelism for one in it.report.status.operators if one.name == "count"} == {3}


def test_a_change_that_was_under_way_when_the_coordinator_died_was_given_up():
    moves = Moves(None, ManualClock())
    moves.inherit((Rescaling(1, "", {"c": 1}, {"c": 2}), Rescaling(2, "", {}, {}, "no room")))
    assert [one.outcome for one in moves.shown] == ["the coordinator has died meanwhile", "no room"]


def test_what_a_job_has_decided_of_its_size_is_counted_on():
    it = Job("memory://told-5", autoscale=rs.Autoscale())
    chronicle = it.local._coordinator.chronicle
    assert (chronicle.decided_size(), chronicle.decided_size()) == (1, 2)
    chronicle.refused_size()
    it.checkpointed()
    it.coordinator_dies()
    assert (it.report.sizing.decided, it.report.sizing.refused) == (2, 1)
    assert it.local._coordinator.chronicle.decided_size() == 3


def test_who_resumes_a_job_by_hand_begins_to_count_anew():
    it = Job("memory://told-6")
    it.subtask_dies()
    it.checkpointed()
    it.coordinator_dies(resumed=True)
    assert (it.report.restarts, it.report.failures, it.report.checkpoints_completed) == (0, (), 0)


def test_a_coordinator_that_left_with_its_node_has_not_failed():
    chronicle = Chronicle()
    moves = Moves(None, ManualClock())
    chronicle.inherit(History(4, past=Past(2, 1, leaves=True)), moves, 0)
    assert (chronicle.restarts, chronicle.failures, chronicle.taken_over) == (3, (), False)
    chronicle.inherit(History(4, past=Past(2, 1)), moves, 7)  # the log has more by now
    assert (chronicle.restarts, [one.at_us for one in chronicle.failures]) == (4, [7])
    Chronicle().inherit(History(), moves, 0)


def test_the_newest_entry_counts_whichever_it_is():
    it = Job("memory://told-7")
    it.subtask_dies()
    it.checkpointed()
    entries = [one.entry for one in read_log(open_store("memory://told-7")).entries]
    pasts = [e.past for e in entries if isinstance(e, AttemptEntry | CheckpointEntry)]
    assert [one.restarts for one in pasts] == [0, 1, 1]
    assert pasts[-1].changes[-1].after == "running"


@pytest.mark.parametrize("count", [1, 300])
def test_an_entry_stays_small_whatever_has_happened(count):
    chronicle, moves = Chronicle(), Moves(None, ManualClock())
    for n in range(count):
        chronicle.failed(Failure(n, n, "read[0/1]", "Breaks", "x" * 2_000))
        chronicle.changed(StateChange(n, n, "running", "closing"))
    sizes = {f"chain {n}": 1 for n in range(60)}
    moves.inherit(tuple(Rescaling(n, "y" * 900, sizes, sizes, "done") for n in range(count)))
    past = chronicle.so_far(moves)
    assert all(len(one.message) == TEXT_CHARS_MAX for one in past.failures)
    assert past.failures[-1] == replace(chronicle.failures[-1], message="x" * TEXT_CHARS_MAX)
    assert past.changes[-1] == chronicle.changes[-1]
    assert past.rescalings[-1].at_us == count - 1
    assert len(encode_entry(CheckpointEntry(1, 1, "m", past=past))) < 4 * LISTED_CHARS_MAX


def test_of_a_job_that_has_ended_whoever_goes_on_with_it_tells_nothing():
    begun = AttemptEntry(1, "c0", past=Past(3, 1))
    assert history_of([(1, begun)], 2).past == Past(3, 1)
    ended = [
        (1, begun),
        (2, CheckpointEntry(1, 1, "m", past=Past(4))),
        (3, EndedEntry(1, "failed")),
    ]
    assert history_of(ended[:2], 3).past == Past(4)
    assert history_of(ended, 4).past == Past()


def test_who_leaves_with_its_node_says_so_in_the_log_until_it_runs_elsewhere():
    it = Job("memory://told-8")
    it.checkpointed()
    it.local.ask(asked.NodesLeaving(frozenset(it.local.alive), 0))
    it.until(lambda: it.report.attempt == 2)
    it.coordinator_dies()  # as one does that has stopped behind a barrier
    assert (it.report.restarts, it.report.failures, it.report.attempt) == (0, (), 3)
    it.checkpointed()
    it.coordinator_dies()
    assert (it.report.restarts, it.kinds) == (1, ["CoordinatorLost"])
