"""Look into a snapshot from outside: which sections it holds, and one of them whole."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pyarrow as pa

from raystream.flow.snapshots import Kept, Manifest, Part
from raystream.keyed.snapshot import Section
from raystream.storage.chunks import corrupt, decoded
from raystream.storage.loading import load
from raystream.storage.store import Missing, Store, joined

_HEAD_BYTES = 64 * 1024
"""Where a table's schema ends, nearly always: it stands before the rows."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One section of one operator, of all subtasks together.

    ``rows`` and ``bytes`` count what is stored: a row that a later one replaces counts too.
    """

    uid: str
    operator: str
    verb: str
    section: str
    share: str
    schema: pa.Schema
    rows: int
    bytes: int


def survey(manifest: Manifest, store: Store) -> list[Surveyed]:
    """Give all sections of a snapshot, in the order of its operators; only heads are read.

    Raises: StorageError; CorruptSnapshot.
    """
    return [
        _surveyed(manifest, store, uid, name, each)
        for (uid, name), each in _by_section(manifest).items()
    ]


def whole_section(manifest: Manifest, store: Store, uid: str, name: str) -> Section:
    """Read one section as a job of parallelism 1 would restore it.

    Raises: StorageError; CorruptSnapshot.
    """
    subtasks = tuple(
        dataclasses.replace(one, operators={uid: kept})
        for one in manifest.subtasks
        if (kept := tuple(each for each in one.operators.get(uid, ()) if each.name == name))
    )
    assert subtasks, f'no subtask kept "{name}" of "{uid}"'
    (found,) = load(dataclasses.replace(manifest, subtasks=subtasks), store, [uid], 0, 1)[uid]
    return found


def _by_section(manifest: Manifest) -> dict[tuple[str, str], list[Kept]]:
    order = [entry.uid for entry in manifest.operators]
    known = {uid: place for place, uid in enumerate(order)}
    found: dict[tuple[str, str], list[Kept]] = {}
    for subtask in manifest.subtasks:
        for uid, sections in subtask.operators.items():
            for kept in sections:
                found.setdefault((uid, kept.name), []).append(kept)
    return dict(sorted(found.items(), key=lambda item: known.get(item[0][0], len(known))))


def _surveyed(manifest: Manifest, store: Store, uid: str, name: str, each: list[Kept]) -> Surveyed:
    operator, verb = next(
        ((one.name, one.verb) for one in manifest.operators if one.uid == uid), (uid, "")
    )
    parts = [part for kept in each for part in kept.parts]
    return Surveyed(
        uid,
        operator,
        verb,
        name,
        each[0].share,
        _schema(parts[0], store),
        sum(part.rows for part in parts),
        sum(part.length for part in parts),
    )


def _schema(part: Part, store: Store) -> pa.Schema:
    head = _bytes_of(part, store, min(part.length, _HEAD_BYTES))
    try:
        return pa.ipc.read_schema(pa.py_buffer(head))
    except (pa.ArrowException, OSError, ValueError):
        data = _bytes_of(part, store, part.length)
        return decoded(data, part, joined(store.url, part.chunk)).schema


def _bytes_of(part: Part, store: Store, length: int) -> bytes:
    data = store.get(part.chunk, part.offset, length)
    if isinstance(data, Missing):
        raise corrupt(part, data.url, "there is no such object")
    return data
