"""Which windows hold one row: the same windows as those of arrays, one row at a time.

Bounds lie in int64: at both ends of time they saturate, and are still told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from typing import TypeAlias
from zoneinfo import ZoneInfo

from typing_extensions import assert_never

from raystream.contracts.trigger import EVERYTHING
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.contracts.window_lengths import DAY_US
from raystream.contracts.window_unaligned import Global, SlidingCount, TumblingCount
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import EPOCH, MICROSECOND

Bounds: TypeAlias = tuple[int, int]
"""Start and end of a window, in epoch microseconds: the namespace of its state."""

Assign: TypeAlias = Callable[[int], list[Bounds]]
"""Gives the windows of a time, ascending."""

ALL_OF_TIME: Bounds = (EVERYTHING.start, EVERYTHING.end)

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_DAY = date.min.toordinal() - _EPOCH_DAY + 2
_LAST_DAY = date.max.toordinal() - _EPOCH_DAY - 2
"""Days since 1970 between which Python's time zones can be asked."""


def assigner(
    window: Tumbling | Sliding | Cumulative | Global | TumblingCount | SlidingCount,
) -> Assign:
    """Make the function that gives the windows of a time."""
    assign: Assign
    match window:
        case Tumbling(tz=None):
            assign = _sliding(window.size_us, window.size_us, window.offset_us)
        case Tumbling():
            assert window.tz is not None, "all others were seen"
            assign = LocalDays(window.tz, window.size_us // DAY_US, window.offset_us)
        case Sliding():
            assign = _sliding(window.size_us, window.slide_us, window.offset_us)
        case Cumulative():
            assign = _cumulative(window.size_us, window.step_us, window.offset_us)
        case Global() | TumblingCount() | SlidingCount():
            assign = _all_of_time
        case _:
            assert_never(window)
    return assign


def bounded(start: int, end: int) -> Bounds:
    """Keep bounds within int64."""
    return (max(start, MIN_TIME), min(end, MAX_TIME))


def _all_of_time(_time_us: int) -> list[Bounds]:
    return [ALL_OF_TIME]


def _sliding(size_us: int, slide_us: int, offset_us: int) -> Assign:
    # Rows of about one time lie in the same windows: those of the last row are at hand.
    known, windows = (0, -1), list[Bounds]()

    def assign(time_us: int) -> list[Bounds]:
        nonlocal known, windows
        last = time_us - (time_us - offset_us) % slide_us
        # The least start that is above time - size.
        first = last - (last - (time_us - size_us) - 1) // slide_us * slide_us
        if known != (first, last):
            starts = range(first, last + 1, slide_us)
            known, windows = (first, last), [bounded(start, start + size_us) for start in starts]
        return windows

    return assign


def _cumulative(size_us: int, step_us: int, offset_us: int) -> Assign:
    def assign(time_us: int) -> list[Bounds]:
        start = time_us - (time_us - offset_us) % size_us
        first = start + (time_us - start) // step_us * step_us + step_us
        return [bounded(start, end) for end in range(first, start + size_us + 1, step_us)]

    return assign


class LocalDays:
    """Windows of whole days of a time zone; a day may have 23 or 25 hours.

    Days begin at local midnight plus the offset: at the first such moment where a clock shows it
    twice, and where it is skipped at the moment of the skip.
    """

    def __init__(self, tz: str, days: int, offset_us: int) -> None:
        self._zone = ZoneInfo(tz)
        self._days = days
        self._offset = timedelta(microseconds=offset_us % DAY_US)
        self._shift = offset_us // DAY_US
        self._latest: Bounds = (0, 0)

    def __call__(self, time_us: int) -> list[Bounds]:
        start, end = self._latest
        if not start <= time_us < end:
            first = self._first_day(time_us)
            self._latest = bounded(self._begin(first), self._begin(first + self._days))
        return [self._latest]

    def _first_day(self, time_us: int) -> int:
        day = time_us // DAY_US
        if _FIRST_DAY < day < _LAST_DAY:
            local = (EPOCH + timedelta(microseconds=time_us)).astimezone(self._zone)
            day = (local.replace(tzinfo=None) - self._offset).toordinal() - _EPOCH_DAY
        # What a clock shows and what has begun differ where it goes back over midnight.
        while self._begin(day) > time_us:
            day -= 1
        while self._begin(day + 1) <= time_us:
            day += 1
        return day - (day - self._shift) % self._days

    def _begin(self, day: int) -> int:
        """Give the moment when a day begins; beyond Python's years in UTC."""
        if not _FIRST_DAY < day < _LAST_DAY:
            return day * DAY_US + self._offset // MICROSECOND
        midnight = datetime.combine(date.fromordinal(day + _EPOCH_DAY), time())
        local = (midnight + self._offset).replace(tzinfo=self._zone)
        return (local.astimezone(timezone.utc) - EPOCH) // MICROSECOND
