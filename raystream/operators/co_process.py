"""A user's process function on two streams, of which each row has a method of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.process import ProcessMaker
from raystream.keyed.key_form import KeyForm
from raystream.operators.process_plan import Port, ProcessPlan
from raystream.operators.process_rows import ProcessRows


@dataclass(frozen=True, slots=True, eq=False)
class CoProcessSpec:
    """Any number of rows for each row of either input, and for each timer of their key.

    ``left`` and ``right`` are key columns, () where batches of objects carry their keys, None
    without keys: both have some, or neither. The rest is as in a ``ProcessSpec``.
    """

    function: ProcessMaker
    left: tuple[str, ...] | None
    right: tuple[str, ...] | None
    key_form: KeyForm | None
    output: pa.Schema | None
    timed: bool
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "process"

    def describe(self) -> str:
        return f"{self.function.name} of two inputs"

    def build(self) -> ProcessRows:
        ports = (Port("process_left", self.left), Port("process_right", self.right))
        return ProcessRows(
            ProcessPlan(
                self.function,
                ports,
                self.key_form,
                self.output,
                self.timed,
                self.operator,
                self.where,
            )
        )
