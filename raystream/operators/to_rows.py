"""Make each change of a table a plain row that says what it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.flow.batch import Batch, Columns, with_times
from raystream.flow.changes import OPS
from raystream.operators.operator import Operator, Output


@dataclass(frozen=True)
class ToRowsSpec:
    """The column ``op`` holds the kind of each row; ``output`` is the wire schema."""

    op: str
    output: pa.Schema

    @property
    def verb(self) -> str:
        return "to_rows"

    def describe(self) -> str:
        return f"op={self.op}"

    def build(self) -> ToRows:
        return ToRows(self)


class ToRows(Operator):
    """Gives the hidden kinds a column of their own."""

    def __init__(self, spec: ToRowsSpec) -> None:
        self._spec = spec

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        assert isinstance(batch, Columns), "a changelog has columns"
        assert batch.ops is not None, "a changelog has row kinds"
        kinds = pa.DictionaryArray.from_arrays(pa.array(batch.ops), pa.array(OPS))
        visible = batch.visible
        made = visible.append_column(self._spec.op, kinds.cast(pa.string()))
        if made.num_rows:
            yield with_times(made, batch.timestamps)
