"""Each table is uploaded once, listed while it counts, and never lost by a failing store."""

from __future__ import annotations

import threading

import pytest
from uploaded import GROUPS, items_of, keyed, listed, manifest_of, subtask, values_of

from raystream.errors import ProtocolError, StorageError
from raystream.keyed.snapshot import Share
from raystream.storage.cache import Cache
from raystream.storage.loading import load
from raystream.storage.opening import open_store
from raystream.storage.uploads import Uploader

ME = subtask()


class Flaky:
    """A store whose puts fail while it is told so; ``deaf`` ones are heard, and not answered."""

    def __init__(self, store):
        self._store = store
        self.failing = False
        self.deaf = False

    def put(self, path, data):
        if self.failing:
            raise StorageError("no")
        self._store.put(path, data)
        if self.deaf:
            raise StorageError("no answer")

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.fixture
def root(tmp_path):
    return Flaky(open_store(str(tmp_path)))


@pytest.fixture
def uploader():
    return Uploader(ME, 3, GROUPS)


def restored(root, kept):
    return load(manifest_of({ME: kept}), root, kept, 0, 1)


def test_a_whole_and_its_deltas_are_one_object_each_and_all_are_listed(root, uploader):
    uploader.keep(1, root, {"op": (keyed({1: 10, 2: 20}),)})
    uploader.keep(2, root, {"op": (keyed({2: 21, 3: 30}, delta=True),)})
    kept = uploader.keep(3, root, {"op": (keyed({1: None}, delta=True),)})
    ((section,),) = kept.values()
    assert [part.chunk for part in section.parts] == [
        f"chunks/3-count-0-{seq}.arrow" for seq in range(3)
    ]
    assert root.list("chunks") == [part.chunk[7:] for part in section.parts]
    assert values_of(restored(root, kept)["op"]) == {2: 21, 3: 30}


def test_sections_of_all_operators_share_one_object(root, uploader):
    kept = uploader.keep(1, root, {"a": (keyed({1: 1}), listed([1])), "b": (listed([2]),), "c": ()})
    assert len(root.list("chunks")) == 1
    found = restored(root, kept)
    assert list(found) == ["a", "b", "c"]
    assert (items_of(found["a"]), items_of(found["b"]), found["c"]) == ([1], [2], ())


def test_a_new_whole_forgets_what_was_before(root, uploader):
    uploader.keep(1, root, {"op": (listed([1]),)})
    uploader.keep(2, root, {"op": (listed([2], delta=True),)})
    kept = uploader.keep(3, root, {"op": (listed([3, 4]),)})
    assert len(kept["op"][0].parts) == 1
    assert items_of(restored(root, kept)["op"]) == [3, 4]


def test_what_does_not_change_is_not_uploaded_again(root, uploader):
    first = uploader.keep(1, root, {"op": (listed([1]), keyed({1: 1}))})
    again = uploader.keep(2, root, {"op": (listed([1]), keyed({1: 2}))})
    assert again["op"][0].parts == first["op"][0].parts
    assert again["op"][1].parts != first["op"][1].parts
    assert uploader.keep(3, root, {"op": (listed([1]), keyed({1: 2}))}) == again
    assert len(root.list("chunks")) == 2


def test_no_part_is_listed_anew_that_the_last_checkpoint_had_left_out(root, uploader):
    """What the newest ack leaves out may be deleted: the same bytes need another object then."""
    first = uploader.keep(1, root, {"op": (listed([1]),)})
    uploader.keep(2, root, {"op": (listed([2]),)})
    third = uploader.keep(3, root, {"op": (listed([1]),)})
    assert third != first
    uploader.keep(4, root, {"op": ()})
    fifth = uploader.keep(5, root, {"op": (listed([1]),)})
    assert len({one["op"][0].parts for one in (first, third, fifth)}) == 3
    assert items_of(restored(root, fifth)["op"]) == [1]


def test_a_late_upload_of_an_old_barrier_does_not_bring_its_parts_back(root, uploader):
    first = uploader.keep(0, root, {"op": (listed([1]),)})
    late = uploader.freeze(1, {"op": (listed([2], delta=True),)})
    uploader.keep(2, root, {"op": (listed([3]),)})  # checkpoint 0 may be deleted now
    uploader.upload(late, root)
    fourth = uploader.keep(3, root, {"op": (listed([1]),)})
    assert fourth["op"][0].parts != first["op"][0].parts


def test_a_section_that_is_gone_takes_its_lineage_along(root, uploader):
    uploader.keep(1, root, {"op": (listed([1]),)})
    assert uploader.keep(2, root, {"op": ()}) == {"op": ()}
    assert uploader.keep(3, root, {}) == {}
    with pytest.raises(ProtocolError, match="no whole one"):
        uploader.keep(4, root, {"op": (listed([2], delta=True),)})


def test_a_failed_upload_loses_nothing_and_the_next_one_has_it(root, uploader):
    uploader.keep(1, root, {"op": (keyed({1: 10}),)})
    root.failing = True
    with pytest.raises(StorageError):
        uploader.keep(2, root, {"op": (keyed({2: 20}, delta=True),)})
    with pytest.raises(StorageError):
        uploader.keep(3, root, {"op": (keyed({3: 30}, delta=True),)})
    root.failing = False
    kept = uploader.keep(4, root, {"op": (keyed({1: None}, delta=True),)})
    assert values_of(restored(root, kept)["op"]) == {2: 20, 3: 30}
    chunks = [part.chunk for part in kept["op"][0].parts]
    assert len(chunks) == 4
    assert len(set(chunks)) == 2, "what waited is in one object"


def test_an_upload_may_be_repeated_and_no_name_is_written_twice(root, uploader):
    frozen = uploader.freeze(1, {"op": (keyed({1: 10}),)})
    root.deaf = True
    with pytest.raises(StorageError):
        uploader.upload(frozen, root)
    root.deaf = False
    kept = uploader.upload(frozen, root)
    assert uploader.upload(frozen, root) == kept
    assert root.list("chunks") == ["3-count-0-0.arrow", "3-count-0-1.arrow"]
    assert kept["op"][0].parts[0].chunk == "chunks/3-count-0-1.arrow"


def test_what_was_frozen_does_not_change_with_what_comes_after(root, uploader):
    frozen = uploader.freeze(1, {"op": (keyed({1: 10}),)})
    later = uploader.freeze(2, {"op": (keyed({1: 11}, delta=True),)})
    replaced = uploader.freeze(3, {"op": (keyed({9: 9}),)})
    assert values_of(restored(root, uploader.upload(later, root))["op"]) == {1: 11}
    assert values_of(restored(root, uploader.upload(frozen, root))["op"]) == {1: 10}
    assert values_of(restored(root, uploader.upload(replaced, root))["op"]) == {9: 9}


def test_uploads_of_several_threads_upload_each_table_once(root, uploader):
    frozen = [uploader.freeze(0, {"op": (listed([0]),)})]
    frozen += [uploader.freeze(n, {"op": (listed([n], delta=True),)}) for n in range(1, 8)]
    results = {}

    def upload(number):
        results[number] = uploader.upload(frozen[number], root)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, kept in results.items():
        assert items_of(restored(root, kept)["op"]) == list(range(number + 1))
        assert kept["op"][0].parts == results[7]["op"][0].parts[: number + 1]


def test_a_savepoint_is_complete_in_its_own_root_and_disturbs_no_lineage(root, uploader, tmp_path):
    other = open_store(str(tmp_path / "savepoint"))
    uploader.keep(1, root, {"op": (keyed({1: 10}),)})
    frozen = uploader.freeze(2, {"op": (keyed({1: 10, 2: 20}),)}, whole=True)
    after = uploader.keep(3, root, {"op": (keyed({3: 30}, delta=True),)})
    kept = uploader.upload(frozen, other)
    assert len(kept["op"][0].parts) == len(other.list("chunks")) == 1
    assert values_of(restored(other, kept)["op"]) == {1: 10, 2: 20}
    assert values_of(restored(root, after)["op"]) == {1: 10, 3: 30}
    with pytest.raises(ProtocolError):
        uploader.freeze(4, {"op": (keyed({1: 1}, delta=True),)}, whole=True)


def test_rows_of_other_subtasks_keys_are_refused(root):
    uploader = Uploader(subtask(0, 2), 0, GROUPS)
    with pytest.raises(ProtocolError, match="key groups"):
        uploader.freeze(1, {"op": (keyed(dict.fromkeys(range(50), 1)),)})


def test_a_delta_of_another_kind_is_refused(root, uploader):
    uploader.keep(1, root, {"op": (listed([1]),)})
    with pytest.raises(ProtocolError):
        uploader.keep(2, root, {"op": (listed([1], Share.UNION, delta=True),)})


def test_the_cache_gets_a_copy_of_what_the_store_has(root, tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    uploader = Uploader(ME, 0, GROUPS, cache=cache)
    kept = uploader.keep(1, root, {"op": (listed([1, 2]),)})
    (part,) = kept["op"][0].parts
    stored = root.get(part.chunk)
    assert cache.read(root.url, part.chunk, 0, len(stored)) == stored
