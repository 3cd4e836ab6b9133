"""map, flat_map and filter by a user's function of one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import truth
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.contracts.rejects import Rejects
from raystream.flow.batch import Batch, Columns, Int64s, Objects, with_ops
from raystream.flow.changes import OP, OP_FIELD, kept_ops
from raystream.flow.element import Watermark
from raystream.operators import guard
from raystream.operators.operator import Operator
from raystream.operators.pyrows import to_columns
from raystream.operators.rejecting import call_rows, columns_of, expand_rows, picked, rows_kept


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


class _RowFunction(Operator):
    """Holds the opened function of a subtask."""

    def __init__(self, spec: MapSpec | FlatMapSpec | FilterFunctionSpec) -> None:
        self._function = spec.function
        self._operator = spec.operator
        self._where = spec.where
        self._opened: OpenFunction | None = None
        self._call: Any = None
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors
        self._opened = guard.open_function(
            self._function, ctx, operator=self._operator, where=self._where
        )
        self._call = self._opened.call

    def close(self) -> None:
        if self._opened is not None:
            guard.close_function(self._opened, operator=self._operator, where=self._where)
            self._opened = None

    def _each(self, rows: list[Any], times: Int64s | None) -> tuple[list[Any], Int64s | None]:
        """Call the function with each row; rows that fail are given up."""
        operator, where = self._operator, self._where
        return call_rows(self._call, rows, times, self._errors, operator=operator, where=where)


class Map(_RowFunction):
    """Calls the function with each row; event times and row kinds stay."""

    def __init__(self, spec: MapSpec) -> None:
        super().__init__(spec)
        self._output = spec.output
        self._changes = spec.output is not None and OP in spec.output.names
        if spec.output is not None and self._changes:
            self._output = spec.output.remove(spec.output.get_field_index(OP))

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        rows, batch = rows_kept(batch, self._errors)
        values, kept = self._each(rows, batch.timestamps)
        if not values:
            return
        if kept is not None:
            rows, batch = [rows[place] for place in kept.tolist()], batch.take(kept)
        times = batch.timestamps
        if self._output is None:
            yield Objects(values, times)
            return
        operator, where = self._operator, self._where
        made, fits = columns_of(
            values, self._output, rows, times, self._errors, operator=operator, where=where
        )
        if made is None:
            return
        if self._changes:
            assert isinstance(batch, Columns), "a changelog has columns"
            assert batch.ops is not None, "a changelog has row kinds"
            made = with_ops(made, batch.ops if fits is None else batch.ops[fits])
        yield made


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
        rows, batch = rows_kept(batch, self._errors)
        times, limit = batch.timestamps, self._rows_max
        operator, where = self._operator, self._where
        if self._errors.tolerant:
            for values, origins in expand_rows(
                self._call, rows, times, limit, self._errors, operator=operator, where=where
            ):
                yield from self._kept(values, origins, rows, times)
            return
        for values, origins in guard.expand(
            self._call, rows, limit, operator=operator, where=where
        ):
            yield self._batch(values, None if times is None else times[origins])

    def _kept(
        self, values: list[Any], origins: Int64s, rows: list[Any], times: Int64s | None
    ) -> Iterator[Batch]:
        """Give the results of whole calls; of those of which one does not fit its column, none."""
        made: Batch | None = Objects(values, None if times is None else times[origins])
        if self._output is not None:
            made, _ = columns_of(
                values,
                self._output,
                rows,
                times,
                self._errors,
                operator=self._operator,
                where=self._where,
                origins=origins,
            )
        if made is not None:
            for start in range(0, made.num_rows, self._rows_max):
                yield made.slice(start, self._rows_max)

    def _batch(self, values: list[Any], times: Int64s | None) -> Batch:
        if self._output is None:
            return Objects(values, times)
        return to_columns(values, self._output, times, operator=self._operator, where=self._where)


class FilterFunction(_RowFunction):
    """Keeps rows by the truth of the function's result."""

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        rows, batch = rows_kept(batch, self._errors)
        results, called = self._each(rows, batch.timestamps)
        if called is not None:
            rows, batch = [rows[place] for place in called.tolist()], batch.take(called)
        # The truth of a value is user code too: an array of several has none.
        kept, judged = call_rows(
            truth,
            results,
            batch.timestamps,
            self._errors,
            operator=self._operator,
            where=self._where,
            of=rows,
        )
        batch = picked(batch, judged)
        if all(kept):
            if kept:
                yield batch
        elif any(kept):
            yield _settled(batch, np.array(kept, np.bool_)).take(np.flatnonzero(kept))


def _settled(batch: Batch, passes: npt.NDArray[np.bool_]) -> Batch:
    """Let no update of a changelog be half told by the rows that pass."""
    ops = batch.ops if isinstance(batch, Columns) else None
    if ops is None:
        return batch
    assert isinstance(batch, Columns), "a changelog has columns"
    place = batch.record.schema.get_field_index(OP)
    settled = pa.array(kept_ops(ops, passes))
    return Columns(batch.record.set_column(place, OP_FIELD, settled))
