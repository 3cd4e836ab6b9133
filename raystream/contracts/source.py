"""What a source is: splits that are read apart, each from a position, in batches."""

from __future__ import annotations

import abc
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pyarrow as pa

from raystream.contracts.batch import Batch
from raystream.flow.element import Status, Watermark
from raystream.flow.split import Split


class End(enum.Enum):
    """The type of ``END``."""

    END = "end"

    def __repr__(self) -> str:
        return "END"


__all__ = [
    "END",
    "End",
    "Later",
    "Polled",
    "Reader",
    "Source",
    "Split",
    "discovery_period_us",
]

END: Final = End.END
"""What ``Reader.poll`` returns when its split has no more rows, ever."""


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing now, nor before a moment of the monotonic clock: until then nobody need ask."""

    not_before_us: int


Polled: TypeAlias = Batch | pa.RecordBatch | list[Any] | Watermark | Status | Later | End | None
"""Rows; a watermark or a status of the split; None or Later when there is nothing now; END."""


_DISCOVER_US = 1_000_000


class Reader(abc.ABC):
    """Reads one split, in the thread that reads, never from two at once."""

    @abc.abstractmethod
    def poll(self, max_rows: int) -> Polled:
        """Give at most ``max_rows`` rows, None if there are none now, or END; soon, not at once.

        May wait up to about 10 ms for rows to come: other splits are waiting for their turn. One
        that knows more of time than its rows say gives watermarks and statuses between them.
        """

    @abc.abstractmethod
    def position(self) -> Any:
        """Where the next row is: what ``open`` gets to go on from here; picklable."""

    def backlog(self) -> int | None:
        """Tell how many rows are there to be read; None if that is not known, or not cheaply."""
        return None

    def checkpointed(self, position: Any) -> None:
        """Learn that everything before ``position`` will never be read again."""

    def close(self) -> None:
        """Let go of what is open."""


class Source(abc.ABC):
    """Where rows come from. ``schema`` None makes an object stream.

    A bounded source ends: each of its readers gives END. The readers of a ``timed`` one give event
    times with their batches. Splits of one that is ``abreast`` are read in turns even where they
    end: its readers fetch rows while others are read. ``splits`` lists what is there when the
    job starts, ``discover`` what has come since (all of it or only the new; ids decide).

    Where ``changelog`` names the key columns of a table, rows are its changes: each batch says in
    ``ops`` what its rows do to it, ``+I`` where it says nothing. One that ``retracts`` gives each
    row that leaves the table whole: ``-U`` before ``+U``, and all columns of ``-D``. Others need
    only give ``+U``, and ``-D`` with the key and nulls: where more is needed, rows are kept.
    """

    schema: pa.Schema | None = None
    bounded: bool = True
    abreast: bool = False
    timed: bool = False
    changelog: tuple[str, ...] | None = None
    retracts: bool = False
    discover_every_us: int | None = None

    @abc.abstractmethod
    def splits(self) -> Sequence[Split]:
        """List the splits; called once, where the job is coordinated."""

    def discover(self) -> Sequence[Split]:
        """List splits that may be new; called every ``discover_every_us``, by default a second."""
        return ()

    @abc.abstractmethod
    def open(self, split: Split, position: Any) -> Reader:
        """Start reading a split at a position; None is its beginning."""

    def project(self, columns: Sequence[str]) -> Source:
        """Give a source that reads only these columns; itself where that saves nothing."""
        return self

    def tolerating(self) -> Source:
        """Give a source whose readers go on behind records that they cannot read.

        They hand them over in ``Batch.unreadable`` instead of raising. Itself where there is none.
        """
        return self

    def describe(self) -> str:
        """Say in a few words what is read, for ``explain``."""
        return type(self).__name__


def discovery_period_us(source: Source) -> int | None:
    """Say how often a source wants to be asked for new splits; None: never.

    A source that has a ``discover`` of its own and no end wants it, also if it does not say so.
    """
    if source.discover_every_us is not None:
        return source.discover_every_us
    own = type(source).discover is not Source.discover
    return _DISCOVER_US if own and not source.bounded else None
