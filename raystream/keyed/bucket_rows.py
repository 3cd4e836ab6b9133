"""Whole rows that wait by bucket: by the pane of their windows, or by their event time.

They lie in the runs of a partial table, which are merged geometrically and never folded: rows of
one key and bucket stay as many as they were, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.ordering import stable_order
from raystream.keyed.partials import PartialTable
from raystream.keyed.snapshot import BUCKET

_BUCKET_FIELD = pa.field(BUCKET, pa.int64(), nullable=False)


class BucketRows:
    """Rows of ``schema``, each in one bucket; ``keys`` are columns by which large buckets are cut.

    Raises: nothing; a column called ``BUCKET`` cannot be in the schema.
    """

    def __init__(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        self.schema = schema
        self._table = PartialTable(_by_bucket, keys)
        self._nothing = pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in schema], schema=schema
        )

    @property
    def row_count(self) -> int:
        """Rows that are held."""
        return self._table.row_count

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that are held."""
        return self._table.nbytes

    def add(self, rows: pa.RecordBatch, buckets: Int64s) -> None:
        """Add rows that came after all others; they are copied. ``settle`` is to be called behind.

        Shapes: rows [n], buckets int64 [n].
        """
        if not rows.num_rows:
            return
        order = stable_order(buckets)
        columns = [*rows.take(pa.array(order)).columns, pa.array(buckets[order])]
        schema = self.schema.append(_BUCKET_FIELD)
        self._table.add(pa.RecordBatch.from_arrays(columns, schema=schema))

    def settle(self) -> Iterator[None]:
        """Merge what is to be merged, in bounded steps: each yield is a place to pause."""
        return self._table.settle()

    def first_bucket(self) -> int | None:
        """Give the first bucket that has rows."""
        return self._table.first_bucket()

    def count_below(self, bucket: int) -> int:
        """Count the rows of earlier buckets; any int will do."""
        return self._table.count_below(bucket)

    def between(self, start: int, stop: int) -> tuple[pa.RecordBatch, Int64s]:
        """Give the rows of buckets from ``start`` up to ``stop``, and the bucket of each.

        Rows of one bucket are in order of arrival; others in any.
        Shapes: -> [n], int64 [n].
        """
        views = self._table.between(start, stop)
        if not views:
            return self._nothing, np.zeros(0, np.int64)
        joined = views[0] if len(views) == 1 else pa.concat_batches(views)
        buckets: Int64s = joined.column(BUCKET).to_numpy()
        return joined.select(self.schema.names), buckets

    def held(self) -> tuple[pa.RecordBatch, Int64s]:
        """Give all rows, and the bucket of each."""
        return self.between(MIN_TIME, MAX_TIME + 1)

    def drop_below(self, bucket: int) -> None:
        """Forget the rows of earlier buckets; any int will do."""
        self._table.drop_below(bucket)


def _by_bucket(records: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Join rows in order of arrival, sorted by bucket."""
    joined = records[0] if len(records) == 1 else pa.concat_batches(records)
    buckets = joined.column(BUCKET).to_numpy()
    return joined.take(pa.array(stable_order(buckets)))
