"""Copies of chunks, as on the node that wrote them: recovery reads them before it asks the store.

A copy is never the truth: whoever reads one verifies it, and asks the next place, in the end the
store, where it is missing, cut or wrong. So a cache that cannot be written is only a slow one, and
its errors end here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from raystream.storage.store_local import write_unfinished

CACHE_BYTES_MAX = 512 * 1024 * 1024
"""What the copies of one node may take: the last snapshots of its subtasks, for most jobs."""


class Copies(Protocol):
    """A place that may have copies of chunks; ``name`` is how it is told of."""

    name: str

    def read(self, root: str, chunk: str, start: int, length: int) -> bytes | None:
        """Give bytes of a copy, unverified and perhaps too few; None where there is no copy."""


class Cache:
    """A folder of chunks by root and name; past ``bytes_max`` the oldest go."""

    name = "this node"

    def __init__(self, folder: str, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._folder = Path(folder)
        self._bytes_max = bytes_max

    def write(self, root: str, chunk: str, data: bytes) -> None:
        """Keep a copy of the chunk of a root, or, where that fails, none."""
        if len(data) > self._bytes_max:
            return
        with suppress(OSError):
            target = self._path(root, chunk)
            write_unfinished(target, data, durable=False).replace(target)
            self._make_room()

    def read(self, root: str, chunk: str, start: int, length: int) -> bytes | None:
        """Give bytes of a copy, unverified and perhaps too few; None where there is no copy."""
        try:
            with self._path(root, chunk).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError:
            return None

    def _path(self, root: str, chunk: str) -> Path:
        # Chunks of one name are of one root alone: the root's address tells jobs apart.
        folder = hashlib.sha256(root.encode()).hexdigest()[:16]
        return self._folder / folder / chunk.replace("/", "-")

    def _make_room(self) -> None:
        held = sorted(self._held(), reverse=True)
        room = self._bytes_max
        for _, size, path in held:
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)

    def _held(self) -> Iterator[tuple[int, int, Path]]:
        """Give (time of writing, bytes, path) of all copies, also of writers that were killed."""
        for path in self._folder.glob("*/*"):
            # Another process of this node may make room at the same time.
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield stat.st_mtime_ns, stat.st_size, path
