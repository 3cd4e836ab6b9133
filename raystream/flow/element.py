"""What moves through a channel: a closed union of immutable elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from raystream.flow.batch import Batch, Columns, Objects

MIN_TIME = -(2**63)
"""Before every event: the watermark of a stream that has said nothing."""

MAX_TIME = 2**63 - 1
"""After every event: the watermark that ends bounded input."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """A promise: no more rows with event time at or before ``time_us``."""

    time_us: int


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a channel has nothing to say for now and must not hold back the watermark."""

    idle: bool


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """No more rows will come on this channel: it stands for the watermark MAX.

    It ends rows and time, not the channel: barriers go on until the job is over.
    """


@dataclass(frozen=True, slots=True)
class Barrier:
    """What came before it on a channel belongs to checkpoint ``checkpoint_id``, the rest does not.

    ``target`` is the URL of the savepoint that this is; empty: a checkpoint of the job itself.
    Behind one that ``stops`` the sources read no more.
    """

    checkpoint_id: int
    target: str = ""
    stops: bool = False

    @property
    def for_others(self) -> bool:
        """Whether a job of another plan may begin from it: then no rows may wait in channels."""
        return bool(self.target) or self.stops


@dataclass(frozen=True, slots=True)
class Marker:
    """What a source sends behind rows once in a while, to see how long they take to the sinks.

    ``at_us`` is the time of day at which the rows before it were read. It takes part in nothing:
    no operator sees it, no snapshot keeps it, and it goes along one path only.
    """

    source: str
    at_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Rows beside an operator's own output, for whoever reads its side output of that tag.

    They never travel as such: the operator that reads a side output runs in the same subtask.
    """

    tag: str
    batch: Batch


Element: TypeAlias = Batch | Watermark | Status | Barrier | EndOfInput | Marker

__all__ = [
    "MAX_TIME",
    "MIN_TIME",
    "Barrier",
    "Batch",
    "Columns",
    "Element",
    "EndOfInput",
    "Marker",
    "Objects",
    "Side",
    "Status",
    "Watermark",
]
