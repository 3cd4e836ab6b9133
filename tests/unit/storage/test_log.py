"""The log decides between two coordinators, also where replies are lost."""

from __future__ import annotations

import pytest

from raystream.errors import CorruptSnapshot, StorageError
from raystream.flow.snapshots import AttemptEntry, CheckpointEntry, EndedEntry, SavepointEntry
from raystream.storage.codec import decode_entry, encode_entry
from raystream.storage.layout import log_path
from raystream.storage.log import Appended, Numbered, Outrun, append, read_log
from raystream.storage.opening import open_store
from raystream.storage.store import Created

FIRST = AttemptEntry(0, "ada", splits={"source": b"\x00\xff"}, at_us=1)
ENTRIES = [
    FIRST,
    CheckpointEntry(1, 0, "manifest-0-1.json", at_us=2),
    SavepointEntry(2, 0, "s3://bucket/save/manifest.json", at_us=3),
    AttemptEntry(1, "bob", 5, "manifest-0-1.json", at_us=4),
    EndedEntry(1, "finished", at_us=5),
]


@pytest.fixture
def root(tmp_path):
    return open_store(str(tmp_path))


def test_entries_are_read_in_order_with_their_numbers(root):
    assert read_log(root).next_number == 0
    for number, entry in enumerate(ENTRIES):
        assert append(root, number, entry) == Appended()
    log = read_log(root)
    assert log.entries == tuple(Numbered(*one) for one in enumerate(ENTRIES))
    assert log.next_number == 5


def test_pruned_entries_leave_gaps_and_the_next_number_is_behind_the_last(root):
    for number, entry in enumerate(ENTRIES):
        append(root, number, entry)
    root.delete([log_path(1)])
    root.put("log/notes.txt", b"")
    root.put(log_path(7) + ".3f.tmp", b"half")
    log = read_log(root)
    assert [one.number for one in log.entries] == [0, 2, 3, 4]
    assert log.next_number == 5


def test_who_comes_second_learns_what_the_first_wrote(root):
    append(root, 0, FIRST)
    theirs = AttemptEntry(1, "bob")
    assert append(root, 1, theirs) == Appended()
    assert append(root, 1, CheckpointEntry(1, 0, "manifest-0-1.json")) == Outrun(theirs)
    assert append(root, 1, AttemptEntry(1, "ada")) == Outrun(theirs)


class LosesReplies:
    """A store that does what it is told and then fails to say so, once."""

    def __init__(self, store):
        self._store = store
        self._lost = False

    def create(self, path, data):
        result = self._store.create(path, data)
        if not self._lost:
            self._lost = True
            raise StorageError("no reply")
        return result

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_repeated_append_finds_its_own_entry(root):
    flaky = LosesReplies(root)
    with pytest.raises(StorageError):
        append(flaky, 0, FIRST)
    assert append(flaky, 0, FIRST) == Appended()
    assert read_log(root).entries == (Numbered(0, FIRST),)


def test_a_damaged_entry_is_told_by_its_path(root):
    append(root, 0, FIRST)
    root.put(log_path(1), encode_entry(FIRST)[:-3])
    for read in (lambda: read_log(root), lambda: append(root, 1, FIRST)):
        with pytest.raises(CorruptSnapshot, match="0000000001.json"):
            read()


def test_an_entry_of_a_newer_release_is_told_so():
    data = encode_entry(FIRST).replace(b'"format":1', b'"format":2')
    with pytest.raises(StorageError, match="newer release") as caught:
        decode_entry(data, "log/0000000000.json")
    assert "upgrade raystream" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (b'"at_us":1', b'"at_us":"1"', "at_us"),
        (b'"at_us":1', b'"at_us":true', "at_us"),
        (b'"at_us":1', b'"at_us":1.5', "at_us"),
        (b'"attempt":0', b'"attempt":-1', "attempt"),
        (b'"attempt":0', b'"attempt":99999999999999999999', "attempt"),
        (b'"by":"ada",', b"", "by"),
        (b'"kind":"attempt"', b'"kind":"party"', "kind"),
        (b'"AP8="', b'"AP8"', "splits.source"),
        (b'"format":1', b'"format":0', "format"),
        (b'"format":1,', b"", "format"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told_by_its_field(field, value, said):
    data = encode_entry(FIRST)
    assert field in data
    with pytest.raises(CorruptSnapshot, match=said):
        decode_entry(data.replace(field, value), "here")


def test_a_sixteenth_entry_has_a_name_that_sorts_behind_the_second(root):
    for number in range(16):
        assert root.create(log_path(number), encode_entry(FIRST)) == Created()
    assert root.list("log") == [log_path(number)[4:] for number in range(16)]
