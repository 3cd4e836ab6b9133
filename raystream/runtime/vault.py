"""A job's place in storage: what its coordinator wants read and written there, and its subtasks."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from typing_extensions import assert_never

from raystream.clock import Clock
from raystream.coordinator import events as job
from raystream.coordinator.states import Beginning
from raystream.errors import CorruptSnapshot, PlanError, StorageError
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest, SubtaskSnapshot
from raystream.graph.physical import PhysicalPlan
from raystream.storage import log
from raystream.storage.cache import Cache, Copies
from raystream.storage.codec import decode_manifest, encode_manifest
from raystream.storage.layout import CHUNKS, SAVEPOINT_MANIFEST, log_path
from raystream.storage.loading import load
from raystream.storage.opening import open_store, probe
from raystream.storage.retention import referenced, retired_names, sweep_names
from raystream.storage.store import Missing, Store, joined
from raystream.storage.uploads import Uploader
from raystream.subtask import kept_frames
from raystream.subtask.events import Keep
from raystream.subtask.handing_over import Restored

_LOG = logging.getLogger("raystream")

Errand: TypeAlias = (
    job.ReadLog | job.ReadManifest | job.Append | job.WriteSavepoint | job.Discard | job.Sweep
)
"""Effects of a coordinator that storage does."""

Upload: TypeAlias = Callable[[], SubtaskSnapshot]
"""Stores what was frozen; may be repeated where it raises StorageError."""

_RETRY_S, _RETRY_S_MAX = 0.1, 5.0
"""Storage that fails is asked again after this, then after twice that, and so on."""

OpenStore: TypeAlias = Callable[[str], Store]


@dataclass(frozen=True, slots=True)
class Home:
    """Where a job keeps what it remembers (its root), and how it begins."""

    url: str
    job_id: str
    beginning: Beginning = field(default_factory=Beginning)


class Vault:
    """One process's hand on the root of a job; a job without checkpoints has none."""

    def __init__(
        self,
        plan: PhysicalPlan,
        home: Home | None,
        *,
        opened: OpenStore = open_store,
        cached: bool = False,
    ) -> None:
        self._plan = plan
        self._home = home
        self.opened = opened
        # A job may start from a snapshot and make none of its own.
        self.store = None if home is None or not home.url else opened(home.url)
        folder = Path(tempfile.gettempdir(), "raystream-chunks")
        self.cache = Cache(str(folder)) if cached and self.store is not None else None

    def perform(self, errand: Errand) -> job.Event | None:
        """Do an errand of the coordinator; may be repeated where it raises StorageError.

        Raises: StorageError; CorruptSnapshot.
        """
        match errand:
            case job.WriteSavepoint(target, manifest):
                self.opened(target).put(SAVEPOINT_MANIFEST, encode_manifest(manifest))
                return job.SavepointWritten(manifest.checkpoint_id)
            case job.ReadLog():
                return self._read_log()
            case job.ReadManifest(path):
                return job.ManifestRead(self._manifest(path))
            case job.Append():
                return self._append(errand)
            case job.Discard():
                self._discard(errand)
                return None
            case job.Sweep(attempt, kept):
                needed = referenced(self._there(kept))
                self._root.delete(sweep_names(self._root.list(CHUNKS), needed, attempt))
                return None
            case _:
                assert_never(errand)

    @property
    def _root(self) -> Store:
        assert self.store is not None, "only a job with checkpoints has a root"
        return self.store

    def _read_log(self) -> job.LogRead:
        found = log.read_log(self._root)
        if not found.entries:
            probe(self._root)
        entries = tuple((one.number, one.entry) for one in found.entries)
        return job.LogRead(entries, found.next_number)

    def _append(self, append: job.Append) -> job.Appended | job.Outrun:
        if append.manifest is not None:
            entry: Any = append.entry
            folder, _, name = entry.manifest.rpartition("/")
            store = self.opened(folder) if folder else self._root
            store.put(name, encode_manifest(append.manifest))
        outcome = log.append(self._root, append.number, append.entry)
        if isinstance(outcome, log.Outrun):
            return job.Outrun(append.number, outcome.entry)
        return job.Appended(append.number)

    def _manifest(self, path: str) -> Manifest:
        found = self._manifest_if_there(path)
        if isinstance(found, Missing):
            raise CorruptSnapshot(
                f"{found.url} is gone, which the log of the job names",
                hint="something outside of raystream removed it; start from another snapshot",
            )
        return found

    def _manifest_if_there(self, path: str) -> Manifest | Missing:
        folder, _, name = path.rpartition("/")
        store = self.opened(folder) if folder else self._root
        found = store.get(name)
        return (
            found if isinstance(found, Missing) else decode_manifest(found, joined(store.url, name))
        )

    def _there(self, paths: Iterable[str]) -> list[Manifest]:
        # One that is gone was removed before: the log was read while that was under way.
        found = [self._manifest_if_there(path) for path in paths]
        return [one for one in found if not isinstance(one, Missing)]

    def _discard(self, discard: job.Discard) -> None:
        # A savepoint is nobody's to delete; it has an address, the others a name.
        ours = [(number, e.manifest) for number, e in discard.retired if "/" not in e.manifest]
        retired = self._there(name for _, name in ours)
        # What was kept then a later discard may have removed by now.
        kept = list(self._there(discard.kept))
        # First the entries: what the log names is there.
        self._root.delete(log_path(number) for number, _ in ours)
        self._root.delete(name for _, name in ours)
        self._root.delete(retired_names(kept, retired, discard.live))


class Keeper:
    """Stores the snapshots of one subtask in one attempt, and reads what it starts from."""

    def __init__(self, vault: Vault, plan: PhysicalPlan, subtask: SubtaskId, attempt: int) -> None:
        self._vault = vault
        self._plan = plan
        self._subtask = subtask
        self._uploader = Uploader(subtask, attempt, plan.max_parallelism, cache=vault.cache)

    def freeze(self, keep: Keep) -> Upload:
        """Take a snapshot as it is now; what comes back stores it."""
        store = self._vault.opened(keep.target) if keep.target else self._vault.store
        if store is None:  # only what sinks have prepared is asked for
            return lambda: SubtaskSnapshot(self._subtask, {}, keep.prepared)
        frozen = self._uploader.freeze(keep.checkpoint_id, keep.operators, whole=bool(keep.target))
        return lambda: SubtaskSnapshot(
            self._subtask, self._uploader.upload(frozen, store), keep.prepared, keep.splits
        )

    def copies(self, snapshot: SubtaskSnapshot, bytes_max: int) -> Iterator[tuple[str, bytes]]:
        """Give the chunks that a snapshot names, as this node has copies of them: what fits."""
        root, cache = self._vault.store, self._vault.cache
        if root is None or cache is None:
            return
        lengths: dict[str, int] = {}
        for part in snapshot.parts:
            lengths[part.chunk] = max(part.offset + part.length, lengths.get(part.chunk, 0))
        for chunk, length in lengths.items():
            data = cache.read(root.url, chunk, 0, length) if length <= bytes_max else None
            if data is not None:
                bytes_max -= length
                yield chunk, data

    def restore(self, manifest: Manifest, path: str, handed: Copies | None = None) -> Restored:
        """Read this subtask's part of a snapshot; what was ``handed`` over is asked first.

        Raises: CorruptSnapshot; StorageError; PlanError for rows that wait in the channels of
        another plan.
        """
        vault, folder = self._vault, path.rpartition("/")[0]
        root = vault.opened(folder) if folder else vault.store
        assert root is not None, "a manifest in the job's root has a root"
        self._check_frames(manifest)
        uids = [node.uid for node in self._plan.chain(self._subtask.chain).nodes]
        index, parallelism = self._subtask.index, self._subtask.parallelism
        copies = [place for place in (handed, vault.cache) if place is not None]
        read = Counter[str]()
        operators = load(manifest, root, uids, index, parallelism, copies=copies, read=read)
        told = ", ".join(f"{some:,} bytes from {place}" for place, some in read.items())
        _LOG.info("checkpoint %d is read: %s", manifest.checkpoint_id, told or "nothing of it")
        return Restored(manifest.checkpoint_id, operators)

    def _check_frames(self, manifest: Manifest) -> None:
        waiting = {one.subtask for one in manifest.subtasks if _has_frames(one)}
        if not waiting <= set(self._plan.subtasks):
            raise PlanError(
                f"checkpoint {manifest.checkpoint_id} is unaligned: rows wait in its channels, "
                "which only the same plan at the same parallelism can take up",
                hint="restart it as it was, make a savepoint, and start from that",
            )


def frozen(keep: Keep, keeper: Keeper, clock: Clock) -> tuple[Keep, Upload]:
    """Take a snapshot as it is now; rows wait meanwhile, as they do for the snapshot itself."""
    began_us = clock.monotonic_us()
    upload = keeper.freeze(keep)
    if keep.figures is not None:
        sync_us = keep.figures.sync_us + clock.monotonic_us() - began_us
        keep = dataclasses.replace(keep, figures=dataclasses.replace(keep.figures, sync_us=sync_us))
    return keep, upload


def _has_frames(snapshot: SubtaskSnapshot) -> bool:
    sections = (kept for some in snapshot.operators.values() for kept in some)
    frames = (kept for kept in sections if kept.name == kept_frames.NAME)
    return any(part.rows for kept in frames for part in kept.parts)


def uploaded_in_time(
    upload: Upload, plan: PhysicalPlan, closing: threading.Event
) -> SubtaskSnapshot:
    """Repeat an upload while storage fails, for as long as a checkpoint may take.

    Raises: StorageError when that is over, or ``closing`` is set.
    """
    patience_s = _RETRY_S_MAX if plan.checkpoint is None else plan.checkpoint.timeout_us / 1e6
    give_up_s, pause_s = time.monotonic() + patience_s, _RETRY_S
    while True:
        try:
            return upload()
        except StorageError:
            if closing.is_set() or time.monotonic() + pause_s > give_up_s:
                raise
        closing.wait(pause_s)
        pause_s = min(pause_s * 2, _RETRY_S_MAX)
