"""Windows of whole days of a time zone: some have 23 hours, and some 25.

A window ends where the next one starts. A day begins at local midnight plus the offset: at the
first such moment where a clock shows it twice, and where it is skipped at the moment of the skip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.time import EPOCH, MICROSECOND
from raystream.flow.window import ALONE, Cover

DAY_US = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_DAY = date.min.toordinal() - _EPOCH_DAY + 2
_LAST_DAY = date.max.toordinal() - _EPOCH_DAY - 2
"""Days since 1970 between which Python's time zones can be asked; beyond, days are those of UTC."""

_DAYS_KEPT = 16_384
"""Beginnings of days that are remembered: 45 years of them."""


@dataclass(frozen=True, slots=True)
class DayGrid:
    """All windows of so many local days; window ``j`` begins with day ``j * days`` and a shift.

    Units: epoch microseconds; a window is [start, end).
    """

    tz: str
    days: int
    offset_us: int
    _shift: int = field(init=False)
    _into_us: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shift", self.offset_us // DAY_US)
        object.__setattr__(self, "_into_us", self.offset_us % DAY_US)

    @property
    def panes(self) -> int:
        return 1

    @property
    def copies(self) -> int:
        return 1

    @property
    def gaps(self) -> bool:
        return False

    @property
    def cover(self) -> Cover:
        return ALONE

    def panes_of(self, times_us: Int64s) -> Int64s:
        """Give the window of each time, which is its own pane."""
        about = np.unique(times_us // DAY_US)
        # A local day differs from that of UTC by one, and by another one for the offset.
        near = np.unique((about[:, None] + np.arange(-3, 4)).ravel())
        # A day that begins before int64 does begins with it; one that begins behind it has no time.
        exact = [self._begin(day) for day in near.tolist()]
        begins = np.array([max(one, MIN_TIME) for one in exact if one <= MAX_TIME], np.int64)
        days = near[np.searchsorted(begins, times_us, side="right") - 1]
        windows: Int64s = (days - self._shift) // self.days
        return windows

    def pane_of(self, time_us: int) -> int:
        day = time_us // DAY_US + 2
        while self._begin(day) > time_us:
            day -= 1
        return (day - self._shift) // self.days

    def covered(self, times_us: Int64s) -> npt.NDArray[np.bool_]:
        return np.ones(len(times_us), np.bool_)

    def due(self, watermark_us: int) -> int:
        if watermark_us >= MAX_TIME - 1:
            return MAX_TIME
        return self.pane_of(watermark_us + 1) - 1

    def live_us(self, watermark_us: int) -> int:
        due = self.due(watermark_us)
        return MAX_TIME + 1 if due == MAX_TIME else self._start_of(due + 1)

    def starts(self, windows: Int64s) -> Int64s:
        """Give the starts of windows; before int64 begins they saturate."""
        different, which = np.unique(windows, return_inverse=True)
        starts = [self._start_of(window) for window in different.tolist()]
        return np.array([min(max(one, MIN_TIME), MAX_TIME) for one in starts], np.int64)[which]

    def ends(self, windows: Int64s) -> Int64s:
        """Give the ends of windows; behind the end of int64 they saturate."""
        return self.starts(windows + 1)

    def _start_of(self, window: int) -> int:
        return self._begin(window * self.days + self._shift)

    def _begin(self, day: int) -> int:
        """Give the moment when a day begins, exactly: it may lie outside int64."""
        if not _FIRST_DAY < day < _LAST_DAY:
            return day * DAY_US + self._into_us
        return _begin_of(self.tz, day, self._into_us)


@lru_cache(_DAYS_KEPT)
def _begin_of(tz: str, day: int, into_us: int) -> int:
    midnight = datetime.combine(date.fromordinal(day + _EPOCH_DAY), time())
    local = (midnight + timedelta(microseconds=into_us)).replace(tzinfo=ZoneInfo(tz))
    return (local.astimezone(timezone.utc) - EPOCH) // MICROSECOND
