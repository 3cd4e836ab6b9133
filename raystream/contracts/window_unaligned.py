"""Windows that no grid of time cuts: rows open and close them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raystream.contracts import window_lengths as lengths
from raystream.contracts.window_lengths import TimeKind
from raystream.flow.time import Duration, micros


@dataclass(frozen=True, slots=True)
class Session:
    """Rows that follow one another by at most ``gap``; a row opens ``[time, time + gap)``.

    ``gap`` is a duration, or a function of the row that gives one.
    Raises: PlanError unless the gap is longer than nothing.
    """

    gap: Duration | Callable[[Any], Duration]
    time: TimeKind = "event"

    def __post_init__(self) -> None:
        lengths.check_time(self.time, "Session")
        if not callable(self.gap):
            object.__setattr__(self, "gap", lengths.length(self.gap, "Session", "gap"))

    def __str__(self) -> str:
        of = lengths.beside(0, self.time)
        if callable(self.gap):
            return f"session {getattr(self.gap, '__name__', type(self.gap).__name__)}(row){of}"
        return f"session {lengths.text(micros(self.gap))}{of}"

    @property
    def gap_us(self) -> int | None:
        """The gap of all rows; None where each row has its own."""
        return None if callable(self.gap) else micros(self.gap)


@dataclass(frozen=True, slots=True)
class Global:
    """One window for all rows of a key, without end: a trigger says when it fires.

    Without one it fires at the end of bounded input.
    """

    def __str__(self) -> str:
        return "global"


@dataclass(frozen=True, slots=True)
class TumblingCount:
    """Every ``n`` rows of a key, in order of arrival; what does not fill up is never given.

    Raises: PlanError unless ``n`` is at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        lengths.check_count(self.n, "TumblingCount", "n")

    def __str__(self) -> str:
        return f"tumbling {self.n} rows"


@dataclass(frozen=True, slots=True)
class SlidingCount:
    """The last ``n`` rows of a key, in order of arrival, after every ``slide`` rows.

    The first windows are short.
    Raises: PlanError unless both are at least 1.
    """

    n: int
    slide: int

    def __post_init__(self) -> None:
        lengths.check_count(self.n, "SlidingCount", "n")
        lengths.check_count(self.slide, "SlidingCount", "slide")

    def __str__(self) -> str:
        return f"sliding {self.n} rows every {self.slide}"
