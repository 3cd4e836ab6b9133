"""A job's place in storage: what its coordinator wants read and written there, and its subtasks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from typing_extensions import assert_never

from raystream.coordinator import events as job
from raystream.coordinator.states import Beginning
from raystream.errors import CorruptSnapshot, PlanError
from raystream.flow.ids import SubtaskId
from raystream.flow.snapshots import Manifest, SubtaskSnapshot
from raystream.graph.physical import PhysicalPlan
from raystream.storage import log
from raystream.storage.documents import read_manifest, write_manifest
from raystream.storage.jobs import load_manifest, put_savepoint
from raystream.storage.loading import Cache, Loader
from raystream.storage.retention import left_behind, unneeded
from raystream.storage.store import Store, open_store, probe
from raystream.storage.uploads import Uploads
from raystream.subtask.events import Keep
from raystream.subtask.keeping import Restored

Errand: TypeAlias = (
    job.ReadLog | job.ReadManifest | job.Append | job.WriteSavepoint | job.Discard | job.Sweep
)
"""Effects of a coordinator that storage does."""

Upload: TypeAlias = Callable[[], SubtaskSnapshot]
"""Stores what was frozen; may be repeated where it raises StorageError."""

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
        self.cache: Cache | None = None
        if cached and home is not None:
            folder = Path(tempfile.gettempdir(), "raystream-chunks", home.job_id)
            self.cache = Cache(folder)

    def perform(self, errand: Errand) -> job.Event | None:
        """Do an errand of the coordinator; may be repeated where it raises StorageError.

        Raises: StorageError; CorruptSnapshot.
        """
        match errand:
            case job.WriteSavepoint(target, manifest):
                put_savepoint(self.opened(target), manifest)
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
                store = self._root
                listed = store.list("chunks")
                store.delete(left_behind(listed, map(self._manifest, kept), attempt))
                return None
            case _:
                assert_never(errand)

    @property
    def _root(self) -> Store:
        assert self.store is not None, "only a job with checkpoints has a root"
        return self.store

    def _read_log(self) -> job.LogRead:
        store = self._root
        entries, next_number = log.read_log(store)
        if not entries:
            assert self._home is not None, "what has a root has a home"
            probe(store, self._home.beginning.by)
        return job.LogRead(entries, next_number)

    def _append(self, append: job.Append) -> job.Appended | job.Outrun:
        store = self._root
        if append.manifest is not None:
            entry: Any = append.entry
            if "/" in entry.manifest:
                put_savepoint(self.opened(entry.manifest.rpartition("/")[0]), append.manifest)
            else:
                store.put(entry.manifest, write_manifest(append.manifest))
        outcome = log.append(store, append.number, append.entry)
        if isinstance(outcome, log.Taken):
            return job.Outrun(append.number, outcome.entry)
        return job.Appended(append.number)

    def _manifest(self, path: str) -> Manifest:
        if "/" in path:
            return load_manifest(path, self.opened).manifest
        content = self._root.get(path)
        if content is None:
            raise CorruptSnapshot(f"{self._root.url}/{path} is gone, which the job's log names")
        return read_manifest(content, f"{self._root.url}/{path}")

    def _discard(self, discard: job.Discard) -> None:
        store = self._root
        ours = [(n, e) for n, e in discard.retired if "/" not in e.manifest]
        retired = [self._manifest(entry.manifest) for _, entry in ours]
        kept = [self._manifest(path) for path in discard.kept if "/" not in path]
        # First the entry: what the log names is there.
        store.delete(log.path_of(number) for number, _ in ours)
        store.delete(entry.manifest for _, entry in ours)
        store.delete(unneeded(retired, kept, discard.live))


class Keeper:
    """Stores the snapshots of one subtask in one attempt, and reads what it starts from."""

    def __init__(self, vault: Vault, plan: PhysicalPlan, subtask: SubtaskId, attempt: int) -> None:
        self._vault = vault
        self._plan = plan
        self._subtask = subtask
        self._uploads = Uploads(subtask, attempt, vault.cache)

    def freeze(self, keep: Keep) -> Upload:
        """Take a snapshot as it is now; what comes back stores it."""
        frozen = self._uploads.freeze(keep.operators, keep.channels, whole=bool(keep.target))

        def upload() -> SubtaskSnapshot:
            store = self._vault.opened(keep.target) if keep.target else self._vault.store
            if store is None:  # only what sinks have prepared is asked for
                return SubtaskSnapshot(self._subtask, {}, keep.prepared)
            stored = self._uploads.store(frozen, store)
            return SubtaskSnapshot(
                self._subtask, stored.operators, keep.prepared, keep.splits, stored.channels
            )

        return upload

    def restore(self, manifest: Manifest, path: str) -> Restored:
        """Read this subtask's part of a snapshot.

        Raises: CorruptSnapshot; StorageError; PlanError for channels where the parallelism differs.
        """
        vault = self._vault
        root = vault.store if "/" not in path else vault.opened(path.rpartition("/")[0])
        assert root is not None, "a manifest in the job's root has a root"
        loader = Loader(manifest, root, vault.cache)
        chain = self._plan.chain(self._subtask.chain)
        uids = [node.uid for node in chain.nodes]
        operators = loader.load(uids, self._subtask.index, self._subtask.parallelism)
        before = [one for one in manifest.subtasks if one.channels]
        mine = [one for one in before if one.subtask == self._subtask]
        known = {subtask for one in self._plan.chains for subtask in one.subtasks}
        if any(one.subtask not in known for one in before):
            raise PlanError(
                f"checkpoint {manifest.checkpoint_id} is unaligned: rows wait in its channels, "
                "which only the same plan at the same parallelism can take up",
                hint="restart it as it was, make a savepoint, and start from that",
            )
        frames = loader.frames(mine[0].channels) if mine else ()
        return Restored(manifest.checkpoint_id, operators, frames)
