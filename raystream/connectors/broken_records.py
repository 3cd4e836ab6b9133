"""Read files record by record where some cannot be read: lines of text and JSON, rows of CSV.

A file is read as ever until something in it cannot be; from there on it is cut into records first,
and those that fail are found by halves. A record that cannot be read counts in positions as a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from raystream.connectors.file_listing import File
from raystream.connectors.file_reader import Unreadable
from raystream.errors import SourceError
from raystream.operators.rejecting import by_halves

Read: TypeAlias = pa.RecordBatch | Unreadable
Failure: TypeAlias = Callable[[str], SourceError]

_BLOCK_BYTES = 2 * 1024 * 1024
_ROW_BYTES_MAX = 256 * 1024 * 1024


def going_on(
    whole: Iterable[pa.RecordBatch], skip: int, rest: Callable[[int], Iterator[Read]]
) -> Iterator[Read]:
    """Give what can be read at full speed, and the rest record by record from where that failed."""
    done = skip
    try:
        for batch in whole:
            yield batch
            done += batch.num_rows
    except (pa.ArrowException, SourceError):
        pass
    else:
        return
    yield from rest(done)


def json_lines(file: File, columns: pa.Schema, skip: int, failure: Failure) -> Iterator[Read]:
    """Give JSON objects, one a line, from a record on."""
    options = pa.json.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore")

    def parse(lines: list[bytes]) -> pa.RecordBatch:
        text = b"\n".join(lines)
        read = pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1)
        try:
            table = pa.json.read_json(io.BytesIO(text), read, options)
        except pa.ArrowException as error:
            raise failure(str(error)) from error
        if table.num_rows != len(lines):  # the parser takes an object that goes over two lines
            raise failure("a line does not hold one JSON object")
        return _one(table)

    for lines in _blocks_of_lines(file, failure):
        records = [line for line in lines if line.strip()]
        given, skip = records[skip:], max(0, skip - len(records))
        yield from _parts(given, parse)


def text_lines(
    file: File, skip: int, make: Callable[[bytes], pa.RecordBatch], failure: Failure
) -> Iterator[Read]:
    """Give lines of UTF-8 from a line on."""

    def parse(lines: list[bytes]) -> pa.RecordBatch:
        try:
            return make(b"\n".join(lines))
        except pa.ArrowException as error:
            raise failure(str(error)) from error

    for lines in _blocks_of_lines(file, failure):
        given, skip = lines[skip:], max(0, skip - len(lines))
        yield from _parts(given, parse)


def csv_rows(
    file: File, names: list[str], columns: pa.Schema, skip: int, failure: Failure
) -> Iterator[Read]:
    """Give CSV rows from a record on; in a block, those of a wrong width count as the first."""
    convert = pa.csv.ConvertOptions(column_types=columns, include_columns=columns.names)
    quoted = pa.csv.ParseOptions(newlines_in_values=True)

    def parse(rows: pa.RecordBatch) -> pa.RecordBatch:
        try:
            texts = [column.cast(pa.string()) for column in rows.columns]
            out = io.BytesIO()
            pa.csv.write_csv(pa.RecordBatch.from_arrays(texts, names=rows.schema.names), out)
            size = pa.csv.ReadOptions(use_threads=False, block_size=max(1, out.tell()))
            return _one(pa.csv.read_csv(io.BytesIO(out.getvalue()), size, quoted, convert))
        except pa.ArrowException as error:
            raise failure(str(error)) from error

    for rows, wrong in _raw_rows(file, names):
        told = [(row.encode(), failure(problem)) for row, problem in wrong][skip:]
        skip = max(0, skip - len(wrong))
        if told:
            yield Unreadable(told)
        given, skip = rows.slice(skip), max(0, skip - rows.num_rows)
        if not given.num_rows:
            continue
        yield from _rows_of(given, parse)


def _rows_of(
    rows: pa.RecordBatch, parse: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> Iterator[Read]:
    results, failures = by_halves(
        rows.num_rows, lambda start, count: parse(rows.slice(start, count))
    )
    yield from results
    if failures:
        yield Unreadable((_csv_row(rows, place), error) for place, error in failures)


def _raw_rows(
    file: File, names: list[str]
) -> Iterator[tuple[pa.RecordBatch, list[tuple[str, str]]]]:
    """Give blocks of rows as bytes, and beside them the rows of another width."""
    wrong: list[tuple[str, str]] = []

    def note(row: Any) -> str:
        wrong.append(
            (row.text, f"expected {row.expected_columns} columns, got {row.actual_columns}")
        )
        return "skip"

    read = pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
    parsing = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)
    raw_types = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))
    with file.open_text() as raw, pa.csv.open_csv(raw, read, parsing, raw_types) as reader:
        for batch in reader:
            found, wrong[:] = list(wrong), []
            yield batch, found
    if wrong:
        yield pa.RecordBatch.from_pylist([], pa.schema([(n, pa.binary()) for n in names])), wrong


def _csv_row(rows: pa.RecordBatch, place: int) -> bytes:
    out = io.StringIO()
    # Latin-1 has a letter for every byte: what is no UTF-8 comes out as it was.
    values = [column[place].as_py().decode("latin-1") for column in rows.columns]
    csv.writer(out, lineterminator="").writerow(values)
    return out.getvalue().encode("latin-1")


def _parts(lines: list[bytes], parse: Callable[[list[bytes]], pa.RecordBatch]) -> Iterator[Read]:
    if not lines:
        return
    results, failures = by_halves(
        len(lines), lambda start, count: parse(lines[start : start + count])
    )
    yield from results
    if failures:
        yield Unreadable((lines[place], error) for place, error in failures)


def _blocks_of_lines(file: File, failure: Failure) -> Iterator[list[bytes]]:
    rest = b""
    with file.open_text() as raw:
        while block := raw.read(_BLOCK_BYTES):
            # The end of the last whole line; what is behind it waits for the next block.
            end = block.rfind(b"\n")
            if end < 0:
                rest += block
                if len(rest) > _ROW_BYTES_MAX:
                    raise failure(f"a line of more than {_ROW_BYTES_MAX} bytes")
                continue
            yield (rest + block[:end]).split(b"\n")
            rest = block[end + 1 :]
    if rest:
        yield [rest]


def _one(table: pa.Table) -> pa.RecordBatch:
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
