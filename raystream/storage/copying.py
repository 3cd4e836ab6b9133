"""Make a savepoint out of another, or of nothing: some sections new, the others as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pyarrow as pa

from raystream.errors import ConfigError
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Kept, Manifest, Part, SubtaskSnapshot
from raystream.keyed.snapshot import Snapshot
from raystream.storage.chunks import Encoded, corrupt, laid_out, verifies
from raystream.storage.codec import encode_manifest
from raystream.storage.layout import SAVEPOINT_MANIFEST, chunk_path
from raystream.storage.store import Exists, Missing, Store, joined
from raystream.storage.uploads import Uploader

_WRITTEN = SubtaskId("state.write", 0, 1)
"""Who kept the new sections: one subtask, which owns all key groups."""


def write_savepoint(
    manifest: Manifest, old: Store | None, new: Store, sections: Mapping[str, Snapshot]
) -> str:
    """Write ``sections`` by uid, and all others of ``manifest`` from ``old``; give the address.

    Raises: ConfigError where there is a snapshot already; StorageError; CorruptSnapshot.
    """
    if not isinstance(new.get(SAVEPOINT_MANIFEST), Missing):
        raise _taken(new)
    replaced = {(uid, one.name) for uid, each in sections.items() for one in each}
    subtasks = [
        subtask if old is None else _copied(subtask, manifest.attempt, old, new)
        for subtask in (_without(one, replaced) for one in manifest.subtasks)
    ]
    if sections:
        uploader = Uploader(_WRITTEN, manifest.attempt, manifest.max_parallelism)
        kept = uploader.keep(manifest.checkpoint_id, new, sections, whole=True)
        subtasks.append(SubtaskSnapshot(_WRITTEN, kept))
    made = dataclasses.replace(manifest, savepoint=True, subtasks=tuple(subtasks))
    if isinstance(new.create(SAVEPOINT_MANIFEST, encode_manifest(made)), Exists):
        raise _taken(new)
    return new.url


def _without(subtask: SubtaskSnapshot, replaced: set[tuple[str, str]]) -> SubtaskSnapshot:
    left = {
        uid: tuple(one for one in each if (uid, one.name) not in replaced)
        for uid, each in subtask.operators.items()
    }
    return dataclasses.replace(subtask, operators=left)


def _copied(subtask: SubtaskSnapshot, attempt: int, old: Store, new: Store) -> SubtaskSnapshot:
    """Bring what a subtask kept into one new object: the old ones also hold what is left out."""
    parts = list(dict.fromkeys(subtask.parts))
    if not parts:
        return subtask
    chunk = chunk_path(attempt, subtask.subtask, 0)
    body, laid = laid_out(chunk, [_read(part, old) for part in parts])
    new.put(chunk, body)
    moved = dict(zip(parts, laid, strict=True))
    operators = {
        uid: tuple(_moved(one, moved) for one in each) for uid, each in subtask.operators.items()
    }
    return dataclasses.replace(subtask, operators=operators)


def _moved(kept: Kept, moved: Mapping[Part, Part]) -> Kept:
    return dataclasses.replace(kept, parts=tuple(moved[part] for part in kept.parts))


def _read(part: Part, store: Store) -> Encoded:
    data = store.get(part.chunk, part.offset, part.length)
    url = joined(store.url, part.chunk)
    if isinstance(data, Missing):
        raise corrupt(part, url, "there is no such object")
    if not verifies(data, part):
        raise corrupt(part, url, f"{len(data)} bytes do not have the checksum of the manifest")
    return Encoded(pa.py_buffer(data), part.sha256, part.rows)


def _taken(store: Store) -> ConfigError:
    return ConfigError(
        f"there is a snapshot at {store.url} already, and none is ever written over",
        hint="give another path",
    )
