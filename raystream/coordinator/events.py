"""What happens to a job, and what its coordinator wants done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from raystream.contracts.source import Split
from raystream.flow.ids import SubtaskId

Committables: TypeAlias = dict[str, list[Any]]
"""What the sinks of one subtask have prepared, by operator."""

# Events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SplitsListed:
    """The splits of the source at the head of a chain, as they are now."""

    chain: str
    splits: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A subtask is deployed: its operators are open, its inbox takes frames."""

    subtask: SubtaskId


@dataclass(frozen=True, slots=True)
class SourceTime:
    """The least watermark of the active splits of a subtask of an aligned source, if any."""

    subtask: SubtaskId
    least_us: int | None


@dataclass(frozen=True, slots=True)
class SubtaskEnded:
    """A subtask has seen the end of its input."""

    subtask: SubtaskId
    committables: Committables


@dataclass(frozen=True, slots=True)
class SubtaskCommitted:
    """The sinks of a subtask have made their rows visible."""

    subtask: SubtaskId


@dataclass(frozen=True, slots=True)
class SubtaskClosed:
    """A subtask holds nothing any more, or is dead."""

    subtask: SubtaskId


@dataclass(frozen=True, slots=True)
class Failed:
    """Something broke: in a subtask, or, with None, in the coordinator's own work."""

    subtask: SubtaskId | None
    error: BaseException


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the job to stop: ``finished`` if it has given all that was wanted."""

    finished: bool = False


Event: TypeAlias = (
    SplitsListed
    | Ready
    | SourceTime
    | SubtaskEnded
    | SubtaskCommitted
    | SubtaskClosed
    | Failed
    | StopAsked
)

# Effects -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deploy:
    """Make all subtasks, each with its operators open."""


@dataclass(frozen=True, slots=True)
class ListSplits:
    """List the splits of a source; ``after_us``: not at once, and only what may be new."""

    chain: str
    after_us: int = 0


@dataclass(frozen=True, slots=True)
class StartSubtask:
    """Let a subtask begin, with the splits that are its own.

    ``others_us`` is the first word of ``AlignSource``.
    """

    subtask: SubtaskId
    splits: tuple[Split, ...]
    more_splits: bool
    others_us: int | None = None


@dataclass(frozen=True, slots=True)
class GiveSplits:
    """Give a running source subtask splits that are new."""

    subtask: SubtaskId
    splits: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class AlignSource:
    """Tell a source subtask the least watermark of the others of its alignment group, if any."""

    subtask: SubtaskId
    others_us: int | None


@dataclass(frozen=True, slots=True)
class CommitSubtask:
    """Let the sinks of a subtask make visible what they prepared."""

    subtask: SubtaskId
    committables: Committables


@dataclass(frozen=True, slots=True)
class CloseSubtask:
    """Let a subtask go; what it has not committed is thrown away."""

    subtask: SubtaskId


@dataclass(frozen=True, slots=True)
class AbortSinks:
    """Throw away what a subtask had prepared and will not commit."""

    committables: Committables


@dataclass(frozen=True, slots=True)
class Done:
    """The job is over."""

    status: str
    error: BaseException | None


Effect: TypeAlias = (
    Deploy
    | ListSplits
    | StartSubtask
    | GiveSplits
    | AlignSource
    | CommitSubtask
    | CloseSubtask
    | AbortSinks
    | Done
)
