"""Parquet files in the folder of a table, each of one partition: nobody sees them uncommitted."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from raystream.connectors.file_listing import filesystem_of, is_local
from raystream.errors import SinkError

_OPEN_FILES_MAX = 64
"""More partitions at a time than this close the file that was written to longest ago."""

_KEPT_BYTES_MAX = 64 * 1024 * 1024
"""What all open files of a subtask may keep of rows that are not yet written."""

_GROUP_ROWS = 131_072
_GROUP_BYTES = 16 * 1024 * 1024
"""Rows are kept until they make a row group of one of these sizes: small ones read slowly."""

_FILE_BYTES = 256 * 1024 * 1024
"""A file ends at a checkpoint, and before that at about this size."""

_TEXT_BOUND_MAX = 32
"""Longer texts are no bounds: the log would grow, and readers skip files by short ones as well."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is whole; ``partition`` has the texts that the log keeps."""

    path: str
    size: int
    partition: Mapping[str, str | None]
    statistics: str

    @property
    def plain(self) -> tuple[str, int, dict[str, str | None], str]:
        """Give it as values that a checkpoint keeps without a class."""
        return self.path, self.size, dict(self.partition), self.statistics


class TableFolder:
    """The folder of a table, wherever it lies."""

    def __init__(self, url: str) -> None:
        self._filesystem, self._root = filesystem_of(url)
        self.local = is_local(self._filesystem)
        self.url = url

    def create(self, name: str) -> BinaryIO:
        """Begin a file; whoever asked for it closes it."""
        path = f"{self._root}/{name}"
        try:
            if not self.local:
                out: BinaryIO = self._filesystem.open(path, "wb")
                return out
            Path(self._root).mkdir(parents=True, exist_ok=True)
            return Path(path).open("xb")
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error}") from error

    def sync(self) -> None:
        """Let names outlive a crash of the machine."""
        if self.local and Path(self._root).exists():
            handle = os.open(self._root, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Give those of these files that are not there."""
        self._filesystem.invalidate_cache()
        return [name for name in names if not self._filesystem.exists(f"{self._root}/{name}")]

    def remove(self, names: Iterable[str]) -> None:
        """Delete files that may be gone already."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._filesystem.rm_file(f"{self._root}/{name}")


class PartitionFiles:
    """The files that one subtask writes; names carry a random token, so that no two runs collide.

    Partitions are named by what tells their rows from others'; the folder has no folders below.
    """

    def __init__(self, folder: TableFolder, subtask: int) -> None:
        self._folder = folder
        self._subtask = subtask
        self.token = secrets.token_hex(8)
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._finished: list[Written] = []
        self._count = 0

    def append(self, key: str, partition: Mapping[str, str | None], rows: pa.RecordBatch) -> None:
        """Write rows of one partition."""
        file = self._open.get(key)
        if file is None:
            file = self._begin(key, partition, rows.schema)
        self._open.move_to_end(key)
        file.write(rows)
        if file.size >= _FILE_BYTES:
            self._finish(key)
        while sum(one.kept_bytes for one in self._open.values()) > _KEPT_BYTES_MAX:
            max(self._open.values(), key=lambda one: one.kept_bytes).flush()

    def finish(self) -> list[Written]:
        """End all files, so that they outlive a crash, and give what was written."""
        for key in list(self._open):
            self._finish(key)
        finished, self._finished = self._finished, []
        if finished:
            self._folder.sync()
        return finished

    def close(self) -> None:
        """Throw away what was not given."""
        for file in self._open.values():
            file.discard()
        names = [file.name for file in self._open.values()]
        names += [file.path for file in self._finished]
        self._open.clear()
        self._finished = []
        self._folder.remove(names)

    def _begin(self, key: str, partition: Mapping[str, str | None], schema: pa.Schema) -> _OpenFile:
        if len(self._open) >= _OPEN_FILES_MAX:
            self._finish(next(iter(self._open)))
        self._count += 1
        name = f"part-{self._subtask:04}-{self._count:06}-{self.token}.parquet"
        file = self._open[key] = _OpenFile(name, self._folder.create(name), partition, schema)
        return file

    def _finish(self, key: str) -> None:
        self._finished.append(self._open.pop(key).finish())


class _OpenFile:
    """A file that is being written: rows are kept until they make a group worth writing."""

    def __init__(
        self, name: str, out: BinaryIO, partition: Mapping[str, str | None], schema: pa.Schema
    ) -> None:
        self.name = name
        self._out = out
        self._partition = partition
        self._writer = pq.ParquetWriter(out, schema)
        self._kept: list[pa.RecordBatch] = []
        self._rows = 0
        self.kept_bytes = 0

    @property
    def size(self) -> int:
        """Bytes written, and those of rows that are kept."""
        return self._out.tell() + self.kept_bytes

    def write(self, rows: pa.RecordBatch) -> None:
        self._kept.append(rows)
        self._rows += rows.num_rows
        self.kept_bytes += rows.nbytes
        if self._rows >= _GROUP_ROWS or self.kept_bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._kept:
            group = pa.concat_batches(self._kept)
            self._kept, self._rows, self.kept_bytes = [], 0, 0
            self._writer.write_batch(group)

    def finish(self) -> Written:
        self.flush()
        self._writer.close()
        size = self._out.tell()
        if isinstance(self._out, io.BufferedWriter):  # a file of this machine
            self._out.flush()
            os.fsync(self._out.fileno())
        try:
            self._out.close()
        except OSError as error:
            raise SinkError(f"cannot write {self.name}: {error}") from error
        footer = self._writer.writer.metadata
        return Written(self.name, size, self._partition, _statistics(footer))

    def discard(self) -> None:
        self._kept = []
        self._writer.close()
        self._out.close()


def _statistics(footer: Any) -> str:
    """Write down what the footer knows of the columns, as the log of a table has it."""
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    groups = range(footer.num_row_groups)
    for index in range(footer.num_columns):
        name = footer.schema.column(index).path
        found = [footer.row_group(group).column(index).statistics for group in groups]
        if "." in name or not found or any(one is None for one in found):
            continue  # bounds of what lies inside of columns are not worth their place
        if all(one.has_null_count for one in found):
            nulls[name] = sum(one.null_count for one in found)
        bounded = [one for one in found if one.has_min_max]
        if bounded and all(one.has_min_max or not one.num_values for one in found):
            low = _bound(min(one.min for one in bounded))
            high = _bound(max(one.max for one in bounded), up=True)
            if low is not None and high is not None:
                least[name], most[name] = low, high
    return json.dumps(
        {
            "numRecords": footer.num_rows,
            "minValues": least,
            "maxValues": most,
            "nullCount": nulls,
        }
    )


def _bound(value: Any, *, up: bool = False) -> Any:
    """Give a bound as JSON has it; None: it has no form there, or would not hold."""
    if isinstance(value, datetime):
        # The log has milliseconds: the upper bound must not fall below its value.
        rest_us = value.microsecond % 1_000
        if up and rest_us:
            try:
                value += timedelta(microseconds=1_000 - rest_us)
            except OverflowError:
                return None
        zone = "" if value.tzinfo is None else "Z"
        utc = value.astimezone(timezone.utc).replace(tzinfo=None) if zone else value
        return f"{utc.isoformat(timespec='milliseconds')}{zone}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _TEXT_BOUND_MAX else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float):
        # Zeros have two signs and not-a-number no place in the order: only clear cases are told.
        return value if math.isfinite(value) and value else None
    return None
