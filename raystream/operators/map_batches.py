"""Whole batches through a user's function, as Arrow, pandas, NumPy or Polars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, OpenFunction
from raystream.contracts.rejects import Rejects
from raystream.errors import PlanError, UserFunctionError
from raystream.flow.batch import EVENT_TIME, Batch, Columns, Int64s, Objects, with_times
from raystream.flow.element import Watermark
from raystream.flow.normal import normal_array, normal_type
from raystream.operators import guard
from raystream.operators.operator import Operator
from raystream.operators.pyrows import to_columns
from raystream.operators.rejecting import one_by_one
from raystream.operators.timestamps import microseconds

_DONE = object()
"""Stands for the end of what a function yields."""

BATCH_FORMATS = ("arrow", "pandas", "numpy", "polars")


@dataclass(frozen=True, slots=True, eq=False)
class MapBatchesSpec:
    """A function of a batch; ``output`` is the schema of the wire, None makes an object stream.

    ``batch_size`` is a maximum. In pandas and NumPy a null number is NaN, and a NaN that comes back
    is null. ``timestamp`` names the column of the result that holds event time; without it each row
    keeps that of its position, of as many rows or none.
    """

    function: Function
    output: pa.Schema | None
    operator: str
    where: str
    batch_size: int | None = None
    batch_format: str = "arrow"
    timestamp: str | None = None

    @property
    def verb(self) -> str:
        return "map_batches"

    def describe(self) -> str:
        size = f", at most {self.batch_size} rows" if self.batch_size else ""
        return f"{self.function.name} over {self.batch_format}{size}"

    def build(self) -> MapBatches:
        return MapBatches(self)


def check_batch_format(batch_format: str, batch_size: int | None, where: str) -> None:
    """Refuse a format that there is not, one whose library is not installed, or a size below 1.

    Raises: PlanError.
    """
    if batch_format not in BATCH_FORMATS:
        raise PlanError(
            f'map_batches() has no batch_format "{batch_format}"',
            hint=f"there are {', '.join(BATCH_FORMATS)}",
            where=where or None,
        )
    if batch_format in ("pandas", "polars"):
        try:
            __import__(batch_format)
        except ImportError as error:
            raise PlanError(
                f'batch_format="{batch_format}" needs {batch_format}, which is not installed',
                hint=f"pip install 'raystream[{batch_format}]'",
                where=where or None,
            ) from error
    if batch_size is not None and batch_size < 1:
        raise PlanError(f"batch_size must be 1 or more, got {batch_size}", where=where or None)


class MapBatches(Operator):
    """Calls the function with each batch; never waits for more rows."""

    def __init__(self, spec: MapBatchesSpec) -> None:
        self._spec = spec
        self._opened: OpenFunction | None = None
        self._rows_max = 1
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        spec = self._spec
        self._errors = ctx.errors
        self._rows_max = ctx.limits.batch_rows_max
        self._opened = guard.open_function(
            spec.function, ctx, operator=spec.operator, where=spec.where
        )

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        count = batch.num_rows
        size = self._spec.batch_size or max(count, 1)
        for start in range(0, count, size):
            part = batch.slice(start, min(size, count - start))
            results = self._whole(part) if self._errors.tolerant else self._call(part)
            for result in results:
                # What a function makes of one batch may be far more than came in.
                step = max(self._rows_max, size)
                for first in range(0, result.num_rows, step):
                    rows = min(step, result.num_rows - first)
                    yield result if rows == result.num_rows else result.slice(first, rows)

    def _whole(self, batch: Batch) -> Iterator[Batch]:
        """Give what calls that did not fail have given: one with all rows, or one with each."""
        for results in one_by_one(batch, lambda part: list(self._call(part)), self._errors):
            yield from results

    def close(self) -> None:
        if self._opened is not None:
            guard.close_function(self._opened, operator=self._spec.operator, where=self._spec.where)
            self._opened = None

    def _call(self, batch: Batch) -> Iterator[Batch]:
        """Give what the function returns for a batch, or, one by one, the batches it yields."""
        assert self._opened is not None, "opened before the first batch"
        spec = self._spec
        given = (
            _GIVE[spec.batch_format](batch.visible)
            if isinstance(batch, Columns)
            else list(batch.values)
        )
        made = guard.call(self._opened.call, given, operator=spec.operator, where=spec.where)
        if isinstance(made, list) and made and isinstance(made[0], (pa.RecordBatch, pa.Table)):
            made = iter(made)
        if not isinstance(made, Iterator):
            yield self._made(made, batch)
            return
        rest = batch
        while (
            part := guard.call(next, made, _DONE, operator=spec.operator, where=spec.where)
        ) is not _DONE:
            result = self._made(part, rest, more=True)
            yield result
            taken = min(result.num_rows, rest.num_rows)
            rest = rest.slice(taken, rest.num_rows - taken)
        positional = spec.timestamp is None and batch.timestamps is not None
        if positional and 0 < rest.num_rows < batch.num_rows:
            raise self._times_open(batch.num_rows - rest.num_rows, batch.num_rows)

    def _made(self, made: Any, batch: Batch, *, more: bool = False) -> Batch:
        """Make a batch of what the function gave; ``more`` may come for the rest of the rows."""
        spec = self._spec
        if spec.output is None:
            if not isinstance(made, list):
                raise self._refused(f"returned {guard.short(made)}, not a list of rows")
            return Objects(made, self._by_position(len(made), batch, more=more))
        schema = spec.output.remove(len(spec.output) - 1) if self._timed else spec.output
        if isinstance(made, list):
            rows = to_columns(made, schema, None, operator=spec.operator, where=spec.where)
            visible = rows.record
        else:
            visible = self._columns(made, schema)
        return with_times(visible, self._times(visible, batch, more) if self._timed else None)

    @property
    def _timed(self) -> bool:
        output = self._spec.output
        return output is not None and bool(output.names) and output.names[-1] == EVENT_TIME

    def _columns(self, made: Any, schema: pa.Schema) -> pa.RecordBatch:
        """Read what the function returned; columns of a wrong name or type are named."""
        columns = _read(made)
        if columns is None:
            raise self._refused(
                f"returned a {type(made).__name__}",
                hint="return or yield a RecordBatch, a Table, a DataFrame or a dict of arrays",
            )
        names = schema.names
        missing = [name for name in names if name not in columns]
        unknown = [name for name in columns if name not in names]
        if missing or unknown:
            parts = [f"without {_quoted(missing)}"] if missing else []
            parts += [f"with {_quoted(unknown)}, which the schema has not"] if unknown else []
            raise self._refused(
                f"returned a batch {' and '.join(parts)}",
                hint="schema= says which columns the function returns",
            )
        arrays = [self._array(columns[field.name], field) for field in schema]
        lengths = {len(array) for array in arrays}
        if len(lengths) > 1:
            raise self._refused(f"returned columns of different lengths: {sorted(lengths)}")
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _array(self, values: Any, field: pa.Field) -> pa.Array:
        try:
            array = _convert(values, field.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise self._refused(
                f'returned "{field.name}" in a way that does not fit {field.type}: {error}',
                hint="schema= says which types the function returns",
            ) from error
        if array.type != field.type:
            raise self._refused(
                f'returned "{field.name}" as {array.type} where the schema says {field.type}',
                hint="schema= says which types the function returns",
            )
        if array.null_count and not field.nullable:
            raise self._refused(f'returned nulls in "{field.name}", which is declared not null')
        return array

    def _times(self, visible: pa.RecordBatch, batch: Batch, more: bool) -> Int64s | None:
        name = self._spec.timestamp
        if name is None:
            return self._by_position(visible.num_rows, batch, more=more)
        times = microseconds(visible.column(name), "us")
        if times.null_count:
            raise self._refused(f'returned nulls in "{name}", which is the event time')
        result: Int64s = times.to_numpy(zero_copy_only=False)
        return result

    def _by_position(self, count: int, batch: Batch, *, more: bool = False) -> Int64s | None:
        times = batch.timestamps
        if times is None:
            return None
        # Without rows there is no event time to be found.
        if count == 0 or (more and count < len(times)):
            return times[:count]
        if count != len(times):
            raise self._times_open(count, len(times))
        return times

    def _times_open(self, count: int, of: int) -> UserFunctionError:
        return self._refused(
            f"returned {count} rows for {of}, which leaves their event time open",
            hint='timestamp="column" names the column of the result that holds it',
        )

    def _refused(self, problem: str, *, hint: str | None = None) -> UserFunctionError:
        spec = self._spec
        return UserFunctionError(
            f"{spec.operator}: {spec.function.name} {problem}",
            operator=spec.operator,
            hint=hint,
            where=spec.where or None,
        )


def _give_arrow(record: pa.RecordBatch) -> Any:
    return record


def _give_pandas(record: pa.RecordBatch) -> Any:
    return record.to_pandas()


def _give_polars(record: pa.RecordBatch) -> Any:
    import polars as pl

    return pl.from_arrow(pa.Table.from_batches([record]))


def _give_numpy(record: pa.RecordBatch) -> Any:
    arrays = {}
    for name, column in zip(record.schema.names, record.columns, strict=True):
        array = column.to_numpy(zero_copy_only=False)
        # A view of Arrow's memory is read-only; functions write into what they get.
        arrays[name] = array if array.flags.writeable else array.copy()
    return arrays


_GIVE: dict[str, Callable[[pa.RecordBatch], Any]] = {
    "arrow": _give_arrow,
    "pandas": _give_pandas,
    "numpy": _give_numpy,
    "polars": _give_polars,
}


def _read(made: Any) -> dict[str, Any] | None:
    """Give the columns of what a function returned, by name; None for what has no columns."""
    if isinstance(made, pa.RecordBatch):
        return dict(zip(made.schema.names, made.columns, strict=True))
    if isinstance(made, dict):
        return made
    if hasattr(made, "to_arrow"):
        made = made.to_arrow()
    if isinstance(made, pa.Table):
        return {name: made.column(name).combine_chunks() for name in made.column_names}
    if hasattr(made, "columns") and hasattr(made, "iloc"):
        return {str(name): made[name] for name in made.columns}
    return None


def _convert(values: Any, kind: pa.DataType) -> pa.Array:
    """Make a column of a type from an Arrow array, a pandas Series, a NumPy array or a list."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return _normal(values, kind)
    dtype = getattr(values, "dtype", None)
    if pa.types.is_timestamp(kind) and getattr(dtype, "kind", "") == "M":
        array = normal_array(pa.Array.from_pandas(values), pa.timestamp("us"))
        return array.cast(pa.int64()).cast(kind)  # NumPy's points in time are UTC
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return pa.array(list(values), kind)
    # pandas and NumPy have no null among numbers: NaN stands for it, there and back.
    array = pa.array(values, kind) if dtype is None else pa.Array.from_pandas(values, type=kind)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _normal(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(array.type):
        return array.cast(kind)
    return normal_array(array, normal_type(array.type))


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
