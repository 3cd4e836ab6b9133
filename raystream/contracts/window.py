"""Windows as users write them: which stretches of time, or of rows, are gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from zoneinfo import ZoneInfo

from raystream.contracts import window_lengths as lengths
from raystream.contracts.window_lengths import TimeKind
from raystream.contracts.window_unaligned import Global, Session, SlidingCount, TumblingCount
from raystream.errors import PlanError
from raystream.flow.time import Duration, micros
from raystream.flow.window import Grid, WindowGrid
from raystream.flow.window_cumulative import CumulativeGrid
from raystream.flow.window_days import DayGrid


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one size, side by side: ``[n * size + offset, (n + 1) * size + offset)``.

    With ``tz`` they are whole local days, which last 23 or 25 hours where clocks are changed.

    Units: durations in any form of the API; the fields hold microseconds.
    Raises: PlanError unless the size is longer than nothing, and whole days with ``tz``.
    """

    size: Duration
    offset: Duration = 0
    tz: str | None = None
    time: TimeKind = "event"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", lengths.length(self.size, "Tumbling", "size"))
        object.__setattr__(self, "offset", lengths.offset(self.offset, "Tumbling"))
        lengths.check_time(self.time, "Tumbling")
        if self.tz is not None:
            object.__setattr__(self, "tz", _zone(self.tz, micros(self.size)))

    def __str__(self) -> str:
        beside = lengths.beside(self.offset_us, self.time, self.tz)
        return f"tumbling {lengths.text(self.size_us)}{beside}"

    @property
    def size_us(self) -> int:
        return micros(self.size)

    @property
    def slide_us(self) -> int:
        return micros(self.size)

    @property
    def offset_us(self) -> int:
        return micros(self.offset)

    @property
    def grid(self) -> Grid:
        """The same windows as arithmetic over arrays."""
        if self.tz is not None:
            return DayGrid(self.tz, self.size_us // lengths.DAY_US, self.offset_us)
        return WindowGrid(self.size_us, self.slide_us, self.offset_us)


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows of one size that start every ``slide``; a row lies in each that covers its time.

    Units: durations in any form of the API; the fields hold microseconds.
    Raises: PlanError unless size and slide are longer than nothing.
    """

    size: Duration
    slide: Duration
    offset: Duration = 0
    time: TimeKind = "event"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", lengths.length(self.size, "Sliding", "size"))
        object.__setattr__(self, "slide", lengths.length(self.slide, "Sliding", "slide"))
        object.__setattr__(self, "offset", lengths.offset(self.offset, "Sliding"))
        lengths.check_time(self.time, "Sliding")

    def __str__(self) -> str:
        every = f"sliding {lengths.text(self.size_us)} every {lengths.text(self.slide_us)}"
        return f"{every}{lengths.beside(self.offset_us, self.time)}"

    @property
    def size_us(self) -> int:
        return micros(self.size)

    @property
    def slide_us(self) -> int:
        return micros(self.slide)

    @property
    def offset_us(self) -> int:
        return micros(self.offset)

    @property
    def grid(self) -> WindowGrid:
        """The same windows as arithmetic over arrays."""
        return WindowGrid(self.size_us, self.slide_us, self.offset_us)


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Windows that start together and end one ``step`` after the other, until ``size`` is full.

    A row lies in each that ends behind it: ``[start, start + k * step)``.
    Units: durations in any form of the API; the fields hold microseconds.
    Raises: PlanError unless both are longer than nothing and the step divides the size.
    """

    size: Duration
    step: Duration
    offset: Duration = 0
    time: TimeKind = "event"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", lengths.length(self.size, "Cumulative", "size"))
        object.__setattr__(self, "step", lengths.length(self.step, "Cumulative", "step"))
        object.__setattr__(self, "offset", lengths.offset(self.offset, "Cumulative"))
        lengths.check_time(self.time, "Cumulative")
        if self.size_us % self.step_us:
            raise PlanError(
                f"Cumulative(step=) must divide the size: {lengths.text(self.size_us)} is no "
                f"multiple of {lengths.text(self.step_us)}",
                hint='Cumulative("1d", "1h")',
            )

    def __str__(self) -> str:
        every = f"cumulative {lengths.text(self.size_us)} by {lengths.text(self.step_us)}"
        return f"{every}{lengths.beside(self.offset_us, self.time)}"

    @property
    def size_us(self) -> int:
        return micros(self.size)

    @property
    def step_us(self) -> int:
        return micros(self.step)

    @property
    def offset_us(self) -> int:
        return micros(self.offset)

    @property
    def grid(self) -> CumulativeGrid:
        """The same windows as arithmetic over arrays."""
        return CumulativeGrid(self.size_us, self.step_us, self.offset_us)


GridWindow: TypeAlias = Tumbling | Sliding | Cumulative
"""Windows that arithmetic over arrays knows."""

TimeWindow: TypeAlias = Tumbling | Sliding | Cumulative | Session
"""Windows with a start and an end."""

CountWindow: TypeAlias = TumblingCount | SlidingCount
"""Windows of so many rows."""

Window: TypeAlias = TimeWindow | Global | CountWindow
"""Every window assigner that there is."""

WINDOWS = (Tumbling, Sliding, Cumulative, Session, Global, TumblingCount, SlidingCount)


def is_timed(window: Window) -> bool:
    """Tell whether windows have a start and an end."""
    return isinstance(window, (Tumbling, Sliding, Cumulative, Session))


def needs_event_time(window: Window) -> bool:
    """Tell whether rows are put into windows by their event time."""
    return getattr(window, "time", None) == "event"


def _zone(tz: object, size_us: int) -> str:
    name = tz.key if isinstance(tz, ZoneInfo) else tz
    unknown = PlanError(f"Tumbling(tz=) is no time zone: {tz!r:.60}", hint='tz="Europe/Berlin"')
    if not isinstance(name, str):
        raise unknown
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise unknown from error
    if size_us % lengths.DAY_US:
        raise PlanError(
            f"Tumbling(tz=) gathers whole local days, and {lengths.text(size_us)} are none",
            hint='Tumbling("1d", tz="Europe/Berlin"); leave tz out for windows of hours',
        )
    return name
