"""Parquet: splits are runs of row groups, and the footer tells what the splits may hold."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raystream.connectors.file_formats import Wanted
from raystream.connectors.file_listing import File
from raystream.connectors.file_reader import (
    BATCH_BYTES,
    BATCH_ROWS,
    Records,
    check_agreement,
    rows_within,
    skip_rows,
    unreadable,
)
from raystream.contracts.source import Split
from raystream.errors import SourceError

SPLIT_ROWS = 65_536
"""A split has at least as many rows, or is one row group: opening a file costs milliseconds."""

_LOCAL_BUFFER_BYTES = 65_536
"""Local columns are read page by page. Without a buffer all pages of a row group are read before
its first row is given: megabytes of new memory, and a pause in which nobody else has work."""

_DAY_US = 86_400_000_000
_UNIT_US = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
_PARQUET_UNITS = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}


class Parquet:
    """Parquet files, read by row groups and columns."""

    def read_schema(self, file: File) -> pa.Schema:
        """Read the schema from the footer."""
        return footer(file).schema.to_arrow_schema()

    def splits(self, file: File, schema: pa.Schema, *, exact: bool) -> list[Split]:
        """Cut a file into runs of row groups, in order.

        Raises: SourceError if the file has other columns than ``schema``.
        """
        metadata = footer(file)
        check_agreement(file, metadata.schema.to_arrow_schema(), schema, exact=exact)
        splits = []
        first, rows = 0, 0
        count = metadata.num_row_groups
        for group in range(count):
            rows += metadata.row_group(group).num_rows
            if rows and (rows >= SPLIT_ROWS or group == count - 1):
                splits.append(
                    Split(
                        f"{file.url}#{first}-{group}",
                        (file, first, group + 1),
                        _earliest(metadata, first, group + 1, schema),
                    )
                )
                first, rows = group + 1, 0
        return splits

    def records(self, file: File, payload: Any, wanted: Wanted) -> Iterator[Records]:
        """Give the rows of the wanted columns from the wanted row of the split on.

        Row groups before that row are not read. A batch that turns out too large is followed by
        smaller ones: reading starts again behind it, since the size of batches is set at the start.
        """
        _, first, stop = payload
        metadata = footer(file)
        if stop > metadata.num_row_groups:
            raise SourceError(
                f"{file.url} has changed: row group {stop - 1} is gone",
                hint="files of a source must stay as they are until the job has read them",
            )
        skip = wanted.skip
        rows = _rows_a_batch(metadata, range(first, stop), wanted.columns.names)
        again = True
        while again:
            again = False
            for batch in _from_row(
                file, metadata, range(first, stop), replace(wanted, skip=skip), rows
            ):
                yield Records(batch)
                skip += batch.num_rows
                fitting = rows_within(batch, BATCH_BYTES)
                if batch.nbytes > 2 * BATCH_BYTES and fitting <= rows // 2:
                    rows, again = fitting, True
                    break


def footer(file: File) -> Any:
    """Read what the end of a file says of it.

    Raises: SourceError if the file is missing, cut off or no Parquet file.
    """
    return _footer(file)


@functools.lru_cache(maxsize=64)
def _footer(file: File) -> Any:
    # Splits of one file are opened one after the other, and each needs the footer.
    try:
        with file.open() as raw:
            return pq.read_metadata(raw)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error


def _from_row(
    file: File, metadata: Any, groups: range, wanted: Wanted, rows: int
) -> Iterator[pa.RecordBatch]:
    left, skip = list(groups), wanted.skip
    while left and skip >= metadata.row_group(left[0]).num_rows:
        skip -= metadata.row_group(left.pop(0)).num_rows
    if not left:
        return
    with file.open() as raw:
        remote = file.url.find("://") > 0
        whole = pq.ParquetFile(
            raw,
            metadata=metadata,
            pre_buffer=remote,  # many small reads are slow where each is a request
            buffer_size=0 if remote else _LOCAL_BUFFER_BYTES,
        )
        yield from skip_rows(
            whole.iter_batches(
                rows, row_groups=left, columns=wanted.columns.names, use_threads=False
            ),
            skip,
        )


def _rows_a_batch(metadata: Any, groups: range, names: list[str]) -> int:
    """Estimate from the footer how many rows make a batch of the size that is aimed at."""
    wanted = set(names)
    rows, size = 0, 0
    for group in groups:
        row_group = metadata.row_group(group)
        rows += row_group.num_rows
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema.split(".")[0] in wanted:
                size += column.total_uncompressed_size
    return max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(1, size)))


def _earliest(metadata: Any, first: int, stop: int, schema: pa.Schema) -> dict[str, int]:
    found = {}
    for index in range(metadata.num_columns):
        leaf = metadata.schema.column(index)
        position = schema.get_field_index(leaf.path)
        if position < 0:
            continue
        groups = [metadata.row_group(group).column(index) for group in range(first, stop)]
        least = [_least(column, leaf, schema.field(position).type) for column in groups]
        known = [value for value in least if value is not None]
        if len(known) == len(groups):
            found[leaf.path] = min(known)
    return found


def _least(column: Any, leaf: Any, kind: pa.DataType) -> int | None:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    if pa.types.is_integer(kind):
        least = statistics.min
        return least if isinstance(least, int) else None
    raw = statistics.min_raw
    if not isinstance(raw, int):
        return None
    if pa.types.is_date32(kind):
        return raw * _DAY_US
    unit = _unit(leaf) if pa.types.is_timestamp(kind) else None
    if unit is None:
        return None
    factor, divisor = _UNIT_US[unit]
    return raw * factor // divisor


def _unit(leaf: Any) -> str | None:
    text = str(leaf.logical_type)
    named = (unit for word, unit in _PARQUET_UNITS.items() if f"timeUnit={word}" in text)
    return next(named, None)
