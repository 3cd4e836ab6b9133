"""Rows by the folder they belong to: ``day=2020-01-01/hour=7``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from raystream.connectors.file_listing import NULL_PARTITION
from raystream.errors import SinkError


def by_folder(
    rows: pa.RecordBatch | list[Any], columns: tuple[str, ...]
) -> Iterator[tuple[str, pa.RecordBatch | list[Any]]]:
    """Give the rows of each folder, without the columns that the folder tells, in order.

    Raises: SinkError if a row has no such column.
    """
    if not columns:
        yield "", rows
    elif isinstance(rows, list):
        yield from _objects(rows, columns)
    else:
        yield from _columns(rows, columns)


def _columns(
    record: pa.RecordBatch, columns: tuple[str, ...]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    names = record.schema.names
    for name in columns:
        if name not in names:
            raise SinkError(
                f'partition_by names "{name}", which is no column',
                hint=f"the columns are {', '.join(names)}",
            )
    rest = record.select([name for name in names if name not in columns])
    if not rest.num_columns:
        raise SinkError("partition_by names all columns, so that files would hold none")
    codes = np.zeros(record.num_rows, dtype=np.int64)
    texts: list[pa.Array] = []
    for name in columns:
        encoded = _texts(record.column(name), name).dictionary_encode(null_encoding="encode")
        texts.append(encoded.dictionary)
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
    found, inverse = np.unique(codes, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    counts = np.bincount(inverse, minlength=len(found)).tolist()
    start = 0
    for code, count in zip(found.tolist(), counts, strict=True):
        # Each folder gets a copy: a slice that waits for its file would hold all other rows too.
        part = rest if len(found) == 1 else rest.take(pa.array(order[start : start + count]))
        yield _folder(columns, _decoded(code, texts)), part
        start += count


def _texts(column: pa.Array, name: str) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise SinkError(
            f'partition column "{name}" is {column.type}, which makes no folder names'
        ) from error


def _decoded(code: int, texts: list[pa.Array]) -> list[Any]:
    values = []
    for dictionary in reversed(texts):
        code, index = divmod(code, len(dictionary))
        values.append(dictionary[index].as_py())
    return values[::-1]


def _objects(rows: list[Any], columns: tuple[str, ...]) -> Iterator[tuple[str, list[Any]]]:
    parts: dict[str, list[Any]] = {}
    # A loop over rows: they are Python objects.
    for row in rows:
        if not isinstance(row, dict) or any(name not in row for name in columns):
            raise SinkError(f"a row has not the keys {', '.join(columns)}: {row!r:.80}")
        folder = _folder(columns, [None if (v := row[n]) is None else str(v) for n in columns])
        rest = {name: value for name, value in row.items() if name not in columns}
        parts.setdefault(folder, []).append(rest)
    yield from parts.items()


def _folder(columns: tuple[str, ...], values: list[str | None]) -> str:
    pairs = zip(columns, values, strict=True)
    return "/".join(
        f"{quote(name, safe='')}={NULL_PARTITION if value is None else quote(value, safe='')}"
        for name, value in pairs
    )
