"""Where jobs keep what they remember, and which snapshot a user's path means.

``<directory>/<job name>/<id>/`` is the root of one job: ``log/``, ``chunks/`` and
``manifest-<attempt>-<checkpoint>.json``. ``<directory>/<job name>/savepoints/<id>/`` is the place of a
savepoint, unless somebody names another: ``manifest.json`` and ``chunks/``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone

from raystream.errors import ConfigError, StorageError
from raystream.flow.snapshots import CheckpointEntry, Entry, Manifest, SavepointEntry
from raystream.flow.time import moment
from raystream.storage.documents import read_manifest, write_manifest
from raystream.storage.log import read_log
from raystream.storage.store import Store, open_store

SAVEPOINT = "manifest.json"
_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A snapshot: the folder that its parts are relative to, its manifest's name, what it says."""

    root: str
    name: str
    manifest: Manifest

    @property
    def url(self) -> str:
        """The address of its manifest."""
        return join(self.root, self.name)


def join(url: str, path: str) -> str:
    """Put a path behind a URL."""
    return f"{url.rstrip('/')}/{path}"


def new_id(now_us: int, token: str) -> str:
    """Name a run, or a savepoint: the time, and what tells it from others of that second."""
    return f"{moment(now_us).astimezone(timezone.utc):%Y%m%dT%H%M%S}-{token[:8]}"


def root_of(directory: str, job: str, job_id: str) -> str:
    """Give the root of a job."""
    return join(directory, f"{_folder(job)}/{job_id}")


def savepoint_of(directory: str, job: str, savepoint_id: str) -> str:
    """Give the place of a savepoint for which nobody has named one."""
    return join(directory, f"{_folder(job)}/savepoints/{savepoint_id}")


def ids_of(directory: str, job: str) -> list[str]:
    """List the runs of a job that have a log, the newest first."""
    store = open_store(join(directory, _folder(job)))
    names = (path.split("/") for path in store.list(""))
    return sorted(
        {parts[0] for parts in names if _ID.fullmatch(parts[0]) and parts[1:2] == ["log"]},
        reverse=True,
    )


def newest(store: Store, *, savepoints: bool) -> CheckpointEntry | SavepointEntry | None:
    """Give the newest checkpoint, or savepoint, that the log of a job has."""
    entries: list[Entry] = [entry for _, entry in read_log(store)[0]]
    kinds = (CheckpointEntry, SavepointEntry) if savepoints else (CheckpointEntry,)
    known = [entry for entry in entries if isinstance(entry, kinds)]
    return max(known, key=lambda entry: entry.checkpoint_id, default=None)


def load_manifest(url: str, opened: Callable[[str], Store] = open_store) -> Found:
    """Read a manifest by its address.

    Raises: StorageError where there is none.
    """
    root, name = posixpath.split(url)
    store = opened(root)
    content = store.get(name)
    if content is None:
        raise StorageError(f"there is no {url}")
    return Found(store.url, name, read_manifest(content, url))


def find(path: str) -> Found:
    """Find the snapshot that a path means: a manifest, a savepoint's folder, a job's root.

    Raises: ConfigError where there is none.
    """
    if path.endswith(".json"):
        return load_manifest(path)
    store = open_store(path)
    if store.get(SAVEPOINT) is not None:
        return load_manifest(join(store.url, SAVEPOINT))
    entry = newest(store, savepoints=True)
    if entry is None:
        raise ConfigError(
            f"{path} holds no snapshot",
            hint="give the folder of a savepoint, the root of a job that has made a checkpoint, or "
            "a manifest; raystream state ls shows what a folder holds",
        )
    return load_manifest(absolute(store.url, entry.manifest))


def absolute(root: str, manifest: str) -> str:
    """Give the address of a manifest that a log names: in its root, or, as a URL, elsewhere."""
    return manifest if "/" in manifest else join(root, manifest)


def put_savepoint(store: Store, manifest: Manifest) -> None:
    """Write the manifest of a savepoint into its folder: from here on it is one."""
    store.put(SAVEPOINT, write_manifest(manifest))


def _folder(job: str) -> str:
    return re.sub(r"[^\w.-]+", "_", job)
