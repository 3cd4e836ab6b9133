"""All that is known of a job, for whoever looks: a page, an autoscaler, a scrape, a diagnosis.

``JobStatus`` is what a person's progress shows; this has every subtask, what failed, and when the
state changed. All of it has bounds, and all of it is plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.flow.control import JobStatus, SubtaskFigures
from raystream.flow.past import Failure, StateChange

FAILURES_SHOWN_MAX = 20
CHANGES_SHOWN_MAX = 100
MESSAGE_CHARS_MAX = 2_000
"""An error may hold a whole row; a report stays small."""


@dataclass(frozen=True, slots=True)
class OperatorRates:
    """One operator in one subtask over a span; ``busy`` is what it took itself of the time."""

    name: str
    busy: float
    rows_in_per_s: float
    rows_out_per_s: float


@dataclass(frozen=True, slots=True)
class SubtaskReport:
    """One subtask now, and over the span that its figures reach back: ten seconds at most.

    ``busy``, ``idle`` and ``backpressured`` are shares of that span, rows and bytes are per second
    of it. ``held`` is the share for which each edge of ``figures.outputs`` was out of credit while
    the subtask could have worked. ``age_us`` is how long ago the figures came.
    """

    figures: SubtaskFigures
    age_us: int = 0
    span_us: int = 0
    busy: float = 0.0
    idle: float = 0.0
    backpressured: float = 0.0
    rows_in_per_s: float = 0.0
    rows_out_per_s: float = 0.0
    bytes_in_per_s: float = 0.0
    bytes_out_per_s: float = 0.0
    operators: tuple[OperatorRates, ...] = ()
    held: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainSizing:
    """How many subtasks a chain is wanted to have, and of what that follows.

    ``due_per_s`` is the rows a second that it is sized for; ``rate_per_s`` what one subtask does in
    a second of work, None as long as nobody has seen it at its limit.
    """

    wanted: int
    due_per_s: float
    rate_per_s: float | None


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a job that chooses its own size has decided, since it began.

    ``decided`` counts the sizes that it asked for, ``refused`` those of them that it could not
    have. ``chains`` is what it found when it last looked, by name; empty before that.
    """

    decided: int = 0
    refused: int = 0
    chains: Mapping[str, ChainSizing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job as it stands at a time of day.

    ``changes``, ``failures`` and ``checkpoints`` are from old to new; how many checkpoints were
    completed and given up counts all of them. ``sizing`` is None where the job keeps its size.
    """

    job_id: str
    at_us: int
    status: JobStatus
    attempt: int = 0
    restarts: int = 0
    subtasks: tuple[SubtaskReport, ...] = ()
    checkpoints: tuple[CheckpointFigures, ...] = ()
    failures: tuple[Failure, ...] = ()
    changes: tuple[StateChange, ...] = ()
    checkpoints_completed: int = 0
    checkpoints_failed: int = 0
    max_parallelism: int = 128
    sizing: Sizing | None = None

    @property
    def job(self) -> str:
        """The job's name."""
        return self.status.job

    def subtasks_of(self, operator: str) -> tuple[SubtaskReport, ...]:
        """Give the subtasks that an operator runs in, by its name."""
        chains = {one.chain for one in self.status.operators if one.name == operator}
        return tuple(one for one in self.subtasks if one.figures.subtask.chain in chains)
