"""Write rows to an Iceberg table, those of a checkpoint in one snapshot."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.connectors import iceberg_catalog
from raystream.connectors.iceberg_catalog import Catalog, Properties
from raystream.connectors.lake_types import as_held, check_nulls
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError

_COMMIT_TRIES = 50
"""Each try that fails means that somebody else has written a snapshot meanwhile."""

_KEPT_BYTES = 128 * 1024 * 1024
"""Rows that are kept make files at a checkpoint, and before that at about this size."""

_CHECKPOINT = "raystream.checkpoint"
_WRITERS = "raystream.writers"


class IcebergSink(Sink):
    """Append rows to an Iceberg table; those of a checkpoint appear in one snapshot.

    Guarantee: exactly once; the snapshot's summary says which checkpoint of which writers it is,
    and a commit that finds this in the table does nothing.

    ``table`` is ``"namespace.name"``; ``catalog`` the name of one that pyiceberg is configured for
    (``PYICEBERG_CATALOG__NAME__URI`` in the environment, or ``.pyiceberg.yaml``), or a dict of its
    properties (``name`` among them, ``"default"`` if it is left out), in which secrets are
    ``rs.secret(…)``. Columns go by name, in any order; of the
    table's those may be missing that can be null. A table that is not there is made when its first
    rows come, with the stream's columns, or when the job starts if ``schema`` says which.
    ``partition_by`` names columns whose values partition a table that is made; one that is there
    keeps its own partitioning.

    Others may append, compact and delete at the same time: a commit that meets one of theirs is
    tried again. Snapshots must not be expired faster than a job that failed is resumed. Files that
    were written and never committed (after a kill) are not part of the table; removing orphan
    files deletes them.

    Raises: PlanError without the package pyiceberg, or for a secret that is written out; SinkError
    where the stream's columns are not the table's.
    """

    global_commit = True

    def __init__(
        self,
        table: str,
        catalog: str | Properties,
        partition_by: str | Sequence[str] | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self._name = table
        self._catalog = Catalog(catalog)
        columns = [partition_by] if isinstance(partition_by, str) else partition_by or ()
        self._partition_by = tuple(columns)
        self._schema = None
        if schema is not None:
            try:
                self._schema = iceberg_catalog.columns_for(schema)
                self._check_partitions(self._schema)
            except SinkError as error:
                raise PlanError(error.message, hint=error.hint) from error

    def open(self, ctx: OpenContext) -> Writer:
        table = self.found(self._schema)
        if table is not None and self._schema is not None:
            iceberg_catalog.check_fits(self._schema, iceberg_catalog.columns_of(table), self._name)
        return _IcebergWriter(self, table)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        if not committables:
            return
        files = [file for one in committables for file in one["files"]]
        writers = {one["writer"] for one in committables}
        with self._catalog.translated(f"commit to {self._name}", SinkError):
            for _ in range(_COMMIT_TRIES):
                table = self._loaded()
                if _is_in(table, checkpoint_id, writers):
                    return
                self._check_specs(table, {one["spec"] for one in committables})
                self._check_still_there(table, files)
                if _appended(table, files, _summary(checkpoint_id, writers)):
                    return
        raise SinkError(
            f"cannot commit checkpoint {checkpoint_id} to {self._name}, in {_COMMIT_TRIES} tries",
            hint="do others write to the table all the time?",
        )

    def abort(self, committables: Sequence[Any]) -> None:
        with self._catalog.translated(f"clean up {self._name}", SinkError):
            table = self.found(None)
            if table is None:
                return
            for one in committables:
                if not _is_in(table, one["checkpoint"], {one["writer"]}):
                    delete(table, one["files"])

    def describe(self) -> str:
        parts = f" by {', '.join(self._partition_by)}" if self._partition_by else ""
        return f"IcebergSink({self._name}){parts}"

    @property
    def name(self) -> str:
        """The table's."""
        return self._name

    def writing(self, doing: str) -> Any:
        """Translate what the library raises."""
        return self._catalog.translated(f"{doing} {self._name}", SinkError)

    def found(self, columns: pa.Schema | None) -> Any:
        """Open the table, or make it with these columns.

        None where there is none, and nobody says which columns it is to have.
        """
        from pyiceberg.exceptions import NoSuchTableError

        with self._catalog.translated(f"open {self._name}", SinkError):
            try:
                return self._loaded()
            except NoSuchTableError:
                return None if columns is None else self._made(columns)

    def _loaded(self) -> Any:
        return self._catalog.load().load_table(self._name)

    def _made(self, columns: pa.Schema) -> Any:
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError

        self._check_partitions(columns)
        catalog = self._catalog.load()
        # Somebody else may be faster, and is then the one who says what the columns are.
        with contextlib.suppress(TableAlreadyExistsError, CommitFailedException):
            catalog.create_namespace_if_not_exists(self._name.rpartition(".")[0])
            with (
                catalog.create_table_transaction(self._name, columns) as making,
                making.update_spec() as spec,
            ):
                for name in self._partition_by:
                    spec.add_identity(name)
        return self._loaded()

    def _check_partitions(self, columns: pa.Schema) -> None:
        for name in self._partition_by:
            if name not in columns.names:
                raise SinkError(
                    f'partition_by names "{name}", which is no column',
                    hint=f"the columns are {', '.join(columns.names)}",
                )

    def _check_specs(self, table: Any, specs: set[int]) -> None:
        if specs != {table.spec().spec_id}:
            raise SinkError(
                f"{self._name} is partitioned in another way since its files were written",
                hint="give it back its partitioning until the job has committed",
            )

    def _check_still_there(self, table: Any, files: Sequence[Any]) -> None:
        for file in files:
            if not table.io.new_input(file.file_path).exists():
                raise SinkError(
                    f"{file.file_path} was prepared and is gone, and is not in {self._name}",
                    hint="orphan files must be kept longer than jobs stand still",
                )


class _IcebergWriter(Writer):
    """Writes the files of one subtask."""

    def __init__(self, sink: IcebergSink, table: Any) -> None:
        self._sink = sink
        self._table = table
        self._writer = secrets.token_hex(8)
        self._given: pa.Schema | None = None
        self._columns: pa.Schema | None = None
        self._in_table: pa.Schema | None = None
        self._kept: list[pa.RecordBatch] = []
        self._bytes = 0
        self._written: list[Any] = []
        self._numbers = itertools.count()

    def write(self, batch: Batch) -> None:
        if not len(batch):
            return
        if isinstance(batch.rows, list):
            raise SinkError(
                "an Iceberg table takes columns; this stream holds Python objects",
                hint="put .with_schema(schema) before the sink",
            )
        rows = self._fitted(batch.rows)
        self._kept.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= _KEPT_BYTES:
            self._flush()

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        self._flush()
        written, self._written = self._written, []
        if not written:
            return []
        return [
            {
                "writer": self._writer,
                "checkpoint": checkpoint_id,
                # Of the partitioning that files are written for they do not tell themselves.
                "spec": self._table.spec().spec_id,
                "files": written,
            }
        ]

    def close(self) -> None:
        self._kept = []
        if self._written:
            written, self._written = self._written, []
            with self._sink.writing("clean up"):
                delete(self._table, written)

    def _flush(self) -> None:
        from pyiceberg.io.pyarrow import _dataframe_to_data_files

        if not self._kept:
            return
        rows = pa.Table.from_batches(self._kept)
        self._kept, self._bytes = [], 0
        with self._sink.writing("write to"):
            # Kept one by one: what is written before an error is thrown away by ``close``.
            for file in _dataframe_to_data_files(
                self._table.metadata, rows, self._table.io, uuid.uuid4(), self._numbers
            ):
                self._written.append(file)

    def _fitted(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Bring rows to the columns of the table, in its order."""
        if self._columns is None or rows.schema != self._given:
            columns = iceberg_catalog.columns_for(rows.schema)
            if self._table is None:
                self._table = self._sink.found(columns)
            self._in_table = iceberg_catalog.columns_of(self._table)
            iceberg_catalog.check_fits(columns, self._in_table, self._sink.name)
            self._given, self._columns = rows.schema, columns
        assert self._columns is not None, "set above"
        assert self._in_table is not None, "set above"
        held = as_held(rows, self._columns, self._sink.name)
        arrays = []
        for field in self._in_table:
            if field.name in self._columns.names:
                arrays.append(held.column(field.name).cast(field.type))
            else:
                arrays.append(pa.nulls(held.num_rows, field.type))
        whole = pa.RecordBatch.from_arrays(arrays, self._in_table.names)
        check_nulls(whole, self._in_table, self._sink.name)
        return whole.cast(self._in_table)


def _summary(checkpoint_id: int, writers: set[str]) -> dict[str, str]:
    return {_CHECKPOINT: str(checkpoint_id), _WRITERS: " ".join(sorted(writers))}


def _is_in(table: Any, checkpoint_id: int, writers: set[str]) -> bool:
    """Tell whether a checkpoint of these writers is in a table, or was before it was taken back."""
    for snapshot in table.snapshots():
        said = {} if snapshot.summary is None else snapshot.summary.additional_properties
        if said.get(_CHECKPOINT) == str(checkpoint_id) and writers & set(
            said.get(_WRITERS, "").split()
        ):
            return True
    return False


def _appended(table: Any, files: Sequence[Any], summary: dict[str, str]) -> bool:
    """Try once to append files; False if somebody else has changed the table meanwhile."""
    from pyiceberg.exceptions import CommitFailedException

    # The library's own tries would not look who has committed meanwhile.
    tries = {**table.metadata.properties, "commit.retry.num-retries": "0"}
    table.metadata = table.metadata.model_copy(update={"properties": tries})
    try:
        with table.transaction() as change:
            update = change.update_snapshot(snapshot_properties=summary)
            with update.fast_append() as append:
                for file in files:
                    append.append_data_file(file)
    except CommitFailedException:
        return False
    return True


def delete(table: Any, files: Sequence[Any]) -> None:
    """Delete files that may be gone already."""
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            table.io.delete(file.file_path)
