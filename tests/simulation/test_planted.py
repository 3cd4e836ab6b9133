"""A simulator that finds nothing proves nothing: bugs are planted, and must be found soon."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runs import Sharp, live, undisturbed

from raystream.coordinator.assignment import Assignment
from raystream.coordinator.checkpoints import Checkpoints
from raystream.coordinator.course import Course
from raystream.coordinator.events import Append, Tell
from raystream.coordinator.moves import Moves
from raystream.coordinator.opening import Opening
from raystream.coordinator.staying import Staying
from raystream.flow.messages import Commit, Settled
from raystream.keyed.snapshot import Share
from raystream.runtime import vault
from raystream.runtime.left_open import LeftOpen
from raystream.storage import loading
from raystream.subtask.alignment import Alignment
from raystream.subtask.chain import RunningChain
from raystream.subtask.handing_over import Resting, Restored
from raystream.subtask.inbox import Inbox
from raystream.subtask.keeping import Keeping
from raystream.subtask.splits import Splits
from raystream.testing.world import Faults

SEEDS_MAX = 500
PLANTED = {}


def planted(topology, sharp=None):
    """Note a bug, and in which shape of job, and under which blows, it matters."""

    def noted(plant):
        PLANTED[plant.__name__] = (topology, sharp, plant)
        return plant

    return noted


DEATHS = Faults(subtasks=3, coordinators=1, orphans=0, storage=0, jams=0)
STORMS = Faults(subtasks=0, coordinators=0, orphans=0, storage=3, jams=0)
JAMS = Faults(subtasks=2, coordinators=0, orphans=0, storage=0, jams=4)
MANY_JAMS = replace(JAMS, subtasks=3, jams=15)
ORPHANS = Faults(subtasks=0, coordinators=0, orphans=4, storage=0, jams=2)
CALM = Faults(subtasks=0, coordinators=0, orphans=0, storage=0, jams=0)
OFTEN = {"every": "500us", "timeout": "1s", "min_pause": "0s", "unaligned_after": None}
HASTY = OFTEN | {"timeout": "3ms", "tolerate_failures": 50}
DYING = Sharp(OFTEN, DEATHS)
STAYING = Sharp(OFTEN, replace(CALM, resizes=12, departures=2), lives=1, parallelism=(2, 3))
RESIZED = Sharp(OFTEN, replace(CALM, coordinators=2, resizes=4), lives=1)


@planted("union", DYING)
def channels_are_not_held_back(patch):
    patch.setattr(Alignment, "held", property(lambda self: []))


@planted("chain", DYING)
def the_position_kept_is_that_of_what_was_read_not_of_what_was_taken(patch):
    answer = Splits.answer

    def noted(self, polled):
        self._readings[polled.split].position = polled.position
        answer(self, polled)

    patch.setattr(Splits, "answer", noted)


@planted("chain", DYING)
def sinks_commit_before_the_checkpoint_is_in_the_log(patch):
    acked = Course.acked

    def hasty(self, subtask, ack):
        effects = acked(self, subtask, ack)
        if not any(isinstance(one, Append) for one in effects):
            return effects
        acks = self.checkpoints.under_way.acks
        orders = [Tell(s, Commit(ack.checkpoint_id, one.prepared)) for s, one in acks.items()]
        return [*effects, *orders]

    patch.setattr(Course, "acked", hasty)


@planted("chain", Sharp(HASTY, JAMS, parallelism=(1, 2)))
def a_checkpoint_that_is_given_up_takes_what_was_prepared_with_it(patch):
    give_up = Keeping.give_up

    def thorough(self, checkpoint_id):
        give_up(self, checkpoint_id)
        self._prepared.pop(checkpoint_id, None)

    patch.setattr(Keeping, "give_up", thorough)


@planted("chain", DYING)
def a_recovery_does_not_commit(patch):
    def forgetful(self, manifest):
        self._newest_durable = manifest.checkpoint_id
        return []

    patch.setattr(Checkpoints, "recover", forgetful)


@planted("two sinks", Sharp(OFTEN, MANY_JAMS, parallelism=(2, 2), steps_max=4_000))
def what_was_prepared_is_forgotten_before_it_is_visible(patch):
    durable = Checkpoints.durable

    def hasty(self, now_us):
        checkpoint_id = self.under_way.checkpoint_id
        effects = durable(self, now_us)
        return [*effects, *(Tell(s, Settled(checkpoint_id)) for s in self.commits.writers)]

    patch.setattr(Checkpoints, "durable", hasty)


@planted("chain", Sharp(OFTEN, STORMS))
def what_was_never_acked_is_not_thrown_away(patch):
    patch.setattr(Checkpoints, "closed", lambda self, subtask, prepared: None)


@planted("chain", Sharp(OFTEN, ORPHANS))
def an_older_coordinator_does_not_see_that_it_was_outrun(patch):
    append = vault.log.append

    def blind(store, number, entry):
        append(store, number, entry)
        return vault.log.Appended()

    patch.setattr(vault.log, "append", blind)


@planted("union", Sharp(OFTEN | {"unaligned_after": "0s"}, DEATHS, lives=1))
def rows_that_wait_before_an_unaligned_barrier_are_not_kept(patch):
    before = Inbox.before

    def careless(self, checkpoint_id, channels):
        return None if before(self, checkpoint_id, channels) is None else []

    patch.setattr(Inbox, "before", careless)


@planted("diamond")
def keyed_state_is_not_divided_by_key_group(patch):
    share = loading.share

    def careless(snapshots, index, parallelism, most):
        (first,) = snapshots[0]
        if first.share is Share.KEYED:
            return snapshots[index % len(snapshots)]
        return share(snapshots, index, parallelism, most)

    patch.setattr(loading, "share", careless)


# It fails on and on, at a cost that grows: the rest of a long life would show nothing new.
@planted("chain", replace(DYING, steps_max=5_000))
def the_number_of_a_checkpoint_is_used_again(patch):
    def careless(self):
        return 1 if self.manifest is None else self.manifest.checkpoint_id

    patch.setattr(Opening, "next_id", property(careless))


@planted("chain", Sharp(OFTEN, CALM, lives=4))
def splits_that_were_restored_are_shared_out_again(patch):
    patch.setattr(Assignment, "restored", lambda self, subtask, splits: None)


@planted("union", DYING)
def chunks_of_earlier_attempts_are_swept_though_they_are_needed(patch):
    sweep = vault.sweep_names
    patch.setattr(vault, "sweep_names", lambda names, _, attempt: sweep(names, (), attempt))


@planted("chain", Sharp(OFTEN, replace(DEATHS, words=20)))
def a_checkpoint_that_is_asked_for_twice_is_taken_twice(patch):
    take = Keeping.take

    def forgetful(self, *arguments):
        self._taken = 0
        return take(self, *arguments)

    patch.setattr(Keeping, "take", forgetful)


@planted("union", RESIZED)
def who_comes_back_forgets_the_size_that_was_asked_for(patch):
    patch.setattr(Moves, "recover", lambda self, plan, scale: plan)


@planted("union", RESIZED)
def the_log_does_not_say_which_size_an_attempt_has(patch):
    patch.setattr(Moves, "next_plan", lambda self, plan: self._taken.plan if self._taken else plan)


@planted("fetched", STAYING)
def operators_stay_open_though_rows_went_past_the_checkpoint(patch):
    def touched(self, _):
        return

    patch.setattr(RunningChain, "touched", property(lambda self: False, touched), raising=False)


@planted("fetched", STAYING)
def some_of_a_chain_stay_open_while_others_are_restored(patch):
    def take(self, plan, manifest):
        offered, self._offered = self._offered, None
        return frozenset() if offered is None else offered[2]

    patch.setattr(Staying, "take", take)
    patch.setattr(LeftOpen, "keep", lambda self, plan, chains: None)


@planted("fetched", STAYING)
def what_was_read_ahead_is_dropped_where_readers_stay_open(patch):
    restored = Resting.restored
    patch.setattr(Resting, "restored", lambda self: replace(restored(self), ahead=()))


@planted("fetched", STAYING)
def what_was_read_ahead_is_read_again_by_readers_that_are_opened_anew(patch):
    patch.setattr(Resting, "restored", _with_all)
    patch.setattr(Resting, "reading", lambda self, readers: self)


def _with_all(resting):
    head = resting.chain.nodes[0].uid
    beside = {head: resting.beside}
    return Restored(resting.checkpoint_id, beside, open=True, ahead=resting.ahead)


@planted("fetched", replace(STAYING, faults=replace(CALM, resizes=12, departures=2, jams=12)))
def a_poll_that_the_barrier_has_met_under_way_is_forgotten(patch):
    patch.setattr(Resting, "answered", lambda self, _: replace(self, awaited=self.awaited - 1))


def first_found(topology, sharp):
    """Give the first seed that something is wrong with."""
    for seed in range(SEEDS_MAX):
        try:
            live(topology, seed, sharp)
        except Exception:  # noqa: BLE001, PERF203  whatever a bug leads to
            return seed
    return None


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug, monkeypatch):
    topology, sharp, plant = PLANTED[bug]
    undisturbed(topology)
    plant(monkeypatch)
    seed = first_found(topology, sharp)
    assert seed is not None
    monkeypatch.undo()
    live(topology, seed, sharp)  # it was the bug, not the blows
