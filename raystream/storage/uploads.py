"""From what operators keep to chunks: each table is uploaded once, and listed while it counts.

A section's *lineage* is its last whole table and the deltas behind it. ``freeze`` takes up what a
barrier found, in order and at once; ``upload`` brings what no object holds yet into one new object,
in the background. A failed upload loses nothing: its tables wait in their lineages, and are in the
next one, whatever became of the checkpoint that froze them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raystream.errors import ProtocolError
from raystream.flow.ids import SubtaskId
from raystream.flow.keygroup import key_group_range
from raystream.flow.snapshots import Kept, Part
from raystream.keyed.snapshot import GONE, KEY_GROUP, Section, Share, Snapshot
from raystream.storage.cache import Cache
from raystream.storage.chunks import Encoded, encoded, laid_out
from raystream.storage.layout import chunk_path
from raystream.storage.store import Store

LINEAGE_PARTS_MAX = 10_000
"""Parts of one section: operators begin anew long before; more is one that never does."""


class _Piece:
    """One table of a lineage, until it is uploaded; then where it is.

    Only an upload writes to it, and uploads come one at a time.
    """

    __slots__ = ("part", "table")

    def __init__(self, table: pa.Table) -> None:
        self.table: pa.Table | None = table
        self.part: Part | None = None


@dataclass(frozen=True, slots=True)
class _Lineage:
    uid: str
    name: str
    share: Share
    key: tuple[str, ...]
    pieces: tuple[_Piece, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """What a subtask kept at one barrier; it does not change with what comes after."""

    checkpoint_id: int
    uids: tuple[str, ...]
    lineages: tuple[_Lineage, ...]
    whole: bool


class Uploader:
    """The uploads of one subtask in one attempt; ``cache`` gets what recovery will ask for.

    ``freeze`` is called by the thread of the subtask, ``upload`` by any other.
    """

    def __init__(
        self,
        subtask: SubtaskId,
        attempt: int,
        max_parallelism: int,
        *,
        cache: Cache | None = None,
    ) -> None:
        self._subtask = subtask
        self._attempt = attempt
        self._owned = key_group_range(subtask.index, subtask.parallelism, max_parallelism)
        self._cache = cache
        self._lineages: dict[tuple[str, str], _Lineage] = {}
        self._uploading = threading.Lock()
        self._seq = 0
        # First parts as the newest upload listed them: nobody deletes those, see ``_same``.
        self._listed: dict[tuple[str, str], Part] = {}
        self._listed_id = -1

    def keep(
        self,
        checkpoint_id: int,
        store: Store,
        sections: Mapping[str, Snapshot],
        *,
        whole: bool = False,
    ) -> dict[str, tuple[Kept, ...]]:
        """Freeze and upload in one step."""
        return self.upload(self.freeze(checkpoint_id, sections, whole=whole), store)

    def freeze(
        self, checkpoint_id: int, sections: Mapping[str, Snapshot], *, whole: bool = False
    ) -> Frozen:
        """Take up what operators keep, by their uids; no table is looked into or written.

        With ``whole`` (a savepoint, under a root of its own) all sections are complete, and stand
        beside the lineages: those go on as if nothing had been.
        Raises: ProtocolError for a delta without a whole before it, or rows of foreign key groups.
        """
        before = {} if whole else self._lineages
        lineages: dict[tuple[str, str], _Lineage] = {}
        for uid, snapshot in sections.items():
            for section in snapshot:
                self._check_groups(uid, section)
                lineages[uid, section.name] = _grown(before, uid, section)
        if not whole:
            # A section that was not given is no more: its lineage goes with it.
            self._lineages = lineages
        return Frozen(checkpoint_id, tuple(sections), tuple(lineages.values()), whole)

    def upload(self, frozen: Frozen, store: Store) -> dict[str, tuple[Kept, ...]]:
        """Bring what no object holds yet into one object, and list all; slow, and repeatable.

        Raises: StorageError; nothing is lost then.
        """
        with self._uploading:
            self._put_pending(frozen, store)
            if not frozen.whole and frozen.checkpoint_id > self._listed_id:
                self._listed_id = frozen.checkpoint_id
                self._listed = {(one.uid, one.name): _parts(one)[0] for one in frozen.lineages}
            kept: dict[str, tuple[Kept, ...]] = dict.fromkeys(frozen.uids, ())
            for one in frozen.lineages:
                listed = Kept(one.name, one.share.value, one.key, _parts(one))
                kept[one.uid] += (listed,)
            return kept

    def _put_pending(self, frozen: Frozen, store: Store) -> None:
        pending: list[tuple[_Piece, Encoded]] = []
        for one in frozen.lineages:
            for place, piece in enumerate(one.pieces):
                if piece.part is not None:
                    continue
                assert piece.table is not None, "a piece is a table or a part"
                data = encoded(piece.table)
                same = self._same(one, data) if place == 0 and not frozen.whole else None
                if same is None:
                    pending.append((piece, data))
                else:
                    piece.part, piece.table = same, None
        if not pending:
            return
        # A number is used once, also where the put fails: it may have been heard nevertheless.
        chunk = chunk_path(self._attempt, self._subtask, self._seq)
        self._seq += 1
        body, parts = laid_out(chunk, [each for _, each in pending])
        store.put(chunk, body)
        if self._cache is not None and not frozen.whole:
            self._cache.write(store.url, chunk, body)
        for (piece, _), part in zip(pending, parts, strict=True):
            piece.part, piece.table = part, None

    def _same(self, one: _Lineage, data: Encoded) -> Part | None:
        """Give the part that the newest upload listed, if it holds these bytes.

        No older part will do: the coordinator may delete what a subtask's newest ack leaves out.
        """
        part = self._listed.get((one.uid, one.name))
        return part if part is not None and part.sha256 == data.sha256 else None

    def _check_groups(self, uid: str, section: Section) -> None:
        """See that a keyed section has only rows of this subtask: restoring relies on it."""
        if section.share is not Share.KEYED or section.table.num_rows == 0:
            return
        groups = section.table.column(KEY_GROUP)
        if section.delta and GONE in section.table.column_names:
            # What only says that others are gone is never restored.
            groups = groups.filter(pc.invert(section.table.column(GONE)))
            if not len(groups):
                return
        first, last = groups[0].as_py(), groups[-1].as_py()
        if first not in self._owned or last not in self._owned:
            raise ProtocolError(
                f'section "{section.name}" of "{uid}" has rows of key groups {first} to {last}; '
                f"those of {self._subtask} are {self._owned.start} to {self._owned.stop - 1}",
                where=str(self._subtask),
            )


def _grown(before: Mapping[tuple[str, str], _Lineage], uid: str, section: Section) -> _Lineage:
    piece = _Piece(section.table)
    if not section.delta:
        return _Lineage(uid, section.name, section.share, section.key, (piece,))
    grown = before.get((uid, section.name))
    if grown is None or (grown.share, grown.key) != (section.share, section.key):
        raise ProtocolError(
            f'section "{section.name}" of "{uid}" says what changed, and there is no whole one '
            "of its kind before it"
        )
    pieces = (*grown.pieces, piece)
    assert len(pieces) <= LINEAGE_PARTS_MAX, f'"{section.name}" of "{uid}" never begins anew'
    return _Lineage(uid, section.name, section.share, section.key, pieces)


def _parts(one: _Lineage) -> tuple[Part, ...]:
    parts = []
    for piece in one.pieces:
        assert piece.part is not None, "what is listed has been uploaded"
        parts.append(piece.part)
    return tuple(parts)
