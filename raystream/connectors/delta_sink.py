"""Write rows to a Delta table, those of a checkpoint in one transaction of its log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from raystream.connectors import delta_table
from raystream.connectors.delta_files import PartitionFiles, TableFolder
from raystream.connectors.file_listing import NULL_PARTITION, PathLike
from raystream.connectors.lake_types import as_held, check_nulls
from raystream.connectors.partitions import by_folder
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError

_COMMIT_TRIES = 50
"""Each try that fails means that somebody else has written a version meanwhile."""


class DeltaSink(Sink):
    """Append rows to a Delta table; those of a checkpoint appear in one transaction.

    Guarantee: exactly once; with the rows the transaction writes who wrote them, up to which
    checkpoint, into the table's log (``txn``), and a commit that finds this there does nothing.

    ``path`` is a folder or an fsspec URL such as ``s3://bucket/table``, with the credentials and
    the endpoint of the environment. Columns go by name, in any order; of the table's those may be
    missing that can be null. A table that is not there is made by the first commit, with the
    stream's columns, or when the job starts if ``schema`` says which. ``partition_by`` must be
    that of the table where there is one; in such columns Delta keeps an empty text as null.

    Others may append, compact and clean up at the same time: a commit that meets one of theirs is
    tried again. Files that were written and never committed (after a kill) are not part of the
    table; ``VACUUM`` deletes them.

    Raises: PlanError without the package deltalake, or for a password in the address; SinkError
    when the job starts if the table is partitioned otherwise, or has columns or rules that do not
    fit; when rows come, if the stream's columns are not the table's.
    """

    global_commit = True

    def __init__(
        self,
        path: PathLike,
        partition_by: str | Sequence[str] | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        delta_table.check_installed()
        self._url = delta_table.absolute(path)
        columns = [partition_by] if isinstance(partition_by, str) else partition_by or ()
        self._partition_by = tuple(columns)
        self._schema = None
        if schema is not None:
            try:
                self._schema = delta_table.columns_for(schema)
                check_partitions(self._schema, self._partition_by)
            except SinkError as error:
                raise PlanError(error.message, hint=error.hint) from error

    def open(self, ctx: OpenContext) -> Writer:
        table = self._opened(self._schema)
        columns = None if table is None else delta_table.columns_of(table)
        if columns is not None and self._schema is not None:
            delta_table.check_fits(self._schema, columns, self._url)
        files = PartitionFiles(TableFolder(self._url), ctx.subtask_index)
        app = f"raystream/{ctx.operator}/{files.token}"
        return _DeltaWriter(self, files, columns, app)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import AddAction

        if not committables:
            return
        # What belongs to a checkpoint is the same whenever it is committed, and so is its first.
        app = min(one["app"] for one in committables)
        files = [file for one in committables for file in one["files"]]
        columns = pa.ipc.read_schema(pa.py_buffer(committables[0]["columns"]))
        now_ms = time.time_ns() // 1_000_000
        adds = [
            AddAction(path, size, parts, now_ms, True, stats) for path, size, parts, stats in files
        ]
        said = CommitProperties(
            custom_metadata={"raystream.checkpoint": str(checkpoint_id), "raystream.sink": app},
            max_commit_retries=0,  # the library's own would not look who has committed
            app_transactions=[Transaction(app, checkpoint_id)],
        )
        failure: Exception | None = None
        for tried in range(_COMMIT_TRIES):
            table = self._opened(columns)
            done = table.transaction_version(app)
            if done is not None and done >= checkpoint_id:
                return
            if not tried:
                self._check_still_there([path for path, *_ in files])
            delta_table.check_fits(columns, delta_table.columns_of(table), self._url)
            try:
                table.create_write_transaction(
                    adds,
                    "append",
                    table.schema(),
                    list(self._partition_by),
                    commit_properties=said,
                )
            except CommitFailedError as error:
                failure = error
            else:
                return
        raise SinkError(
            f"cannot commit checkpoint {checkpoint_id} to {self._url}, in {_COMMIT_TRIES} tries: "
            f"{delta_table.said(failure) if failure else ''}",
            hint="do others write to the table all the time?",
        ) from failure

    def abort(self, committables: Sequence[Any]) -> None:
        table = delta_table.opened(self._url)
        listed = [] if table is None else pa.table(table.get_add_actions())["path"].to_pylist()
        visible = {unquote(path) for path in listed}
        names = [path for one in committables for path, *_ in one["files"]]
        TableFolder(self._url).remove(name for name in names if name not in visible)

    def describe(self) -> str:
        parts = f" by {', '.join(self._partition_by)}" if self._partition_by else ""
        return f"DeltaSink({self._url}){parts}"

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The columns whose values a file has only one of."""
        return self._partition_by

    @property
    def url(self) -> str:
        """Where the table is."""
        return self._url

    def _opened(self, columns: pa.Schema | None) -> Any:
        """Open the table, or make it with these columns, and check that it can be written.

        None where there is none, and nobody says which columns it is to have.
        """
        from deltalake.exceptions import DeltaError

        try:
            table = delta_table.opened(self._url)
            if table is None and columns is not None:
                table = self._made(columns)
        except (DeltaError, OSError) as error:
            raise SinkError(f"cannot open {self._url}: {delta_table.said(error)}") from error
        if table is None:
            return None
        delta_table.refuse_features(table, self._url, SinkError)
        found = tuple(table.metadata().partition_columns)
        if found != self._partition_by:
            raise SinkError(
                f"{self._url} is partitioned by {', '.join(found) or 'nothing'}, and the sink says "
                f"{', '.join(self._partition_by) or 'nothing'}",
                hint=f"partition_by={list(found)!r}",
            )
        return table

    def _made(self, columns: pa.Schema) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import CommitFailedError

        # Somebody else may be faster, and is then the one who says what the columns are.
        with contextlib.suppress(CommitFailedError):
            DeltaTable.create(
                self._url,
                columns,
                mode="ignore",
                partition_by=list(self._partition_by),
                storage_options=delta_table.options() if "://" in self._url else None,
            )
        return delta_table.opened(self._url)

    def _check_still_there(self, names: list[str]) -> None:
        gone = TableFolder(self._url).missing(names)
        if gone:
            raise SinkError(
                f"{gone[0]} of {self._url} was prepared and is gone, and is not in the table",
                hint="did VACUUM delete it? Let it keep files longer than jobs stand still",
            )


class _DeltaWriter(Writer):
    """Writes the files of one subtask."""

    def __init__(
        self, sink: DeltaSink, files: PartitionFiles, columns: pa.Schema | None, app: str
    ) -> None:
        self._sink = sink
        self._files = files
        self._table = columns
        self._app = app
        self._given: pa.Schema | None = None
        self._columns: pa.Schema | None = None

    def write(self, batch: Batch) -> None:
        if not len(batch):
            return
        if isinstance(batch.rows, list):
            raise SinkError(
                "a Delta table takes columns; this stream holds Python objects",
                hint="put .with_schema(schema) before the sink",
            )
        rows = self._fitted(batch.rows)
        for folder, part in by_folder(rows, self._sink.partition_by):
            self._files.append(folder, _values(folder), part)

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        written = self._files.finish()
        if not written:
            return []
        assert self._columns is not None, "rows were written"
        columns = self._columns.serialize().to_pybytes()
        return [{"app": self._app, "columns": columns, "files": [one.plain for one in written]}]

    def close(self) -> None:
        self._files.close()

    def _fitted(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Bring rows to the types of the table."""
        if self._columns is None or rows.schema != self._given:
            columns = delta_table.columns_for(rows.schema)
            check_partitions(columns, self._sink.partition_by)
            if self._table is not None:
                delta_table.check_fits(columns, self._table, self._sink.url)
            self._given, self._columns = rows.schema, columns
        assert self._columns is not None, "set above"
        rows = as_held(rows, self._columns, self._sink.url)
        if self._table is not None:
            check_nulls(rows, self._table, self._sink.url)
        return rows


def check_partitions(columns: pa.Schema, partition_by: Sequence[str]) -> None:
    """Refuse partition columns that are not there, or make no names.

    Raises: SinkError.
    """
    types = pa.types
    for name in partition_by:
        index = columns.get_field_index(name)
        if index < 0:
            raise SinkError(
                f'partition_by names "{name}", which is no column',
                hint=f"the columns are {', '.join(columns.names)}",
            )
        kind = columns.field(index).type
        if not (
            types.is_string(kind)
            or types.is_integer(kind)
            or types.is_boolean(kind)
            or types.is_date(kind)
        ):
            raise SinkError(
                f'partition column "{name}" is {kind}',
                hint="partition by a text, an integer, a bool or a date",
            )
    if partition_by and len(partition_by) == len(columns):
        raise SinkError("partition_by names all columns, so that files would hold none")


def _values(folder: str) -> dict[str, str | None]:
    """Read back the values that a folder's name has."""
    pairs = (part.partition("=") for part in folder.split("/") if part)
    return {
        unquote(name): None if value in {NULL_PARTITION, ""} else unquote(value)
        for name, _, value in pairs
    }
