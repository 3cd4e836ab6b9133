"""What a coordinator and its subtasks say to each other: two closed unions of immutable values.

Every message belongs to an attempt, which its envelope names: one of another attempt is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from raystream.flow.figures import SnapshotFigures
from raystream.flow.snapshots import SubtaskSnapshot
from raystream.flow.split import Split

Prepared: TypeAlias = tuple[tuple[int, Mapping[str, bytes]], ...]
"""What sinks have written and not yet made visible: by checkpoint, oldest first, then by the uid
of the sink; pickled lists, as ``Writer.prepare_commit`` gave them."""

# To a subtask ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Begin; a source subtask gets splits that are new, beside those that it has restored.

    ``others_us`` is the first ``AlignTo``.
    """

    splits: tuple[Split, ...] = ()
    more_splits: bool = False
    others_us: int | None = None


@dataclass(frozen=True, slots=True)
class SplitsFound:
    """Splits that discovery has found for this subtask."""

    splits: tuple[Split, ...]


@dataclass(frozen=True, slots=True)
class AlignTo:
    """The least watermark of the other subtasks of this source's alignment group; None: of none."""

    others_us: int | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """Begin a checkpoint at a source; with ``stop`` read nothing behind its barrier.

    ``target`` is that of the barrier.
    """

    checkpoint_id: int
    target: str = ""
    stop: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A checkpoint will not be completed: let go of what waits for its barriers."""

    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class Completed:
    """A checkpoint is durable: what lies before it will never be read again."""

    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Read no more: the input ends here."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Make visible what sinks of this chain have prepared, whichever subtask did."""

    checkpoint_id: int
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything that was prepared up to a checkpoint is visible: forget it."""

    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class Finish:
    """All is done: let go.

    ``rests_at`` is the checkpoint that the next attempt begins from, for who may leave its
    operators open to it: those that nothing has touched since that checkpoint; 0: nobody may.
    """

    rests_at: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop now; nothing that was not committed becomes visible."""


Order: TypeAlias = (
    Start
    | SplitsFound
    | AlignTo
    | Trigger
    | GiveUp
    | Completed
    | Drain
    | Commit
    | Settled
    | Finish
    | Cancel
)

# From a subtask ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """Deployed: operators are open and restored; the splits that were restored, by name."""

    splits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceTime:
    """The least watermark of the active splits of a subtask of an aligned source, if any."""

    least_us: int | None


@dataclass(frozen=True, slots=True)
class Acked:
    """This subtask's part of a checkpoint is stored; ``figures`` say what that has cost."""

    checkpoint_id: int
    snapshot: SubtaskSnapshot
    figures: SnapshotFigures | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """This subtask's part of a checkpoint cannot be stored, and why."""

    checkpoint_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """All input has ended, and all output has left."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What was to be made visible up to a checkpoint is."""

    checkpoint_id: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing is held any more; also said of a subtask that is dead.

    ``prepared`` is what its sinks have written and, as far as it knows, nobody has made visible.
    ``rests``: its operators are open still, as ``Finish`` has allowed.
    """

    prepared: Prepared = ()
    rests: bool = False


Report: TypeAlias = Ready | SourceTime | Acked | Declined | Ended | Committed | Closed
