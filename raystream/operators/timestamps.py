"""Read event times out of rows: by column, expression or function, as int64 microseconds."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.rejects import Rejects
from raystream.contracts.watermark import UNITS_PER_US, WatermarkStrategy
from raystream.errors import SourceError
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.time import micros
from raystream.operators import guard
from raystream.operators.guard import attempt
from raystream.operators.rejecting import (
    by_halves,
    call_rows,
    picked,
    reject_row,
    rows_kept,
    without,
)

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def microseconds(array: pa.Array, unit: str) -> pa.Array:
    """Turn a column of points in time into int64 microseconds, by floor; nulls stay.

    ``unit`` reads integers; timestamps bring their own, dates are midnight UTC.
    """
    kind = array.type
    if pa.types.is_timestamp(kind):
        unit, array = kind.unit, array.cast(pa.int64())
    elif pa.types.is_date(kind):
        unit, array = "us", array.cast(pa.timestamp("us")).cast(pa.int64())
    else:
        array = array.cast(pa.int64())
    factor, divisor = UNITS_PER_US[unit]
    if factor > 1:
        array = pc.multiply_checked(array, factor)
    if divisor > 1:
        values = array.fill_null(0).to_numpy(zero_copy_only=False)
        array = pa.array(values // divisor, pa.int64(), mask=array.is_null().to_numpy(False))
    return array


def is_time_type(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can be read as event time."""
    types = pa.types
    return bool(types.is_timestamp(kind) or types.is_date(kind) or types.is_integer(kind))


class TimestampReader:
    """Reads the event times of batches as a strategy says."""

    def __init__(self, strategy: WatermarkStrategy, operator: str, where: str) -> None:
        self._strategy = strategy
        self._function: Any = strategy.timestamp
        if callable(self._function) and not isinstance(self._function, nw.Expr):
            ctx = OpenContext(operator=operator, where=where)
            function = Function(self._function)
            self._function = guard.open_function(function, ctx, operator=operator, where=where).call
        self._operator = operator
        self._where = where

    def read(self, batch: Batch, rejects: Rejects) -> tuple[Batch, Int64s]:
        """Give one event time a row; rows without one are given up.

        Shapes: batch [n] -> batch [m], int64 [m].
        Raises: SourceError or UserFunctionError, where the job is to fail of it.
        """
        columnar = isinstance(batch, Columns) and isinstance(self._function, str | nw.Expr)
        if not columnar:
            batch, values = self._by_function(batch, rejects)
        whole = attempt(lambda: self._of_columns(batch) if columnar else self._of_values(values))
        if not isinstance(whole, Exception):
            return batch, whole
        if not rejects.tolerant:
            raise whole
        parts, failures = by_halves(
            batch.num_rows,
            lambda start, count: (
                self._of_columns(batch.slice(start, count))
                if columnar
                else self._of_values(values[start : start + count])
            ),
        )
        for place, error in failures:
            reject_row(rejects, error, batch, place)
        kept = without(batch.num_rows, [place for place, _ in failures])
        return picked(batch, kept), np.concatenate([np.empty(0, np.int64), *parts])

    def _of_columns(self, batch: Batch) -> Int64s:
        assert isinstance(batch, Columns), "read from columns"
        timestamp = self._function
        try:
            if isinstance(timestamp, nw.Expr):
                frame = nw.from_native(pa.Table.from_batches([batch.record]))
                array = frame.select(time=timestamp).to_native()["time"].combine_chunks()
            else:
                array = batch.record.column(timestamp)
            times = microseconds(array, self._strategy.unit)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise self._unreadable(error) from error
        if times.null_count:
            raise self._missing(int(pc.index(times.is_null(), value=True).as_py()))
        result: Int64s = times.to_numpy(zero_copy_only=False)
        return result

    def _by_function(self, batch: Batch, rejects: Rejects) -> tuple[Batch, list[Any]]:
        timestamp = self._function
        assert not isinstance(timestamp, nw.Expr), "an expression reads columns, not objects"
        read = itemgetter(timestamp) if isinstance(timestamp, str) else timestamp
        rows, batch = rows_kept(batch, rejects)
        # A row's time comes from the user's function: there is no column to compute it from.
        values, kept = call_rows(
            read, rows, batch.timestamps, rejects, operator=self._operator, where=self._where
        )
        return picked(batch, kept), values

    def _of_values(self, values: list[Any]) -> Int64s:
        factor, divisor = UNITS_PER_US[self._strategy.unit]
        times = np.empty(len(values), dtype=np.int64)
        try:
            for index, value in enumerate(values):
                if value is None:
                    raise self._missing(index)
                is_number = isinstance(value, int)
                times[index] = value * factor // divisor if is_number else micros(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unreadable(error) from error
        return times

    def _unreadable(self, error: Exception) -> SourceError:
        return SourceError(
            f'rows of "{self._operator}" have no event time that can be read: {error}',
            where=self._where,
        )

    def _missing(self, index: int) -> SourceError:
        return SourceError(
            f'row {index} of a batch of "{self._operator}" has no event time: '
            f"{self._strategy.timestamp!r} is null there",
            where=self._where,
            hint="filter such rows out and use assign_timestamps() behind the filter",
        )


def lower_bound(strategy: WatermarkStrategy, earliest: dict[str, int]) -> int | None:
    """Give the watermark before the first row of a split, where its earliest time is known."""
    timestamp = strategy.timestamp
    if not isinstance(timestamp, str) or timestamp not in earliest:
        return None
    return earliest[timestamp] - strategy.out_of_orderness_us - 1
