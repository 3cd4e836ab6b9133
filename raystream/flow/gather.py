"""Rows by number from tables of any size: Arrow's ``take`` fails where a column of texts is large.

An array of texts holds at most 2 GiB, and ``take`` makes one array of each column first. What a
subtask holds may be more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from raystream.errors import UserError
from raystream.flow.batch import Int64s

PIECE_BYTES = 256 << 20
"""About so many bytes are put together: rows may be eight times as long as they are on average."""


def take_rows(table: pa.Table, numbers: Int64s) -> pa.Table:
    """Copy rows of a table, in this order.

    Shapes: numbers int64 [n] -> [n], in one batch if it is small.
    """
    if table.nbytes <= PIECE_BYTES:
        return table.take(pa.array(numbers))
    batches = table.to_batches()
    starts = np.cumsum([0, *(batch.num_rows for batch in batches[:-1])])
    return pa.Table.from_batches(pieces(batches, starts, numbers), table.schema)


def pieces(
    batches: Sequence[pa.RecordBatch], starts: Sequence[int] | Int64s, numbers: Int64s
) -> Iterator[pa.RecordBatch]:
    """Copy rows of batches, of which each has numbers from its start on; in pieces, in this order.

    Shapes: numbers int64 [n] -> batches, together [n].
    """
    rows = sum(batch.num_rows for batch in batches)
    size = sum(batch.nbytes for batch in batches)
    step = max(1, PIECE_BYTES * rows // max(size, 1))
    for start in range(0, len(numbers), step):
        yield piece(batches, starts, numbers[start : start + step])


def piece(
    batches: Sequence[pa.RecordBatch], starts: Sequence[int] | Int64s, numbers: Int64s
) -> pa.RecordBatch:
    """Copy rows of batches, of which each has numbers from its start on, in this order.

    Shapes: numbers int64 [n], n > 0 -> [n].
    """
    if len(batches) == 1:
        return batches[0].take(pa.array(numbers - starts[0]))
    batch_of = np.searchsorted(np.asarray(starts), numbers, side="right") - 1
    order = np.argsort(batch_of, kind="stable")
    places, cuts = np.unique(batch_of[order], return_index=True)
    parts = []
    for place, some in zip(places.tolist(), np.split(numbers[order], cuts[1:]), strict=True):
        parts.append(batches[place].take(pa.array(some - starts[place])))
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_batches(parts).take(pa.array(back))


def one_record(table: pa.Table) -> pa.RecordBatch:
    """Give a table as one batch.

    Raises: UserError where a column of texts does not fit into one.
    """
    batches = _combined(table).to_batches()
    if len(batches) > 1:
        raise UserError(
            "a table of more than 2 GiB of text in one column cannot be held whole",
            hint="leave out columns that nobody reads, or divide it",
        )
    nothing = [pa.array([], field.type) for field in table.schema]
    return batches[0] if batches else pa.RecordBatch.from_arrays(nothing, schema=table.schema)


def _combined(table: pa.Table) -> pa.Table:
    # Arrow leaves several chunks where one cannot hold all.
    return table.combine_chunks()
