"""A clock on which processing time stands still until a test lets it pass."""

from __future__ import annotations


class SimulatedClock:
    """Processing time that starts at 0 and moves by ``pass_time`` alone.

    What the engine does for itself (asking a source again, giving credit) may need a moment:
    ``drift`` moves the monotonic clock only, so that nobody's timers see it.
    """

    def __init__(self) -> None:
        self._now_us = 0
        self._drift_us = 0
        self._awaited: list[int] = []  # bounded by the splits that wait

    def now_us(self) -> int:
        return self._now_us

    def monotonic_us(self) -> int:
        return self._now_us + self._drift_us

    def await_time(self, time_us: int) -> None:
        """Ask for a processing time: until it is reached time may pass."""
        self._awaited.append(time_us)

    def left_us(self) -> int | None:
        """Give how far the next processing time is that somebody waits for; None: nobody does."""
        self._awaited = [time_us for time_us in self._awaited if time_us > self._now_us]
        return min(self._awaited) - self._now_us if self._awaited else None

    def pass_time(self, us: int) -> None:
        """Let processing time pass."""
        assert us >= 0, "time does not go back"
        self._now_us += us

    def drift(self, us: int) -> None:
        """Let the monotonic clock alone go on."""
        assert us >= 0, "time does not go back"
        self._drift_us += us
