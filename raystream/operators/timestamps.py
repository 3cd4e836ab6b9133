"""Read event times out of rows: by column, expression or function, as int64 microseconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from operator import index, itemgetter
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.contracts.rejects import Rejects
from raystream.contracts.watermark import UNITS_PER_US, Strategy
from raystream.errors import ConfigError, RaystreamError, SourceError
from raystream.flow.batch import NO_TIME, Batch, Columns, Int64s
from raystream.flow.element import MAX_TIME
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


def instant(value: object, unit: str, *, plus: int = 0) -> int:
    """Turn one point in time into microseconds, by floor: an int in a unit, a datetime or a date.

    Raises: ConfigError for all else, a bool, a float and a text too, and for a time that the
    engine has no microsecond for.
    """
    if isinstance(value, date):
        time_us: object = micros(value) + plus
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        time_us = None
    else:
        factor, divisor = UNITS_PER_US[unit]
        time_us = (index(value) + plus) * factor // divisor
    if not isinstance(time_us, int):  # pandas' NaT is a datetime, and no point in time
        raise ConfigError(
            f"not a point in time: {value!r:.80}, a {type(value).__name__}",
            hint="a point in time is a datetime, a date, or an int in the unit of the strategy",
        )
    if not NO_TIME < time_us <= MAX_TIME:
        raise ConfigError(
            f"no event time: {value!r:.80} lies outside of what 64 bits of microseconds hold",
            hint=f"integers are read in {unit}: see unit= of the strategy",
        )
    return time_us


def is_time_type(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can be read as event time."""
    types = pa.types
    return bool(types.is_timestamp(kind) or types.is_date(kind) or types.is_integer(kind))


class _NotOneEachError(SourceError):
    """An expression that gives one value for many rows, which is no fault of a row."""


class TimestampReader:
    """Reads the event times of batches as a strategy says."""

    def __init__(self, strategy: Strategy, operator: str, where: str) -> None:
        self._strategy = strategy
        self._function: OpenFunction | None = None
        self._operator = operator
        self._where = where

    def open(self, ctx: OpenContext) -> None:
        """Make the function that reads times, where it is one."""
        timestamp = self._strategy.timestamp
        if not isinstance(timestamp, str | nw.Expr):
            self._function = guard.open_function(
                Function(timestamp), ctx, operator=self._operator, where=self._where
            )

    def close(self) -> None:
        """Close the function, where there is one."""
        if self._function is not None:
            function, self._function = self._function, None
            guard.close_function(function, operator=self._operator, where=self._where)

    def read(self, batch: Batch, rejects: Rejects) -> tuple[Batch, Int64s]:
        """Give one event time a row; rows without one are given up.

        Shapes: batch [n] -> batch [m], int64 [m].
        Raises: SourceError where a row has none, UserFunctionError where a function gives none, if
        the job is to fail of it.
        """
        columnar = isinstance(batch, Columns) and isinstance(
            self._strategy.timestamp, str | nw.Expr
        )
        rows: list[Any] = []
        values: list[Any] = []
        if not columnar:
            batch, rows, values = self._by_function(batch, rejects)

        def times_of(start: int, count: int) -> Int64s:
            if columnar:
                return self._of_columns(batch.slice(start, count))
            stop = start + count
            return self._of_values(values[start:stop], rows[start:stop])

        whole = attempt(lambda: times_of(0, batch.num_rows))
        if not isinstance(whole, Exception):
            return batch, whole
        if not rejects.tolerant or isinstance(whole, _NotOneEachError):
            raise whole
        parts, failures = by_halves(batch.num_rows, times_of)
        for place, error in failures:
            reject_row(rejects, error, batch, place)
        kept = without(batch.num_rows, [place for place, _ in failures])
        return picked(batch, kept), np.concatenate([np.empty(0, np.int64), *parts])

    def _of_columns(self, batch: Batch) -> Int64s:
        assert isinstance(batch, Columns), "an expression reads columns, not objects"
        timestamp = self._strategy.timestamp
        if isinstance(timestamp, nw.Expr):
            return self._computed(timestamp, batch)
        return self._whole(batch.record.column(timestamp))

    def _computed(self, expression: nw.Expr, batch: Columns) -> Int64s:
        frame = nw.from_native(pa.Table.from_batches([batch.record]))
        try:
            times = frame.select(time=expression).to_native()["time"].combine_chunks()
        except pa.ArrowException as error:
            raise self._refused(f"cannot be computed: {error}") from error
        if len(times) != batch.num_rows:
            # A literal and an aggregate give one value however many rows there are.
            raise self._refused(
                f"has {len(times)} values for {batch.num_rows} rows", _NotOneEachError
            )
        return self._whole(times)

    def _whole(self, array: pa.Array) -> Int64s:
        try:
            times = microseconds(array, self._strategy.unit)
        except pa.ArrowException as error:
            raise self._refused(f"does not fit 64 bits of microseconds: {error}") from error
        if times.null_count:
            raise self._missing(int(pc.index(times.is_null(), value=True).as_py()))
        result: Int64s = times.to_numpy(zero_copy_only=False)
        if len(result) and int(result.min()) == NO_TIME:
            raise self._refused("is the least integer, which stands for no time at all")
        return result

    def _by_function(self, batch: Batch, rejects: Rejects) -> tuple[Batch, list[Any], list[Any]]:
        """Give what the function said of each row, and the rows that it said something of."""
        timestamp = self._strategy.timestamp
        if isinstance(timestamp, str):
            read: Callable[[Any], Any] = itemgetter(timestamp)
        else:
            assert self._function is not None, "an operator is opened before its rows come"
            read = self._function.call
        rows, batch = rows_kept(batch, rejects)
        # A row's time comes from the user's function: there is no column to compute it from.
        values, kept = call_rows(
            read, rows, batch.timestamps, rejects, operator=self._operator, where=self._where
        )
        if kept is not None:
            rows = [rows[place] for place in kept.tolist()]
        return picked(batch, kept), rows, values

    def _of_values(self, values: list[Any], rows: list[Any]) -> Int64s:
        times = np.empty(len(values), dtype=np.int64)
        for number, value in enumerate(values):
            if value is None:
                raise self._missing(number)
            try:
                times[number] = instant(value, self._strategy.unit)
            except RaystreamError as error:
                row = rows[number]
                raise guard.failed(
                    error, operator=self._operator, where=self._where, row=row
                ) from error
        return times

    @property
    def _named(self) -> str:
        timestamp = self._strategy.timestamp
        if isinstance(timestamp, str):
            return f'column "{timestamp}"'
        return "its expression" if isinstance(timestamp, nw.Expr) else "what its function gives"

    def _missing(self, number: int) -> SourceError:
        return SourceError(
            f'row {number} of a batch of "{self._operator}" has no event time: '
            f"{self._named} is null there",
            where=self._where,
            hint="filter such rows out and use assign_timestamps() behind the filter",
        )

    def _refused(self, problem: str, kind: type[SourceError] = SourceError) -> SourceError:
        return kind(
            f'the event time of "{self._operator}", {self._named}, {problem}',
            where=self._where,
            hint=f"integers are read in {self._strategy.unit}: see unit= of the strategy",
        )


def lower_bound(
    strategy: Strategy, earliest: dict[str, int], schema: pa.Schema | None
) -> int | None:
    """Give the watermark before the first row of a split, where its earliest time is known.

    ``earliest`` holds integers as they are: those of a column of integers are in the unit.
    """
    timestamp = strategy.timestamp
    if not isinstance(timestamp, str) or timestamp not in earliest:
        return None
    least = earliest[timestamp]
    is_known = schema is not None and timestamp in schema.names
    if schema is not None and is_known and pa.types.is_integer(schema.field(timestamp).type):
        factor, divisor = UNITS_PER_US[strategy.unit]
        least = least * factor // divisor
    return least - strategy.out_of_orderness_us - 1
