"""Read the Parquet files of a table, and follow a table: one file after another, for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from raystream.connectors.file_formats import Wanted
from raystream.connectors.file_listing import File
from raystream.connectors.file_reader import FileReader, Records
from raystream.connectors.parquet_files import Parquet, footer
from raystream.contracts.source import END, Later, Polled, Reader, Split

_LISTING_THREADS = 8
"""Footers read at a time: each is one or two round trips to an object store."""

_EMPTY_VERSIONS_MAX = 16
"""Versions without new rows that one poll passes: other splits are waiting for their turn."""

_PARQUET = Parquet()


class TableLog(Protocol):
    """What happened to a table, version by version; a file is whatever ``reader`` understands."""

    def files(self, version: int) -> Sequence[Any]:
        """List the files of a version, always in the same order."""

    def added(self, version: int) -> Sequence[Any]:
        """List the files that a version has added, always in the same order."""

    def after(self, version: int) -> tuple[int, Sequence[Any]] | None:
        """Give the version that came next and the files it has added; None: none has yet.

        Raises: SourceError if it took rows back.
        """

    def reader(self, file: Any, skip: int) -> FileReader:
        """Read a file from a row on."""


def splits_of(files: Sequence[File], schema: pa.Schema) -> list[Split]:
    """Cut files into splits that are read apart.

    Raises: SourceError for a file that is gone, or holds other types.
    """

    def split(file: File) -> list[Split]:
        return _PARQUET.splits(_whole(file, schema), schema, exact=False)

    with ThreadPoolExecutor(_LISTING_THREADS) as threads:
        return list(chain.from_iterable(threads.map(split, files)))


def whole_file_reader(file: File, schema: pa.Schema, skip: int) -> FileReader:
    """Read all row groups of a file from a row on."""
    whole = _whole(file, schema)
    return file_reader((whole, 0, footer(whole).num_row_groups), schema, skip)


def file_reader(payload: Any, schema: pa.Schema, skip: int) -> FileReader:
    """Read one split of a file from a row on."""
    file: File = payload[0]
    elsewhere = {name for name, _ in file.partitions}
    # Rows are counted by a column of the file, also where only others are asked for.
    wanted = [field for field in schema if field.name not in elsewhere]
    if not wanted:
        wanted = [footer(file).schema.to_arrow_schema().field(0)]
    found: Iterator[Records] = _PARQUET.records(file, payload, Wanted(pa.schema(wanted), skip))
    return FileReader(file, schema, found, (0, skip))


def _whole(file: File, schema: pa.Schema) -> File:
    """Let columns that came to the table after the file was written be null in it."""
    known = {*footer(file).schema.to_arrow_schema().names, *(name for name, _ in file.partitions)}
    missing = [(name, None) for name in schema.names if name not in known]
    return replace(file, partitions=(*file.partitions, *missing)) if missing else file


class FollowingReader(Reader):
    """Reads what a version holds, then what each later one adds.

    Its position: a version, how many of its files are read, and the rows of the next one that are.
    """

    def __init__(self, log: TableLog, first: int, position: Any, poll_us: int) -> None:
        self._log = log
        self._first = first
        self._poll_us = poll_us
        at: tuple[int, int, int] = (first, 0, 0) if position is None else position
        self._version, self._index, self._skip = at
        self._files: Sequence[Any] | None = None
        self._reader: FileReader | None = None

    def poll(self, max_rows: int) -> Polled:
        for _ in range(_EMPTY_VERSIONS_MAX):
            files = self._listed()
            while self._index < len(files):
                polled = self._opened(files[self._index]).poll(max_rows)
                if polled is not END:
                    return polled
                self.close()
                self._index, self._skip = self._index + 1, 0
            after = self._log.after(self._version)
            if after is None:
                return Later(time.monotonic_ns() // 1_000 + self._poll_us)
            self._version, self._files = after
            self._index = 0
        return None

    def position(self) -> tuple[int, int, int]:
        skip = self._skip if self._reader is None else self._reader.position()[1]
        return self._version, self._index, skip

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._skip = reader.position()[1]
            reader.close()

    def _listed(self) -> Sequence[Any]:
        if self._files is None:
            if self._version == self._first:
                self._files = self._log.files(self._first)
            else:
                self._files = self._log.added(self._version)
        return self._files

    def _opened(self, file: Any) -> FileReader:
        if self._reader is None:
            self._reader = self._log.reader(file, self._skip)
        return self._reader
