"""Read a Delta table: as it is at a version, or as it grows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from raystream.connectors import delta_table
from raystream.connectors.file_listing import File, PathLike
from raystream.connectors.file_reader import FileReader
from raystream.connectors.table_reader import (
    FollowingReader,
    file_reader,
    splits_of,
    whole_file_reader,
)
from raystream.contracts.source import Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.time import Duration, positive

_FOLLOWING = "log"
"""The id of the one split of a source that follows a table."""


class DeltaSource(Source):
    """Read the rows of a Delta table, each exactly once.

    Guarantee: exactly once; a position is a row of a file of a version, and the files of a version
    never change. They must stay until the job has read them: ``VACUUM`` deletes old ones.

    ``version`` is that of the table to read; without it, the newest when the job starts.
    ``mode="continuous"`` reads that version and then, in the order of the log, the rows that each
    later one has added; it looks for one every ``poll`` and never ends. The log is one, so that
    one subtask reads it. Versions that only rewrite files (``OPTIMIZE``) add nothing. One that
    deletes or changes rows fails the job. Columns are those that the table had when the job was
    built.

    ``path`` is a folder or an fsspec URL such as ``s3://bucket/table``, with the credentials and
    the endpoint of the environment.

    Raises: PlanError without the package deltalake, or for an unknown mode; SourceError if there is
    no such table or version, or one that needs more than its Parquet files to be read.
    """

    def __init__(
        self,
        path: PathLike,
        mode: Literal["bounded", "continuous"] = "bounded",
        version: int | None = None,
        poll: Duration = "1s",
    ) -> None:
        delta_table.check_installed()
        if mode not in {"bounded", "continuous"}:
            raise PlanError(f'mode is "bounded" or "continuous", got {mode!r}')
        self._url = delta_table.absolute(path)
        self._version = version
        self.bounded = mode == "bounded"
        self._poll_us = positive(poll, "poll")
        self._all = delta_table.columns_of(self._opened(version))
        self.schema: pa.Schema = self._all

    def splits(self) -> Sequence[Split]:
        table = self._opened(self._version)
        if not self.bounded:
            # Where it begins is settled here and kept with the split: later it would be another.
            return [Split(_FOLLOWING, int(table.version()))]
        return splits_of(delta_table.files_at(table, self._url), self._all)

    def open(self, split: Split, position: Any) -> Reader:
        if self.bounded:
            return file_reader(split.payload, self.schema, 0 if position is None else position[1])
        return FollowingReader(self, int(split.payload), position, self._poll_us)

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that reads only these columns; of none, the first is kept."""
        wanted = set(columns)
        kept = [name for name in self._all.names if name in wanted] or self._all.names[:1]
        narrow = copy.copy(self)
        narrow.schema = pa.schema([self._all.field(name) for name in kept])
        return narrow

    def describe(self) -> str:
        at = "" if self._version is None else f" version {self._version}"
        narrow = f" [{', '.join(self.schema.names)}]" if self.schema != self._all else ""
        return f"DeltaSource({self._url}{at}{'' if self.bounded else ', continuous'}){narrow}"

    def files(self, version: int) -> Sequence[File]:
        """List the files of a version."""
        return delta_table.files_at(self._opened(version), self._url)

    def added(self, version: int) -> Sequence[File]:
        """List the files that a version has added."""
        found = delta_table.added_by(self._url, version)
        if found is None:
            raise self._gone(version)
        return found

    def after(self, version: int) -> tuple[int, Sequence[File]] | None:
        """Give the next version, if there is one, and the files it has added."""
        found: Sequence[File] | None = delta_table.added_by(self._url, version + 1)
        if found is None and delta_table.checkpointed(self._url) > version:
            # It may have come since; where it has not, it was there and is cleaned up.
            found = self.added(version + 1)
        return None if found is None else (version + 1, found)

    def reader(self, file: File, skip: int) -> FileReader:
        """Read a file from a row on."""
        return whole_file_reader(file, self.schema, skip)

    def _gone(self, version: int) -> SourceError:
        return SourceError(
            f"version {version} is gone from the log of {self._url}",
            hint="the log is cleaned up after delta.logRetentionDuration, 30 days by default",
        )

    def _opened(self, version: int | None) -> Any:
        from deltalake.exceptions import DeltaError

        try:
            table = delta_table.opened(self._url, version)
        except (DeltaError, OSError) as error:
            at = "" if version is None else f" at version {version}"
            raise SourceError(f"cannot open {self._url}{at}: {delta_table.said(error)}") from error
        if table is None:
            raise SourceError(f"there is no Delta table {self._url}", hint="is the path right?")
        delta_table.refuse_features(table, self._url, SourceError)
        return table
