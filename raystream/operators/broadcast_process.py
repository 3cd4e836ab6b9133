"""A user's process function on a stream and another one that every subtask sees."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.process import ProcessMaker
from raystream.keyed.key_form import KeyForm
from raystream.operators.process_plan import Port, ProcessPlan
from raystream.operators.process_rows import ProcessRows


@dataclass(frozen=True, slots=True, eq=False)
class BroadcastProcessSpec:
    """Any number of rows for each row of either input, and for each timer of the left's keys.

    Broadcast state is written for rows of the second input alone, which makes it the same in all
    subtasks. ``keys`` are those of the left; the rest is as in a ``ProcessSpec``.
    """

    function: ProcessMaker
    keys: tuple[str, ...] | None
    key_form: KeyForm | None
    output: pa.Schema | None
    timed: bool
    operator: str
    where: str

    @property
    def verb(self) -> str:
        return "process"

    def describe(self) -> str:
        return f"{self.function.name} with a broadcast"

    def build(self) -> ProcessRows:
        ports = (Port("process", self.keys), Port("process_broadcast"))
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
