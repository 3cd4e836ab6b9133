"""Attempts, checkpoints and commits of a job with a log; the test is the storage."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from typing import Any

import pytest
from plans import KeepingSink, two_chains

from raystream.clock import ManualClock
from raystream.contracts.checkpointing import Checkpointing, Exponential, Fixed, Never
from raystream.coordinator import events as job
from raystream.coordinator.checkpoints import UNSETTLED_MAX
from raystream.coordinator.history import history_of
from raystream.coordinator.journal import Journal
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.restarts import Restarts
from raystream.coordinator.states import Beginning
from raystream.errors import StorageError
from raystream.flow.exchange import Rebalance
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import (
    Acked,
    Closed,
    Commit,
    Committed,
    Completed,
    Declined,
    Drain,
    Ended,
    GiveUp,
    Ready,
    Settled,
    Start,
    Trigger,
)
from raystream.flow.snapshots import (
    AttemptEntry,
    CheckpointEntry,
    EndedEntry,
    Entry,
    Manifest,
    SavepointEntry,
    SubtaskSnapshot,
)
from raystream.flow.split import Split

READ, WRITE = SubtaskId("read", 0, 1), SubtaskId("write", 0, 1)
BOTH = [READ, WRITE]
SECOND = 1_000_000


class Committing(KeepingSink):
    def commit(self, checkpoint_id: int, committables: Any) -> None:
        return


class Disk:
    """A log and its manifests, as several coordinators see them."""

    def __init__(self) -> None:
        self.log: dict[int, Entry] = {}
        self.manifests: dict[str, Manifest] = {}

    @property
    def checkpoints(self) -> list[int]:
        return [e.checkpoint_id for e in self.log.values() if isinstance(e, CheckpointEntry)]


class Hand:
    """One coordinator in the hands of a test: what it asks of the disk is done when told."""

    def __init__(self, disk: Disk, by: str = "one", born_us: int = 1, **settings: Any) -> None:
        strategy = settings.pop("restart", Fixed(9, SECOND))
        plan = two_chains(Rebalance(), Committing())
        checkpoint = Checkpointing("memory://attempts", **settings)
        plan = replace(plan, checkpoint=checkpoint, restart=strategy)
        self.clock = ManualClock()
        self.disk = disk
        self.machine = CoordinatorMachine(
            plan, self.clock, Beginning(by, born_us, resumed=bool(disk.log))
        )
        self.asked: list[Any] = []
        self.said: list[Any] = []
        self._take(self.machine.begin())

    def _take(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, job.ListSplits):
                self._take(self.machine.step(job.SplitsListed("read", (Split("s"),))))
            elif isinstance(
                effect, job.ReadLog | job.ReadManifest | job.Append | job.WriteSavepoint
            ):
                self.asked.append(effect)
            else:
                self.said.append(effect)

    def step(self, event: Any) -> None:
        self._take(self.machine.step(event))

    def say(self, subtask: SubtaskId, report: Any, attempt: int | None = None) -> None:
        self.step(job.Said(subtask, attempt or self.machine.attempt, report))

    def store(self) -> None:
        """Let the disk do what was asked first."""
        effect = self.asked.pop(0)
        disk = self.disk
        match effect:
            case job.ReadLog():
                entries = tuple(sorted(disk.log.items()))
                self.step(job.LogRead(entries, max(disk.log, default=-1) + 1))
            case job.ReadManifest(path):
                self.step(job.ManifestRead(disk.manifests[path]))
            case job.WriteSavepoint(target, manifest):
                disk.manifests[f"{target}/manifest.json"] = manifest
                self.step(job.SavepointWritten(manifest.checkpoint_id))
            case job.Append(number, entry, manifest):
                if manifest is not None:
                    disk.manifests[entry.manifest] = manifest
                there = disk.log.setdefault(number, entry)
                outcome = job.Appended(number) if there is entry else job.Outrun(number, there)
                self.step(outcome)

    def store_all(self) -> None:
        while self.asked:
            self.store()

    def start(self) -> Hand:
        """Go on until rows flow."""
        self.store_all()
        for subtask in BOTH:
            self.say(subtask, Ready())
        return self

    def settle_restored(self) -> None:
        for one in self.told(Commit):
            self.say(WRITE, Committed(one.checkpoint_id))

    def tick(self) -> None:
        wake_us = self.machine.wake_us
        assert wake_us is not None
        self.clock.advance(max(0, wake_us - self.clock.monotonic_us()))
        self.step(job.Ticked())

    def ack(self, checkpoint_id: int, *epochs: int) -> None:
        """Let both subtasks ack; the sink had prepared one committable for each epoch."""
        self.say(READ, Acked(checkpoint_id, SubtaskSnapshot(READ)))
        prepared = tuple((n, {"w": pickle.dumps([f"t{n}"])}) for n in epochs)
        self.say(WRITE, Acked(checkpoint_id, SubtaskSnapshot(WRITE, {}, prepared)))

    def complete(self, checkpoint_id: int, *epochs: int) -> None:
        self.tick()
        self.ack(checkpoint_id, *epochs)
        self.store()

    def close_all(self) -> None:
        for subtask in BOTH:
            self.say(subtask, Closed())

    def fail(self) -> None:
        self.step(job.Failed(WRITE, ValueError("no"), self.machine.attempt))
        self.close_all()

    def told(self, kind: type) -> list[Any]:
        return [e.order for e in self.said if isinstance(e, job.Tell) and isinstance(e.order, kind)]

    @property
    def commits(self) -> list[tuple[int, list[int]]]:
        return [(one.checkpoint_id, [n for n, _ in one.prepared]) for one in self.told(Commit)]


def test_c31_acks_then_the_entry_then_subtasks_are_told():
    it = Hand(Disk()).start()
    it.tick()
    assert it.told(Trigger) == [Trigger(1)]
    it.ack(1, 1)
    assert it.told(Completed) == []
    assert it.commits == []
    it.store()
    assert it.disk.checkpoints == [1]
    assert it.told(Completed) == [Completed(1)]
    assert it.commits == [(1, [1])]


def test_c31_what_died_before_the_entry_never_was_and_what_died_behind_it_must_be_used():
    disk = Disk()
    first = Hand(disk).start()
    first.complete(1, 1)
    first.say(WRITE, Committed(1))
    first.tick()
    first.ack(2, 2)  # and then it dies, its entry not written
    second = Hand(disk, "two", 2).start()
    assert second.commits == [(1, [1])]
    second.settle_restored()
    assert second.machine.state == "running"
    second.complete(2, 2)
    third = Hand(disk, "three", 3).start()
    assert third.commits == [(2, [2])]


def test_c32_an_ack_that_is_late_or_comes_twice_changes_nothing():
    it = Hand(Disk(), timeout="1s", tolerate_failures=9).start()
    it.tick()
    it.say(READ, Acked(1, SubtaskSnapshot(READ)))
    it.tick()
    assert it.told(GiveUp) == [GiveUp(1)] * 2
    it.say(WRITE, Acked(1, SubtaskSnapshot(WRITE)))
    assert it.asked == []
    it.tick()
    it.say(READ, Acked(2, SubtaskSnapshot(READ)))
    it.say(READ, Acked(2, SubtaskSnapshot(READ)))
    it.say(WRITE, Acked(2, SubtaskSnapshot(WRITE)), attempt=7)
    assert it.asked == []
    it.say(WRITE, Acked(2, SubtaskSnapshot(WRITE)))
    it.say(WRITE, Acked(2, SubtaskSnapshot(WRITE)))
    assert len(it.asked) == 1


def test_c33_a_timeout_gives_up_and_the_next_one_starts():
    it = Hand(Disk(), every="10s", timeout="20s", tolerate_failures=1).start()
    it.tick()
    it.tick()
    assert it.told(GiveUp) == [GiveUp(1)] * 2
    it.tick()
    assert it.told(Trigger) == [Trigger(1), Trigger(2)]


def test_c33_more_failures_in_a_row_than_are_tolerated_fail_the_attempt():
    it = Hand(Disk(), every="1s", tolerate_failures=1).start()
    it.tick()
    it.say(READ, Declined(1, "no room"))
    it.complete(2)  # what completes begins the count anew
    it.tick()
    it.say(READ, Declined(3, "no room"))
    assert it.machine.state == "running"
    it.tick()
    it.say(WRITE, Declined(4, "no room"))
    assert it.machine.state == "closing"
    assert "no room" in str(it.machine.last_error)


def test_min_pause_lies_between_the_end_of_one_and_the_beginning_of_the_next():
    it = Hand(Disk(), every="1s", min_pause="5s").start()
    it.tick()
    it.clock.advance(3 * SECOND)
    it.ack(1)
    it.store()
    assert it.machine.wake_us == it.clock.monotonic_us() + 5 * SECOND


def test_c34_a_savepoint_commits_nothing_and_is_not_used_for_recovery():
    it = Hand(Disk()).start()
    it.step(job.SavepointAsked("a", "memory://there"))
    assert it.told(Trigger) == [Trigger(1, "memory://there")]
    it.ack(1, 1)
    it.store_all()
    assert it.commits == []
    assert job.Answer("a", "memory://there") in it.said
    assert it.disk.manifests["memory://there/manifest.json"].savepoint
    assert any(isinstance(entry, SavepointEntry) for entry in it.disk.log.values())
    it.fail()
    it.tick()
    it.store_all()
    assert [e.path for e in it.said if isinstance(e, job.Deploy)] == ["", ""]


def test_c34_whoever_resumes_the_job_starts_from_its_newest_savepoint():
    disk = Disk()
    it = Hand(disk).start()
    it.step(job.SavepointAsked("a", "memory://there"))
    it.ack(1, 1)
    it.store_all()
    other = Hand(disk, "two", 2).start()
    assert [e.path for e in other.said if isinstance(e, job.Deploy)] == [
        "memory://there/manifest.json"
    ]
    assert other.commits == [(1, [1])]


def test_c34_a_stop_with_a_savepoint_commits():
    it = Hand(Disk()).start()
    it.step(job.SavepointAsked("a", "memory://there", stop=True))
    assert it.told(Trigger) == [Trigger(1, "memory://there", stop=True)]
    it.ack(1, 1)
    it.store()
    assert it.commits == [(1, [1])]
    it.say(WRITE, Committed(1))
    it.close_all()
    it.store()
    assert it.machine.state == "stopped"
    assert any(isinstance(entry, EndedEntry) for entry in it.disk.log.values())


def test_a_stop_that_drains_ends_the_input_first():
    it = Hand(Disk()).start()
    it.step(job.SavepointAsked("a", "", stop=True, drain=True))
    assert it.told(Drain) == [Drain()]
    assert it.told(Trigger) == []
    for subtask in BOTH:
        it.say(subtask, Ended())
    assert it.told(Trigger) == [Trigger(1)]
    it.ack(1, 1)
    it.store()
    it.say(WRITE, Committed(1))
    it.close_all()
    it.store()
    assert it.machine.state == "stopped"


def test_a_savepoint_waits_for_the_checkpoint_that_is_under_way():
    it = Hand(Disk()).start()
    it.tick()
    it.step(job.SavepointAsked("a", "memory://there"))
    assert it.told(Trigger) == [Trigger(1)]
    it.ack(1)
    it.store()
    assert it.told(Trigger) == [Trigger(1), Trigger(2, "memory://there")]


def test_so_many_checkpoints_that_are_not_visible_yet_hold_the_next_one_back():
    it = Hand(Disk(), every="1s").start()
    for number in range(1, UNSETTLED_MAX + 1):
        it.complete(number, *range(1, number + 1))
    assert it.machine.wake_us is None
    assert it.commits == [(1, [1])]
    it.say(WRITE, Committed(1))
    assert it.commits == [(1, [1]), (2, [2])]
    assert it.machine.wake_us is not None


@pytest.mark.parametrize("turns", sorted(set(itertools.permutations(["new"] * 3 + ["old"]))))
def test_c37_an_older_coordinator_completes_and_commits_nothing_more(turns):
    disk = Disk()
    old = Hand(disk, "old", 1).start()
    old.complete(1, 1)
    old.say(WRITE, Committed(1))
    old.tick()
    old.ack(2, 2)
    new = Hand(disk, "new", 2)
    for turn in turns:
        hand = new if turn == "new" else old
        if hand.asked:
            hand.store()
    while new.machine.state != "starting":
        new.store_all()
        if new.machine.state == "waiting":
            new.tick()
    old.store_all()
    entries = [entry for _, entry in sorted(disk.log.items())]
    begun = next(
        at for at, e in enumerate(entries) if isinstance(e, AttemptEntry) and e.by == "new"
    )
    before = [e.checkpoint_id for e in entries[:begun] if isinstance(e, CheckpointEntry)]
    assert disk.checkpoints == before  # nothing that the older one writes comes behind
    assert [one for one, _ in old.commits] == before
    (deploy,) = (one for one in new.said if isinstance(one, job.Deploy))
    assert deploy.path == f"manifest-1-{before[-1]}.json"
    if before == [1]:
        old.close_all()
        assert old.machine.state == "failed"
        assert "taken over" in str(old.machine.error)


def test_c38_nothing_is_visible_between_the_acks_and_the_entry():
    it = Hand(Disk()).start()
    it.tick()
    it.ack(1, 1)
    assert it.commits == []
    it.step(job.StorageFailed(it.asked.pop(), StorageError("no")))
    assert it.commits == []
    assert it.machine.state == "closing"


def test_c39_what_was_durable_and_not_visible_is_committed_before_rows_flow():
    disk = Disk()
    Hand(disk).start().complete(1, 1)
    it = Hand(disk, "two", 2).start()
    assert it.commits == [(1, [1])]
    assert it.told(Start) == []
    it.say(WRITE, Committed(1))
    assert len(it.told(Start)) == 2
    assert it.told(Settled) == [Settled(1)]


def test_c40_epochs_of_a_checkpoint_that_was_given_up_are_committed_with_the_next():
    it = Hand(Disk(), every="1s", timeout="1s", tolerate_failures=1).start()
    it.tick()
    it.tick()
    it.complete(2, 1, 2)
    assert it.commits == [(2, [1, 2])]


def test_c40_what_no_checkpoint_holds_is_thrown_away():
    it = Hand(Disk(), every="1s", timeout="1s", tolerate_failures=1).start()
    it.tick()
    it.say(WRITE, Acked(1, SubtaskSnapshot(WRITE, {}, ((1, {"w": pickle.dumps(["t1"])}),))))
    it.fail()
    (aborts,) = (e for e in it.said if isinstance(e, job.AbortSinks))
    assert [n for n, _ in aborts.prepared] == [1]


def test_what_was_never_acked_is_thrown_away_once_its_subtask_has_closed():
    it = Hand(Disk()).start()
    it.step(job.Failed(READ, ValueError("no"), 1))
    it.say(READ, Closed())
    it.say(WRITE, Closed(((1, {"w": pickle.dumps(["t1"])}),)))
    (aborts,) = (e for e in it.said if isinstance(e, job.AbortSinks))
    assert [n for n, _ in aborts.prepared] == [1]


@pytest.mark.parametrize("written", [True, False])
def test_what_may_be_durable_is_thrown_away_only_when_the_log_has_said_that_it_is_not(written):
    it = Hand(Disk(), restart=Fixed(9, 0)).start()
    it.tick()
    it.ack(1, 1)
    append = it.asked.pop()
    if written:
        it.disk.log[append.number] = append.entry
        it.disk.manifests[append.entry.manifest] = append.manifest
    it.step(job.StorageFailed(append, StorageError("the reply was lost")))
    it.close_all()
    assert not [e for e in it.said if isinstance(e, job.AbortSinks)]
    it.start()
    aborts = [n for e in it.said if isinstance(e, job.AbortSinks) for n, _ in e.prepared]
    assert (aborts, it.commits) == (([], [(1, [1])]) if written else ([1], []))


def test_c42_a_bounded_job_takes_one_checkpoint_as_soon_as_all_has_ended():
    it = Hand(Disk(), every="1h").start()
    it.say(READ, Ended())
    assert it.told(Trigger) == []
    it.say(WRITE, Ended())
    assert it.told(Trigger) == [Trigger(1)]
    it.ack(1, 1)
    it.store()
    assert it.commits == [(1, [1])]
    assert it.machine.state == "finishing"
    it.say(WRITE, Committed(1))
    it.close_all()
    it.store()
    assert it.machine.state == "finished"
    assert it.clock.monotonic_us() < SECOND


def test_retired_checkpoints_are_discarded_and_the_kept_ones_are_named():
    it = Hand(Disk(), keep=2, every="1s").start()
    for number in (1, 2, 3):
        it.complete(number)
    (discard,) = (e for e in it.said if isinstance(e, job.Discard))
    assert [e.checkpoint_id for _, e in discard.retired] == [1]
    assert discard.kept == ("manifest-1-2.json", "manifest-1-3.json")


def test_a_history_says_where_the_next_attempt_begins():
    log = [
        AttemptEntry(1, "one", source="from.json"),
        CheckpointEntry(1, 1, "m1"),
        SavepointEntry(2, 1, "s2"),
        AttemptEntry(2, "two"),
    ]
    history = history_of(list(enumerate(log)), 4)
    assert (history.attempt, history.by, history.last_id) == (2, "two", 2)
    assert history.start() == ("m1", 1)
    assert history.start(savepoints=True) == ("s2", 2)
    assert history.start(but=[1]) == ("from.json", 0)


def test_a_journal_knows_its_own_entries_from_those_of_others():
    journal = Journal()
    journal.open(history_of([], 0), ())
    (append,) = journal.append(AttemptEntry(1, "me", 5))
    assert journal.written(append.number + 1) is None
    assert journal.written(append.number) == append.entry
    assert journal.is_ours(1)
    (append,) = journal.append(CheckpointEntry(1, 1, "m1"))
    assert journal.failed(append)
    assert not journal.failed(append)
    journal.append(CheckpointEntry(1, 1, "m1"))
    assert isinstance(journal.outrun(CheckpointEntry(1, 1, "m1"), 5), StorageError)
    journal.append(CheckpointEntry(2, 1, "m2"))
    assert journal.outrun(AttemptEntry(2, "other", 6), 5) is None


def test_restarts_wait_longer_and_longer_and_begin_anew_after_a_quiet_time():
    restarts = Restarts(Exponential(SECOND, 4 * SECOND, 100 * SECOND))
    assert [restarts.pause_us(0) for _ in range(5)] == [0, SECOND, *[n * SECOND for n in (2, 4, 4)]]
    assert restarts.pause_us(100 * SECOND) == 0
    fixed = Restarts(Fixed(2, 7))
    assert [fixed.pause_us(0) for _ in range(3)] == [7, 7, None]
    assert (fixed.count, Restarts(Never()).pause_us(0)) == (2, None)
