"""Manifests and log entries come back as they were; anything else is refused in two words."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raystream.errors import CorruptSnapshot, StorageError
from raystream.flow.control import Rescaling
from raystream.flow.ids import SubtaskId
from raystream.flow.past import Failure, Past, StateChange
from raystream.flow.snapshots import (
    AttemptEntry,
    CheckpointEntry,
    EndedEntry,
    Kept,
    Manifest,
    OperatorEntry,
    Part,
    SavepointEntry,
    SubtaskSnapshot,
)
from raystream.keyed.snapshot import Share
from raystream.storage.codec import (
    decode_entry,
    decode_manifest,
    encode_entry,
    encode_manifest,
)

texts = st.text(max_size=6)
counts = st.integers(0, 2**62)
times = st.integers(-(2**62), 2**62)
secrets = st.dictionaries(texts, st.binary(max_size=6), max_size=2)
paths = st.from_regex(r"chunks/[a-z0-9-]{1,8}\.arrow", fullmatch=True)
parts = st.builds(Part, paths, counts, counts, st.from_regex("[0-9a-f]{8}", fullmatch=True), counts)
part_lists = st.lists(parts, min_size=1, max_size=2).map(tuple)
text_lists = st.lists(texts, max_size=2).map(tuple)
shares = st.sampled_from([share.value for share in Share])
kept = st.lists(st.builds(Kept, texts, shares, text_lists, part_lists), max_size=2).map(tuple)
subtasks = st.builds(
    SubtaskSnapshot,
    st.builds(SubtaskId, texts, st.integers(0, 3), st.integers(4, 8)),
    st.dictionaries(texts, kept, max_size=2),
    st.lists(st.tuples(counts, secrets), max_size=2).map(tuple),
    text_lists,
)
operators = st.builds(OperatorEntry, texts, texts, texts, st.booleans())
manifests = st.builds(
    Manifest,
    texts,
    counts,
    counts,
    st.integers(8, 128),
    times,
    st.booleans(),
    st.lists(operators, max_size=2).map(tuple),
    st.lists(subtasks, max_size=2).map(tuple),
)
sizes = st.dictionaries(texts, counts, max_size=2)
pasts = st.builds(
    Past,
    counts,
    counts,
    counts,
    counts,
    counts,
    counts,
    st.booleans(),
    st.lists(st.builds(Failure, times, counts, texts, texts, texts, texts, texts), max_size=2).map(
        tuple
    ),
    st.lists(st.builds(StateChange, times, counts, texts, texts), max_size=2).map(tuple),
    st.lists(
        st.builds(Rescaling, times, texts, sizes, sizes, texts, st.none() | counts), max_size=2
    ).map(tuple),
)
entries = st.one_of(
    st.builds(AttemptEntry, counts, texts, times, texts, secrets, times, scale=sizes, past=pasts),
    st.builds(CheckpointEntry, counts, counts, texts, times, past=pasts),
    st.builds(SavepointEntry, counts, counts, texts, times),
    st.builds(EndedEntry, counts, texts, times),
)


@pytest.mark.slow
@given(manifests)
def test_a_manifest_comes_back_with_the_same_bytes(manifest):
    data = encode_manifest(manifest)
    assert decode_manifest(data, "here") == manifest
    assert encode_manifest(decode_manifest(data, "here")) == data


@given(entries)
def test_an_entry_comes_back_with_the_same_bytes(entry):
    data = encode_entry(entry)
    assert decode_entry(data, "here") == entry
    assert encode_entry(decode_entry(data, "here")) == data


@given(st.dictionaries(texts, st.binary(max_size=3), min_size=2, max_size=4))
def test_the_order_of_names_does_not_show(splits):
    turned = dict(reversed(splits.items()))
    assert encode_entry(AttemptEntry(0, "a", splits=splits)) == encode_entry(
        AttemptEntry(0, "a", splits=turned)
    )


def refused_or_read(read, data):
    with contextlib.suppress(CorruptSnapshot, StorageError):
        read(data, "here")


def mutated(draw, data: bytes) -> bytes:
    """Cut, change, insert: some bytes of JSON's own, so that documents stay documents."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        upto = min(len(data), at + draw(st.integers(0, 6)))
        pieces = [b"", b"0", b"-1", b'"', b"{}", b"[]", b"null", b"true", b"1e999", b"NaN", b"\xff"]
        data = data[:at] + draw(st.sampled_from(pieces) | st.binary(max_size=3)) + data[upto:]
    return data


@pytest.mark.slow
@given(st.data(), manifests)
def test_a_mutated_manifest_is_read_or_refused(data, manifest):
    refused_or_read(decode_manifest, mutated(data.draw, encode_manifest(manifest)))


@pytest.mark.slow
@given(st.data(), entries)
def test_a_mutated_entry_is_read_or_refused(data, entry):
    refused_or_read(decode_entry, mutated(data.draw, encode_entry(entry)))


@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode())
)
@example(b"[" * 100_000)
@example(b'{"format":' + b"9" * 5_000 + b"}")
@example(b'{"format":Infinity}')
def test_noise_is_refused(data):
    for read in (decode_manifest, decode_entry):
        with pytest.raises((CorruptSnapshot, StorageError)):
            read(data, "here")


@pytest.mark.slow
@given(manifests, st.sampled_from(["../x", "/etc/x", "a//b", "", "a/../../b", "."]))
def test_no_manifest_reaches_outside_of_its_root(manifest, path):
    there = Kept("n", "union", (), (Part(path, 0, 1, "", 0),))
    outside = SubtaskSnapshot(SubtaskId("c", 0, 1), {"o": (there,)})
    forged = Manifest(
        manifest.job, 1, 0, 8, 0, manifest.savepoint, (), (*manifest.subtasks, outside)
    )
    with pytest.raises(CorruptSnapshot, match="inside of its folder"):
        decode_manifest(encode_manifest(forged), "here")


@given(st.sampled_from([b"7", b"[]", b"null", b'{"restarts":-1}', b'{"failures":[{}]}']), pasts)
def test_a_past_that_cannot_be_read_is_none_and_the_entry_counts(broken, past):
    entry = CheckpointEntry(3, 1, "manifest-1-3.json", 5, past=past)
    fields = json.loads(encode_entry(entry)) | {"past": json.loads(broken)}
    read = decode_entry(json.dumps(fields).encode(), "here")
    assert read == CheckpointEntry(3, 1, "manifest-1-3.json", 5)
