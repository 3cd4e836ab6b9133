"""A folder of this machine, or of a disk that several machines share.

A name appears by ``link``, which fails where the name is taken, and only over bytes that the disk
has: who is killed before leaves a file without a name of its own, and who reads never sees half.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from raystream.storage.failures import storage_error
from raystream.storage.store import UNFINISHED, Created, Creation, Exists, Missing, checked_path


class LocalStore:
    """Objects as files below ``folder``; see ``Store``."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).resolve()

    @property
    def url(self) -> str:
        return str(self._folder)

    def create(self, path: str, data: bytes) -> Creation:
        target = self._path(path)
        try:
            written = write_unfinished(target, data, durable=True)
            try:
                # Not Path.hardlink_to: the name must be refused where it is taken.
                os.link(written, target)
            except FileExistsError:
                return Exists(target.read_bytes())
            finally:
                written.unlink()
            _sync_folder(target.parent)
        except OSError as error:
            raise storage_error("create", str(target), error) from error
        return Created()

    def put(self, path: str, data: bytes) -> None:
        target = self._path(path)
        try:
            written = write_unfinished(target, data, durable=True)
            try:
                written.replace(target)
            except OSError:
                written.unlink()
                raise
            _sync_folder(target.parent)
        except OSError as error:
            raise storage_error("write", str(target), error) from error

    def get(self, path: str, start: int = 0, length: int | None = None) -> bytes | Missing:
        source = self._path(path)
        try:
            with source.open("rb") as file:
                file.seek(start)
                return file.read() if length is None else file.read(length)
        except (FileNotFoundError, NotADirectoryError):
            return Missing(str(source))
        except OSError as error:
            raise storage_error("read", str(source), error) from error

    def list(self, folder: str = "") -> list[str]:
        source = self._path(folder) if folder else self._folder
        try:
            return sorted(path.name for path in source.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise storage_error("list", str(source), error) from error

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            target = self._path(path)
            try:
                target.unlink()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise storage_error("delete", str(target), error) from error

    def _path(self, path: str) -> Path:
        return self._folder / checked_path(path)


def write_unfinished(target: Path, data: bytes, *, durable: bool) -> Path:
    """Write ``data`` beside ``target`` under a name that is nobody else's, and give that.

    With ``durable`` the disk has it all when this returns.
    """
    written = target.with_name(f"{target.name}.{uuid.uuid4().hex}{UNFINISHED}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        # Any mode that the user's umask leaves: others may be meant to read the folder.
        file = os.open(written, flags, 0o666)
    except FileNotFoundError:
        _make_folder(target.parent)
        file = os.open(written, flags, 0o666)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
    except OSError:
        written.unlink()
        raise
    return written


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each known to the disk before something is put into it."""
    if folder.parent != folder and not folder.parent.is_dir():
        _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            code = errno.ENOTDIR
            raise NotADirectoryError(code, os.strerror(code), str(folder)) from None
        return
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some shared filesystems flush names by themselves, and know no flushing of a folder.
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
    finally:
        os.close(handle)
