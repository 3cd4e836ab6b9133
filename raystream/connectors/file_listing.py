"""Which files a path means: one file, a glob, a folder, or a list of these, on any filesystem."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import fsspec
import pyarrow as pa

from raystream.errors import PlanError, SourceError

PathLike: TypeAlias = str | os.PathLike[str]

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""The folder name that stands for null in a partition column."""

FORMAT_OF_EXTENSION = {
    "parquet": "parquet",
    "pq": "parquet",
    "csv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "txt": "text",
    "text": "text",
    "log": "text",
}

_CODEC_OF_EXTENSION = {
    "gz": "gzip",
    "bz2": "bz2",
    "zst": "zstd",
    "lz4": "lz4",
    "br": "brotli",
}
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class File:
    """One file: its address, its size in bytes, and what its folders say (``day=2020-01-01``).

    ``stamp`` changes when the file does.
    """

    url: str
    size: int
    stamp: str = ""
    partitions: tuple[tuple[str, str | None], ...] = ()

    @property
    def format(self) -> str | None:
        """The format that the extension names, without that of the compression."""
        parts = posixpath.basename(self.url).lower().split(".")[1:]
        if parts and parts[-1] in _CODEC_OF_EXTENSION:
            parts.pop()
        return FORMAT_OF_EXTENSION.get(parts[-1]) if parts else None

    @property
    def codec(self) -> str | None:
        """The compression that the extension names."""
        return _CODEC_OF_EXTENSION.get(self.url.rsplit(".", 1)[-1].lower())

    def open(self) -> pa.NativeFile:
        """Open for random access, as it lies on disk."""
        filesystem, path = filesystem_of(self.url)
        if is_local(filesystem):
            return pa.OSFile(path, "rb")
        return pa.PythonFile(filesystem.open(path, "rb"), mode="r")

    def open_text(self) -> pa.NativeFile:
        """Open for reading from the start, decompressed."""
        raw = self.open()
        return raw if self.codec is None else pa.CompressedInputStream(raw, self.codec)


def filesystem_of(url: str) -> tuple[Any, str]:
    """Give the filesystem of an address, and its path there.

    Raises: PlanError for a protocol that nobody here speaks, or a password in the address.
    """
    refuse_password(url)
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise PlanError(
            f"cannot open {url}: {error}",
            hint="give a local path, or an fsspec URL such as s3://bucket/folder",
        ) from error
    return filesystem, str(path)


def is_local(filesystem: Any) -> bool:
    """Tell whether files of a filesystem are files of this machine."""
    protocol = filesystem.protocol
    names = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    return "file" in names or "local" in names


def refuse_password(url: str) -> None:
    """Keep passwords out of plans and logs.

    Raises: PlanError if there is one in the address.
    """
    if "@" in url and "://" in url and urlsplit(url).password:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
        raise PlanError(
            f"the address {scheme}://…@{host} holds a password",
            hint="let the filesystem find its credentials in the environment",
        )


def list_files(paths: Iterable[str], *, wait_for: bool = False) -> list[File]:
    """List the files that ``paths`` mean, each once, in order of their names per path.

    Names that start with ``_`` or ``.`` are skipped where a folder or a glob found them.
    Raises: SourceError if a path, written out, is not there, unless it is waited for.
    """
    found: dict[str, File] = {}
    for path in paths:
        for file in _expand(path, wait_for):
            found.setdefault(file.url, file)
    return list(found.values())


def _expand(url: str, wait_for: bool) -> list[File]:
    filesystem, path = filesystem_of(url)
    filesystem.invalidate_cache()
    try:
        if filesystem.isdir(path):
            return _folder(filesystem, path, path)
        if filesystem.exists(path):
            return [_file(filesystem, filesystem.info(path), path)]
        if _MAGIC.search(path):
            return _glob(filesystem, path)
    except OSError as error:
        raise SourceError(f"cannot list {url}: {error}") from error
    if wait_for:
        return []
    raise SourceError(f"no such file or folder: {url}", hint=_close_name(filesystem, path))


def _glob(filesystem: Any, pattern: str) -> list[File]:
    root = pattern[: _MAGIC.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    hidden_wanted = posixpath.basename(pattern).startswith(("_", "."))
    files = []
    for path, facts in sorted(filesystem.glob(pattern, detail=True).items()):
        if not hidden_wanted and _hidden(path, root):
            continue
        if facts["type"] == "directory":
            files += _folder(filesystem, path, root)
        else:
            files.append(_file(filesystem, facts, root))
    return files


def _folder(filesystem: Any, folder: str, root: str) -> list[File]:
    listed = sorted(filesystem.find(folder, detail=True).items())
    return [_file(filesystem, facts, root) for path, facts in listed if not _hidden(path, folder)]


def _hidden(path: str, root: str) -> bool:
    return any(part.startswith(("_", ".")) for part in _below(path, root).split("/"))


def _below(path: str, root: str) -> str:
    return path[len(root) :].lstrip("/") if path.startswith(root) else path


def _file(filesystem: Any, facts: dict[str, Any], root: str) -> File:
    path = str(facts["name"])
    if not path.startswith(root) and f"/{path}".startswith(root):
        path = f"/{path}"  # memory:// lists some names without the slash that others have
    url = path if is_local(filesystem) else str(filesystem.unstrip_protocol(path))
    folders = _below(path, root).split("/")[:-1]
    partitions = tuple(_partition(folder) for folder in folders if "=" in folder)
    stamps = (facts.get(key) for key in ("mtime", "ETag", "LastModified", "created"))
    stamp = next((str(stamp) for stamp in stamps if stamp), "")
    return File(url, int(facts.get("size") or 0), stamp, partitions)


def _partition(folder: str) -> tuple[str, str | None]:
    name, _, value = folder.partition("=")
    return unquote(name), None if value == NULL_PARTITION else unquote(value)


def _close_name(filesystem: Any, path: str) -> str | None:
    if not is_local(filesystem):
        return None
    folder, name = Path(path).parent, Path(path).name
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    close = difflib.get_close_matches(name, [there.name for there in folder.iterdir()], 1)
    return f'did you mean "{close[0]}"?' if close else f"the folder {folder} is there"
