"""A user's process function on one stream, keyed or not."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raystream.contracts.process import ProcessMaker
from raystream.keyed.key_form import KeyForm
from raystream.operators.process_plan import Port, ProcessPlan
from raystream.operators.process_rows import ProcessRows


@dataclass(frozen=True, slots=True, eq=False)
class ProcessSpec:
    """Any number of rows for each row, and for each timer of a key.

    ``keys`` are the key columns, () where batches of objects carry their keys, None without keys;
    ``key_form`` is how keys are kept. ``output`` is the wire schema, None for objects; rows have an
    event time where ``timed``.
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
        return self.function.name

    def build(self) -> ProcessRows:
        ports = (Port("process", self.keys),)
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
