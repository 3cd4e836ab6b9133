"""A simulator that finds nothing proves nothing: bugs are planted, and must be found soon."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runs import live, undisturbed

from raystream.coordinator.assignment import Assignment
from raystream.coordinator.checkpoints import Checkpoints
from raystream.coordinator.course import Course
from raystream.coordinator.events import Append, Tell
from raystream.coordinator.opening import Opening
from raystream.errors import StorageError
from raystream.flow.messages import Commit, Settled
from raystream.keyed.snapshot import Share
from raystream.runtime import vault
from raystream.storage import loading
from raystream.storage.uploads import Uploader
from raystream.subtask.alignment import Alignment
from raystream.subtask.inbox import Inbox
from raystream.subtask.keeping import Keeping
from raystream.subtask.machine import SubtaskMachine
from raystream.subtask.splits import Splits

SEEDS_MAX = 500
PLANTED = {}


def planted(topology):
    """Note a bug, and a shape of job in which it matters."""

    def noted(plant):
        PLANTED[plant.__name__] = (topology, plant)
        return plant

    return noted


@planted("union")
def channels_are_not_held_back(patch):
    patch.setattr(Alignment, "held", property(lambda self: []))


@planted("union")
def a_channel_that_has_ended_is_waited_for(patch):
    patch.setattr(Alignment, "finish", lambda self, channel: None)


@planted("chain")
def the_position_kept_is_that_of_what_was_read_not_of_what_was_taken(patch):
    came = SubtaskMachine._came

    def noted(self, polled):
        self._splits._readings[polled.split].position = polled.position
        came(self, polled)

    patch.setattr(SubtaskMachine, "_came", noted)
    patch.setattr(Splits, "begin", lambda self, polled: None)


@planted("chain")
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


@planted("chain")
def a_checkpoint_that_is_given_up_takes_what_was_prepared_with_it(patch):
    give_up = Keeping.give_up

    def thorough(self, checkpoint_id):
        give_up(self, checkpoint_id)
        self._prepared.pop(checkpoint_id, None)

    patch.setattr(Keeping, "give_up", thorough)


@planted("chain")
def a_recovery_does_not_commit(patch):
    def forgetful(self, manifest):
        self._newest_durable = manifest.checkpoint_id
        return []

    patch.setattr(Checkpoints, "recover", forgetful)


@planted("chain")
def what_was_prepared_is_forgotten_before_it_is_visible(patch):
    durable = Checkpoints.durable

    def hasty(self, now_us):
        checkpoint_id = self.under_way.checkpoint_id
        effects = durable(self, now_us)
        return [*effects, *(Tell(s, Settled(checkpoint_id)) for s in self.commits.writers)]

    patch.setattr(Checkpoints, "durable", hasty)


@planted("chain")
def what_is_thrown_away_may_be_durable(patch):
    def thorough(self):
        return tuple(one for some in self.newest.values() for one in some.prepared)

    patch.setattr(Checkpoints, "undone", thorough)


@planted("chain")
def what_was_never_acked_is_not_thrown_away(patch):
    patch.setattr(Checkpoints, "closed", lambda self, subtask, prepared: None)


@planted("chain")
def an_older_coordinator_does_not_see_that_it_was_outrun(patch):
    append = vault.log.append

    def blind(store, number, entry):
        append(store, number, entry)
        return vault.log.Appended()

    patch.setattr(vault.log, "append", blind)


@planted("union")
def a_failed_upload_takes_its_deltas_with_it(patch):
    put = Uploader._put_pending

    def careless(self, frozen, store):
        try:
            put(self, frozen, store)
        except StorageError:
            for place, one in self._lineages.items():
                first, *deltas = one.pieces
                left = (first, *(piece for piece in deltas if piece.part is not None))
                self._lineages[place] = replace(one, pieces=left)
            raise

    patch.setattr(Uploader, "_put_pending", careless)


@planted("union")
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


@planted("chain")
def the_number_of_a_checkpoint_is_used_again(patch):
    def careless(self):
        return 1 if self.manifest is None else self.manifest.checkpoint_id + 1

    patch.setattr(Opening, "next_id", property(careless))


@planted("chain")
def splits_that_were_restored_are_shared_out_again(patch):
    patch.setattr(Assignment, "restored", lambda self, subtask, splits: None)


@planted("union")
def chunks_that_the_newest_acks_name_are_deleted(patch):
    patch.setattr(Checkpoints, "live_parts", property(lambda self: ()))


@planted("union")
def chunks_of_earlier_attempts_are_swept_though_they_are_needed(patch):
    sweep = vault.sweep_names
    patch.setattr(vault, "sweep_names", lambda names, _, attempt: sweep(names, (), attempt))


def first_found(topology):
    """Give the first seed that something is wrong with, and what."""
    for seed in range(SEEDS_MAX):
        try:
            live(topology, seed)
        except Exception as error:  # whatever a bug leads to
            return seed, error
    return None


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug, monkeypatch):
    topology, plant = PLANTED[bug]
    undisturbed(topology)
    plant(monkeypatch)
    assert first_found(topology) is not None
