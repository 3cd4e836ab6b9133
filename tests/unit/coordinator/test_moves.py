"""A job that is asked for another size while it runs, event by event; the test is the storage."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.coordinator import events as job
from raystream.coordinator.machine import CoordinatorMachine
from raystream.coordinator.states import Beginning
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Acked, Closed, Declined, Ready, Trigger
from raystream.flow.snapshots import AttemptEntry, Entry, Manifest, SubtaskSnapshot
from raystream.flow.split import Split
from raystream.graph.logical import EVERY
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan

NUMBERS = pa.schema([("k", pa.int64())])
FOUR = {EVERY: 4}


def replan(parallelism: int = 2, **settings: Any) -> Replan:
    made = rs.Job("sized", parallelism=parallelism, **settings)
    rows = made.from_items([{"k": 1}], schema=NUMBERS).key_by("k")
    rows.map_with_state(lambda state, row: (state, row), schema=NUMBERS).named("count").print()
    return Replan(made._draft.plan())


def kept(parallelism: int = 2) -> Replan:
    return replan(
        parallelism,
        checkpoint=rs.Checkpointing("memory://sized", every="1s", timeout="9s"),
        restart=rs.Restart.fixed(3, "1s"),
    )


class Hand:
    """One coordinator in the hands of a test, or the one that came ``before`` come back."""

    def __init__(
        self,
        before: Hand | None = None,
        made: Replan | None = None,
        earlier: Entry | None = None,
    ) -> None:
        self.earlier = earlier  # what the one before still writes, to be found there
        self.log: dict[int, Entry] = {} if before is None else before.log
        self.manifests: dict[str, Manifest] = {} if before is None else before.manifests
        made = made or kept()
        came_back = bool(self.log)
        beginning = Beginning(f"c{len(self.log)}", len(self.log), "", came_back, came_back)
        self.clock = ManualClock()
        self.machine = CoordinatorMachine(made.plan({}), self.clock, beginning, made)
        self.plan: PhysicalPlan | None = None
        self.left: frozenset[SubtaskId] = frozenset()
        self.kept: frozenset[str] = frozenset()
        self.offered: dict[str, int] = {}
        self.answers: dict[str, job.Answer] = {}
        self.grows: list[job.Grow] = []
        self.triggers: list[Trigger] = []
        self.failing = False
        self._take(self.machine.begin())

    def _take(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case job.ListSplits(chain):
                    self.step(job.SplitsListed(chain, (Split("s"),)))
                case job.ReadLog():
                    self.step(job.LogRead(tuple(sorted(self.log.items())), len(self.log)))
                case job.ReadManifest(path):
                    self.step(job.ManifestRead(self.manifests[path]))
                case job.Append() if self.failing:
                    self.step(job.StorageFailed(effect, rs.StorageError("no disk")))
                case job.Append(number) if self.earlier is not None:
                    self.log[number], self.earlier = self.earlier, None
                    self.step(job.Outrun(number, self.log[number]))
                case job.Append(number, entry, manifest):
                    if manifest is not None:
                        self.manifests[entry.manifest] = manifest
                    self.log[number] = entry
                    self.step(job.Appended(number))
                case job.WriteSavepoint(_, manifest):
                    self.step(job.SavepointWritten(manifest.checkpoint_id))
                case job.Deploy():
                    self.plan, self.left = effect.plan, effect.leaving
                    self.kept = effect.kept
                case job.CloseSubtask(subtask, rests_at):
                    self.offered[subtask.chain] = rests_at
                case job.Answer(request):
                    self.answers[request] = effect
                case job.Grow():
                    self.grows.append(effect)
                case job.Tell(_, Trigger() as trigger):
                    self.triggers.append(trigger)

    def step(self, event: Any) -> None:
        self._take(self.machine.step(event))

    def say(self, report: Any) -> None:
        """Let every subtask report."""
        for subtask in self.plan.subtasks:
            self.step(job.Said(subtask, self.machine.attempt, report))

    def start(self) -> Hand:
        self.say(Ready())
        return self

    def ack(self) -> None:
        number = self.triggers[-1].checkpoint_id
        for subtask in self.plan.subtasks:
            report = Acked(number, SubtaskSnapshot(subtask))
            self.step(job.Said(subtask, self.machine.attempt, report))

    def tick(self) -> None:
        wake_us = self.machine.wake_us
        self.clock.advance(max(0, wake_us - self.clock.monotonic_us()))
        self.step(job.Ticked())

    def fail(self) -> None:
        self.step(job.Failed(None, ValueError("no"), self.machine.attempt))
        self.say(Closed())
        self.tick()

    def ask(self, scale: Any, request: str = "r") -> None:
        self.step(job.RescaleAsked(request, scale))

    def leave(self, *indices: int, until_us: int | None = 60_000_000) -> frozenset[SubtaskId]:
        """Let the nodes of some subtasks be about to go."""
        leaving = frozenset(one for one in self.plan.subtasks if one.index in indices)
        self.step(job.NodesLeaving(leaving, until_us, self.machine.attempt))
        return leaving

    @property
    def sizes(self) -> set[int]:
        return {chain.parallelism for chain in self.plan.chains}

    @property
    def scales(self) -> list[Any]:
        return [dict(e.scale) for e in self.log.values() if isinstance(e, AttemptEntry)]


def test_first_the_processes_then_a_barrier_then_the_next_attempt():
    it = Hand().start()
    it.ask(FOUR)
    assert [grow.request for grow in it.grows] == ["r"]
    assert (it.triggers, it.machine.moves.under_way) == ([], True)
    it.step(job.Grown("r"))
    assert {trigger.stop for trigger in it.triggers} == {True}
    it.ack()
    assert it.machine.state == "closing"
    it.say(Closed())
    assert (it.machine.state, it.sizes, it.answers) == ("starting", {4}, {})
    it.start()
    assert it.answers == {"r": job.Answer("r", "")}
    assert (it.machine.state, it.machine.moves.under_way) == ("running", False)
    assert (it.scales, it.machine.restarts.count) == ([{}, FOUR], 0)


def test_a_size_that_the_job_has_is_there_already():
    it = Hand().start()
    it.ask({EVERY: 2})
    assert (it.answers["r"].error, it.grows) == ("", [])


@pytest.mark.parametrize(
    ("scale", "why"), [({"coutn": 2}, 'did you mean "count"'), ({EVERY: 500}, "max_parallelism")]
)
def test_what_a_plan_cannot_have_is_refused_with_the_reason(scale, why):
    it = Hand().start()
    it.ask(scale)
    assert why in it.answers["r"].error
    assert (it.answers["r"].blame, it.grows, it.machine.state) == ("plan", [], "running")


def test_a_job_without_checkpoints_has_nothing_to_go_on_with():
    it = Hand(made=replan()).start()
    it.ask(FOUR)
    assert "give it checkpoint=" in it.answers["r"].error


def test_one_change_at_a_time():
    it = Hand().start()
    it.ask(FOUR)
    it.ask({EVERY: 3}, "s")
    assert "another change" in it.answers["s"].error
    assert "r" not in it.answers


def test_what_is_asked_early_has_its_turn_when_the_job_runs():
    it = Hand()
    it.ask(FOUR)
    assert (it.answers, it.grows) == ({}, [])
    it.start()
    assert len(it.grows) == 1


def test_a_cluster_without_room_leaves_the_job_as_it_is():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r", "no room"))
    assert it.answers["r"] == job.Answer("r", None, "no room", "cluster")
    assert (it.machine.state, it.triggers) == ("running", [])
    it.ask({EVERY: 3}, "s")
    assert len(it.grows) == 2


def test_processes_that_nobody_waits_for_change_nothing():
    it = Hand().start()
    it.ask(FOUR)
    it.fail()
    assert it.answers["r"].error == "the job has failed meanwhile"
    assert not it.machine.moves.wants("r")
    it.start()
    it.step(job.Grown("r"))
    assert (it.sizes, it.triggers, it.machine.state) == ({2}, [], "running")


@pytest.mark.parametrize("how", ["declined", "lost", "not written"])
def test_a_failure_before_the_checkpoint_leaves_the_old_size(how):
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r"))
    if how == "declined":
        number = it.triggers[-1].checkpoint_id
        it.step(job.Said(it.plan.subtasks[0], 1, Declined(number, "no room")))
    elif how == "lost":
        it.step(job.Failed(None, ValueError("no"), 1))
    else:
        it.failing = True
        it.ack()
        it.failing = False
    it.say(Closed())
    it.tick()
    assert (it.sizes, it.scales) == ({2}, [{}, {}])
    assert it.answers["r"].url is None
    it.start()
    assert (it.machine.state, len(it.grows)) == ("running", 1)


def test_a_failure_behind_the_checkpoint_is_followed_by_the_new_size():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r"))
    it.ack()
    it.say(Closed())
    it.fail()
    assert (it.sizes, it.scales, it.answers) == ({4}, [{}, FOUR, FOUR], {})
    it.start()
    assert it.answers["r"].error == ""


def test_a_coordinator_that_comes_back_runs_at_the_size_in_the_log():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r"))
    it.ack()
    it.say(Closed())
    back = Hand(it)
    assert (back.sizes, back.scales) == ({4}, [{}, FOUR, FOUR])
    back.start()
    back.ask({"count": 3})
    assert {c.name: c.parallelism for c in back.grows[0].plan.chains} == {
        chain.name: 3 if "count" in chain.name else 4 for chain in back.plan.chains
    }


def test_a_size_that_one_who_seemed_dead_has_written_meanwhile_counts():
    it = Hand().start()
    back = Hand(it, earlier=AttemptEntry(2, "c0", 0, "", scale=FOUR))
    back.tick()
    assert (back.sizes, back.scales) == ({4}, [{}, FOUR, FOUR])


def test_a_savepoint_that_is_asked_for_meanwhile_is_made_at_the_new_size():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r"))
    it.step(job.SavepointAsked("s", "memory://there"))
    it.ack()
    it.say(Closed())
    it.start()
    assert "s" not in it.answers
    assert it.triggers[-1].target == "memory://there"
    it.ack()
    assert it.answers["s"].url == "memory://there"


def test_who_stops_the_job_before_its_processes_are_there_stops_it():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.SavepointAsked("s", "", stop=True))
    it.ask({EVERY: 3}, "t")
    it.step(job.Grown("r"))
    assert {one: it.answers[one].error for one in "rt"} == dict.fromkeys(
        "rt", "the job is about to end"
    )
    it.ack()
    it.say(Closed())
    assert it.machine.state == "stopped"


def test_who_cancels_the_job_meanwhile_is_heard_and_who_waits_is_told():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r"))
    it.ack()
    it.step(job.StopAsked())
    it.say(Closed())
    assert (it.machine.state, it.answers["r"].error) == ("canceled", "the job is over")


# What is told of them ------------------------------------------------------------------------


def told(it: Hand) -> list[tuple[Any, ...]]:
    return [(set(one.after.values()), one.outcome, one.pause_us) for one in it.machine.moves.shown]


def test_changes_are_told_with_their_pause_and_what_became_of_them():
    it = Hand().start()
    it.ask(FOUR)
    assert told(it) == [({4}, "under way", None)]
    it.step(job.Grown("r", "no room"))
    it.step(job.RescaleAsked("s", {EVERY: 3}, "more is due"))
    it.step(job.Grown("s"))
    it.ack()
    it.clock.advance(300_000)
    it.say(Closed())
    assert told(it)[-1] == ({3}, "under way", None)
    it.start()
    assert told(it) == [({4}, "no room", None), ({3}, "done", 300_000)]
    assert [one.reason for one in it.machine.moves.shown] == ["", "more is due"]
    assert {tuple(one.before.values()) for one in it.machine.moves.shown} == {(2, 2)}


def test_only_the_newest_changes_are_told():
    it = Hand().start()
    for number in range(50):
        it.ask({EVERY: 3 + number % 2}, f"r{number}")
        it.step(job.Grown(f"r{number}", f"no room {number}"))
    assert [one.outcome for one in it.machine.moves.shown] == [
        f"no room {number}" for number in range(30, 50)
    ]


def test_a_job_that_ends_meanwhile_tells_so():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.StopAsked())
    it.say(Closed())
    assert told(it) == [({4}, "the job is over", None)]


def test_what_the_job_wants_itself_moves_nobody_that_it_does_not_name():
    made = kept(parallelism=1)
    assert len(made.plan({}).chains) == 1
    it = Hand(made=made).start()
    it.step(job.RescaleAsked("r", {"count": 3, "print#1": 3}, "more is due"))
    assert {c.name: c.parallelism for c in it.grows[0].plan.chains} == {
        "source#1": 1,
        "count→print#1": 3,
    }


# Nodes that are about to go ----------------------------------------------------------------------


def test_before_nodes_go_comes_a_checkpoint_then_a_move_away_from_them():
    it = Hand().start()
    leaving = it.leave(0)
    assert [(trigger.checkpoint_id, trigger.stop) for trigger in it.triggers[-1:]] == [(1, False)]
    assert it.grows == [job.Grow("away 1", it.plan, leaving, 60_000_000)]
    it.ack()
    it.step(job.Grown("away 1"))
    assert it.triggers[-1].stop
    it.ack()
    it.say(Closed())
    assert (it.machine.state, it.left, it.sizes) == ("starting", leaving, {2})
    it.start()
    assert (it.machine.state, it.machine.restarts.count, it.answers) == ("running", 0, {})
    assert not it.machine.moves.under_way


def test_whoever_says_it_every_second_is_heard_once_and_more_nodes_are_more():
    it = Hand().start()
    it.leave(0)
    it.leave(0)
    assert (len(it.grows), {one.checkpoint_id for one in it.triggers}) == (1, {1})
    both = it.leave(0, 1)
    assert [grow.leaving for grow in it.grows[1:]] == [both]
    it.step(job.Grown("away 1", "it was called off"))
    it.ack()
    assert not any(trigger.stop for trigger in it.triggers)
    it.step(job.Grown("away 2"))
    it.ack()
    it.ack()
    it.say(Closed())
    assert it.left == both


def test_without_room_elsewhere_the_job_stops_at_a_barrier_before_the_nodes_go():
    it = Hand().start()
    leaving = it.leave(1)
    it.ack()
    it.step(job.Grown("away 1", "no room"))
    it.ack()
    it.say(Closed())
    assert (it.machine.state, it.left, it.machine.restarts.count) == ("starting", leaving, 0)


def test_without_room_and_without_hurry_the_job_goes_on_and_tries_again():
    it = Hand().start()
    it.leave(1, until_us=None)
    it.ack()
    it.step(job.Grown("away 1", "no room"))
    assert (it.machine.state, it.machine.moves.under_way) == ("running", False)
    it.leave(1, until_us=None)
    assert [grow.request for grow in it.grows] == ["away 1", "away 2"]
    assert {one.checkpoint_id for one in it.triggers} == {1}  # one warning, one checkpoint


def test_a_node_that_goes_before_its_time_is_a_failure_like_any_other():
    it = Hand().start()
    it.leave(0)
    it.fail()
    assert (it.left, it.machine.restarts.count) == (frozenset(), 1)
    it.step(job.Grown("away 1"))
    it.start()
    assert (it.machine.state, it.machine.moves.under_way) == ("running", False)


def test_a_change_of_size_that_has_not_begun_gives_way_to_nodes_that_go():
    it = Hand().start()
    it.ask(FOUR)
    it.leave(0)
    assert ("about to go" in it.answers["r"].error, it.answers["r"].blame) == (True, "cluster")
    it.ask(FOUR, "s")
    assert "about to go" in it.answers["s"].error
    assert not it.machine.moves.resizes


def test_a_change_of_size_that_has_begun_comes_first():
    it = Hand().start()
    it.ask(FOUR)
    it.step(job.Grown("r"))
    it.leave(0)
    assert [grow.request for grow in it.grows] == ["r"]
    it.ack()
    it.say(Closed())
    it.start()
    it.leave(0)
    assert [grow.request for grow in it.grows] == ["r", "away 1"]


def test_a_job_without_checkpoints_cannot_move():
    it = Hand(made=replan()).start()
    it.leave(0)
    assert (it.grows, it.triggers, it.machine.state) == ([], [], "running")


def test_what_is_said_of_an_attempt_that_is_over_is_not_heard():
    it = Hand().start()
    it.step(job.NodesLeaving(frozenset(it.plan.subtasks), attempt=7))
    assert it.grows == []


# What stays open ---------------------------------------------------------------------------------


def stopped(scale: Any) -> Hand:
    """A job that closes behind the checkpoint of a change of size."""
    it = Hand().start()
    it.ask(scale)
    it.step(job.Grown("r"))
    it.ack()
    assert it.machine.state == "closing"
    return it


def closes(it: Hand, chain: str, indices: tuple[int, ...] = (0, 1)) -> None:
    """Let all subtasks close; some of a chain leave their operators open."""
    for subtask in it.plan.subtasks:
        rests = subtask.chain == chain and subtask.index in indices
        it.step(job.Said(subtask, it.machine.attempt, Closed(rests=rests)))


def names(it: Hand) -> tuple[str, str]:
    source, count = (chain.name for chain in it.plan.chains)
    return source, count


def test_chains_that_are_the_same_at_the_new_size_may_stay_open():
    it = stopped({"count": 3})
    source, count = names(it)
    assert it.offered == {source: it.triggers[-1].checkpoint_id, count: 0}
    closes(it, source)
    assert (it.machine.state, it.kept) == ("starting", {source})


def test_all_of_a_chain_stay_open_or_none():
    it = stopped({"count": 3})
    closes(it, names(it)[0], (1,))
    assert (it.machine.state, it.kept) == ("starting", frozenset())


def test_nothing_stays_open_where_all_change():
    it = stopped(FOUR)
    assert set(it.offered.values()) == {0}


def test_nothing_stays_open_behind_a_failure_not_even_what_was_offered():
    it = Hand().start()
    it.fail()
    assert (set(it.offered.values()), it.kept) == ({0}, frozenset())
    it = stopped({"count": 3})
    it.failing = True  # the next attempt cannot be written into the log: another follows
    closes(it, names(it)[0])
    it.failing = False
    it.tick()
    assert (it.machine.state, it.kept) == ("starting", frozenset())


def test_whoever_leaves_a_node_leaves_nothing_open():
    it = Hand().start()
    away = it.leave(1)
    it.ack()
    (grow,) = it.grows
    it.step(job.Grown(grow.request))
    while it.machine.state == "running":
        it.ack()
    assert away
    assert set(it.offered.values()) == {0}
