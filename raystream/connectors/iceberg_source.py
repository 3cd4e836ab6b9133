"""Read an Iceberg table: as it is in a snapshot, or as it grows."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa

from raystream.connectors import iceberg_catalog
from raystream.connectors.file_listing import File
from raystream.connectors.file_reader import FileReader, Records, skip_rows
from raystream.connectors.iceberg_catalog import Catalog, Properties
from raystream.connectors.table_reader import FollowingReader
from raystream.contracts.source import Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.time import Duration, positive

_FOLLOWING = "snapshots"
"""The id of the one split of a source that follows a table."""

_NONE = 0
"""The snapshot of a table that has none."""


class IcebergSource(Source):
    """Read the rows of an Iceberg table, each exactly once.

    Guarantee: exactly once; a position is a row of a file of a snapshot, and neither ever changes.
    Snapshots must not be expired before the job has read them.

    ``table`` and ``catalog`` are as in ``IcebergSink``. ``snapshot`` is the id of the one to read;
    without it, the newest when the job starts. ``mode="continuous"`` reads that one and then, in
    their order, the rows that each later snapshot has appended; it looks for one every ``poll`` and
    never ends. Snapshots come one after the other, so that one subtask reads them. Those that only
    rewrite files (compaction) add nothing. One that deletes or overwrites rows fails the job.
    Columns are those that the table had when the job was built, and keep their names here.

    Raises: PlanError without the package pyiceberg, for an unknown mode, or for a secret that is
    written out; SourceError if there is no such table or snapshot.
    """

    def __init__(
        self,
        table: str,
        catalog: str | Properties,
        mode: Literal["bounded", "continuous"] = "bounded",
        snapshot: int | None = None,
        poll: Duration = "1s",
    ) -> None:
        if mode not in {"bounded", "continuous"}:
            raise PlanError(f'mode is "bounded" or "continuous", got {mode!r}')
        self._name = table
        self._catalog = Catalog(catalog)
        self._snapshot = snapshot
        self.bounded = mode == "bounded"
        self._poll_us = positive(poll, "poll")
        found = self._loaded()
        self._first(found)
        self._columns = found.schema()
        self._all = iceberg_catalog.columns_of(found)
        self.schema: pa.Schema = self._all
        self._tasks: dict[int, list[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tasks": {}}

    def splits(self) -> Sequence[Split]:
        first = self._first(self._loaded())
        if not self.bounded:
            # Where it begins is settled here and kept with the split: later it would be another.
            return [Split(_FOLLOWING, first)]
        return [
            Split(f"{first} {task.file.file_path}", (first, index))
            for index, task in enumerate(self.files(first))
        ]

    def open(self, split: Split, position: Any) -> Reader:
        if not self.bounded:
            return FollowingReader(self, int(split.payload), position, self._poll_us)
        snapshot, index = split.payload
        if snapshot not in self._tasks:  # all splits are of one snapshot
            self._tasks = {snapshot: list(self.files(snapshot))}
        skip = 0 if position is None else position[1]
        return self.reader(self._tasks[snapshot][index], skip)

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that reads only these columns; of none, the first is kept."""
        wanted = set(columns)
        kept = [name for name in self._all.names if name in wanted] or self._all.names[:1]
        narrow = copy.copy(self)
        narrow.schema = pa.schema([self._all.field(name) for name in kept])
        return narrow

    def describe(self) -> str:
        at = "" if self._snapshot is None else f" snapshot {self._snapshot}"
        narrow = f" [{', '.join(self.schema.names)}]" if self.schema != self._all else ""
        return f"IcebergSource({self._name}{at}{'' if self.bounded else ', continuous'}){narrow}"

    def files(self, version: int) -> Sequence[Any]:
        """List what a snapshot holds: files, and what is deleted in each."""
        if version == _NONE:
            return []
        with self._catalog.translated(f"read {self._name}", SourceError):
            tasks = self._loaded().scan(snapshot_id=version).plan_files()
            return sorted(tasks, key=lambda task: str(task.file.file_path))

    def added(self, version: int) -> Sequence[Any]:
        """List the files that a snapshot has appended."""
        return self._added(self._loaded(), version)

    def after(self, version: int) -> tuple[int, Sequence[Any]] | None:
        """Give the next snapshot, if there is one, and the files it has appended."""
        table = self._loaded()
        later = table.current_snapshot()
        if (later.snapshot_id if later else _NONE) == version:
            return None
        while later is not None and (later.parent_snapshot_id or _NONE) != version:
            later = table.snapshot_by_id(later.parent_snapshot_id or _NONE)
        if later is None:
            raise SourceError(
                f"snapshot {version} of {self._name} is not among those that led to the newest",
                hint="was it expired, or the table rolled back, while the job stood still?",
            )
        return later.snapshot_id, self._added(table, later.snapshot_id)

    def reader(self, file: Any, skip: int) -> FileReader:
        """Read a file from a row on."""
        name = str(file.file.file_path)
        found = self._records(file, skip)
        return FileReader(File(name, 0), self.schema, found, (0, skip))

    def _records(self, task: Any, skip: int) -> Iterator[Records]:
        from pyiceberg.expressions import AlwaysTrue
        from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files

        with self._catalog.translated(f"read {task.file.file_path}", SourceError):
            table = self._loaded()
            columns = self._columns.select(*self.schema.names)
            scan = ArrowScan(table.metadata, table.io, columns, AlwaysTrue())
            # ``to_record_batches`` would read a whole file before it gives a row.
            batches = scan._record_batches_from_scan_tasks_and_deletes(  # noqa: SLF001
                [task], _read_all_delete_files(table.io, [task])
            )
            for batch in skip_rows(batches, skip):
                yield Records(batch)

    def _added(self, table: Any, version: int) -> list[Any]:
        from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
        from pyiceberg.table import FileScanTask
        from pyiceberg.table.snapshots import Operation

        with self._catalog.translated(f"read {self._name}", SourceError):
            snapshot = table.snapshot_by_id(version)
            if snapshot is None:
                raise SourceError(
                    f"snapshot {version} of {self._name} is gone",
                    hint="snapshots must be kept until the job has read them",
                )
            operation = snapshot.summary.operation if snapshot.summary else Operation.APPEND
            if operation is Operation.REPLACE:
                return []
            if operation is not Operation.APPEND:
                raise SourceError(
                    f"snapshot {version} of {self._name} deletes or changes rows; a source that "
                    "follows a table reads what is added to it",
                    hint=f"read on behind it: another job, with snapshot={version}",
                )
            return [
                FileScanTask(entry.data_file)
                for manifest in snapshot.manifests(table.io)
                if manifest.content == ManifestContent.DATA
                and manifest.added_snapshot_id == version
                for entry in manifest.fetch_manifest_entry(table.io)
                if entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == version
            ]

    def _loaded(self) -> Any:
        with self._catalog.translated(f"open {self._name}", SourceError):
            return self._catalog.load().load_table(self._name)

    def _first(self, table: Any) -> int:
        if self._snapshot is None:
            current = table.current_snapshot()
            return _NONE if current is None else int(current.snapshot_id)
        if table.snapshot_by_id(self._snapshot) is None:
            raise SourceError(f"{self._name} has no snapshot {self._snapshot}")
        return self._snapshot
