"""Read batches of a file from any row on, cut to what the stream wants at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from raystream.config import Limits
from raystream.connectors.file_listing import File
from raystream.contracts.batch import Batch
from raystream.contracts.source import END, Polled, Reader
from raystream.errors import RaystreamError, SourceError
from raystream.flow.normal import normal_array, normal_type
from raystream.operators.rejecting import by_halves

BATCH_BYTES = Limits().poll_bytes_target
BATCH_ROWS = Limits().batch_rows_max


class Unreadable(list[tuple[Any, RaystreamError]]):
    """Records that are no rows: what stands in the file, and why it cannot be read."""


class FileReader(Reader):
    """Gives the rows of one split; its position is the number of records given so far.

    A ``tolerant`` one hands over what it cannot read, and goes on.
    """

    def __init__(
        self,
        file: File,
        schema: pa.Schema,
        batches: Iterator[pa.RecordBatch | Unreadable],
        position: int,
        *,
        tolerant: bool = False,
    ) -> None:
        self._file = file
        self._schema = schema
        self._batches = batches
        self._position = position
        self._left: pa.RecordBatch | None = None
        self._rows_a_poll = BATCH_ROWS
        self._tolerant = tolerant
        self._unreadable = Unreadable()

    def poll(self, max_rows: int) -> Polled:
        if self._left is None:
            self._left = self._next()
            if self._unreadable:
                return self._broken()
            if self._left is None:
                return END
            self._rows_a_poll = rows_within(self._left, BATCH_BYTES)
        count = min(max_rows, self._rows_a_poll, self._left.num_rows)
        given = self._left.slice(0, count)
        self._left = self._left.slice(count) if count < self._left.num_rows else None
        self._position += count
        return given

    def _broken(self) -> Batch:
        """Give what cannot be read, before the rows that were found behind it."""
        found, self._unreadable = self._unreadable, Unreadable()
        self._position += len(found)
        return Batch(pa.RecordBatch.from_pylist([], self._schema), unreadable=found)

    def position(self) -> int:
        return self._position

    def close(self) -> None:
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

    def _next(self) -> pa.RecordBatch | None:
        try:
            for batch in self._batches:
                if isinstance(batch, Unreadable):
                    self._unreadable = batch
                    return None
                if batch.num_rows and (fits := self._fitted(batch)).num_rows:
                    return fits
                if self._unreadable:
                    return None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(self._file, error) from error
        return None

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        try:
            return fitted(batch, self._schema, self._file)
        except SourceError as error:
            if not self._tolerant or not isinstance(error.__cause__, pa.ArrowException):
                raise
        parts, failures = by_halves(
            batch.num_rows,
            lambda start, count: fitted(batch.slice(start, count), self._schema, self._file),
        )
        self._unreadable = Unreadable(
            (batch.slice(place, 1).to_pylist()[0], failure) for place, failure in failures
        )
        return pa.concat_batches([pa.RecordBatch.from_pylist([], self._schema), *parts])


def rows_within(batch: pa.RecordBatch, target_bytes: int) -> int:
    """Give how many rows of a batch take about ``target_bytes``; at least one."""
    return max(1, int(batch.num_rows * target_bytes // max(1, batch.nbytes)))


def skip_rows(batches: Iterable[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
    """Leave out the first ``count`` rows."""
    for batch in batches:
        if count >= batch.num_rows:
            count -= batch.num_rows
            continue
        yield batch.slice(count) if count else batch
        count = 0


def fitted(record: pa.RecordBatch, schema: pa.Schema, file: File) -> pa.RecordBatch:
    """Bring what a file holds to the columns and types of the source.

    Raises: SourceError naming the file and the column that cannot be brought there.
    """
    if record.schema.equals(schema, check_metadata=True):
        return record
    folders = dict(file.partitions)
    arrays = []
    for field in schema:
        index = record.schema.get_field_index(field.name)
        if index < 0 and field.name in folders:
            values = pa.repeat(pa.scalar(folders[field.name], pa.string()), record.num_rows)
        elif index < 0:
            raise missing_column(file, field.name, record.schema.names)
        else:
            values = record.column(index)
        arrays.append(_as_type(values, field, file))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def check_agreement(file: File, found: pa.Schema, expected: pa.Schema, *, exact: bool) -> None:
    """Compare what a file holds with what the source gives; ``exact``: it must hold just that.

    Raises: SourceError naming the file and the column.
    """
    folders = dict(file.partitions)
    for field in expected:
        index = found.get_field_index(field.name)
        if index < 0:
            if field.name not in folders:
                raise missing_column(file, field.name, found.names)
        elif exact and normal_type(found.field(index).type) != field.type:
            raise SourceError(
                f'column "{field.name}" of {file.url} is {found.field(index).type}; '
                f"in the first file it is {field.type}",
                hint="all files of a source must agree; schema= gives one type that all can take",
            )
    extra = [name for name in found.names if name not in expected.names]
    if exact and extra:
        raise SourceError(
            f'{file.url} has a column "{extra[0]}" that the first file has not',
            hint="all files of a source must agree; schema= names the columns to read",
        )


def missing_column(file: File, name: str, names: list[str]) -> SourceError:
    """Say that a file lacks a column that the source has."""
    return SourceError(
        f'{file.url} has no column "{name}"; it has {", ".join(names)}',
        hint="all files of a source must have the same columns; read others as another source",
    )


def unreadable(file: File, error: Exception) -> SourceError:
    """Say that a file cannot be read, in one message whoever found it."""
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"{file.url} is gone", hint="files of a source must stay until the job has read them"
        )
    return SourceError(
        f"cannot read {file.url}: {error}",
        hint="is it whole, and of the format that its name or format= says?",
    )


def _as_type(values: pa.Array, field: pa.Field, file: File) -> pa.Array:
    if values.type == field.type:
        return values
    try:
        return normal_array(values, normal_type(values.type)).cast(field.type)
    except pa.ArrowException as error:
        raise SourceError(
            f'column "{field.name}" of {file.url} is {values.type} and cannot be read as '
            f"{field.type}: {error}",
            hint="all files of a source must agree; give schema= with a type that holds all values",
        ) from error
