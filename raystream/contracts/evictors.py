"""The evictors that come with raystream: ``rs.evictors.Count(10)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raystream.contracts import window_lengths as lengths
from raystream.contracts.evictor import Evictor, Gathered
from raystream.contracts.trigger import Span
from raystream.contracts.window import Window
from raystream.contracts.window_unaligned import SlidingCount
from raystream.flow.time import Duration, micros


@dataclass(frozen=True, slots=True)
class Count(Evictor):
    """Keeps the ``n`` rows that came last.

    Raises: PlanError unless ``n`` is at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        lengths.check_count(self.n, "evictors.Count", "n")

    def before(self, rows: Sequence[Gathered], window: Span) -> Sequence[Gathered]:
        return rows[-self.n :]

    def __str__(self) -> str:
        return f"last {self.n} rows"


@dataclass(frozen=True, slots=True)
class Time(Evictor):
    """Keeps the rows less than ``length`` older than the latest one, by event time.

    Raises: PlanError unless ``length`` is longer than nothing.
    """

    length: Duration

    def __post_init__(self) -> None:
        length_us = lengths.length(self.length, "evictors.Time", "length")
        object.__setattr__(self, "length", length_us)

    def before(self, rows: Sequence[Gathered], window: Span) -> Sequence[Gathered]:
        times = [one.timestamp for one in rows if one.timestamp is not None]
        if not times:
            return rows
        oldest = max(times) - micros(self.length)
        return [one for one in rows if one.timestamp is None or one.timestamp > oldest]

    def __str__(self) -> str:
        return f"last {lengths.text(micros(self.length))}"


def default_evictor(window: Window) -> Evictor | None:
    """Give the evictor of a window for which none was chosen."""
    return Count(window.n) if isinstance(window, SlidingCount) else None
