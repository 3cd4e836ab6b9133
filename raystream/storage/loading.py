"""Read one subtask's share of a snapshot: every part verified, deltas merged, keys divided."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from raystream.errors import CorruptSnapshot
from raystream.flow.snapshots import Kept, Manifest, Part
from raystream.keyed.snapshot import Section, Share, Snapshot, merged, share
from raystream.storage import chunks
from raystream.storage.store import Store

_CACHE_BYTES_MAX = 512 * 1024 * 1024
"""What the cache of one node may hold: beyond it the oldest chunks go."""


class Cache:
    """Chunks that were written on this node: restoring asks here before it asks the store.

    A miss, or bytes that are not what was written, falls through to the store.
    """

    def __init__(self, folder: Path, bytes_max: int = _CACHE_BYTES_MAX) -> None:
        self._folder = folder
        self._bytes_max = bytes_max

    def keep(self, url: str, chunk: str, content: bytes) -> None:
        """Keep a chunk; a node without room for it does without."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(content)
            Path(file.name).replace(self._path(url, chunk))
            self._trim()

    def get(self, url: str, part: Part) -> bytes | None:
        """Give the bytes of a part, if they are here and as they were written."""
        try:
            with self._path(url, part.chunk).open("rb") as file:
                file.seek(part.offset)
                return chunks.verify(file.read(part.length), part, url)
        except (OSError, CorruptSnapshot):
            return None

    def _path(self, url: str, chunk: str) -> Path:
        return self._folder / hashlib.sha256(f"{url}/{chunk}".encode()).hexdigest()

    def _trim(self) -> None:
        files = sorted(
            ((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._files()),
        )
        over = sum(size for _, size, _ in files) - self._bytes_max
        for _, size, path in files:
            if over <= 0:
                return
            path.unlink(missing_ok=True)
            over -= size

    def _files(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if path.is_file())


class Loader:
    """Reads parts of one manifest; ``store`` is its root."""

    def __init__(self, manifest: Manifest, store: Store, cache: Cache | None = None) -> None:
        self._manifest = manifest
        self._store = store
        self._cache = cache

    def load(self, uids: Collection[str], index: int, parallelism: int) -> dict[str, Snapshot]:
        """Give one subtask its part of what all subtasks of its operators had kept, by uid.

        Raises: CorruptSnapshot; StorageError.
        """
        loaded = {}
        for uid in uids:
            snapshots = self.snapshots(uid)
            if snapshots:
                count = self._manifest.max_parallelism
                loaded[uid] = share(snapshots, index, parallelism, count)
        return loaded

    def snapshots(self, uid: str) -> list[Snapshot]:
        """Give what each subtask of an operator had kept, in their order."""
        parts = sorted(self._manifest.subtasks, key=lambda one: one.subtask.index)
        return [
            tuple(self.section(kept) for kept in one.operators[uid])
            for one in parts
            if uid in one.operators
        ]

    def section(self, kept: Kept) -> Section:
        """Read one section, its deltas merged into it."""
        tables = [self._table(part) for part in kept.parts]
        return Section(kept.name, merged(tables, kept.key), Share(kept.share), kept.key)

    def frames(self, parts: Collection[Part]) -> tuple[bytes, ...]:
        """Read frames that channels had waiting."""
        return tuple(self._bytes(part) for part in parts)

    def _table(self, part: Part) -> pa.Table:
        return chunks.decode(self._bytes(part), part, self._store.url)

    def _bytes(self, part: Part) -> bytes:
        here = None if self._cache is None else self._cache.get(self._store.url, part)
        if here is not None:
            return here
        content = self._store.get(part.chunk, part.offset, part.length)
        return chunks.verify(content, part, self._store.url)
