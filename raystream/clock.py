"""Time as an argument: nothing to the left of the shell reads a clock of its own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a machine may know of time."""

    def now_us(self) -> int:
        """Processing time: microseconds since the epoch, UTC; may jump."""

    def monotonic_us(self) -> int:
        """Microseconds since some moment; never goes back."""


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_us(self) -> int:
        return time.monotonic_ns() // 1000


class ManualClock:
    """A clock that moves only when told: tests are instant, and the same every time."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self._start_us = now_us
        self._passed_us = 0

    def now_us(self) -> int:
        return self._start_us + self._passed_us

    def monotonic_us(self) -> int:
        return self._passed_us

    def advance(self, us: int) -> None:
        """Let ``us`` microseconds pass."""
        assert us >= 0, "time does not go back"
        self._passed_us += us
