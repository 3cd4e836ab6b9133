"""Read rows that an operator sends beside its own output: late ones, dead letters, a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import DEAD_LETTERS, Rejects
from raystream.flow.batch import Batch, Columns, Objects
from raystream.operators.operator import Operator, Output
from raystream.operators.rejecting import columns_of


@dataclass(frozen=True)
class SideOutputSpec:
    """The rows that were sent under ``tag``; ``output`` is the wire schema, None for objects.

    It runs in the subtask of the operator that sends them.
    """

    tag: str
    output: pa.Schema | None
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "dead_letters" if self.tag == DEAD_LETTERS else "side_output"

    def describe(self) -> str:
        return "" if self.tag == DEAD_LETTERS else self.tag

    def build(self) -> SideOutput:
        return SideOutput(self)


class SideOutput(Operator):
    """Passes columns on, and turns dicts into columns where the stream is declared to have some."""

    def __init__(self, spec: SideOutputSpec) -> None:
        self._spec = spec
        self._errors = Rejects()

    def open(self, ctx: OpenContext) -> None:
        self._errors = ctx.errors

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        spec = self._spec
        if isinstance(batch, Objects) and spec.output is not None:
            operator, where, times = spec.operator, spec.where, batch.timestamps
            rows, errors = batch.values, self._errors
            made, _ = columns_of(
                rows, spec.output, rows, times, errors, operator=operator, where=where
            )
            if made is not None:
                yield made
        elif isinstance(batch, Columns) and spec.output is None:
            yield Objects(batch.visible.to_pylist(), batch.timestamps)
        else:
            yield batch
