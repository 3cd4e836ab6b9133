"""From an address to a store; and, before a job trusts one, whether it keeps its promises."""

from __future__ import annotations

import uuid
from contextlib import suppress
from urllib.parse import urlsplit

from raystream.errors import ConfigError, StorageError
from raystream.storage.store import Created, Exists, Missing, Store
from raystream.storage.store_local import LocalStore
from raystream.storage.store_memory import MemoryStore
from raystream.storage.store_s3 import S3Store

_WORKING = "a local path, file://, s3:// and memory://"


def open_store(url: str) -> Store:
    """Open the folder at an address; nothing is read or written yet.

    Raises: ConfigError for a protocol without an exclusive create, or a password in the address;
    StorageError where a package is missing.
    """
    if not url.strip():
        raise ConfigError("an empty address names no folder", hint=f"give one of {_WORKING}")
    protocol, found, rest = url.partition("://")
    if not found:
        return LocalStore(url)
    refuse_password(url)
    match protocol:
        case "file" | "local":
            return LocalStore(rest or "/")
        case "memory":
            return MemoryStore(url)
        case "s3" | "s3a":
            if not rest.strip("/"):
                raise ConfigError(f"{url} names no bucket", hint="write s3://bucket/folder")
            return S3Store(f"s3://{rest}")
        case _:
            raise ConfigError(
                f"snapshots cannot be kept at {url}: fsspec has no exclusive create for "
                f"{protocol}://, and without one two coordinators of a job could both complete "
                "checkpoints",
                hint=f"these work: {_WORKING}",
            )


def refuse_password(url: str) -> None:
    """Keep passwords out of logs and manifests.

    Raises: ConfigError if there is one in the address.
    """
    if "@" not in url:
        return
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"an address that cannot be read: {error}") from error
    if parts.password:
        raise ConfigError(
            f"the address {parts.scheme}://…@{parts.hostname} holds a password",
            hint="let the filesystem find its credentials in the environment",
        )


def probe(store: Store) -> None:
    """Find out that a store can be written and keeps its promises; leave nothing behind.

    Raises: StorageError with what does not work, where, and what to do.
    """
    name = f"probe-{uuid.uuid4().hex}"
    try:
        _probe(store, name)
    except StorageError:
        with suppress(StorageError):  # the first failure says more
            store.delete([name])
        raise
    store.delete([name])
    if name in store.list():
        raise _broken(store, "an object that was deleted is still listed")


def _probe(store: Store, name: str) -> None:
    if store.create(name, b"first") != Created():
        raise _broken(store, "an exclusive create of a new name was refused")
    if store.create(name, b"second") != Exists(b"first"):
        raise _broken(store, "an exclusive create replaced an object, or did not say what is there")
    if name not in store.list():
        raise _broken(store, "a new object is not listed")
    store.put(name, b"third")
    match store.get(name, 1, 3):
        case b"hir":
            pass
        case bytes() | Missing():
            raise _broken(store, "an object does not read as it was written")


def _broken(store: Store, what: str) -> StorageError:
    return StorageError(
        f"snapshots cannot be kept at {store.url}: {what}",
        hint="use a store with conditional writes (If-None-Match) and consistent listings, "
        "such as AWS S3, MinIO or SeaweedFS",
    )
