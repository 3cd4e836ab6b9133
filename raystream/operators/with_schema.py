"""Turn a stream of dicts into columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch, Objects
from raystream.flow.element import Watermark
from raystream.operators.operator import Operator
from raystream.operators.pyrows import to_columns


@dataclass(frozen=True, slots=True)
class WithSchemaSpec:
    """``output`` is the schema of the wire, event time included."""

    output: pa.Schema
    where: str = ""

    @property
    def verb(self) -> str:
        return "with_schema"

    def describe(self) -> str:
        return ", ".join(f"{field.name}: {field.type}" for field in self.output)

    def build(self) -> WithSchema:
        return WithSchema(self)


class WithSchema(Operator):
    """Checks each dict against the schema on the way."""

    def __init__(self, spec: WithSchemaSpec) -> None:
        self._output = spec.output
        self._operator = spec.verb
        self._where = spec.where

    def open(self, ctx: OpenContext) -> None:
        self._operator, self._where = ctx.operator, self._where or ctx.where

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Objects), "dicts in, columns out"
        if batch.values:
            yield to_columns(
                batch.values,
                self._output,
                batch.timestamps,
                operator=self._operator,
                where=self._where,
            )
