"""Folders of databases that live as long as a process: made, and removed whoever has died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "raystream-state-"

_LOCK = "LOCK"
"""The file that RocksDB locks while a database is open; the lock goes with the process."""

_OLD_SECONDS = 60
"""A database younger than this may be about to be locked."""

_mine: set[str] = set()
"""Folders of this process: asking for a lock that one holds oneself would give it away."""


def make_folder(root: str | None) -> str:
    """Make a folder for one database, and remove those whose processes were killed.

    ``root`` is where; None: where the system keeps temporary files.
    """
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=root)
    _mine.add(folder)
    made_at = Path(folder).stat().st_mtime
    for other in Path(folder).parent.glob(f"{_PREFIX}*"):
        if str(other) not in _mine:
            _remove_orphan(other, made_at - _OLD_SECONDS)
    return folder


def remove_folder(folder: str) -> None:
    """Remove a folder of this process."""
    shutil.rmtree(folder, ignore_errors=True)
    _mine.discard(folder)


def _remove_orphan(folder: Path, before: float) -> None:
    """Remove a folder that nobody has locked since a time; leave it where in doubt."""
    with contextlib.suppress(OSError):
        lock = folder / _LOCK
        if lock.stat().st_mtime > before:
            return
        place = os.open(lock, os.O_RDWR)
        try:
            fcntl.lockf(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(place)
