"""An object store as a job needs it: whole objects, read in ranges, and created exclusively.

Exclusive create is what fences an old coordinator off: of two that want to write one name, one
learns what the other has written. Only protocols that have it can hold a job: local disk (a hard
link to a finished temporary file), S3 (``If-None-Match``), and memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

import fsspec

from raystream.errors import ConfigError, StorageError


@dataclass(frozen=True, slots=True)
class Created:
    """The object is new, and ours."""


@dataclass(frozen=True, slots=True)
class Exists:
    """The name was taken: what is there, which may be what we wrote and had no reply to."""

    content: bytes


Outcome: TypeAlias = Created | Exists


class Store(Protocol):
    """A folder of an object store; paths are relative to it, with slashes."""

    @property
    def url(self) -> str:
        """Where it is."""

    def create(self, path: str, content: bytes) -> Outcome:
        """Write an object unless its name is taken."""

    def put(self, path: str, content: bytes) -> None:
        """Write an object; whoever reads sees all of it or what was there before."""

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | None:
        """Read an object or a part of it; None if there is none."""

    def list(self, prefix: str) -> list[str]:
        """List the objects below a folder, sorted."""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""


def open_store(url: str) -> Store:
    """Open a folder of a store.

    Raises: ConfigError for a protocol without exclusive create, or a URL with a password in it.
    """
    parts = urlsplit(url)
    if parts.password:
        raise ConfigError(
            f"the URL of {parts.scheme}://{parts.hostname} has a password in it",
            hint="give credentials by the environment, as the protocol's own tools want them",
        )
    scheme = parts.scheme if "://" in url else "file"
    if scheme in ("file", "local"):
        return LocalStore(parts.path if "://" in url else url)
    if scheme == "memory":
        return MemoryStore(url)
    if scheme in ("s3", "s3a"):
        return S3Store(url)
    raise ConfigError(
        f"{scheme}:// cannot hold checkpoints: it has no exclusive create that we know of",
        hint="use a path on local disk, or s3://bucket/folder",
    )


def probe(store: Store, token: str) -> None:
    """Check that a place can be written, and that a name is given once.

    Raises: StorageError saying what is wrong.
    """
    path = f"probe/{token}"
    store.create(path, b"1")
    try:
        if store.create(path, b"2") != Exists(b"1") or path not in store.list("probe"):
            raise StorageError(
                f"{store.url} does not keep what is written: an object was created twice, or is "
                "not listed",
                hint="checkpoints need a store with exclusive create and listings that are true",
            )
    finally:
        store.delete([path])


@contextlib.contextmanager
def translated(url: str, path: str) -> Iterator[None]:
    """Turn what a filesystem raises into a StorageError that says where and what to do."""
    try:
        yield
    except (StorageError, ConfigError):
        raise
    except Exception as error:
        raise _storage_error(f"{url}/{path}", error) from error


def _storage_error(where: str, error: Exception) -> StorageError:
    number = getattr(error, "errno", None)
    hints = {
        errno.EACCES: "the process may not write there: check the owner and mode of the folder",
        errno.EPERM: "the process may not write there: check the owner and mode of the folder",
        errno.EROFS: "the file system is mounted read-only",
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the quota is used up",
    }
    hint = hints.get(number) if number is not None else None
    if isinstance(error, ImportError):
        hint = "its package is missing: pip install 'raystream[s3]'"
    return StorageError(f"cannot use {where}: {type(error).__name__}: {error}", hint=hint)


class LocalStore:
    """A folder on local disk, or on a file system that all nodes share."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).absolute()

    @property
    def url(self) -> str:
        return str(self._root)

    def create(self, path: str, content: bytes) -> Outcome:
        target = self._root / path
        with translated(self.url, path), _written(target, content) as temporary:
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                return Exists(target.read_bytes())
            _sync_folder(target.parent)
            return Created()

    def put(self, path: str, content: bytes) -> None:
        target = self._root / path
        with translated(self.url, path), _written(target, content) as temporary:
            temporary.replace(target)
            _sync_folder(target.parent)

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | None:
        with translated(self.url, path):
            try:
                with (self._root / path).open("rb") as file:
                    file.seek(start)
                    return file.read() if length is None else file.read(length)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, prefix: str) -> list[str]:
        with translated(self.url, prefix):
            return sorted(
                path.relative_to(self._root).as_posix()
                for path in (self._root / prefix).rglob("*")
                if not path.name.startswith(_TEMPORARY) and path.is_file()
            )

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with translated(self.url, path):
                (self._root / path).unlink(missing_ok=True)


@contextlib.contextmanager
def _written(target: Path, content: bytes) -> Iterator[Path]:
    """Write a temporary file beside the target: it is whole before it has the name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


_TEMPORARY = "_tmp-"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class MemoryStore:
    """A folder in the memory of this process: for tests, where every job sees the same objects."""

    _lock = threading.Lock()

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._root = "/" + self._url.removeprefix("memory://").strip("/")
        self._filesystem: Any = fsspec.filesystem("memory")

    @property
    def url(self) -> str:
        return self._url

    def create(self, path: str, content: bytes) -> Outcome:
        with self._lock:
            there = self._read(path)
            if there is not None:
                return Exists(there)
            self._filesystem.pipe_file(f"{self._root}/{path}", content)
            return Created()

    def put(self, path: str, content: bytes) -> None:
        with self._lock:
            self._filesystem.pipe_file(f"{self._root}/{path}", content)

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | None:
        with self._lock:
            content = self._read(path)
        end = None if length is None else start + length
        return None if content is None else content[start:end]

    def list(self, prefix: str) -> list[str]:
        with self._lock:
            found = self._filesystem.find(f"{self._root}/{prefix}")
        return sorted(name.removeprefix(f"{self._root}/") for name in found)

    def delete(self, paths: Iterable[str]) -> None:
        with self._lock:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    self._filesystem.rm_file(f"{self._root}/{path}")

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._filesystem.cat_file(f"{self._root}/{path}"))
        except FileNotFoundError:
            return None


class S3Store:
    """A folder of a bucket, on any server with conditional writes (``If-None-Match: *``)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._root = self._url.split("://", 1)[1]
        with translated(self._url, ""):
            # Listings must be true: recovery hangs on them.
            self._filesystem: Any = fsspec.filesystem("s3", use_listings_cache=False)

    @property
    def url(self) -> str:
        return self._url

    def create(self, path: str, content: bytes) -> Outcome:
        target = f"{self._root}/{path}"
        with translated(self._url, path):
            try:
                self._filesystem.pipe_file(target, content, mode="create")
            except (FileExistsError, OSError) as error:
                if not _is_taken(error):
                    raise
                there = self.get(path)
                if there is None:
                    raise StorageError(f"{self._url}/{path} is taken, and is not there") from error
                return Exists(there)
            return Created()

    def put(self, path: str, content: bytes) -> None:
        with translated(self._url, path):
            self._filesystem.pipe_file(f"{self._root}/{path}", content)

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | None:
        end = None if length is None else start + length
        if length == 0:
            return b""
        with translated(self._url, path):
            try:
                return bytes(
                    self._filesystem.cat_file(f"{self._root}/{path}", start=start or None, end=end)
                )
            except FileNotFoundError:
                return None

    def list(self, prefix: str) -> list[str]:
        with translated(self._url, prefix):
            found = self._filesystem.find(f"{self._root}/{prefix}")
        return sorted(name.removeprefix(f"{self._root}/") for name in found)

    def delete(self, paths: Iterable[str]) -> None:
        names = [f"{self._root}/{path}" for path in paths]
        if names:
            with translated(self._url, names[0]), contextlib.suppress(FileNotFoundError):
                self._filesystem.rm(names)


def _is_taken(error: OSError) -> bool:
    """Tell a precondition that failed from other errors: servers differ in what they answer."""
    if isinstance(error, FileExistsError):
        return True
    response: Any = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in (
        "PreconditionFailed",
        "ConditionalRequestConflict",
        "412",
    )
