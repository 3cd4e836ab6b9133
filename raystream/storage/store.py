"""A folder of objects, and the few things that a job asks of it.

The one that all others rest on is ``create``: of any number that create one name, one wins, and
the others are told what the winner wrote. fsspec has nothing that promises it on every filesystem
(most look first and write then), so each protocol has its own file here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Created:
    """The object was not there, and now is."""


@dataclass(frozen=True, slots=True)
class Exists:
    """The object was there already; it holds ``data``, and still does.

    Where a reply was lost, these are the caller's own bytes: who creates makes them unlike those
    of others.
    """

    data: bytes


Creation: TypeAlias = Created | Exists
"""What became of an exclusive create."""


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no object at ``url``."""

    url: str


class Store(Protocol):
    """A folder of objects. Paths are relative to it, with ``/`` between names.

    An object is there whole or not at all, and whoever reads after a write sees the write. Every
    method may be called by several threads at once, and raises StorageError where the store
    cannot be reached or refuses.
    """

    @property
    def url(self) -> str:
        """Where the folder is: ``open_store`` takes it."""

    def create(self, path: str, data: bytes) -> Creation:
        """Make an object that is not there; never replace one that is."""

    def put(self, path: str, data: bytes) -> None:
        """Write an object, in place of any that is there."""

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | Missing:
        """Read an object, or ``length`` bytes of it from ``start`` on: as many as there are."""

    def list(self, folder: str = "") -> list[str]:
        """Give the names of what lies directly in a folder, objects and folders, sorted.

        Empty where nothing does. A local folder also shows what a killed writer left unfinished:
        such names end in ``UNFINISHED``, and never come to hold anything.
        """

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects; those that are not there are none to remove."""


UNFINISHED = ".tmp"
"""How the name of a file ends that has not got its own name yet."""


def checked_path(path: str) -> str:
    """Give a path back that stays below the folder it is relative to."""
    assert is_inside(path), f"{path!r} is not a path below a folder"
    return path


def is_inside(path: str) -> bool:
    """Tell whether a relative path names something below its folder."""
    return bool(path) and all(name not in {"", ".", ".."} for name in path.split("/"))


def joined(folder: str, *names: str) -> str:
    """Put names behind the address of a folder."""
    begin = folder if folder.endswith("://") else f"{folder.rstrip('/')}/"
    return begin + "/".join(names)
