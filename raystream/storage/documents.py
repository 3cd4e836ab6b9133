"""Manifests and log entries as JSON: canonical, so that equal values have equal bytes.

Each says its format. A reader refuses a newer one; every release reads all older ones.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

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

_KINDS: dict[str, Callable[[dict[str, Any]], Entry]] = {
    "attempt": lambda given: AttemptEntry(
        attempt=_int(given, "attempt"),
        by=_text(given, "by"),
        born_us=_int(given, "born_us"),
        source=_text(given, "source"),
        splits=_packed(given["splits"]),
        at_us=_int(given, "at_us"),
        format=_int(given, "format"),
    ),
    "checkpoint": lambda given: CheckpointEntry(**_named(given)),
    "savepoint": lambda given: SavepointEntry(**_named(given)),
    "ended": lambda given: EndedEntry(
        attempt=_int(given, "attempt"),
        status=_text(given, "status"),
        at_us=_int(given, "at_us"),
        format=_int(given, "format"),
    ),
}

_NAMES: dict[type[Entry], str] = {
    AttemptEntry: "attempt",
    CheckpointEntry: "checkpoint",
    SavepointEntry: "savepoint",
    EndedEntry: "ended",
}

_T = TypeVar("_T")


def write_entry(entry: Entry) -> bytes:
    """Write a log entry."""
    return _json({"kind": _NAMES[type(entry)], **_plain(entry)})


def read_entry(content: bytes, where: str) -> Entry:
    """Read a log entry.

    Raises: StorageError for one of a newer release; CorruptSnapshot for anything else that is none.
    """

    def read(given: dict[str, Any]) -> Entry:
        return _KINDS[given["kind"]](given)

    return _read(content, where, read)


def write_manifest(manifest: Manifest) -> bytes:
    """Write a manifest."""
    return _json({"kind": "manifest", **_plain(manifest)})


def read_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest.

    Raises: StorageError for one of a newer release; CorruptSnapshot for anything else that is none.
    """

    def read(given: dict[str, Any]) -> Manifest:
        if given["kind"] != "manifest":
            raise ValueError(f"it is a {given['kind']!r:.40}")
        return Manifest(
            job=_text(given, "job"),
            checkpoint_id=_int(given, "checkpoint_id"),
            attempt=_int(given, "attempt"),
            max_parallelism=_int(given, "max_parallelism"),
            taken_us=_int(given, "taken_us"),
            savepoint=_is(given["savepoint"], bool),
            operators=tuple(_operator(one) for one in _is(given["operators"], list)),
            subtasks=tuple(_subtask(one) for one in _is(given["subtasks"], list)),
            format=_int(given, "format"),
        )

    return _read(content, where, read)


def _json(given: Any) -> bytes:
    return json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in value]
    return value


def _read(content: bytes, where: str, read: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        given = json.loads(content)
        newer = isinstance(given, dict) and _int(given, "format") > FORMAT
        if not newer:
            return read(_is(given, dict))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptSnapshot(f"{where} cannot be read: {type(error).__name__}: {error}") from error
    raise StorageError(
        f"{where} was written by a newer release of raystream (format {given['format']}; this one "
        f"reads up to {FORMAT})",
        hint="upgrade raystream",
    )


def _is(value: Any, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} where a {kind.__name__} is expected")
    return value


def _int(given: Mapping[str, Any], name: str) -> int:
    return _is(given[name], int)


def _text(given: Mapping[str, Any], name: str) -> str:
    return _is(given[name], str)


def _named(given: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: _int(given, name) for name in ("checkpoint_id", "attempt", "at_us", "format")}
    return {**numbers, "manifest": _text(given, "manifest")}


def _packed(given: Any) -> dict[str, bytes]:
    return {
        _is(name, str): base64.b64decode(_is(some, str), validate=True)
        for name, some in _is(given, dict).items()
    }


def _operator(given: Any) -> OperatorEntry:
    one = _is(given, dict)
    return OperatorEntry(
        _text(one, "uid"), _text(one, "name"), _text(one, "verb"), _is(one["stateful"], bool)
    )


def _subtask(given: Any) -> SubtaskSnapshot:
    one = _is(given, dict)
    place = _is(one["subtask"], dict)
    return SubtaskSnapshot(
        SubtaskId(_text(place, "chain"), _int(place, "index"), _int(place, "parallelism")),
        {
            _is(uid, str): tuple(_kept(section) for section in _is(sections, list))
            for uid, sections in _is(one["operators"], dict).items()
        },
        tuple((_is(epoch, int), _packed(some)) for epoch, some in _is(one["prepared"], list)),
        tuple(_is(split, str) for split in _is(one["splits"], list)),
        tuple(_part(part) for part in _is(one["channels"], list)),
    )


def _kept(given: Any) -> Kept:
    one = _is(given, dict)
    return Kept(
        _text(one, "name"),
        _text(one, "share"),
        tuple(_is(column, str) for column in _is(one["key"], list)),
        tuple(_part(part) for part in _is(one["parts"], list)),
    )


def _part(given: Any) -> Part:
    one = _is(given, dict)
    return Part(
        _text(one, "chunk"),
        _int(one, "offset"),
        _int(one, "length"),
        _text(one, "sha256"),
        _int(one, "rows"),
    )
