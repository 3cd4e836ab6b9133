"""What an operator, a function, a reader or a writer is told about where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raystream.clock import Clock, SystemClock
from raystream.config import Limits
from raystream.contracts.batch import Batch
from raystream.contracts.metrics import Metrics
from raystream.contracts.rejects import Rejects
from raystream.errors import UserError


def nowhere(batch: Batch) -> None:
    """Refuse rows for the driver where no driver listens."""
    raise AssertionError(f"no driver to take {len(batch)} rows")


def stateless(descriptor: Any) -> Any:
    """Refuse state where no operator keeps any."""
    raise UserError(
        f"there is no state here for {descriptor!r}",
        hint="process functions have state: key_by(…).process(rs.KeyedProcessFunction)",
    )


@dataclass(frozen=True)
class OpenContext:
    """Given to ``open(ctx)``: ``state(…)``, ``subtask_index``, ``parallelism`` and ``metrics``.

    It is the same for all keys of a subtask. ``state(descriptor)`` gives the function's state; only
    process functions have some. ``metrics`` has ``counter(name)``, ``gauge(name)`` and
    ``histogram(name)``.

    ``errors`` takes the rows that fail, as the operator's policy says.

    ``staging`` is a folder that every node reaches, where a sink may keep what it has written until
    it is committed; None in a job without checkpoints.

    ``deliver`` hands a batch to the sink object in the process that started the job, in order,
    and waits while that process is behind.
    """

    operator: str = "operator"
    where: str = ""
    subtask_index: int = 0
    parallelism: int = 1
    max_parallelism: int = 128
    metrics: Metrics = field(default_factory=Metrics)
    errors: Rejects = field(default_factory=Rejects)
    clock: Clock = field(default_factory=SystemClock)
    limits: Limits = field(default_factory=Limits)
    deliver: Callable[[Batch], None] = nowhere
    state: Callable[[Any], Any] = stateless
    staging: str | None = None
