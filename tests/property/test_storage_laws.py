"""What subtasks kept is what the next ones restore, through failures, deletions and rescaling."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uploaded import GROUPS, items_of, keyed, listed, manifest_of, subtask, values_of

from raystream.errors import CorruptSnapshot, StorageError
from raystream.flow.hashing import hash_objects
from raystream.flow.keygroup import key_groups, subtask_of
from raystream.keyed.snapshot import Share, share
from raystream.storage.loading import load
from raystream.storage.retention import retired_names
from raystream.storage.uploads import Uploader

ME = subtask()


class Memory:
    """A store without a filesystem, whose puts may fail before or after they are heard."""

    url = "memory://laws"

    def __init__(self):
        self.objects = {}
        self.fails = ""

    def put(self, path, data):
        assert path not in self.objects, "no name is written twice"
        if self.fails != "before":
            self.objects[path] = data
        if self.fails:
            raise StorageError(self.fails)

    def get(self, path, start=0, length=None):
        return self.objects[path][start:][:length]

    def delete(self, paths):
        for path in paths:
            del self.objects[path]


changes = st.dictionaries(st.integers(0, 5), st.integers(1, 3) | st.none(), max_size=3)
events = st.one_of(
    # A barrier, or a checkpoint without trouble: what the keyed section says, and the other one.
    st.tuples(
        st.sampled_from(["freeze", "checkpoint"]),
        st.sampled_from(["whole", "delta", "absent"]),
        changes,
        st.sampled_from(["same", "more", "new", "absent"]),
    ),
    # An upload of the newest barrier, or late of one before; its ack may be lost, or heard while
    # another subtask lets the checkpoint fail.
    st.tuples(
        st.just("upload"),
        st.integers(0, 2),
        st.sampled_from(["", "", "", "before", "after"]),
        st.sampled_from(["complete", "complete", "failed", "lost"]),
    ),
)


class Life:
    """One subtask and a coordinator that keeps the last checkpoints."""

    def __init__(self, keep):
        self.store = Memory()
        self.uploader = Uploader(ME, 0, GROUPS)
        self.keep = keep
        self.values = None
        self.items = None
        self.frozen = []
        self.acked = ()
        self.acked_id = -1
        self.kept = []

    def freeze(self, how, changed, other):
        sections = []
        if how == "absent":
            self.values = None
        elif how == "whole" or self.values is None:
            self.values = {key: value for key, value in changed.items() if value}
            sections.append(keyed(self.values))
        else:
            merged = {**self.values, **changed}
            self.values = {key: value for key, value in merged.items() if value}
            sections.append(keyed(changed, delta=True))
        if other == "absent":
            self.items = None
        elif other == "more" and self.items is not None:
            self.items = [*self.items, len(self.items)]
            sections.append(listed(self.items[-1:], delta=True))
        else:
            self.items = self.items if other == "same" and self.items else [0]
            sections.append(listed(self.items))
        checkpoint_id = len(self.frozen)
        frozen = self.uploader.freeze(checkpoint_id, {"op": tuple(sections)})
        self.frozen.append((frozen, self.values, self.items))

    def checkpoint(self, *kept):
        self.freeze(*kept)
        self.upload(0, "", "complete")

    def upload(self, back, fails, ack):
        if back >= len(self.frozen):
            return
        frozen, *expected = self.frozen[-1 - back]
        self.store.fails = fails
        with contextlib.suppress(StorageError):
            kept = self.uploader.upload(frozen, self.store)
            # An ack of a checkpoint that has been superseded is not used.
            if ack != "lost" and frozen.checkpoint_id > self.acked_id:
                manifest = manifest_of({ME: kept}, checkpoint_id=frozen.checkpoint_id)
                self.acked_id = frozen.checkpoint_id
                self.acked = manifest.subtasks[0].parts
                if ack == "complete":
                    self.complete(manifest, expected)

    def complete(self, manifest, expected):
        self.kept.append((manifest, expected))
        retired = self.kept[: -self.keep]
        self.kept = self.kept[-self.keep :]
        of = [manifest for manifest, _ in retired]
        self.store.delete(retired_names([one for one, _ in self.kept], of, self.acked))

    def check(self):
        for manifest, (values, items) in self.kept:
            snapshot = load(manifest, self.store, ["op"], 0, 1)["op"]
            names = [one.name for one in snapshot]
            assert names == ["keys"] * (values is not None) + ["items"] * (items is not None)
            if values is not None:
                assert values_of(snapshot) == values
            if items is not None:
                assert items_of(snapshot) == items


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(events, max_size=14), st.integers(1, 2))
def test_every_kept_checkpoint_restores_whatever_failed_and_was_deleted(happened, keep):
    life = Life(keep)
    for what, *how in happened:
        getattr(life, what)(*how)
        life.check()


@pytest.mark.slow
@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_loading_a_share_is_sharing_all_that_was_kept(data, before, after):
    store = Memory()
    values = data.draw(st.dictionaries(st.integers(0, 60), st.integers(1, 9), max_size=30))
    owner = subtask_of(key_groups(hash_objects(list(values)), GROUPS), before, GROUPS)
    held = [{} for _ in range(before)]
    for (key, value), index in zip(values.items(), owner if values else [], strict=True):
        held[index][key] = value
    uploaders = [Uploader(subtask(index, before), 0, GROUPS) for index in range(before)]
    ways = [Share.SPLIT, Share.UNION, Share.BROADCAST]
    last = []
    for index, uploader in enumerate(uploaders):
        mine = tuple(
            listed(data.draw(st.lists(st.integers(0, 9), max_size=3)), way, name=way.value)
            for way in ways
        )
        first = dict(list(held[index].items())[::2])
        uploader.keep(1, store, {"op": (keyed(first), *mine)})
        sections = {"op": (keyed(held[index], delta=True), *mine)}
        last.append((uploader.keep(2, store, sections), (keyed(held[index]), *mine)))
    manifest = manifest_of({subtask(i, before): kept for i, (kept, _) in enumerate(last)})
    whole = [snapshot for _, snapshot in last]
    found: Counter[tuple[int, int]] = Counter()
    for index in range(after):
        expected = share(whole, index, after, GROUPS)
        restored = load(manifest, store, ["op"], index, after)["op"]
        assert [one.name for one in restored] == [one.name for one in expected]
        found.update(values_of(restored).items())
        assert values_of(restored) == values_of(expected)
        for one, other in zip(restored[1:], expected[1:], strict=True):
            assert one.share is other.share
            assert one.table.equals(other.table)
        groups = restored[0].table.column(0).to_pylist()
        assert groups == sorted(groups)
    assert found == Counter(values.items())


def test_sections_of_two_kinds_under_one_name_are_refused():
    store = Memory()
    kept = {
        subtask(index, 2): Uploader(subtask(index, 2), 0, GROUPS).keep(1, store, {"op": (one,)})
        for index, one in enumerate([listed([1]), listed([2], Share.UNION)])
    }
    with pytest.raises(CorruptSnapshot, match="different ways"):
        load(manifest_of(kept), store, ["op"], 0, 2)
