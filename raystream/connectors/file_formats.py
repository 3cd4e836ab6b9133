"""How each format but Parquet is read: its schema, and its rows from the start, as batches."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc

from raystream.connectors.broken_records import csv_rows, going_on, good_lines
from raystream.connectors.file_listing import File
from raystream.connectors.file_reader import (
    Records,
    check_agreement,
    skip_records,
    skip_rows,
    unreadable,
)
from raystream.connectors.json_objects import line_count, parsed
from raystream.connectors.line_blocks import blocks_of_lines
from raystream.contracts.source import Split
from raystream.errors import SourceError
from raystream.flow.normal import normal_type

_BLOCK_BYTES = 2 * 1024 * 1024
"""Bytes parsed at a time: about one batch of ordinary rows."""

_BLOCK_BYTES_MAX = 256 * 1024 * 1024
"""A single row may be this long; a longer one is no row of data."""

_BLOCK_BYTES_TRIED = (_BLOCK_BYTES, 16 * _BLOCK_BYTES, _BLOCK_BYTES_MAX)

_HEADER_BYTES = 256 * 1024

_ANY = pa.string()

TEXT_SCHEMA = pa.schema([pa.field("line", pa.string())])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read of a file: columns and types as asked of the parser, and where to start.

    ``skip`` records behind the byte ``block`` are left out. Where ``tolerant``, what cannot be read
    is told instead of raised.
    """

    columns: pa.Schema
    skip: int = 0
    block: int = 0
    tolerant: bool = False


class WholeFiles:
    """Formats that are read from the start: one split a file."""

    def splits(self, file: File, schema: pa.Schema, *, exact: bool) -> list[Split]:
        """Give the one split of a file; an empty file has none.

        Raises: SourceError if the file has other columns than ``schema``.
        """
        if not file.size:
            return []
        self.check(file, schema, exact=exact)
        return [Split(file.url, file)]

    def check(self, file: File, schema: pa.Schema, *, exact: bool) -> None:
        """Compare the columns of a file with those of the source, where it tells them."""

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]:
        """Give the wanted columns from the wanted record on."""
        raise NotImplementedError


class Csv(WholeFiles):
    """Comma-separated values with a header line, typed as ``pyarrow.csv`` types them."""

    def check(self, file: File, schema: pa.Schema, *, exact: bool) -> None:
        """Compare the names of the header; types show as the values are read."""
        names = _header(file)
        known = [schema.field(name) if name in schema.names else (name, _ANY) for name in names]
        check_agreement(file, pa.schema(known), schema, exact=exact)

    def read_schema(self, file: File) -> pa.Schema:
        """Infer types from the first block of a file."""
        with file.open_text() as raw, pa.csv.open_csv(raw, _csv_read(_BLOCK_BYTES)) as reader:
            return _asked(reader.schema)

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]:
        """Give the wanted columns from the wanted record on, counted from the start of the file.

        A quoted value may hold line breaks, so that no line but the first is known to begin a row.
        """
        whole = self._rows(file, wanted)
        if not wanted.tolerant:
            return whole
        failure = partial(_disagrees, file)

        def rest(skip: int) -> Iterator[Records]:
            return csv_rows(file, _header(file), wanted.columns, skip, failure)

        return going_on(whole, wanted.skip, rest)

    def _rows(self, file: File, wanted: Wanted) -> Iterator[Records]:
        convert = pa.csv.ConvertOptions(
            column_types=wanted.columns, include_columns=wanted.columns.names
        )

        def parse(raw: pa.NativeFile, block_bytes: int) -> Any:
            # A quoted value may hold a line break, also at the end of a block.
            options = pa.csv.ParseOptions(newlines_in_values=True)
            return pa.csv.open_csv(raw, _csv_read(block_bytes), options, convert)

        try:
            for batch in _parsed(file, parse, wanted.skip):
                yield Records(batch)
        except pa.ArrowInvalid as error:
            raise _named_column(file, error) from error


class Json(WholeFiles):
    """One JSON object a line; a key that is missing is null, one that is unknown is ignored."""

    def read_schema(self, file: File) -> pa.Schema:
        """Infer types from the first block of a file."""
        for _, text in blocks_of_lines(file):
            if text.strip():
                return _asked(_json_rows(text, None, file).schema)
        raise _disagrees(file, "it holds no line")

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]:
        """Give the wanted columns from the wanted record on; empty lines are none."""
        return skip_records(self._blocks(file, wanted), wanted.skip)

    def _blocks(self, file: File, wanted: Wanted) -> Iterator[Records]:
        def parse(lines: Sequence[bytes]) -> pa.RecordBatch:
            return _json_rows(b"\n".join(lines), wanted.columns, file)

        for block, text in blocks_of_lines(file, wanted.block):
            try:
                rows = _json_rows(text, wanted.columns, file)
            except SourceError:  # noqa: PERF203  a block is 2 MiB
                if not wanted.tolerant:
                    raise
                lines = [line for line in text.split(b"\n") if line.strip()]
                yield good_lines(lines, block, parse)
            else:
                yield Records(rows, (), block)


class Arrow(WholeFiles):
    """Arrow IPC files, also known as Feather version 2."""

    def check(self, file: File, schema: pa.Schema, *, exact: bool) -> None:
        """Compare the schema that the file begins with."""
        try:
            check_agreement(file, self.read_schema(file), schema, exact=exact)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(file, error) from error

    def read_schema(self, file: File) -> pa.Schema:
        """Read the schema from the footer."""
        with file.open() as raw, pa.ipc.open_file(raw) as reader:
            return reader.schema

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]:
        """Give the wanted columns from the wanted row on."""
        with file.open() as raw:
            with pa.ipc.open_file(raw) as whole:
                indices = [whole.schema.get_field_index(name) for name in wanted.columns.names]
            options = pa.ipc.IpcReadOptions(
                included_fields=[index for index in indices if index >= 0], use_threads=False
            )
            with pa.ipc.open_file(raw, options=options) as reader:
                every = (reader.get_batch(i) for i in range(reader.num_record_batches))
                for batch in skip_rows(every, wanted.skip):
                    yield Records(batch)


class Text(WholeFiles):
    r"""Lines of UTF-8, without what ends them: ``\n`` or ``\r\n``."""

    def read_schema(self, file: File) -> pa.Schema:
        """Give the one column of text."""
        return TEXT_SCHEMA

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]:
        """Give the lines from the wanted one on."""
        return skip_records(self._blocks(file, wanted), wanted.skip)

    def _blocks(self, file: File, wanted: Wanted) -> Iterator[Records]:
        def parse(lines: Sequence[bytes]) -> pa.RecordBatch:
            try:
                return _line_batch(b"\n".join(lines), len(lines))
            except pa.ArrowException as error:
                raise _disagrees(file, str(error)) from error

        for block, text in blocks_of_lines(file, wanted.block):
            try:
                rows = _line_batch(text)
            except pa.ArrowException:  # noqa: PERF203  a block is 2 MiB
                if not wanted.tolerant:
                    raise
                yield good_lines(text.split(b"\n"), block, parse)
            else:
                yield Records(rows, (), block)


def asked_types(schema: pa.Schema) -> pa.Schema:
    """Give the types to ask a parser for: plain ones, but timestamps as they are declared.

    A parser reads nanoseconds only as nanoseconds; they are floored afterwards.
    """
    kinds = [
        field.type if pa.types.is_timestamp(field.type) else normal_type(field.type)
        for field in schema
    ]
    return pa.schema([(name, kind) for name, kind in zip(schema.names, kinds, strict=True)])


def _asked(inferred: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, _widened(field.type)) for field in inferred])


def _widened(kind: pa.DataType) -> pa.DataType:
    # A first block without values, or with whole seconds only, does not speak for the rest.
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit in {"s", "ms"}:
        return pa.timestamp("us", kind.tz)
    if pa.types.is_list(kind):
        return pa.list_(_widened(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _widened(field.type)) for field in kind])
    return kind


def _csv_read(block_bytes: int) -> Any:
    return pa.csv.ReadOptions(use_threads=False, block_size=block_bytes)


def _parsed(
    file: File, parse: Callable[[pa.NativeFile, int], Any], skip: int
) -> Iterator[pa.RecordBatch]:
    """Parse by blocks; where a row is longer than a block, go on from it with longer blocks."""
    for block_bytes in _BLOCK_BYTES_TRIED:
        try:
            with file.open_text() as raw, parse(raw, block_bytes) as reader:
                for batch in skip_rows(reader, skip):
                    yield batch
                    skip += batch.num_rows
        except pa.ArrowInvalid as error:  # noqa: PERF203  three rounds at most
            if "straddl" not in str(error) or block_bytes == _BLOCK_BYTES_MAX:
                raise
        else:
            return


def _named_column(file: File, error: pa.ArrowInvalid) -> SourceError:
    """Put the column's name where pyarrow gives its number."""
    message = str(error)
    number = re.search(r"CSV column #(\d+)", message)
    if number is not None:
        names = _header(file)
        index = int(number.group(1))
        if index < len(names):
            message = message.replace(number.group(0), f'column "{names[index]}"')
    return _disagrees(file, message)


def _disagrees(file: File, message: str) -> SourceError:
    return SourceError(
        f"cannot read {file.url}: {message}",
        hint="types come from the start of the first file; schema= gives them for all",
    )


def _header(file: File) -> list[str]:
    try:
        with file.open_text() as raw:
            first = raw.read(_HEADER_BYTES).decode("utf-8-sig", "replace")
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error
    return next(csv.reader(io.StringIO(first)), [])


def _json_rows(text: bytes, columns: pa.Schema | None, file: File) -> pa.RecordBatch:
    """Parse JSON objects, one a line; where ``columns`` is None their types are inferred."""
    if columns is not None and not text.strip():
        return pa.RecordBatch.from_pylist([], columns)
    try:
        return parsed(text, columns, line_count(text))
    except (pa.ArrowException, SourceError) as error:
        raise _disagrees(file, str(error)) from error


def _line_batch(text: bytes, count: int = 1) -> pa.RecordBatch:
    """Give the lines of a text; ``count`` 0: it is empty since there is none."""
    whole = pa.array([text] if count else [], pa.binary()).cast(pa.string())
    lines = pc.split_pattern(whole, "\n").flatten()
    if b"\r" in text:
        lines = pc.replace_substring_regex(lines, r"\r$", "")
    return pa.RecordBatch.from_arrays([lines], schema=TEXT_SCHEMA)
