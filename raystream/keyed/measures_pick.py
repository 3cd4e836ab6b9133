"""Parts that keep one row's value: first, last, min_by, max_by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.flow.batch import Int64s
from raystream.keyed.measures_grouping import Groups, Request, Values, whole
from raystream.keyed.measures_parts import ARRIVAL, valid


@dataclass(frozen=True)
class Pick:
    """The value of the row where ``by`` is least or greatest; of equals, the one that came first.

    Rows where value or ``by`` is null are passed over; a NaN loses against every number. Partials
    come in order of arrival, but those of several panes do not: ``arrival`` keeps the row's number.
    """

    value: str
    by: str
    value_type: pa.DataType
    by_type: pa.DataType
    greatest: bool
    arrival: bool = False

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        return (self.value_type, self.by_type, *([pa.int64()] if self.arrival else []))

    def fold(self, rows: pa.RecordBatch) -> Request:
        return self._picking(self._columns(rows))

    def merge(self, partials: list[Values]) -> Request:
        return self._picking([whole(column) for column in partials])

    def lift(self, rows: pa.RecordBatch) -> list[pa.Array]:
        columns = self._columns(rows)
        mask = valid(*columns)
        if mask is None:
            return columns
        here = pa.array(np.arange(len(mask)), mask=~mask)
        return [column.take(here) for column in columns]

    def _columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        names = [self.value, self.by, *([ARRIVAL] if self.arrival else [])]
        return [rows.column(name) for name in names]

    def _picking(self, columns: list[pa.Array]) -> Request:
        def picked(groups: Groups) -> list[pa.Array]:
            rows, ids = groups.where(valid(*columns))
            keys = sort_key(columns[1], greatest=self.greatest)
            if self.arrival:
                rows, ids = least_rows(keys, rows, ids)
                keys = columns[2].fill_null(0).to_numpy()
            chosen = first_least(keys, rows, ids, groups.count)
            indices = pa.array(chosen, mask=chosen < 0)
            return [column.take(indices) for column in columns]

        return picked


def first_least(keys: npt.NDArray[Any], rows: Int64s, ids: Int64s, count: int) -> Int64s:
    """Give the row with the least key of each group, of equals the first; -1 where none is.

    Shapes: keys [n]; rows, ids int64 [m], group by group -> int64 [count].
    """
    best = np.full(count, -1, np.int64)
    rows, ids = least_rows(keys, rows, ids)
    first = np.flatnonzero(np.diff(ids, prepend=-1))
    best[ids[first]] = rows[first]
    return best


def least_rows(keys: npt.NDArray[Any], rows: Int64s, ids: Int64s) -> tuple[Int64s, Int64s]:
    """Keep the rows whose key is the least of their group.

    Shapes: keys [n]; rows, ids int64 [m], group by group -> the same, int64 [k].
    """
    if not len(rows):
        return rows, ids
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    here = keys[rows]
    least = np.minimum.reduceat(here, starts)
    hits = np.flatnonzero(here == np.repeat(least, np.diff(starts, append=len(rows))))
    return rows[hits], ids[hits]


def sort_key(column: pa.Array, *, greatest: bool) -> npt.NDArray[Any]:
    """Turn values into numbers whose least is the best; what stands for null is undefined.

    Shapes: column [n] -> int64 or float64 [n].
    """
    type, types = column.type, pa.types
    if types.is_float32(type) or types.is_float64(type):
        values: npt.NDArray[Any] = column.fill_null(0.0).to_numpy(zero_copy_only=False)
        if not np.isnan(values).any():
            return -values if greatest else values
        return _ranks(column, values, greatest=greatest)
    if types.is_temporal(type) and not types.is_interval(type):
        column = column.cast(pa.int32() if type.bit_width == 32 else pa.int64())
        type = column.type
    if types.is_integer(type) and type != pa.uint64():
        column = column.cast(pa.int64())
        if column.null_count:  # copies even where none is
            column = column.fill_null(0)
        numbers: Int64s = column.to_numpy(zero_copy_only=False)
        # Not -n, which has no place for the least int64.
        return ~numbers if greatest else numbers
    return _ranks(column, None, greatest=greatest)


def _ranks(
    column: pa.Array, values: npt.NDArray[Any] | None, *, greatest: bool
) -> npt.NDArray[Any]:
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64)
    if pa.types.is_float16(column.type):
        return sort_key(column.cast(pa.float32()), greatest=greatest)
    dense = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
    ranks: Int64s = dense.to_numpy().astype(np.int64)
    if greatest:
        ranks = -ranks
    if values is not None:
        ranks[np.isnan(values)] = len(ranks) + 1
    return ranks
