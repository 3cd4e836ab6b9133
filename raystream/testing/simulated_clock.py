"""A clock on which processing time stands still until a test lets it pass."""

from __future__ import annotations

from collections.abc import Callable


class SimulatedClock:
    """Processing time that starts at 0 and moves by ``pass_time`` alone.

    What the engine does for itself (asking a source again, giving credit) may need a moment:
    ``drift`` moves the monotonic clock only, so that nobody's timers see it.
    """

    def __init__(self) -> None:
        self._now_us = 0
        self._drift_us = 0
        self._awaited: list[int] = []  # bounded by the splits that wait
        self._looks_left = 0
        self._impatient: Callable[[], Exception] | None = None

    def now_us(self) -> int:
        return self._now_us

    def monotonic_us(self) -> int:
        if self._impatient is not None:
            self._looks_left -= 1
            if self._looks_left < 0:
                impatient, self._impatient = self._impatient, None
                raise impatient()
        return self._now_us + self._drift_us

    def be_patient(self, looks: int, impatient: Callable[[], Exception]) -> None:
        """Be looked at so many times, then raise: a slice of work ends by the clock, which stands.

        Each place to pause looks at the clock, so that a function that gives rows for ever ends.
        """
        self._looks_left, self._impatient = looks, impatient

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
