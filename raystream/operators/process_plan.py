"""What the operators of all process functions are made from: the function, and its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raystream.contracts.process import ProcessMaker
from raystream.keyed.key_form import KeyForm


@dataclass(frozen=True, slots=True)
class Port:
    """One input: which method takes its rows, and where their keys are.

    ``keys`` are the columns of a columnar stream, () where the batches of objects carry them, None
    where rows have no key here.
    """

    method: Literal["process", "process_left", "process_right", "process_broadcast"]
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ProcessPlan:
    """What the operators of all process functions are made from.

    ``keys`` is how keys are kept, None without keyed state and timers; ``output`` is the wire
    schema, None for objects; rows have an event time where ``timed``.
    """

    function: ProcessMaker
    ports: tuple[Port, ...]
    keys: KeyForm | None
    output: pa.Schema | None
    timed: bool
    operator: str
    where: str
