"""Windows as users write them: which stretches of event time rows are gathered in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from raystream.errors import PlanError
from raystream.flow.time import Duration, micros
from raystream.flow.window import WindowGrid

_WINDOW_US_MAX = 1 << 61
"""Seventy thousand years: sums of a time and a window's size stay within reach of int64."""

_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one size, side by side: ``[n * size + offset, (n + 1) * size + offset)``.

    Units: durations in any form of the API; the fields hold microseconds.
    Raises: PlanError unless the size is longer than nothing.
    """

    size: Duration
    offset: Duration = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _length(self.size, "Tumbling", "size"))
        object.__setattr__(self, "offset", _offset(self.offset, "Tumbling"))

    def __str__(self) -> str:
        return f"tumbling {_text(self.size_us)}{_offset_text(self.offset_us)}"

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
    def grid(self) -> WindowGrid:
        """The same windows as arithmetic over arrays."""
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _length(self.size, "Sliding", "size"))
        object.__setattr__(self, "slide", _length(self.slide, "Sliding", "slide"))
        object.__setattr__(self, "offset", _offset(self.offset, "Sliding"))

    def __str__(self) -> str:
        every = f"sliding {_text(self.size_us)} every {_text(self.slide_us)}"
        return f"{every}{_offset_text(self.offset_us)}"

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


Window: TypeAlias = Tumbling | Sliding
"""Every window assigner that there is."""


def _length(value: Duration, window: str, name: str) -> int:
    length_us = micros(value)
    if length_us <= 0:
        raise PlanError(
            f"{window}({name}=) must be longer than nothing, got {value!r}",
            hint=f'give a {name} such as "10s"',
        )
    if length_us > _WINDOW_US_MAX:
        raise PlanError(f"{window}({name}=) is longer than 70,000 years: {value!r}")
    return length_us


def _offset(value: Duration, window: str) -> int:
    offset_us = micros(value)
    if abs(offset_us) > _WINDOW_US_MAX:
        raise PlanError(f"{window}(offset=) is longer than 70,000 years: {value!r}")
    return offset_us


def _offset_text(offset_us: int) -> str:
    return f" offset {_text(offset_us)}" if offset_us else ""


def _text(length_us: int) -> str:
    sign, rest = ("-", -length_us) if length_us < 0 else ("", length_us)
    parts = []
    for unit, unit_us in _UNITS:
        count, rest = divmod(rest, unit_us)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{rest // 1000}ms" if rest % 1000 == 0 else f"{rest}us")
    return sign + ("".join(parts) or "0s")
