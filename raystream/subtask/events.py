"""What happens to a subtask, and what it wants done: closed unions of immutable values.

Beside what the coordinator orders (``flow.messages``), events are what peers and readers bring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from raystream.contracts.source import Polled as PolledRows
from raystream.flow.figures import SnapshotFigures
from raystream.flow.ids import ChannelId, SubtaskId
from raystream.flow.messages import Order, Prepared, Report
from raystream.flow.split import Split
from raystream.keyed.snapshot import Snapshot

# Events ------------------------------------------------------------------------------------------


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
    """What the reader of a split gave, and where it stands behind that.

    ``backlog_rows`` are there to be read behind it, where the reader can tell.
    """

    split: str
    rows: PolledRows
    position: Any = None
    backlog_rows: int | None = None


Event: TypeAlias = Order | Received | CreditCame | ProgressAsked | Polled

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
    """Ask the reader of a split for rows, in the order of the asking.

    A reader that is not open yet is opened at ``position``.
    """

    split: Split
    max_rows: int
    position: Any = None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the reader of a split that what lies before a position will not be read again."""

    split: str
    position: Any


@dataclass(frozen=True, slots=True, eq=False)
class Keep:
    """Store this subtask's part of a checkpoint in the background, then say so to the coordinator.

    ``operators`` are sections by uid; those of a savepoint (``target``) are whole, the others may
    be deltas. ``figures`` say what the snapshot has cost until here. It ``stops`` as its barrier
    does: the next attempt may begin from it soon.
    """

    checkpoint_id: int
    target: str
    operators: Mapping[str, Snapshot]
    prepared: Prepared
    splits: tuple[str, ...] = ()
    figures: SnapshotFigures | None = None
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something to the coordinator."""

    report: Report


Effect: TypeAlias = Send | GrantCredit | AskProgress | Poll | Acknowledge | Keep | Tell
