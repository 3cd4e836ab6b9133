"""Make a row of each element of a list column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raystream.contracts.context import OpenContext
from raystream.errors import PlanError
from raystream.flow.batch import Batch, Columns, Int64s
from raystream.flow.element import Watermark
from raystream.operators.expressions import unknown_column
from raystream.operators.operator import Operator


@dataclass(frozen=True, slots=True)
class ExplodeSpec:
    """``column`` holds lists; ``output`` is the schema of the wire.

    As in Polars 2 an empty list gives no row, and a null in place of a list one row with null.
    """

    column: str
    output: pa.Schema

    @property
    def verb(self) -> str:
        return "explode"

    def describe(self) -> str:
        return self.column

    def build(self) -> Explode:
        return Explode(self)


def explode_schema(schema: pa.Schema, column: str, where: str, stream: str) -> pa.Schema:
    """Give the visible columns behind an explode.

    Raises: PlanError if there is no such column, or if it holds no lists.
    """
    if column not in schema.names:
        raise unknown_column(column, schema, where, stream)
    index = schema.get_field_index(column)
    kind = schema.field(index).type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise PlanError(
            f'explode() takes a column of lists; "{column}" is {kind}', where=where or None
        )
    return schema.set(index, pa.field(column, kind.value_type))


class Explode(Operator):
    """Repeats the other columns, event time among them, for each element."""

    def __init__(self, spec: ExplodeSpec) -> None:
        self._spec = spec
        self._rows_max = 1

    def open(self, ctx: OpenContext) -> None:
        self._rows_max = ctx.limits.batch_rows_max

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Columns), "columns in, columns out"
        record = batch.record
        index = record.schema.get_field_index(self._spec.column)
        lists = record.column(index)
        lengths = pc.list_value_length(lists)
        parents, elements = _pairs(
            lengths.fill_null(0).to_numpy().astype(np.int64),
            lengths.is_null().to_numpy(zero_copy_only=False),
        )
        values = lists.flatten()
        # Both are cut, so that one row with a list of millions leaves in bounded batches.
        for start in range(0, len(parents), self._rows_max):
            stop = start + self._rows_max
            rows = record.take(pa.array(parents[start:stop]))
            at = elements[start:stop]
            taken = values.take(pa.array(at, mask=at < 0))
            columns = [taken if i == index else column for i, column in enumerate(rows.columns)]
            yield Columns(pa.RecordBatch.from_arrays(columns, schema=self._spec.output))


def _pairs(lengths: Int64s, null: npt.NDArray[np.bool_]) -> tuple[Int64s, Int64s]:
    """Pair the rows that come out with the row and with the element that they come from.

    Shapes: lengths [n], null [n] -> rows [m], elements [m], -1 where there was no list.
    """
    rows_out = np.where(null, 1, lengths)
    parents = np.repeat(np.arange(len(lengths)), rows_out)
    if not null.any():
        return parents, np.arange(len(parents))
    first_out = np.cumsum(rows_out) - rows_out
    first_element = np.cumsum(lengths) - lengths
    elements = np.arange(len(parents)) + np.repeat(first_element - first_out, rows_out)
    elements[null[parents]] = -1
    return parents, elements
