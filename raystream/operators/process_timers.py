"""The timers that a call of a process function sees: those of the key in hand, or none."""

from __future__ import annotations

from datetime import date
from typing import NoReturn

from raystream.contracts.process import ProcessContext
from raystream.errors import UserError
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.key import canonical
from raystream.flow.time import Instant, micros
from raystream.keyed.timers import Domain, Timers


class KeyTimers:
    """Timers of whatever key the context has in hand."""

    def __init__(self, timers: Timers, ctx: ProcessContext) -> None:
        self._timers = timers
        self._ctx = ctx

    def register_event_time(self, time: Instant) -> None:
        self._register("event", time)

    def register_processing_time(self, time: Instant) -> None:
        self._register("processing", time)

    def delete_event_time(self, time: Instant) -> None:
        self._timers.delete("event", point_us(time), canonical(self._ctx.key))

    def delete_processing_time(self, time: Instant) -> None:
        self._timers.delete("processing", point_us(time), canonical(self._ctx.key))

    def _register(self, domain: Domain, time: Instant) -> None:
        key = self._ctx.key
        self._timers.register(domain, point_us(time), canonical(key), key)


class NoTimers:
    """Refuses timers where there is no key that they could be of."""

    def __init__(self, reason: str, hint: str) -> None:
        self._reason = reason
        self._hint = hint

    def register_event_time(self, time: Instant) -> None:
        self._refuse()

    def register_processing_time(self, time: Instant) -> None:
        self._refuse()

    def delete_event_time(self, time: Instant) -> None:
        self._refuse()

    def delete_processing_time(self, time: Instant) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(f"there are no timers here: {self._reason}", hint=self._hint)


def point_us(time: Instant) -> int:
    """Read a point in time.

    Units: microseconds since the epoch, UTC.
    Raises: UserError for a duration, a float, or a time that 64 bits do not hold.
    """
    if type(time) is not int:
        whole = hasattr(time, "__index__") and not isinstance(time, bool)
        if not whole and not isinstance(time, date):
            raise UserError(
                f"a timer is set for a point in time, got {time!r:.80}",
                hint='ctx.timestamp + rs.micros("1m"), or a datetime',
            )
        time = micros(time)
    if not MIN_TIME <= time <= MAX_TIME:
        raise UserError(f"a timer is set for a time that 64 bits hold, got {time}")
    return time
