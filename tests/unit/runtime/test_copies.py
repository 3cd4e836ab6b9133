"""What a subtask hands over of its snapshot, and where the next one reads it."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import pytest
from plans import KeepingSink, two_chains
from uploaded import keyed, values_of

from raystream.flow.exchange import ToOne
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest
from raystream.runtime.vault import Home, Keeper, Vault
from raystream.storage.cache import Cache
from raystream.subtask.events import Keep

ME = SubtaskId("write", 0, 1)
PLAN = replace(two_chains(ToOne(), KeepingSink()), max_parallelism=16)


class Handed:
    """What was handed over, and whether it was asked for."""

    name = "who came before"

    def __init__(self, chunks):
        self._chunks = dict(chunks)
        self.asked = Counter()

    def read(self, root, chunk, start, length):
        self.asked[chunk] += 1
        data = self._chunks.get(chunk)
        return None if data is None else data[start : start + length]


def vault(tmp_path, node="node"):
    made = Vault(PLAN, Home(str(tmp_path / "root"), "1"))
    made.cache = Cache(str(tmp_path / node))
    return made


def stored(keeper, checkpoint_id, values, *, delta=True):
    section = keyed(values, delta=delta)
    return keeper.freeze(Keep(checkpoint_id, "", {"w": (section,)}, ()))()


@pytest.fixture
def lineage(tmp_path):
    """A whole table, and what changed twice behind it, each in a chunk of its own."""
    keeper = Keeper(vault(tmp_path), PLAN, ME, 1)
    stored(keeper, 1, {1: 1, 2: 2}, delta=False)
    stored(keeper, 2, {2: 20})
    return keeper, stored(keeper, 3, {3: 30})


def chunk(number):
    return f"chunks/1-write-0-{number}.arrow"


def restored(tmp_path, snapshot, handed, node="node"):
    manifest = Manifest("job", 3, 1, 16, 0, False, (), (snapshot,))
    keeper = Keeper(vault(tmp_path, node), PLAN, ME, 2)
    return values_of(keeper.restore(manifest, "manifest-1-3.json", handed).operators["w"])


def test_all_chunks_that_a_snapshot_names_are_handed_over_also_those_of_earlier_ones(
    tmp_path, lineage
):
    keeper, snapshot = lineage
    copies = dict(keeper.copies(snapshot, 10**9))
    assert list(copies) == [chunk(number) for number in range(3)]
    root = vault(tmp_path).store
    assert copies == {name: root.get(name) for name in copies}


def test_what_is_more_than_the_limit_and_what_the_node_has_lost_is_left_out(tmp_path, lineage):
    keeper, snapshot = lineage
    sizes = {name: len(data) for name, data in keeper.copies(snapshot, 10**9)}
    room = sizes[chunk(0)] + sizes[chunk(1)]
    assert [name for name, _ in keeper.copies(snapshot, room)] == [chunk(0), chunk(1)]
    assert list(keeper.copies(snapshot, min(sizes.values()) - 1)) == []
    (lost,) = (tmp_path / "node").glob("*/chunks-1-write-0-0.arrow")
    lost.unlink()
    assert [name for name, _ in keeper.copies(snapshot, 10**9)] == [chunk(1), chunk(2)]


def test_a_job_without_checkpoints_hands_over_nothing(lineage):
    _, snapshot = lineage
    assert list(Keeper(Vault(PLAN, None), PLAN, ME, 1).copies(snapshot, 10**9)) == []


def test_what_was_handed_over_is_asked_first_then_the_node_then_the_store(
    tmp_path, lineage, caplog
):
    keeper, snapshot = lineage
    copies = dict(keeper.copies(snapshot, 10**9))
    (lost,) = (tmp_path / "node").glob("*/chunks-1-write-0-2.arrow")
    lost.unlink()
    handed = Handed({chunk(0): copies[chunk(0)], chunk(1): b"something else"})
    with caplog.at_level(logging.INFO, "raystream"):
        assert restored(tmp_path, snapshot, handed) == {1: 1, 2: 20, 3: 30}
    assert handed.asked == {chunk(number): 1 for number in range(3)}
    (told,) = caplog.messages
    assert told == (
        f"checkpoint 3 is read: {len(copies[chunk(0)]):,} bytes from who came before, "
        f"{len(copies[chunk(1)]):,} bytes from this node, "
        f"{len(copies[chunk(2)]):,} bytes from the store"
    )


def test_on_another_node_what_was_handed_over_is_all_that_is_read(tmp_path, lineage, caplog):
    keeper, snapshot = lineage
    handed = Handed(keeper.copies(snapshot, 10**9))
    with caplog.at_level(logging.INFO, "raystream"):
        assert restored(tmp_path, snapshot, handed, "other") == {1: 1, 2: 20, 3: 30}
    assert "store" not in caplog.text
