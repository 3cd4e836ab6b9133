"""Which objects of a job nobody needs any more.

Only the coordinator deletes, and only names that something it retires has listed: a folder's
listing cannot tell what is garbage from what a subtask has written and not yet reported. Chunks of
earlier attempts that nobody ever listed are swept when an attempt starts, when nobody writes them.
"""

from __future__ import annotations

from collections.abc import Iterable

from raystream.flow.snapshots import Manifest, Part
from raystream.storage.layout import CHUNKS, chunk_attempt


def retired_names(
    kept: Iterable[Manifest], retired: Iterable[Manifest], listed: Iterable[Part] = ()
) -> list[str]:
    """Give the chunks that only retired checkpoints need, as paths in the job's root.

    ``listed`` are the parts of pending acks and of the newest ack of each live subtask: those are
    in the next manifests. To be deleted in this order, so that whoever is killed on the way leaves
    nothing that points to nothing: the log entries of the retired, their manifests, these.
    """
    # A savepoint is nobody's to delete, and its paths are those of another root.
    names = dict.fromkeys(
        part.chunk for manifest in retired if not manifest.savepoint for part in _parts(manifest)
    )
    needed = referenced(kept, listed)
    return [name for name in names if name not in needed]


def sweep_names(names: Iterable[str], needed: frozenset[str], attempt: int) -> list[str]:
    """Give the chunks of attempts before ``attempt`` that nothing needs, as paths in the root.

    ``names`` are those in the folder of chunks; ``needed`` what ``referenced`` gives.
    """
    paths = []
    for name in names:
        written = chunk_attempt(name)
        path = f"{CHUNKS}/{name}"
        if written is not None and written < attempt and path not in needed:
            paths.append(path)
    return paths


def referenced(kept: Iterable[Manifest], listed: Iterable[Part] = ()) -> frozenset[str]:
    """Give the chunks that manifests and parts need."""
    held = {part.chunk for manifest in kept for part in _parts(manifest)}
    return frozenset(held | {part.chunk for part in listed})


def _parts(manifest: Manifest) -> Iterable[Part]:
    return (part for one in manifest.subtasks for part in one.parts)
