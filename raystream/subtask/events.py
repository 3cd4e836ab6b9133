"""What happens to a subtask, and what it wants done: closed unions of immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raystream.contracts.source import Polled as PolledRows
from raystream.contracts.source import Split
from raystream.flow.ids import ChannelId, SubtaskId

# Events ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Begin; a source subtask gets the splits that are its own.

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
class Received:
    """A frame came on a channel."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class CreditCame:
    """The receiver of a channel has consumed so much, and allows so much to be on its way.

    ``received_bytes`` is there where the sender had asked: what has arrived at all.
    """

    channel: ChannelId
    consumed_bytes: int
    window_bytes: int
    received_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ProgressAsked:
    """The sender of a channel has waited long for credit, and asks what has arrived."""

    channel: ChannelId


@dataclass(frozen=True, slots=True)
class Polled:
    """What the reader of a split gave."""

    split: str
    rows: PolledRows


@dataclass(frozen=True, slots=True)
class Commit:
    """Make visible what this subtask's sinks have prepared."""

    checkpoint_id: int
    committables: tuple[tuple[str, tuple[Any, ...]], ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """All is done: let go."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop now; nothing that was not committed becomes visible."""


Event: TypeAlias = (
    Start
    | SplitsFound
    | AlignTo
    | Received
    | CreditCame
    | ProgressAsked
    | Polled
    | Commit
    | Finish
    | Cancel
)

# Effects -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Push a frame to a downstream subtask."""

    to: SubtaskId
    frame: bytes


@dataclass(frozen=True, slots=True)
class GrantCredit:
    """Tell an upstream subtask what has been consumed, and what it may have on its way."""

    to: SubtaskId
    credit: CreditCame


@dataclass(frozen=True, slots=True)
class AskProgress:
    """Ask a downstream subtask what has arrived on a channel: slow is not dead."""

    to: SubtaskId
    channel: ChannelId


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask the reader of a split for rows, in the order of the asking."""

    split: Split
    max_rows: int


@dataclass(frozen=True, slots=True)
class TellTime:
    """Tell the coordinator the least watermark of an aligned source's active splits, if any."""

    least_us: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """All input has ended and all output has left; what the sinks have prepared, by operator."""

    committables: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """The sinks of this subtask have made theirs visible."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The subtask holds nothing any more."""


Effect: TypeAlias = Send | GrantCredit | AskProgress | Poll | TellTime | Ended | Committed | Closed
