"""Manifests and log entries as JSON, and back: the same value has the same bytes, always.

What is read may have been written by another release, cut short, or edited by hand: every field is
looked at before it is believed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from typing_extensions import assert_never

from raystream.errors import CorruptSnapshot, StorageError
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import (
    FORMAT,
    AttemptEntry,
    CheckpointEntry,
    EndedEntry,
    Entry,
    Kept,
    Manifest,
    OperatorEntry,
    Part,
    SavepointEntry,
    SubtaskSnapshot,
)
from raystream.keyed.snapshot import Share
from raystream.storage.json_fields import Fields
from raystream.storage.past_fields import past_fields, read_past

T = TypeVar("T")

_SHARES = frozenset(share.value for share in Share)


def encode_entry(entry: Entry) -> bytes:
    """Give the bytes of a log entry."""
    fields: dict[str, Any]
    match entry:
        case AttemptEntry():
            fields = {
                "kind": "attempt",
                "by": entry.by,
                "born_us": entry.born_us,
                "source": entry.source,
                "splits": _texts(entry.splits),
                **({"scale": dict(entry.scale)} if entry.scale else {}),
                **past_fields(entry.past),
            }
        case CheckpointEntry() | SavepointEntry():
            fields = {
                "kind": "checkpoint" if isinstance(entry, CheckpointEntry) else "savepoint",
                "checkpoint_id": entry.checkpoint_id,
                "manifest": entry.manifest,
                **(past_fields(entry.past) if isinstance(entry, CheckpointEntry) else {}),
            }
        case EndedEntry():
            fields = {"kind": "ended", "status": entry.status}
        case _:
            assert_never(entry)
    more = {"format": entry.format, "attempt": entry.attempt, "at_us": entry.at_us}
    return _canonical({**fields, **more})


def decode_entry(data: bytes, url: str) -> Entry:
    """Read a log entry that came from ``url``.

    Raises: StorageError if a newer release wrote it; CorruptSnapshot if it cannot be read.
    """
    fields = _document(data, url, "log entry")
    attempt, at_us = fields.count("attempt"), fields.number("at_us")
    written = fields.count("format")
    match fields.text("kind"):
        case "attempt":
            splits = fields.mapping("splits", Fields.binary)
            by, born_us = fields.text("by"), fields.number("born_us")
            # Logs of jobs that nobody has rescaled do not speak of it.
            scale = fields.mapping("scale", Fields.count) if fields.has("scale") else {}
            source = fields.text("source")
            past = read_past(fields)
            return AttemptEntry(attempt, by, born_us, source, splits, at_us, written, scale, past)
        case "checkpoint":
            checkpoint_id, manifest = fields.count("checkpoint_id"), fields.text("manifest")
            past = read_past(fields)
            return CheckpointEntry(checkpoint_id, attempt, manifest, at_us, written, past)
        case "savepoint":
            checkpoint_id, manifest = fields.count("checkpoint_id"), fields.text("manifest")
            return SavepointEntry(checkpoint_id, attempt, manifest, at_us, written)
        case "ended":
            return EndedEntry(attempt, fields.text("status"), at_us, written)
        case kind:
            raise fields.broken("kind", f"one of attempt, checkpoint, savepoint, ended; not {kind}")


def encode_manifest(manifest: Manifest) -> bytes:
    """Give the bytes of a manifest."""
    return _canonical(
        {
            "kind": "manifest",
            "format": manifest.format,
            "job": manifest.job,
            "checkpoint_id": manifest.checkpoint_id,
            "attempt": manifest.attempt,
            "max_parallelism": manifest.max_parallelism,
            "taken_us": manifest.taken_us,
            "savepoint": manifest.savepoint,
            "operators": [
                {"uid": one.uid, "name": one.name, "verb": one.verb, "stateful": one.stateful}
                for one in manifest.operators
            ],
            "subtasks": [_subtask(one) for one in manifest.subtasks],
        }
    )


def decode_manifest(data: bytes, url: str) -> Manifest:
    """Read a manifest that came from ``url``.

    Raises: StorageError if a newer release wrote it; CorruptSnapshot if it cannot be read.
    """
    fields = _document(data, url, "manifest")
    if fields.text("kind") != "manifest":
        raise fields.broken("kind", "manifest")
    manifest = Manifest(
        job=fields.text("job"),
        checkpoint_id=fields.count("checkpoint_id"),
        attempt=fields.count("attempt"),
        max_parallelism=fields.count("max_parallelism"),
        taken_us=fields.number("taken_us"),
        savepoint=fields.flag("savepoint"),
        operators=fields.items("operators", _read_operator),
        subtasks=fields.items("subtasks", _read_subtask),
        format=fields.count("format"),
    )
    for one in manifest.subtasks:
        subtask = one.subtask
        if not subtask.index < subtask.parallelism <= manifest.max_parallelism:
            raise fields.broken(
                "subtasks", f"index < parallelism <= max_parallelism; not {subtask}"
            )
    return manifest


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _document(data: bytes, url: str, what: str) -> Fields:
    try:
        value = json.loads(data)
    # Brackets in brackets end the parser's stack.
    except (ValueError, RecursionError) as error:
        raise CorruptSnapshot(
            f"a {what} cannot be read: {error}",
            where=url,
            hint="something outside of raystream changed or cut it",
        ) from error
    fields = Fields(value, what, url)
    written = fields.count("format")
    if written > FORMAT:
        raise StorageError(
            f"a {what} was written by a newer release of raystream: its format is {written}, "
            f"this release reads up to {FORMAT}",
            where=url,
            hint="upgrade raystream",
        )
    if written < 1:
        raise fields.broken("format", "at least 1")
    return fields


def _texts(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in values.items()}


def _subtask(one: SubtaskSnapshot) -> dict[str, Any]:
    return {
        "chain": one.subtask.chain,
        "index": one.subtask.index,
        "parallelism": one.subtask.parallelism,
        "operators": {uid: [_kept(each) for each in kept] for uid, kept in one.operators.items()},
        "prepared": [
            {"checkpoint_id": checkpoint_id, "sinks": _texts(sinks)}
            for checkpoint_id, sinks in one.prepared
        ],
        "splits": list(one.splits),
    }


def _kept(one: Kept) -> dict[str, Any]:
    parts = [_part(part) for part in one.parts]
    return {"name": one.name, "share": one.share, "key": list(one.key), "parts": parts}


def _part(part: Part) -> dict[str, Any]:
    return {
        "chunk": part.chunk,
        "offset": part.offset,
        "length": part.length,
        "sha256": part.sha256,
        "rows": part.rows,
    }


def _read_operator(fields: Fields) -> OperatorEntry:
    return OperatorEntry(
        fields.text("uid"), fields.text("name"), fields.text("verb"), fields.flag("stateful")
    )


def _read_subtask(fields: Fields) -> SubtaskSnapshot:
    subtask = SubtaskId(fields.text("chain"), fields.count("index"), fields.count("parallelism"))
    return SubtaskSnapshot(
        subtask,
        operators=fields.mapping("operators", _items_of(_read_kept)),
        prepared=fields.items("prepared", _read_prepared),
        splits=fields.texts("splits"),
    )


def _items_of(read: Callable[[Fields], T]) -> Callable[[Fields, str], tuple[T, ...]]:
    def items(fields: Fields, name: str) -> tuple[T, ...]:
        return fields.items(name, read)

    return items


def _read_prepared(fields: Fields) -> tuple[int, Mapping[str, bytes]]:
    return fields.count("checkpoint_id"), fields.mapping("sinks", Fields.binary)


def _read_kept(fields: Fields) -> Kept:
    share = fields.text("share")
    if share not in _SHARES:
        raise fields.broken("share", f"one of {', '.join(sorted(_SHARES))}; not {share}")
    parts = fields.items("parts", _read_part)
    if not parts:
        raise fields.broken("parts", "at least one")
    return Kept(fields.text("name"), share, fields.texts("key"), parts)


def _read_part(fields: Fields) -> Part:
    return Part(
        fields.path("chunk"),
        fields.count("offset"),
        fields.count("length"),
        fields.text("sha256"),
        fields.count("rows"),
    )
