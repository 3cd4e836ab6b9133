"""What happens to a job, and what its coordinator wants done.

Between them stand what subtasks report and are ordered (``flow.messages``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Order, Prepared, Report
from raystream.flow.snapshots import CheckpointEntry, Entry, Manifest, Part
from raystream.flow.split import Split
from raystream.graph.physical import PhysicalPlan

# Events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogRead:
    """The entries of the job's log with their numbers, and the number of the next one."""

    entries: tuple[tuple[int, Entry], ...]
    next_number: int


@dataclass(frozen=True, slots=True)
class ManifestRead:
    """The manifest that was asked for."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry of the log is durable, and ours."""

    number: int


@dataclass(frozen=True, slots=True)
class Outrun:
    """Somebody else has written the entry of that number: another coordinator runs this job."""

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """What was to be read or written could not be, after all tries; ``effect`` wanted it."""

    effect: Effect
    error: BaseException


@dataclass(frozen=True, slots=True)
class SavepointWritten:
    """The manifest of a savepoint is durable."""

    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class SplitsListed:
    """The splits of the source at the head of a chain, as they are now."""

    chain: str
    splits: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A subtask reports, or is found dead (``Closed``)."""

    subtask: SubtaskId
    attempt: int
    report: Report


@dataclass(frozen=True, slots=True)
class Failed:
    """Something broke: in a subtask, or, with None, in the coordinator's own work."""

    subtask: SubtaskId | None
    error: BaseException
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the job to end now: ``finished`` if it has given all that was wanted."""

    finished: bool = False


@dataclass(frozen=True, slots=True)
class SavepointAsked:
    """Somebody wants a savepoint at a URL; ``request`` comes back with the answer.

    With ``stop`` the job reads no more behind it, commits, and ends; with ``drain`` its input ends
    first, as if the sources had. An empty ``target`` stops without a savepoint.
    """

    request: str
    target: str
    stop: bool = False
    drain: bool = False


@dataclass(frozen=True, slots=True)
class RescaleAsked:
    """Somebody wants other parallelisms; ``request`` comes back with the answer.

    ``scale`` has numbers of subtasks by the uid or name of an operator; an empty one: of the job.
    ``reason`` is there where the job itself wants it.
    """

    request: str
    scale: Mapping[str, int]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodesLeaving:
    """Nodes are about to go, and with them these subtasks of an attempt; 0 is the present one.

    ``until_us`` is the monotonic time by which a move must have begun; None where nobody hurries.
    """

    subtasks: frozenset[SubtaskId]
    until_us: int | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Grown:
    """The processes that a move needs are there, or, with an error, will not be."""

    request: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed: whatever is due may be done."""


Stored: TypeAlias = LogRead | ManifestRead | Appended | Outrun | SavepointWritten | StorageFailed
"""What storage answers."""

Event: TypeAlias = (
    Stored
    | SplitsListed
    | Said
    | Failed
    | StopAsked
    | SavepointAsked
    | RescaleAsked
    | NodesLeaving
    | Grown
    | Ticked
)

# Effects -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the job's log; ``LogRead`` answers."""


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """Read a manifest of this job by its path, or of another by its URL; ``ManifestRead``."""

    path: str


@dataclass(frozen=True, slots=True)
class Append:
    """Create an entry of the log, after its ``manifest`` if any; ``Appended`` or ``Outrun``."""

    number: int
    entry: Entry
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class WriteSavepoint:
    """Write the manifest of a savepoint at its own place; ``SavepointWritten``."""

    target: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete checkpoints that are not kept any more, with the log entries of those numbers.

    What a manifest in ``kept`` or ``live`` names stays.
    """

    retired: tuple[tuple[int, CheckpointEntry], ...]
    kept: tuple[str, ...]
    live: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete chunks of attempts before this one that no manifest in ``kept`` names."""

    attempt: int
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deploy:
    """Make all subtasks of an attempt, each with its operators open and restored.

    The processes of those that are ``leaving``, of the attempt before, have no part in it. The
    subtasks of chains that are ``kept`` go on with the operators that the attempt before has left
    open, all of a chain or none.
    """

    attempt: int
    plan: PhysicalPlan
    manifest: Manifest | None = None
    path: str = ""
    leaving: frozenset[SubtaskId] = frozenset()
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Grow:
    """Start the processes that a plan needs beside those that there are; ``Grown`` answers.

    Those of subtasks that are ``leaving`` do not count. At ``until_us`` it is too late.
    """

    request: str
    plan: PhysicalPlan
    leaving: frozenset[SubtaskId] = frozenset()
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class ListSplits:
    """List the splits of a source; ``after_us``: not at once, and only what may be new."""

    chain: str
    after_us: int = 0


@dataclass(frozen=True, slots=True)
class Tell:
    """Give an order to a subtask of this attempt."""

    subtask: SubtaskId
    order: Order


@dataclass(frozen=True, slots=True)
class CloseSubtask:
    """Let a subtask go, whatever it is at; ``Closed`` answers, also for one that had died.

    ``rests_at`` is that of ``Finish``.
    """

    subtask: SubtaskId
    rests_at: int = 0


@dataclass(frozen=True, slots=True)
class AbortSinks:
    """Throw away what sinks had prepared and will not commit."""

    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell who asked for something that it is done, and where, or why not (``url`` None).

    ``blame`` says what is to change before it could be: the ``plan``, or the ``cluster``.
    """

    request: str
    url: str | None
    error: str = ""
    blame: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The job is over."""

    status: str
    error: BaseException | None


Effect: TypeAlias = (
    ReadLog
    | ReadManifest
    | Append
    | WriteSavepoint
    | Discard
    | Sweep
    | Deploy
    | Grow
    | ListSplits
    | Tell
    | CloseSubtask
    | AbortSinks
    | Answer
    | Done
)
