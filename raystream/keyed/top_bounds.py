"""Leave out rows that cannot be among the best: each open window's k-th best value so far.

After the first rows of a window almost all others are worse than what it already holds. To compare
one column of them costs little; to group, sort and copy them is what a top-k takes its time for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s
from raystream.keyed.measures_pick import sort_key

_BUCKETS_MAX = 64
"""A batch of more buckets is passed on as it is: each costs a step in Python, and has few rows."""

_Values = npt.NDArray[Any]


class TopBounds:
    """The ``k`` best values of the column ``by`` that each bucket has had, and the bound they set.

    Only for rows without keys, where a bucket is a window. What it knows is derived: it can be
    learned again from the rows that are held, and knowing less only leaves more rows in.
    """

    def __init__(self, k: int, by: tuple[str, bool]) -> None:
        self._k = k
        self._column, self._descending = by
        self._best: dict[int, _Values] = {}  # bounded by the open windows, k values each
        self._forgotten: int | None = None

    def hopeful(
        self, rows: pa.RecordBatch, buckets: Int64s | int
    ) -> tuple[pa.RecordBatch, Int64s | int]:
        """Keep the rows that may be among the best of their bucket, in order of arrival.

        Those that are left out are worse by the first column alone than k others of their bucket.
        Nulls and NaN stay in: they are the worst of values, but may be all that there is.
        Shapes: rows [n], buckets int64 [n] or one for all, n > 0 -> rows [m], buckets.
        """
        column = rows.column(self._column)
        values = _comparable(column, descending=self._descending)
        if values is None:
            return rows, buckets
        first, last = _span(buckets)
        if last - first >= _BUCKETS_MAX:
            return rows, buckets
        offsets = None if isinstance(buckets, int) else buckets - first
        missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
        kept = self._within(first, last, values, offsets, missing)
        self._learn(first, values, offsets, kept if missing is None else kept[~missing[kept]])
        kept = kept[
            self._within(
                first,
                last,
                values[kept],
                None if offsets is None else offsets[kept],
                None if missing is None else missing[kept],
            )
        ]
        if len(kept) == len(values):
            return rows, buckets
        return rows.take(pa.array(kept)), buckets if isinstance(buckets, int) else buckets[kept]

    def forget(self, last: int) -> None:
        """Forget buckets up to ``last``: no more rows come for them."""
        if self._forgotten is None or last > self._forgotten:
            self._forgotten = last
            self._best = {bucket: best for bucket, best in self._best.items() if bucket > last}

    def _within(
        self,
        first: int,
        last: int,
        values: _Values,
        offsets: Int64s | None,
        missing: npt.NDArray[np.bool_] | None,
    ) -> Int64s:
        """Give the rows that are no worse than the bound of their bucket.

        Shapes: values, missing [n]; offsets from ``first`` int64 [n], or None for one bucket
        -> int64 [m].
        """
        worst = np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        bounds = np.full(last - first + 1, worst, values.dtype)
        for offset in range(len(bounds)):
            best = self._best.get(first + offset)
            if best is not None and len(best) == self._k:
                bounds[offset] = best.max()
        # Not "at most the bound": that holds for no NaN.
        worse = values > (bounds[0] if offsets is None else bounds[offsets])
        if missing is not None:
            worse &= ~missing
        return np.flatnonzero(~worse)

    def _learn(self, first: int, values: _Values, offsets: Int64s | None, rows: Int64s) -> None:
        """Take in the values of rows that are new, each row once."""
        if values.dtype.kind == "f":
            rows = rows[~np.isnan(values[rows])]
        if offsets is None:
            self._take(first, values[rows])
            return
        here, values = offsets[rows], values[rows]
        for offset in np.flatnonzero(np.bincount(here)).tolist():
            self._take(first + offset, values[here == offset])

    def _take(self, bucket: int, new: _Values) -> None:
        known = self._best.get(bucket)
        best = new if known is None else np.concatenate((known, new))
        if len(best) > self._k:
            # A copy: a view would keep all of them.
            best = np.partition(best, self._k - 1)[: self._k].copy()
        self._best[bucket] = best


def _span(buckets: Int64s | int) -> tuple[int, int]:
    return (
        (buckets, buckets) if isinstance(buckets, int) else (int(buckets.min()), int(buckets.max()))
    )


def _comparable(column: pa.Array, *, descending: bool) -> _Values | None:
    """Turn values into numbers that compare from batch to batch, the least the best.

    None where there are no such. What stands for null is undefined, NaN stays NaN.
    """
    type, types = column.type, pa.types
    if types.is_float32(type) or types.is_float64(type):
        values: _Values = column.to_numpy(zero_copy_only=False)
        return -values if descending else values
    whole = types.is_integer(type) and type != pa.uint64()
    if whole or (types.is_temporal(type) and not types.is_interval(type)):
        return sort_key(column, greatest=descending)
    return None
