"""Turn a stream of dicts into columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import Rejects
from raystream.flow.batch import Batch, Objects
from raystream.flow.element import Watermark
from raystream.operators.operator import Operator
from raystream.operators.rejecting import columns_of


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
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors
        self._operator, self._where = ctx.operator, self._where or ctx.where

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        assert isinstance(batch, Objects), "dicts in, columns out"
        if not batch.values:
            return
        made, _ = columns_of(
            batch.values,
            self._output,
            batch.values,
            batch.timestamps,
            self._errors,
            operator=self._operator,
            where=self._where,
        )
        if made is not None:
            yield made
