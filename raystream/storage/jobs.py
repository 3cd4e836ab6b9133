"""Jobs as a directory holds them: their ids, and the snapshot that ``from_snapshot`` means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from raystream.clock import Clock
from raystream.errors import ConfigError, CorruptSnapshot, NotFound, StorageError
from raystream.flow.snapshots import CheckpointEntry, Manifest, SavepointEntry
from raystream.storage.codec import decode_manifest
from raystream.storage.layout import (
    LOG,
    SAVEPOINT_MANIFEST,
    SAVEPOINTS,
    is_manifest,
    log_number,
    safe_name,
)
from raystream.storage.log import read_log
from raystream.storage.opening import open_store
from raystream.storage.store import Missing, Store, joined

LATEST = "latest"

_ID = re.compile(r"[0-9]{8}T[0-9]{9}Z-[0-9a-f]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Found:
    """A snapshot to start from: the path of its manifest in the root that holds its chunks.

    ``job_id`` is the job that goes on from it, with its log; None where a new one begins.
    """

    root: str
    manifest: str
    job_id: str | None = None

    @property
    def url(self) -> str:
        """Where the manifest is."""
        return joined(self.root, self.manifest)


def new_job_id(clock: Clock, random_hex: str) -> str:
    """Name a run by when it began and a random number in hexadecimal; ids sort by time.

    Raises: ConfigError if the number is not hexadecimal.
    """
    now = _EPOCH + timedelta(microseconds=clock.now_us())
    made = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{random_hex}"
    if not _ID.fullmatch(made):
        raise ConfigError(f"the random part of an id is hexadecimal, got {random_hex!r}")
    return made


def job_root(directory: str, name: str, job_id: str) -> str:
    """Give the address of a job's root."""
    return joined(directory, safe_name(name), job_id)


def savepoint_root(directory: str, name: str, savepoint_id: str) -> str:
    """Give the address at which a savepoint is made that was not told where."""
    return joined(directory, safe_name(name), SAVEPOINTS, savepoint_id)


def job_ids(store: Store, name: str) -> list[str]:
    """List the jobs of a name that the directory ``store`` holds, newest first."""
    return _ids(store, safe_name(name))


def read_manifest(store: Store, path: str) -> Manifest:
    """Read the manifest at a path of a root.

    Raises: StorageError if it is not there; CorruptSnapshot if it cannot be read.
    """
    data = store.get(path)
    if isinstance(data, Missing):
        raise StorageError(
            f"there is no manifest at {data.url}", hint="start from another snapshot: --from PATH"
        )
    return decode_manifest(data, joined(store.url, path))


def resolve(wanted: str, directory: str | None, name: str) -> Found | None:
    """Find the snapshot that a user means.

    ``wanted`` is ``"latest"``, the newest checkpoint or savepoint of this name, None where there
    is none; or a path: of a manifest, of a savepoint, or of a job's root, which means its newest
    checkpoint. Whose snapshot a path holds, its manifest says.
    Raises: ConfigError if there is no snapshot at the path; StorageError; CorruptSnapshot.
    """
    if wanted != LATEST:
        return _at(wanted)
    if directory is None:
        raise ConfigError(
            "the newest snapshot is looked for where the job keeps its checkpoints, and it keeps "
            "none",
            hint='give Job(checkpoint="…") or --checkpoint URL, or the path of a snapshot',
        )
    store = open_store(directory)
    for job_id in job_ids(store, name):
        found = _newest(job_root(store.url, name, job_id), savepoints=True)
        if found is not None:
            return Found(found.root, found.manifest, job_id)
    # Nobody's log tells of them: the folders of their jobs were removed.
    folder = f"{safe_name(name)}/{SAVEPOINTS}"
    for savepoint_id in _ids(store, folder):
        if not isinstance(store.get(f"{folder}/{savepoint_id}/{SAVEPOINT_MANIFEST}"), Missing):
            return Found(savepoint_root(store.url, name, savepoint_id), SAVEPOINT_MANIFEST)
    return None


def _at(url: str) -> Found:
    folder, _, last = url.rstrip("/").rpartition("/")
    if is_manifest(last):
        return _checked(Found(open_store(folder or ("/" if "/" in url else ".")).url, last))
    store = open_store(url)
    names = store.list()
    if SAVEPOINT_MANIFEST in names:
        return _checked(Found(store.url, SAVEPOINT_MANIFEST))
    if LOG in names:
        found = _newest(store.url, savepoints=False)
        if found is None:
            raise _nothing(f"the job at {store.url} has no checkpoint", "start without a snapshot")
        return _checked(found)
    if not names:
        raise _nothing(f"there is nothing at {store.url}", "correct the path")
    jobs = [one for one in names if _ID.fullmatch(one)]
    if jobs or SAVEPOINTS in names:
        shown = ", ".join(sorted(jobs, reverse=True)[:5]) or f"none but {SAVEPOINTS}/"
        raise _nothing(
            f"{store.url} holds the jobs of a name, not one snapshot: {shown}",
            'give the path of one of them, or "latest"',
        )
    shown = ", ".join(names[:5])
    raise _nothing(
        f"what is at {store.url} is no snapshot: {shown}",
        "give the folder of a savepoint, of a job, or the file of a manifest",
    )


def _newest(root: str, *, savepoints: bool) -> Found | None:
    """Find the newest snapshot that the log of a job tells of."""
    store = open_store(root)
    if not any(log_number(one) is not None for one in store.list(LOG)):
        return None
    for one in reversed(read_log(store).entries):
        match one.entry:
            case CheckpointEntry(manifest=manifest):
                return _placed(store, manifest)
            case SavepointEntry(manifest=manifest) if savepoints:
                found = _placed(store, manifest)
                # A savepoint is its user's, who may have removed it. A checkpoint must be there:
                # its commits were made, and an older one would make them again.
                if not isinstance(open_store(found.root).get(found.manifest), Missing):
                    return found
            case _:
                continue
    return None


def _placed(store: Store, manifest: str) -> Found:
    """Find a manifest that a log entry names: by a path in its root, or by an address."""
    if "://" not in manifest and not manifest.startswith("/"):
        return Found(store.url, manifest)
    folder, _, last = manifest.rpartition("/")
    return Found(folder, last)


def _checked(found: Found) -> Found:
    """See that a snapshot is one before anything is started from it."""
    data = open_store(found.root).get(found.manifest)
    if isinstance(data, Missing):
        raise _nothing(f"there is nothing at {found.url}", "correct the path")
    try:
        decode_manifest(data, found.url)
    except CorruptSnapshot as error:
        raise ConfigError(
            f"what is at {found.url} is no snapshot: {error.message}",
            hint="give the folder of a savepoint, of a job, or the file of a manifest",
        ) from error
    return found


def _nothing(what: str, hint: str) -> NotFound:
    return NotFound(what, where="from_snapshot", hint=hint)


def _ids(store: Store, folder: str) -> list[str]:
    return sorted((one for one in store.list(folder) if _ID.fullmatch(one)), reverse=True)
