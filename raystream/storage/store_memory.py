"""Objects in this process's memory: for tests, and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import fsspec

from raystream.storage.store import Created, Creation, Exists, Missing, checked_path, joined

# The filesystem is one for the whole process, and does not lock.
_LOCK = threading.Lock()


class MemoryStore:
    """Objects below ``memory://…``, which all of this process see; see ``Store``."""

    def __init__(self, url: str) -> None:
        self._files: Any = fsspec.filesystem("memory")
        self._folder: str = self._files._strip_protocol(url)  # noqa: SLF001  fsspec's own name

    @property
    def url(self) -> str:
        return f"memory:/{self._folder}" if self._folder else "memory://"

    def create(self, path: str, data: bytes) -> Creation:
        with _LOCK:
            if self._files.exists(self._path(path)):
                return Exists(self._files.cat_file(self._path(path)))
            self._files.pipe_file(self._path(path), data)
            return Created()

    def put(self, path: str, data: bytes) -> None:
        with _LOCK:
            self._files.pipe_file(self._path(path), data)

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | Missing:
        end = None if length is None else start + length
        with _LOCK:
            try:
                found: bytes = self._files.cat_file(self._path(path), start=start, end=end)
            except FileNotFoundError:
                return Missing(joined(self.url, path))
        return found

    def list(self, folder: str = "") -> list[str]:
        source = self._path(folder) if folder else self._folder
        with _LOCK:
            try:
                names = self._files.ls(source, detail=False)
            except FileNotFoundError:
                return []
        return sorted({name[len(source) + 1 :] for name in names if name != source})

    def delete(self, paths: Iterable[str]) -> None:
        with _LOCK:
            for path in paths:
                if self._files.exists(self._path(path)):
                    self._files.rm_file(self._path(path))

    def _path(self, path: str) -> str:
        return f"{self._folder}/{checked_path(path)}"
