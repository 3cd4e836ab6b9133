"""Storage that fails for a while: before it has done something, or after, or in the middle."""

from __future__ import annotations

import random
from collections.abc import Iterable

from raystream.errors import StorageError
from raystream.storage.store import Created, Creation, Exists, Missing, Store


class Disk:
    """Objects in memory, and how badly they are kept for now."""

    def __init__(self, rng: random.Random) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = 0.0
        self.moment = 0
        self._rng = rng

    def open(self, url: str) -> Store:
        """Give a folder of it."""
        return _Folder(self, url.rstrip("/"))

    def trip(self, *, before: bool) -> None:
        """Fail, now and then: before something is done, or, as the reply is lost, after it."""
        if self._rng.random() < self.failing / 2:
            done = "has not been" if before else "may have been"
            raise StorageError(f"the disk is failing: what was asked for {done} done")

    def trip_reading(self, name: str) -> None:
        """Fail to read, now and then; several threads may ask, in whatever order."""
        if self.failing:
            # The seed alone decides: what is drawn hangs on what is read, and when.
            drawn = random.Random(f"{name} {self.moment}").random()  # noqa: S311
            if drawn < self.failing / 2:
                raise StorageError("the disk is failing: it does not answer")

    def tears(self) -> bool:
        """Tell whether a write stops in the middle."""
        return self._rng.random() < self.failing / 3


class _Folder:
    """A folder of a disk, as the engine sees it."""

    def __init__(self, disk: Disk, url: str) -> None:
        self._disk = disk
        self.url = url

    def create(self, path: str, data: bytes) -> Creation:
        self._disk.trip(before=True)
        name = f"{self.url}/{path}"
        there = self._disk.objects.get(name)
        if there is None:
            self._disk.objects[name] = data
        self._disk.trip(before=False)
        return Created() if there is None else Exists(there)

    def put(self, path: str, data: bytes) -> None:
        self._disk.trip(before=True)
        if f"{self.url}/{path}" not in self._disk.objects and self._disk.tears():
            self._disk.objects[f"{self.url}/{path}"] = data[: len(data) // 2]
            raise StorageError("the disk is failing: a write was torn")
        self._disk.objects[f"{self.url}/{path}"] = data
        self._disk.trip(before=False)

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | Missing:
        self._disk.trip_reading(f"{self.url}/{path}")
        data = self._disk.objects.get(f"{self.url}/{path}")
        end = None if length is None else start + length
        return Missing(f"{self.url}/{path}") if data is None else data[start:end]

    def list(self, folder: str = "") -> list[str]:
        self._disk.trip_reading(f"{self.url}/{folder}")
        root = f"{self.url}/{folder}/" if folder else f"{self.url}/"
        names = (name.removeprefix(root) for name in self._disk.objects if name.startswith(root))
        return sorted({name.split("/")[0] for name in names})

    def delete(self, paths: Iterable[str]) -> None:
        self._disk.trip(before=True)
        for path in paths:
            self._disk.objects.pop(f"{self.url}/{path}", None)
