"""Read files record by record where some cannot be read: lines of text and JSON, rows of CSV.

What can be read is read as ever. A block that cannot be is cut into records first, and those that
fail are found by halves. A record that cannot be read counts in positions as a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.csv

from raystream.connectors.file_listing import File
from raystream.connectors.file_reader import Broken, Records
from raystream.errors import RaystreamError, SourceError
from raystream.operators.rejecting import by_halves

Failure: TypeAlias = Callable[[str], SourceError]

_BLOCK_BYTES = 2 * 1024 * 1024


def good_lines(
    lines: Sequence[bytes], block: int, parse: Callable[[Sequence[bytes]], pa.RecordBatch]
) -> Records:
    """Read the lines of a block, of which some cannot be read; each is a record."""
    results, failures = by_halves(
        len(lines), lambda start, count: parse(lines[start : start + count])
    )
    broken = tuple(Broken(place, lines[place], error) for place, error in failures)
    return Records(pa.concat_batches([parse([]), *results]), broken, block)


def going_on(
    whole: Iterable[Records], skip: int, rest: Callable[[int], Iterator[Records]]
) -> Iterator[Records]:
    """Give what can be read at full speed, and the rest record by record from where that failed."""
    done = skip
    try:
        for records in whole:
            yield records
            done += len(records)
    except (pa.ArrowException, SourceError):
        pass
    else:
        return
    yield from rest(done)


def csv_rows(
    file: File, names: list[str], columns: pa.Schema, skip: int, failure: Failure
) -> Iterator[Records]:
    """Give CSV rows from a record on; in a block, those of a wrong width count as the first."""
    convert = pa.csv.ConvertOptions(column_types=columns, include_columns=columns.names)
    quoted = pa.csv.ParseOptions(newlines_in_values=True)

    def parse(rows: pa.RecordBatch) -> pa.RecordBatch:
        try:
            texts = [column.cast(pa.string()) for column in rows.columns]
            out = io.BytesIO()
            pa.csv.write_csv(pa.RecordBatch.from_arrays(texts, names=rows.schema.names), out)
            size = pa.csv.ReadOptions(use_threads=False, block_size=max(1, out.tell()))
            table = pa.csv.read_csv(io.BytesIO(out.getvalue()), size, quoted, convert)
        except pa.ArrowException as error:
            raise failure(str(error)) from error
        return _one(table)

    for rows, wrong in _raw_rows(file, names):
        count = len(wrong) + rows.num_rows
        if skip < count:
            told = [(row.encode(), failure(problem)) for row, problem in wrong]
            records = _rows_of(rows, told, columns, parse)
            yield records.slice(skip, count - skip)
        skip = max(0, skip - count)


def _one(table: pa.Table) -> pa.RecordBatch:
    """Put the chunks of a table together."""
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def _rows_of(
    rows: pa.RecordBatch,
    told: list[tuple[bytes, SourceError]],
    columns: pa.Schema,
    parse: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> Records:
    results, failures = by_halves(
        rows.num_rows, lambda start, count: parse(rows.slice(start, count))
    )
    lost: list[tuple[int, bytes, RaystreamError]] = [
        *((place, raw, error) for place, (raw, error) in enumerate(told)),
        *((len(told) + place, _csv_row(rows, place), error) for place, error in failures),
    ]
    none = pa.RecordBatch.from_pylist([], columns)
    kept = pa.concat_batches(results) if results else none
    return Records(kept, tuple(Broken(*one) for one in lost))


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
