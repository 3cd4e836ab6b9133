"""Read files: Parquet, CSV, JSON lines, Arrow and text, from any filesystem that fsspec knows."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, Literal, Protocol

import pyarrow as pa

from raystream.connectors.file_formats import (
    TEXT_SCHEMA,
    Arrow,
    Csv,
    Json,
    Text,
    Wanted,
    asked_types,
)
from raystream.connectors.file_listing import File, PathLike, filesystem_of, is_local, list_files
from raystream.connectors.file_reader import FileReader, Records, unreadable
from raystream.connectors.parquet_files import Parquet
from raystream.contracts.source import Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.normal import normal_schema
from raystream.flow.time import Duration, positive

_LISTING_THREADS = 8
"""Footers read at a time: each is one or two round trips to an object store."""


class _Format(Protocol):
    def read_schema(self, file: File) -> pa.Schema: ...

    def splits(self, file: File, schema: pa.Schema, *, exact: bool) -> list[Split]: ...

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]: ...


_FORMATS: dict[str, _Format] = {
    "parquet": Parquet(),
    "csv": Csv(),
    "json": Json(),
    "arrow": Arrow(),
    "text": Text(),
}


class FileSource(Source):
    """Read files, each row exactly once.

    Guarantee: exactly once; a position is a row of a split, and files are read from there again.
    For that they must stay, whole and as they are, until a checkpoint has seen their end.

    ``path`` is a file, a glob, a folder (with all that is below it; names that start with ``_`` or
    ``.`` are skipped) or a list of these, local or any fsspec URL. ``format`` is ``"parquet"``,
    ``"csv"``, ``"json"`` (one object a line), ``"arrow"`` (IPC files) or ``"text"`` (one column
    ``line``); without it the extension decides. The schema comes from the first file unless
    ``schema`` gives it, and then only its columns are read. Folders named ``day=2020-01-01`` below
    the path become string columns.

    ``mode="continuous"`` looks for new files every ``poll``, and never ends. A file counts once, by
    its whole address, in all runs of a job: what is added to it after it was read is never read.
    So let files appear complete: write under a name with ``_`` or ``.``, then rename. One that is
    empty does not count yet.

    Raises: PlanError for an unknown format or mode; SourceError if there is nothing to read, or the
    first file cannot be read.
    """

    def __init__(
        self,
        path: PathLike | Sequence[PathLike],
        format: str | None = None,
        schema: pa.Schema | None = None,
        mode: Literal["bounded", "continuous"] = "bounded",
        poll: Duration = "1s",
    ) -> None:
        self._paths = _absolute(path)
        if mode not in {"bounded", "continuous"}:
            raise PlanError(f'mode is "bounded" or "continuous", got {mode!r}')
        if format is not None and format not in _FORMATS:
            raise PlanError(f"unknown format {format!r}", hint=f"known: {', '.join(_FORMATS)}")
        self.bounded = mode == "bounded"
        poll_us = positive(poll, "poll")
        self.discover_every_us = None if self.bounded else poll_us
        self._seen: set[str] = set()
        self._tolerant = False
        waits = not self.bounded and schema is not None and format is not None
        files = [] if waits else self._list()
        if not files and not waits and format != "text":
            raise PlanError(
                f"nothing there yet: {self._named()}",
                hint="give schema= and format=, which otherwise come from the first file",
            )
        self._format = format or _format_of(files)
        self._exact = schema is None
        self._in_files: frozenset[str] = frozenset()
        self._asked = self._read_schema(files) if schema is None else asked_types(schema)
        self._all = normal_schema(self._asked)
        self.schema: pa.Schema = self._all
        if self._format == "text" and self._all != TEXT_SCHEMA:
            raise PlanError(f"text has one column, line: string; schema= says {self._all.names}")

    def splits(self) -> Sequence[Split]:
        self._seen = set()
        return self._new_splits()

    def discover(self) -> Sequence[Split]:
        return self._new_splits()

    def open(self, split: Split, position: Any) -> Reader:
        file: File = split.payload[0] if isinstance(split.payload, tuple) else split.payload
        block, skip = (0, 0) if position is None else position
        from_folders = {name for name, _ in file.partitions} - self._in_files
        in_file = [field for field in self._asked if field.name not in from_folders]
        # Rows are counted by a column of the file, also where only its folders are asked for.
        wanted = [field for field in in_file if field.name in self.schema.names] or in_file[:1]
        asked = Wanted(pa.schema(wanted), skip, block, self._tolerant)
        found = _FORMATS[self._format].records(file, split.payload, asked)
        return FileReader(file, self.schema, found, (block, skip), tolerant=self._tolerant)

    def tolerating(self) -> Source:
        """Give a source that hands over lines that it cannot read, and goes on."""
        tolerant = copy.copy(self)
        tolerant._tolerant = True  # noqa: SLF001  a copy of this
        return tolerant

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that reads only these columns, in the order of the schema.

        A source without columns would have no rows: of none, the first column is kept.
        """
        wanted = set(columns)
        kept = [name for name in self.schema.names if name in wanted] or self.schema.names[:1]
        if kept == self.schema.names:
            return self
        narrow = copy.copy(self)
        narrow.schema = pa.schema([self.schema.field(name) for name in kept])
        return narrow

    def describe(self) -> str:
        narrow = f" [{', '.join(self.schema.names)}]" if self.schema != self._all else ""
        return f"FileSource({self._named()}, {self._format}){narrow}"

    def _named(self) -> str:
        more = f" and {len(self._paths) - 1} more" if len(self._paths) > 1 else ""
        return f"{self._paths[0]}{more}"

    def _list(self) -> list[File]:
        # What is not there yet may come; a bounded source would wait for it in vain.
        files = list_files(self._paths, wait_for=not self.bounded)
        if not files and self.bounded:
            raise SourceError(
                f"no files in {self._named()}",
                hint="is the path right? Names that start with _ or . are skipped",
            )
        return files

    def _new_splits(self) -> list[Split]:
        new = [file for file in self._list() if file.url not in self._seen]
        if not self.bounded:
            new = [file for file in new if file.size]  # others are just being made
        kind = _FORMATS[self._format]

        def split(file: File) -> list[Split]:
            return kind.splits(file, self._all, exact=self._exact)

        with ThreadPoolExecutor(_LISTING_THREADS) as threads:
            splits = list(chain.from_iterable(threads.map(split, new)))
        self._seen = self._seen | {file.url for file in new}
        return splits

    def _read_schema(self, files: list[File]) -> pa.Schema:
        """Read the schema of the first file, and add the columns that its folders name."""
        if not files:
            return TEXT_SCHEMA
        first = next((file for file in files if file.size), files[0])
        try:
            schema = _FORMATS[self._format].read_schema(first)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(first, error) from error
        self._in_files = frozenset(schema.names)
        fields = [pa.field(field.name, field.type) for field in schema]
        for name, _ in first.partitions:
            if name not in self._in_files:
                fields.append(pa.field(name, pa.string()))
        return pa.schema(fields)


def _absolute(path: PathLike | Sequence[PathLike]) -> tuple[str, ...]:
    """Name files so that every process finds them, whatever folder it is in."""
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise PlanError("FileSource was given an empty list of paths")
    absolute = []
    for each in paths:
        filesystem, inside = filesystem_of(os.fspath(each))
        absolute.append(inside if is_local(filesystem) else os.fspath(each))
    return tuple(absolute)


def _format_of(files: list[File]) -> str:
    first = files[0]
    for file in files:
        if file.format is None:
            raise PlanError(
                f"cannot tell the format of {file.url} from its name",
                hint=f"give format=, one of {', '.join(_FORMATS)}",
            )
        if file.format != first.format:
            raise PlanError(
                f"{first.url} is {first.format} and {file.url} is {file.format}",
                hint="a source reads one format: give a glob such as folder/*.parquet, or format=",
            )
    assert first.format is not None, "every format is known here"
    return first.format
