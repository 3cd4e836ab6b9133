"""Figures and results: what subtasks tell their coordinator, and a runtime its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raystream.flow.figures import (
    HistogramFigures,
    InputFigures,
    OutputFigures,
    ProcessFigures,
    SnapshotFigures,
)
from raystream.flow.ids import SubtaskId


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: ``status`` is ``finished``, ``stopped`` or ``canceled``.

    ``duration_s`` counts from its submission, ``running_s`` from the moment all subtasks ran.

    ``records_in`` counts the rows that its sources gave, ``records_out`` those that its sinks took;
    ``metrics`` are the last figures of each operator, by name.
    """

    status: str
    duration_s: float
    records_in: int = 0
    records_out: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[Any, ...] = ()
    restarts: int = 0
    running_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """A share of the last second, over the subtasks of an operator: the least, the mean, the most.

    Each is between 0 and 1.
    """

    least: float = 0.0
    mean: float = 0.0
    most: float = 0.0


@dataclass(frozen=True, slots=True)
class OperatorStatus:
    """One operator now, all its subtasks together.

    Rows are counted since the job started, ``late_rows`` those that came too late for their window,
    ``failed_rows`` those that were left out because they failed.
    ``watermark_us`` is the least of its subtasks', None before the first. ``busy``, ``idle`` and
    ``backpressured`` are shares of the last second between 0 and 1, of the subtask that is
    busiest; an operator that shares its subtask with others shares its figures. The spreads are of
    the same shares over all its subtasks.

    ``chain`` names the operators that run in the same subtasks, ``inputs`` the operators that it
    reads from, ``exchange`` how their rows come to its subtasks, where over channels; ``kind`` is
    ``source``, ``operator`` or ``sink``. ``own_busy`` is what it takes itself of a subtask's time.
    Bytes are those that came and left over channels: of the chain's first operator, and of those
    whose rows leave the subtask.
    ``counters`` and ``gauges`` are those of users' functions, summed over the subtasks.
    """

    name: str
    parallelism: int
    rows_in: int = 0
    rows_out: int = 0
    watermark_us: int | None = None
    busy: float = 0.0
    idle: float = 0.0
    backpressured: float = 0.0
    late_rows: int = 0
    failed_rows: int = 0
    uid: str = ""
    kind: str = "operator"
    chain: str = ""
    inputs: tuple[str, ...] = ()
    exchange: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    queued_bytes: int = 0
    busy_spread: Spread = field(default_factory=Spread)
    idle_spread: Spread = field(default_factory=Spread)
    backpressured_spread: Spread = field(default_factory=Spread)
    own_busy: Spread = field(default_factory=Spread)
    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, HistogramFigures] = field(default_factory=dict)


UNDER_WAY = "under way"
"""The outcome of a change of size that has none yet."""


@dataclass(frozen=True, slots=True)
class Rescaling:
    """One change of a job's size, or what became of the wish for it.

    ``reason`` is why the job wanted it, empty where somebody asked; ``before`` and ``after`` are
    subtasks by chain; ``outcome`` is ``under way``, ``done``, or why there was none. ``pause_us``:
    for so long no source read, None where none stopped, or who knew has died.
    """

    at_us: int
    reason: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    outcome: str = UNDER_WAY
    pause_us: int | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A running job now: what its progress shows, about once a second.

    ``scaling`` says in a sentence why a job that chooses its size has the one that it has.
    """

    job: str
    state: str
    uptime_s: float
    operators: tuple[OperatorStatus, ...] = ()
    scaling: str = ""


@dataclass(frozen=True, slots=True)
class OperatorFigures:
    """What passed one operator in one subtask so far, and what its functions have counted.

    ``busy_us`` is what it has taken itself of its subtask's time.
    """

    name: str
    rows_in: int
    rows_out: int
    late_rows: int = 0
    failed_rows: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, HistogramFigures] = field(default_factory=dict)
    busy_us: int = 0


@dataclass(frozen=True, slots=True)
class SubtaskFigures:
    """What a subtask has done so far: times in microseconds since it started.

    ``rows_in`` are those of its first operator, ``rows_out`` those that left it; bytes are of
    channels. ``queue_bytes_max`` is what its senders may have under way to it, and in its queue.
    ``inputs`` are the few channels or splits that hold its watermark; how many there are of each
    status is told of all. ``working_us`` is how long the slice of work has lasted that it was in
    when asked, ``working_in`` the operator that it was in, and ``at`` the user's line that it was
    at, where the shell has looked.
    Of a source ``splits`` counts those it reads that have not ended, ``dry_polls`` how often one
    had given all that it had, ``backlog_rows`` the rows that are there and not read: None where
    some reader cannot tell.
    """

    subtask: SubtaskId
    operators: tuple[OperatorFigures, ...]
    watermark_us: int | None
    busy_us: int
    backpressured_us: int
    idle_us: int
    queued_bytes: int = 0
    queue_bytes_max: int = 0
    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    inputs: tuple[InputFigures, ...] = ()
    inputs_active: int = 0
    inputs_idle: int = 0
    inputs_finished: int = 0
    outputs: tuple[OutputFigures, ...] = ()
    working_us: int = 0
    working_in: str = ""
    at: str = ""
    snapshot: SnapshotFigures | None = None
    process: ProcessFigures | None = None
    splits: int = 0
    dry_polls: int = 0
    backlog_rows: int | None = None
