"""How long a server may be away before a job says so: readers ask again, and later each time."""

from __future__ import annotations

from raystream.clock import Clock, SystemClock
from raystream.contracts.source import Later
from raystream.errors import ExternalError

_FIRST_US = 100_000
_LONGEST_US = 2_000_000
_UNREACHED_MAX_US = 60_000_000
"""How long a reader goes on asking: longer than a server needs to start, or to be taken over."""


class Patience:
    """Counts how long a server has not been reached."""

    def __init__(self, clock: Clock | None = None, longest_us: int = _UNREACHED_MAX_US) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._longest_us = longest_us
        self._since_us: int | None = None
        self._pause_us = _FIRST_US

    def failed(self, error: ExternalError) -> Later:
        """Say when to ask again. Raises: the error, once the server is away for too long."""
        now_us = self._clock.monotonic_us()
        if self._since_us is None:
            self._since_us = now_us
        if now_us - self._since_us >= self._longest_us:
            raise error
        pause_us, self._pause_us = self._pause_us, min(2 * self._pause_us, _LONGEST_US)
        return Later(now_us + pause_us)

    def reached(self) -> None:
        """Forget what was: the server has answered."""
        self._since_us, self._pause_us = None, _FIRST_US
