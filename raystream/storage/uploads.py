"""What one subtask has stored in one attempt: each section as a whole table and deltas behind it.

What is frozen for one checkpoint stays until it is stored, whatever becomes of that checkpoint: the
next one holds only what changed since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Kept, Part
from raystream.keyed.snapshot import Section, Snapshot
from raystream.storage import chunks
from raystream.storage.loading import Cache
from raystream.storage.store import Store

_PARTS_MAX = 10_000
"""An operator that never gives a whole table again is at fault."""


@dataclass(slots=True, eq=False)
class _Piece:
    """One table of a section: stored, where it has a part, or yet to be."""

    table: pa.Table | None
    part: Part | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """All sections as of one checkpoint, by uid; frames of channels beside them."""

    sections: Mapping[str, tuple[tuple[Section, tuple[_Piece, ...]], ...]]
    channels: tuple[_Piece, ...] = ()
    blobs: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Stored:
    """Where they are."""

    operators: dict[str, tuple[Kept, ...]] = field(default_factory=dict)
    channels: tuple[Part, ...] = ()


class Uploads:
    """The chunks of one subtask."""

    def __init__(self, subtask: SubtaskId, attempt: int, cache: Cache | None = None) -> None:
        chain = re.sub(r"[^A-Za-z0-9_.-]+", "_", subtask.chain)
        self._prefix = f"chunks/{attempt}-{chain}-{subtask.index}"
        self._sequence = 0
        self._lineages: dict[tuple[str, str], list[_Piece]] = {}
        self._cache = cache

    def freeze(
        self, operators: Mapping[str, Snapshot], channels: tuple[bytes, ...] = (), *, whole: bool
    ) -> Frozen:
        """Take the sections of a checkpoint, in order of checkpoints; nothing is written yet.

        Those of a savepoint are ``whole``, and leave no trace.
        """
        frozen: dict[str, tuple[tuple[Section, tuple[_Piece, ...]], ...]] = {}
        seen = set()
        for uid, snapshot in operators.items():
            some: list[tuple[Section, tuple[_Piece, ...]]] = []
            for section in snapshot:
                piece = _Piece(section.table)
                if whole:
                    some.append((section, (piece,)))
                    continue
                place = (uid, section.name)
                seen.add(place)
                pieces = self._lineages.setdefault(place, [])
                assert pieces or not section.delta, "a delta follows a whole table"
                if not section.delta:
                    pieces.clear()
                pieces.append(piece)
                assert len(pieces) < _PARTS_MAX, f"{uid} gives deltas without end"
                some.append((section, tuple(pieces)))
            frozen[uid] = tuple(some)
        if not whole:
            for place in [place for place in self._lineages if place not in seen]:
                del self._lineages[place]
        return Frozen(frozen, tuple(_Piece(None) for _ in channels), channels)

    def store(self, frozen: Frozen, store: Store) -> Stored:
        """Write what is not yet stored, as one object; may be repeated where it fails.

        Raises: StorageError.
        """
        pending = [
            piece
            for some in frozen.sections.values()
            for _, pieces in some
            for piece in pieces
            if piece.part is None
        ]
        if pending or frozen.blobs:
            self._sequence += 1
            chunk = f"{self._prefix}-{self._sequence}.arrow"
            tables = [piece.table for piece in pending if piece.table is not None]
            content, parts = chunks.encode(chunk, tables)
            rest, frames = chunks.raw(chunk, frozen.blobs, len(content))
            store.put(chunk, content + rest)
            if self._cache is not None:
                self._cache.keep(store.url, chunk, content + rest)
            for piece, part in zip([*pending, *frozen.channels], [*parts, *frames], strict=True):
                piece.part, piece.table = part, None
        return Stored(
            {
                uid: tuple(_kept(section, pieces) for section, pieces in some)
                for uid, some in frozen.sections.items()
            },
            tuple(piece.part for piece in frozen.channels if piece.part is not None),
        )


def _kept(section: Section, pieces: tuple[_Piece, ...]) -> Kept:
    parts = tuple(piece.part for piece in pieces if piece.part is not None)
    assert len(parts) == len(pieces), "what is listed is stored"
    return Kept(section.name, section.share.value, section.key, parts)
