"""What the log of a job says: how far it has come, and where the next attempt begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from typing_extensions import assert_never

from raystream.flow.messages import Prepared
from raystream.flow.past import Past
from raystream.flow.snapshots import (
    AttemptEntry,
    CheckpointEntry,
    EndedEntry,
    Entry,
    SavepointEntry,
)


@dataclass(frozen=True, slots=True)
class History:
    """A job's past.

    ``attempt`` is the newest, ``by`` the coordinator that began it. ``checkpoints`` are those that
    are complete, oldest first, with the numbers of their entries. ``begun_from`` is the snapshot
    that its first attempt started from, ``splits`` what its sources listed then; ``scale`` is what
    the newest attempt was asked for. ``past`` is what the job had to tell when it last wrote of it.
    """

    attempt: int = 0
    by: str = ""
    born_us: int = 0
    next_number: int = 1
    last_id: int = 0
    begun_from: str = ""
    splits: Mapping[str, bytes] = field(default_factory=dict)
    scale: Mapping[str, int] = field(default_factory=dict)
    checkpoints: tuple[tuple[int, CheckpointEntry], ...] = ()
    savepoint: SavepointEntry | None = None
    past: Past = field(default_factory=Past)

    def not_in(self, prepared: Prepared) -> Prepared:
        """Give what belongs to checkpoints that are not in the log by now: they never will be."""
        return tuple(one for one in prepared if one[0] > self.last_id)

    def start(self, *, but: Collection[int] = (), savepoints: bool = False) -> tuple[str, int]:
        """Give the manifest to start from and its id: the newest that is not in ``but``.

        Empty where the job starts with nothing. ``savepoints``: one that is newer counts too.
        """
        known = [(e.checkpoint_id, e.manifest) for _, e in self.checkpoints]
        if savepoints and self.savepoint is not None:
            known.append((self.savepoint.checkpoint_id, self.savepoint.manifest))
        usable = [one for one in known if one[0] not in but]
        if usable:
            checkpoint_id, manifest = max(usable)
            return manifest, checkpoint_id
        return self.begun_from, 0


def history_of(entries: Collection[tuple[int, Entry]], next_number: int) -> History:
    """Read a log, in the order of its numbers."""
    attempt, by, born_us, last_id, begun_from = 0, "", 0, 0, ""
    splits: Mapping[str, bytes] = {}
    scale: Mapping[str, int] = {}
    checkpoints: list[tuple[int, CheckpointEntry]] = []
    savepoint: SavepointEntry | None = None
    past = Past()
    for number, entry in entries:
        match entry:
            case AttemptEntry():
                if not attempt:
                    begun_from, splits = entry.source, entry.splits
                attempt, by, born_us = entry.attempt, entry.by, entry.born_us
                scale, past = entry.scale, entry.past
            case CheckpointEntry():
                checkpoints.append((number, entry))
                past = entry.past
                last_id = max(last_id, entry.checkpoint_id)
            case SavepointEntry():
                savepoint = entry
                last_id = max(last_id, entry.checkpoint_id)
            case EndedEntry():
                past = Past()  # whoever goes on behind it begins to tell anew
            case _:
                assert_never(entry)
    return History(
        attempt,
        by,
        born_us,
        next_number,
        last_id,
        begun_from,
        splits,
        scale,
        tuple(checkpoints),
        savepoint,
        past,
    )
