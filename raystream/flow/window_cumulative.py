"""Windows that start together and end one after the other: all that came today, every hour.

Time is cut into panes of one step. There is one window that ends with each pane, and it bears the
pane's number: it holds all panes from the start of its size on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME
from raystream.flow.window import floor_div


@dataclass(frozen=True, slots=True)
class CumulativeCover:
    """Window ``j`` holds the panes up to ``j`` of its round of ``steps``; rounds start at shift."""

    steps: int
    shift: int

    @property
    def alone(self) -> bool:
        return self.steps == 1

    @property
    def nested(self) -> bool:
        return True

    @property
    def copies(self) -> int:
        return self.steps

    def first(self, buckets: Int64s) -> Int64s:
        """Give the first window that ends behind each bucket: its own."""
        return buckets.copy()

    def last(self, buckets: Int64s) -> Int64s:
        """Give the last window of each bucket's round."""
        rest = self.steps - 1 - (buckets % self.steps - self.shift) % self.steps
        return np.where(buckets > MAX_TIME - rest, MAX_TIME, buckets + rest)

    def start(self, window: int) -> int:
        """Give the first bucket of a window."""
        return window - (window - self.shift) % self.steps

    def stop(self, window: int) -> int:
        """Give the bucket behind the last one of a window."""
        return window + 1


@dataclass(frozen=True, slots=True)
class CumulativeGrid:
    """All windows ``[start, start + k * step)`` of one size; the size is a multiple of the step.

    Units: epoch microseconds; a window is [start, end).
    """

    size_us: int
    step_us: int
    offset_us: int

    @property
    def panes(self) -> int:
        return self.size_us // self.step_us

    @property
    def copies(self) -> int:
        return self.panes

    @property
    def gaps(self) -> bool:
        return False

    @property
    def cover(self) -> CumulativeCover:
        return CumulativeCover(self.panes, self.offset_us // self.step_us % self.panes)

    @property
    def _phase_us(self) -> int:
        return self.offset_us % self.step_us

    def panes_of(self, times_us: Int64s) -> Int64s:
        return floor_div(times_us, self.step_us, self._phase_us)

    def pane_of(self, time_us: int) -> int:
        return (time_us - self._phase_us) // self.step_us

    def covered(self, times_us: Int64s) -> npt.NDArray[np.bool_]:
        return np.ones(len(times_us), np.bool_)

    def due(self, watermark_us: int) -> int:
        if watermark_us >= MAX_TIME - 1:
            return MAX_TIME
        return self.pane_of(watermark_us + 1) - 1

    def live_us(self, watermark_us: int) -> int:
        due = self.due(watermark_us)
        if due == MAX_TIME:
            return MAX_TIME + 1
        return self.cover.start(due + 1) * self.step_us + self._phase_us

    def starts(self, windows: Int64s) -> Int64s:
        """Give the starts of windows; before int64 begins they saturate."""
        before = (windows % self.panes - self.cover.shift) % self.panes
        first = np.where(windows < MIN_TIME + before, MIN_TIME, windows - before)
        least = -(-(MIN_TIME - self._phase_us) // self.step_us)
        starts = self._scaled(first)
        starts[first < least] = MIN_TIME
        return starts

    def ends(self, windows: Int64s) -> Int64s:
        """Give the ends of windows; behind the end of int64 they saturate."""
        greatest = (MAX_TIME - self._phase_us) // self.step_us - 1
        ends = self._scaled(windows + 1)
        ends[windows > greatest] = MAX_TIME
        return ends

    def _scaled(self, panes: Int64s) -> Int64s:
        # NumPy wraps silently here, so a sum that fits is right whatever its parts were.
        scaled: Int64s = panes * np.int64(self.step_us)
        scaled += np.int64(self._phase_us)
        return scaled
