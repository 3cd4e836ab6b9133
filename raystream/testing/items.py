"""The words of a test: what stands between the rows of a source, and what comes out of a stream.

All of them compare by value; points in time are microseconds since the epoch once they are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from raystream.errors import ConfigError
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import Duration, Instant, micros

MAX = MAX_TIME
"""The watermark of an input that has ended: ``Watermark(MAX)``."""


@dataclass(frozen=True, slots=True)
class At:
    """A row with its event time.

    >>> from datetime import datetime, timezone
    >>> At(datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc), "row")
    At(ts=1000000, row='row')
    """

    ts: Instant
    row: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "ts", _instant(self.ts))


@dataclass(frozen=True, slots=True)
class Watermark:
    """The promise that no more rows with event time at or before ``ts`` come."""

    ts: Instant

    def __post_init__(self) -> None:
        object.__setattr__(self, "ts", _instant(self.ts))


@dataclass(frozen=True, slots=True)
class Idle:
    """The split has nothing to say for now, and does not hold back the watermark."""


@dataclass(frozen=True, slots=True)
class Active:
    """The split takes part in the watermark again; a row or a watermark says so as well."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Let so much processing time pass before the split goes on."""

    duration: Duration

    def __post_init__(self) -> None:
        length_us = micros(self.duration)
        if length_us < 0:
            raise ConfigError(f"time does not go back: Advance({self.duration!r})")
        object.__setattr__(self, "duration", length_us)


@dataclass(frozen=True, slots=True)
class Open:
    """The end of what a split gives, but not of the split: more might come."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The job crashes here, once."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint is taken here."""


Word: TypeAlias = Watermark | Idle | Active | Advance | Open | Crash | Checkpoint
"""What stands between rows."""


def micros_of(value: Instant | Duration) -> int:
    """Give the microseconds that a word holds: it has read them when it was made."""
    assert isinstance(value, int), "a word holds microseconds"
    return value


def _instant(value: Instant) -> int:
    time_us = micros(value)
    if not MIN_TIME < time_us <= MAX_TIME:
        raise ConfigError(f"{value!r} is no point in time: microseconds fit into 64 bits")
    return time_us
