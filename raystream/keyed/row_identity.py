"""Which rows of a changelog are the same row: by a hash of all that users see of it."""

from __future__ import annotations

import pyarrow as pa

from raystream.flow.batch import visible_names
from raystream.flow.hashing import UInt64s, hash_columns
from raystream.flow.key import plain_array


def row_hashes(record: pa.RecordBatch) -> UInt64s:
    """Hash whole rows; equal rows have equal hashes, NaN equals NaN and 0.0 -0.0.

    Shapes: record [n] -> uint64 [n].
    """
    return hash_columns([_flat(record.column(name)) for name in visible_names(record.schema)])


def _flat(column: pa.Array) -> pa.Array:
    column = plain_array(column)
    if not pa.types.is_nested(column.type):
        return column
    return pa.array(list(map(repr, column.to_pylist())), pa.string())
