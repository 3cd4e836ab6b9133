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
from raystream.contracts.watermark import UNITS_PER_US, WatermarkStrategy
from raystream.errors import SourceError
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.time import micros
from raystream.operators import guard
from raystream.operators.pyrows import to_rows

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
        self._function = strategy.timestamp
        if callable(self._function) and not isinstance(self._function, nw.Expr):
            ctx = OpenContext(operator=operator, where=where)
            function = Function(self._function)
            self._function = guard.open_function(function, ctx, operator=operator, where=where).call
        self._operator = operator
        self._where = where

    def read(self, batch: Batch) -> Int64s:
        """Give one event time a row.

        Shapes: batch [n] -> int64 [n].
        Raises: SourceError where a row has none.
        """
        timestamp = self._strategy.timestamp
        if isinstance(batch, Columns):
            if isinstance(timestamp, str):
                return self._whole(batch.record.column(timestamp))
            if isinstance(timestamp, nw.Expr):
                frame = nw.from_native(pa.Table.from_batches([batch.record]))
                times = frame.select(time=timestamp).to_native()["time"].combine_chunks()
                return self._whole(times)
            return self._by_function(to_rows(batch.visible))
        return self._by_function(batch.values)

    def _whole(self, array: pa.Array) -> Int64s:
        times = microseconds(array, self._strategy.unit)
        if times.null_count:
            raise self._missing(int(pc.index(times.is_null(), value=True).as_py()))
        result: Int64s = times.to_numpy(zero_copy_only=False)
        return result

    def _by_function(self, rows: list[Any]) -> Int64s:
        timestamp = self._function
        assert not isinstance(timestamp, nw.Expr), "an expression reads columns, not objects"
        read = itemgetter(timestamp) if isinstance(timestamp, str) else timestamp
        # A row's time comes from the user's function: there is no column to compute it from.
        values = guard.call_each(read, rows, operator=self._operator, where=self._where)
        factor, divisor = UNITS_PER_US[self._strategy.unit]
        times = np.empty(len(values), dtype=np.int64)
        for index, value in enumerate(values):
            if value is None:
                raise self._missing(index)
            is_number = isinstance(value, int)
            times[index] = value * factor // divisor if is_number else micros(value)
        return times

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
