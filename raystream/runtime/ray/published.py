"""What the coordinator of a job tells whoever asks; nothing of it needs Ray to be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raystream.coordinator import events as job
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.flow.control import JobResult, JobStatus, Rescaling
from raystream.runtime.journal import LogLine


@dataclass(frozen=True, slots=True)
class Published:
    """What the coordinator says of its job; ``error`` is packed, ``result`` there once it ended.

    ``by`` is another one where the coordinator has died and come back.
    """

    job_id: str
    status: JobStatus
    over: bool
    result: JobResult | None = None
    error: bytes | None = None
    by: str = ""
    attempt: int = 0
    answers: Mapping[str, job.Answer] = field(default_factory=dict)
    checkpoints: tuple[CheckpointFigures, ...] = ()
    rescalings: tuple[Rescaling, ...] = ()


@dataclass(frozen=True, slots=True)
class Lines:
    """What a job's processes have said: ``by`` and ``count`` go on where this ends.

    ``chains`` names the operators of each chain, by name and by uid.
    """

    by: str
    count: int
    lines: list[LogLine]
    chains: Mapping[str, frozenset[str]]
    over: bool
