"""map, flat_map and filter by a user's function of one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import truth
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.flow.batch import Batch, Columns, Int64s, Objects
from raystream.flow.element import Watermark
from raystream.operators import guard
from raystream.operators.operator import Operator
from raystream.operators.pyrows import to_columns, to_rows


@dataclass(frozen=True, slots=True, eq=False)
class MapSpec:
    """One row of each; ``output`` is the schema of the wire, None makes an object stream."""

    function: Function
    output: pa.Schema | None
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "map"

    def describe(self) -> str:
        return self.function.name

    def build(self) -> Map:
        return Map(self)


@dataclass(frozen=True, slots=True, eq=False)
class FlatMapSpec:
    """Any number of rows of each; ``output`` is the schema of the wire, None makes objects."""

    function: Function
    output: pa.Schema | None
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "flat_map"

    def describe(self) -> str:
        return self.function.name

    def build(self) -> FlatMap:
        return FlatMap(self)


@dataclass(frozen=True, slots=True, eq=False)
class FilterFunctionSpec:
    """The rows for which the function's result is true, as they came."""

    function: Function
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "filter"

    def describe(self) -> str:
        return self.function.name

    def build(self) -> FilterFunction:
        return FilterFunction(self)


def rows_of(batch: Batch) -> list[Any]:
    """Give a batch's rows as row functions see them: dicts on a columnar stream."""
    return to_rows(batch.record) if isinstance(batch, Columns) else batch.values


class _RowFunction(Operator):
    """Holds the opened function of a subtask."""

    def __init__(self, spec: MapSpec | FlatMapSpec | FilterFunctionSpec) -> None:
        self._function = spec.function
        self._operator = spec.operator
        self._where = spec.where
        self._opened: OpenFunction | None = None
        self._call: Any = None

    def open(self, ctx: OpenContext) -> None:
        self._opened = guard.open_function(
            self._function, ctx, operator=self._operator, where=self._where
        )
        self._call = self._opened.call

    def close(self) -> None:
        if self._opened is not None:
            guard.close_function(self._opened, operator=self._operator, where=self._where)
            self._opened = None

    def _each(self, batch: Batch) -> list[Any]:
        return guard.call_each(
            self._call, rows_of(batch), operator=self._operator, where=self._where
        )


class Map(_RowFunction):
    """Calls the function with each row; event times stay."""

    def __init__(self, spec: MapSpec) -> None:
        super().__init__(spec)
        self._output = spec.output

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        values = self._each(batch)
        times = batch.timestamps
        if not values:
            return
        if self._output is None:
            yield Objects(values, times)
        else:
            yield to_columns(
                values, self._output, times, operator=self._operator, where=self._where
            )


class FlatMap(_RowFunction):
    """Calls the function with each row; its rows carry the event time of that row."""

    def __init__(self, spec: FlatMapSpec) -> None:
        super().__init__(spec)
        self._output = spec.output
        self._rows_max = 1

    def open(self, ctx: OpenContext) -> None:
        super().open(ctx)
        self._rows_max = ctx.limits.row_batch_rows_max

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        times = batch.timestamps
        for values, origins in guard.expand(
            self._call,
            rows_of(batch),
            self._rows_max,
            operator=self._operator,
            where=self._where,
        ):
            yield self._batch(values, None if times is None else times[origins])

    def _batch(self, values: list[Any], times: Int64s | None) -> Batch:
        if self._output is None:
            return Objects(values, times)
        return to_columns(values, self._output, times, operator=self._operator, where=self._where)


class FilterFunction(_RowFunction):
    """Keeps rows by the truth of the function's result."""

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        results = self._each(batch)
        # The truth of a value is user code too: an array of several has none.
        kept = guard.call_each(truth, results, operator=self._operator, where=self._where)
        if all(kept):
            if kept:
                yield batch
        elif any(kept):
            yield batch.take(np.flatnonzero(kept))
