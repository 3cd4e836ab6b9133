"""S3, and whatever speaks its protocol: an exclusive create is a put with ``If-None-Match: *``.

A refused put says that there is an object, not whose: the reply to our own first put may have been
lost and the put repeated on the way. So what is there is read back, and the caller compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from raystream.errors import StorageError
from raystream.storage.failures import code_of, storage_error
from raystream.storage.store import Created, Creation, Exists, Missing, checked_path, joined

CREATE_TRIES = 5
"""Times that a create is repeated while S3 answers that another is under way, or that an object is
there which is then gone: who creates names that others delete has a bug, and must not wait long."""

DELETES_AT_ONCE = 8
"""Requests that a deletion has under way: one each, because S3's deletion of many at once tells
failures in a way that s3fs drops."""


class S3Store:
    """Objects below ``s3://bucket/…``; credentials and endpoint are the environment's."""

    def __init__(self, url: str) -> None:
        try:
            import botocore.exceptions
            import s3fs
        except ImportError as error:
            raise StorageError(
                f"{url} needs the package s3fs: {error}", hint='pip install "raystream[s3]"'
            ) from error
        self._url = url.rstrip("/")
        self._folder = self._url.split("://", 1)[1]
        # Recovery rests on listings: one that is remembered would hide what others wrote.
        self._files: Any = s3fs.S3FileSystem(use_listings_cache=False)
        self._foreign = (
            OSError,
            asyncio.TimeoutError,
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
        )

    @property
    def url(self) -> str:
        return self._url

    def create(self, path: str, data: bytes) -> Creation:
        for _ in range(CREATE_TRIES):
            with self._translated("create", path):
                if self._created(path, data):
                    return Created()
            there = self.get(path)
            if isinstance(there, bytes):
                return Exists(there)
        raise StorageError(
            f"cannot create {joined(self._url, path)}: S3 says that it is there, and has none",
            hint="look for a rule or a program that deletes objects in this place",
        )

    def _created(self, path: str, data: bytes) -> bool:
        try:
            self._files.pipe_file(self._path(path), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # A 409 says that another create of this name is under way: who won is read back.
            if code_of(error) in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
                return False
            raise
        return True

    def put(self, path: str, data: bytes) -> None:
        with self._translated("write", path):
            self._files.pipe_file(self._path(path), data)

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | Missing:
        assert length is None or length > 0, "a range without a byte cannot be asked for"
        end = None if length is None else start + length
        with self._translated("read", path):
            try:
                # With a start s3fs reads at once; without, it asks for the size first.
                found: bytes = self._files.cat_file(self._path(path), start=start, end=end)
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                return Missing(joined(self._url, path))
            except OSError as error:
                if code_of(error) in {"InvalidRange", "416"}:
                    return b""
                raise
        return found

    def list(self, folder: str = "") -> list[str]:
        source = f"{self._folder}/{checked_path(folder)}" if folder else self._folder
        with self._translated("list", folder):
            try:
                names = self._files.ls(source, detail=False, refresh=True)
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    raise
                return []
        below = f"{source}/"
        found = {name.rstrip("/")[len(below) :] for name in names if name.startswith(below)}
        return sorted(found - {""})

    def delete(self, paths: Iterable[str]) -> None:
        with ThreadPoolExecutor(DELETES_AT_ONCE) as pool:
            for _ in pool.map(self._delete, paths):
                pass

    def _delete(self, path: str) -> None:
        with self._translated("delete", path):
            try:
                self._files.rm_file(self._path(path))
            except FileNotFoundError:
                return

    def _path(self, path: str) -> str:
        return f"{self._folder}/{checked_path(path)}"

    @contextmanager
    def _translated(self, doing: str, path: str) -> Iterator[None]:
        try:
            yield
        except self._foreign as error:
            raise storage_error(doing, joined(self._url, *filter(None, [path])), error) from error
