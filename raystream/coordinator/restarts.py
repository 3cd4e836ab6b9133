"""What follows a failure: after which pause the next attempt begins, if there is to be one."""

from __future__ import annotations

from typing_extensions import assert_never

from raystream.contracts.checkpointing import Exponential, Fixed, Never, RestartStrategy
from raystream.errors import ConfigError, CorruptSnapshot, PlanError


class Restarts:
    """Counts the failures of one job."""

    def __init__(self, strategy: RestartStrategy) -> None:
        self._strategy = strategy
        self._in_a_row = 0
        self._last_us: int | None = None
        self._before = self._own = 0

    @property
    def count(self) -> int:
        """Failures behind which the job went on, also under coordinators before this one."""
        return self._before + self._own

    def inherit(self, count: int) -> None:
        """Count on behind those that a coordinator before this one has counted."""
        self._before = count

    def pause_us(self, now_us: int) -> int | None:
        """Take a failure; give the pause before the next attempt, None: there is none."""
        pause_us = self._next(now_us)
        if pause_us is not None:
            self._own += 1
            self._in_a_row += 1
            self._last_us = now_us
        return pause_us

    def _next(self, now_us: int) -> int | None:
        strategy = self._strategy
        match strategy:
            case Never():
                return None
            case Fixed(attempts, delay_us):
                return delay_us if self.count < attempts else None
            case Exponential(initial_us, maximum_us, reset_after_us):
                if self._last_us is not None and now_us - self._last_us >= reset_after_us:
                    self._in_a_row = 0
                if not self._in_a_row:
                    return 0  # a lone failure, a node that went, is no reason to wait
                # Twice as long each time: past 62 times the pause has long been the greatest.
                return min(initial_us << min(self._in_a_row - 1, 62), maximum_us)
            case _:
                assert_never(strategy)


def is_final(error: BaseException) -> bool:
    """Tell whether the next attempt would fail in the same way."""
    return isinstance(error, PlanError | ConfigError | CorruptSnapshot)
