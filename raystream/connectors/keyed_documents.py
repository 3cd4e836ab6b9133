"""Rows become documents of another system: where each is, what it holds, whether it is removed.

Rows that no document can be made of are given up one by one, and never with their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from raystream.connectors.net_changes import CHANGES, removing
from raystream.contracts.batch import Batch
from raystream.contracts.rejects import Rejects
from raystream.errors import PlanError, RaystreamError
from raystream.flow.batch import Columns, Int64s
from raystream.operators.rejecting import by_halves, row_of, time_of, without

Encoded: TypeAlias = Callable[[pa.RecordBatch], tuple[pa.Array, pa.Array]]
"""Gives the key (string) and the value (binary) of each row.

Raises: SinkError for rows that have none.
"""


@dataclass(frozen=True, slots=True)
class Documents:
    """Changes of documents, and the place of the row that each was made of.

    Shapes: changes [n], places int64 [n].
    """

    changes: pa.RecordBatch
    places: Int64s


def columns_of(batch: Batch, sink: str) -> pa.RecordBatch:
    """Give the rows as columns. Raises: PlanError on a stream of objects."""
    if isinstance(batch.rows, pa.RecordBatch):
        return batch.rows
    raise no_columns(sink)


def no_columns(sink: str) -> PlanError:
    """Say that a sink takes columns alone."""
    return PlanError(
        f"{sink} takes columns, and this stream carries objects",
        hint="with_schema(…) makes columns of dicts",
    )


def documents(batch: Batch, rows: pa.RecordBatch, encoded: Encoded, errors: Rejects) -> Documents:
    """Make documents of rows; those that have none are given up, or fail the job.

    Raises: SinkError under the policy ``fail``.
    """

    def some(start: int, count: int) -> pa.RecordBatch:
        keys, values = encoded(rows.slice(start, count))
        taken = pa.array(removes[start : start + count])
        return pa.RecordBatch.from_arrays([keys, values, taken], schema=CHANGES)

    removes = removing(batch.ops, rows.num_rows)
    if not errors.tolerant:
        return Documents(some(0, rows.num_rows), np.arange(rows.num_rows))
    parts, failures = by_halves(rows.num_rows, some)
    for place, error in failures:
        give_up(batch, rows, place, error, errors)
    kept = without(rows.num_rows, [place for place, _ in failures])
    changes = pa.concat_batches([pa.RecordBatch.from_pylist([], CHANGES), *parts])
    return Documents(changes, np.arange(rows.num_rows) if kept is None else kept)


def give_up(
    batch: Batch, rows: pa.RecordBatch, place: int, error: RaystreamError, errors: Rejects
) -> None:
    """Give up the row at a place. Raises: the error, where the job is to fail of it."""
    row = row_of(Columns(rows.slice(place, 1)))
    errors.reject(error, row, time_of(batch.timestamps, place))
