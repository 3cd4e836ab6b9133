"""Read a file from any record on, cut to what the stream wants at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that is no row: its place, what stands in the file, and why it cannot be read."""

    place: int
    raw: Any
    error: RaystreamError


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a file in an order that never changes: rows, and what is ``broken`` among them.

    ``block`` is where a parser may start to find them again; those of a block are counted from it.
    """

    rows: pa.RecordBatch
    broken: tuple[Broken, ...] = ()
    block: int = 0

    def __len__(self) -> int:
        return len(self.rows) + len(self.broken)

    def slice(self, start: int, count: int) -> Records:
        """Give ``count`` records from one on."""
        if not self.broken:
            return Records(self.rows.slice(start, count), (), self.block)
        places = [one.place for one in self.broken]
        first, stop = bisect_left(places, start), bisect_left(places, start + count)
        rows = self.rows.slice(start - first, count - (stop - first))
        broken = (replace(one, place=one.place - start) for one in self.broken[first:stop])
        return Records(rows, tuple(broken), self.block)


class FileReader(Reader):
    """Gives the records of one split.

    Its position is a pair: where the parser may start, and the records behind that to leave out.
    A ``tolerant`` one hands over what it cannot read, and goes on.
    """

    def __init__(
        self,
        file: File,
        schema: pa.Schema,
        found: Iterator[Records],
        position: tuple[int, int],
        *,
        tolerant: bool = False,
    ) -> None:
        self._file = file
        self._schema = schema
        self._found = found
        self._block, self._given = position
        self._left: Records | None = None
        self._records_a_poll = BATCH_ROWS
        self._tolerant = tolerant

    def poll(self, max_rows: int) -> Polled:
        if self._left is None:
            self._left = self._next()
            if self._left is None:
                return END
            self._records_a_poll = rows_within(self._left.rows, BATCH_BYTES)
            if self._left.block != self._block:
                self._block, self._given = self._left.block, 0
        left = self._left
        count = min(max_rows, self._records_a_poll, len(left))
        given = left.slice(0, count)
        self._left = left.slice(count, len(left) - count) if count < len(left) else None
        self._given += count
        if not given.broken:
            return given.rows
        return Batch(given.rows, unreadable=[(one.raw, one.error) for one in given.broken])

    def position(self) -> tuple[int, int]:
        return self._block, self._given

    def close(self) -> None:
        close = getattr(self._found, "close", None)
        if close is not None:
            close()

    def _next(self) -> Records | None:
        try:
            for records in self._found:
                if len(records):
                    return self._fitted(records)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise unreadable(self._file, error) from error
        return None

    def _fitted(self, records: Records) -> Records:
        rows = records.rows
        try:
            return replace(records, rows=fitted(rows, self._schema, self._file))
        except SourceError as error:
            if not self._tolerant or not isinstance(error.__cause__, pa.ArrowException):
                raise
        parts, failures = by_halves(
            rows.num_rows,
            lambda start, count: fitted(rows.slice(start, count), self._schema, self._file),
        )
        lost = {one.place for one in records.broken}
        places = [place for place in range(len(records)) if place not in lost]  # those of rows
        broken = [
            Broken(places[index], rows.slice(index, 1).to_pylist()[0], error)
            for index, error in failures
        ]
        kept = pa.concat_batches([pa.RecordBatch.from_pylist([], self._schema), *parts])
        merged = sorted([*records.broken, *broken], key=lambda one: one.place)
        return Records(kept, tuple(merged), records.block)


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


def skip_records(found: Iterable[Records], count: int) -> Iterator[Records]:
    """Leave out the first ``count`` records."""
    for records in found:
        if count < len(records):
            yield records.slice(count, len(records) - count) if count else records
        count = max(0, count - len(records))


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
