"""What all joins share: whose columns come out under which names, and how pairs become batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Columns, Int64s, visible_names, with_ops, with_times
from raystream.flow.key import plain_array, valid_rows

HOWS = ("inner", "left", "right", "full", "semi", "anti")


@dataclass(frozen=True, slots=True, eq=False)
class JoinPlan:
    """How rows of two streams make rows of one.

    ``left`` and ``right`` are the wire schemas of the inputs, ``key_types`` hold the keys of both;
    ``kept`` are the columns of the right that come out, pairs of their own name and that of the
    output. ``output`` is the wire schema. A key with a null matches nothing.
    """

    how: str
    left: pa.Schema
    right: pa.Schema
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    key_types: tuple[pa.DataType, ...]
    kept: tuple[tuple[str, str], ...]
    output: pa.Schema

    @property
    def keeps_left(self) -> bool:
        """Tell whether rows of the left come out that match nothing."""
        return self.how in ("left", "full", "anti")

    @property
    def keeps_right(self) -> bool:
        """Tell whether rows of the right come out that match nothing."""
        return self.how in ("right", "full")

    @property
    def left_only(self) -> bool:
        """Tell whether the columns of the left alone come out, each row once."""
        return self.how in ("semi", "anti")

    def narrowed(self, wanted: set[str]) -> JoinPlan:
        """Give the plan of a join whose output has no columns but these, and the keys."""
        kept = tuple((name, output) for name, output in self.kept if output in wanted)
        lefts = {*self.left_keys, *wanted}
        rights = {*self.right_keys, *(name for name, _ in kept)}
        outputs = (lefts & set(visible_names(self.left))) | {output for _, output in kept}
        return replace(
            self,
            left=_only(self.left, lefts),
            right=_only(self.right, rights),
            kept=kept,
            output=_only(self.output, outputs),
        )

    def __str__(self) -> str:
        pairs = zip(self.left_keys, self.right_keys, strict=True)
        keys = ", ".join(left if left == right else f"{left} = {right}" for left, right in pairs)
        return f"{self.how} on {keys}"

    def keys(self, port: int, record: pa.RecordBatch) -> list[pa.Array]:
        """Give the key columns of a record of one side, in the types that both share."""
        names = self.right_keys if port else self.left_keys
        arrays = [record.column(name) for name in names]
        return [
            array if array.type == type else array.cast(type)
            for array, type in zip(arrays, self.key_types, strict=True)
        ]

    def matchable(self, port: int, record: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
        """Tell which rows can match at all, bool [n]; None: all can, no key is null."""
        names = self.right_keys if port else self.left_keys
        valid: npt.NDArray[np.bool_] | None = None
        for name in names:
            here = valid_rows(plain_array(record.column(name)))
            if here is not None:
                valid = here if valid is None else valid & here
        return valid

    def pairs(
        self,
        left: pa.RecordBatch,
        right: pa.RecordBatch,
        times: Int64s | None,
        ops: npt.NDArray[np.int8] | None = None,
    ) -> Columns:
        """Put rows side by side: left[i] beside right[i].

        ``times`` are the event times of the output, ``ops`` the kinds of a changelog's rows; None
        where the output has none. Records may have their hidden columns or not.
        Shapes: left [n], right [n], times int64 [n], ops int8 [n] -> [n].
        """
        arrays = [*self._lefts(left), *(right.column(name) for name, _ in self.kept)]
        return self._batch(arrays, times, ops)

    def lefts(
        self, left: pa.RecordBatch, times: Int64s | None, ops: npt.NDArray[np.int8] | None = None
    ) -> Columns:
        """Give rows of the left alone: columns of the right, where the output has some, are null.

        Shapes: left [n], times int64 [n], ops int8 [n] -> [n].
        """
        return self._batch([*self._lefts(left), *self._nulls(left.num_rows)], times, ops)

    def rights(
        self, right: pa.RecordBatch, times: Int64s | None, ops: npt.NDArray[np.int8] | None = None
    ) -> Columns:
        """Give rows of the right alone: their keys, under the left's names, and their columns.

        Shapes: right [n], times int64 [n], ops int8 [n] -> [n].
        """
        keys = dict(zip(self.left_keys, self.keys(1, right), strict=True))
        arrays = [
            keys[name].cast(self.output.field(name).type)
            if name in keys
            else pa.nulls(right.num_rows, self.output.field(name).type)
            for name in visible_names(self.left)
        ]
        return self._batch([*arrays, *(right.column(name) for name, _ in self.kept)], times, ops)

    def _lefts(self, left: pa.RecordBatch) -> list[pa.Array]:
        arrays = [left.column(name) for name in visible_names(self.left)]
        fields = (self.output.field(name) for name in visible_names(self.left))
        return [
            array if array.type == field.type else array.cast(field.type)
            for array, field in zip(arrays, fields, strict=True)
        ]

    def _nulls(self, count: int) -> list[pa.Array]:
        return [pa.nulls(count, self.right.field(name).type) for name, _ in self.kept]

    def _batch(
        self, arrays: Sequence[pa.Array], times: Int64s | None, ops: npt.NDArray[np.int8] | None
    ) -> Columns:
        names = visible_names(self.output)
        schema = pa.schema([self.output.field(name) for name in names])
        batch = with_times(pa.RecordBatch.from_arrays(list(arrays), schema=schema), times)
        return batch if ops is None else with_ops(batch, ops)


def _only(schema: pa.Schema, names: set[str]) -> pa.Schema:
    """Give the columns of these names, and the hidden ones."""
    hidden = schema.names[len(visible_names(schema)) :]
    return pa.schema([field for field in schema if field.name in names or field.name in hidden])


def side_schema(plan: JoinPlan, port: int) -> pa.Schema:
    """Give the columns of one side that a join has to hold: what comes out of it, and its keys."""
    if port == 0:
        return pa.schema([plan.left.field(name) for name in visible_names(plan.left)])
    wanted = {*plan.right_keys, *(name for name, _ in plan.kept)}
    return pa.schema([field for field in plan.right if field.name in wanted])
