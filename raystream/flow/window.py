"""Which windows a time lies in, as arithmetic over arrays; windows are counted, not dated.

Window ``j`` is ``[phase + j * slide, phase + j * slide + size)``, where ``phase`` is the offset
within one slide. Time is cut into panes of
``gcd(size, slide)``: a window is a run of whole panes, so that rows are grouped once per pane and
shared by all windows that hold it. Indices are used wherever a start could leave int64: near both
ends of time an index always fits, a start may not. Division is Python's, towards minus infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from raystream.flow.batch import Int64s
from raystream.flow.element import MAX_TIME, MIN_TIME


class Holds(Protocol):
    """Which windows hold a bucket: a window holds buckets that stand side by side.

    Windows are numbered so that neither their first nor their last bucket goes down. A bucket is a
    pane where windows share panes, and the window itself where they do not.
    """

    @property
    def alone(self) -> bool:
        """Whether a bucket is a window: no bucket lies in two, and none in no window."""

    @property
    def nested(self) -> bool:
        """Whether a window that has an earlier one's last bucket has all of them, or none."""

    @property
    def copies(self) -> int:
        """Windows that hold one bucket, at most."""

    def first(self, buckets: Int64s) -> Int64s:
        """Give the first window that ends behind each bucket.

        Shapes: buckets int64 [n] -> windows int64 [n].
        """

    def last(self, buckets: Int64s) -> Int64s:
        """Give the last window that starts at or before each bucket.

        Shapes: buckets int64 [n] -> windows int64 [n].
        """

    def start(self, window: int) -> int:
        """Give the first bucket of a window; any int."""

    def stop(self, window: int) -> int:
        """Give the bucket behind the last one of a window; any int."""


class Grid(Protocol):
    """All windows of one kind, numbered in order of their ends, and the panes they are made of."""

    @property
    def panes(self) -> int:
        """Panes of one window, at most."""

    @property
    def copies(self) -> int:
        """Windows that one row can lie in, at most."""

    @property
    def gaps(self) -> bool:
        """Whether some times lie in no window."""

    @property
    def cover(self) -> Holds:
        """How windows are made of panes."""

    def panes_of(self, times_us: Int64s) -> Int64s:
        """Give the pane of each time.

        Shapes: times_us int64 [n] -> panes int64 [n].
        """

    def pane_of(self, time_us: int) -> int:
        """Give the pane of one time."""

    def covered(self, times_us: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which times lie in a window at all."""

    def due(self, watermark_us: int) -> int:
        """Give the last window whose end - 1 is at or before a watermark; ends saturate."""

    def live_us(self, watermark_us: int) -> int:
        """Give the first time that lies in a window that is not due; any int."""

    def starts(self, windows: Int64s) -> Int64s:
        """Give the starts of windows; before int64 begins they saturate.

        Shapes: windows int64 [n] -> starts int64 [n].
        """

    def ends(self, windows: Int64s) -> Int64s:
        """Give the ends of windows; behind the end of int64 they saturate.

        Shapes: windows int64 [n] -> ends int64 [n].
        """


@dataclass(frozen=True, slots=True)
class Cover:
    """Which windows hold a bucket: window ``j`` holds buckets ``[j * step + shift, … + span)``.

    A bucket is a pane where windows share panes, and the window itself where they do not.
    """

    span: int
    step: int
    shift: int

    @property
    def alone(self) -> bool:
        """Whether a bucket is a window: no bucket lies in two, and none in no window."""
        return self.span == 1 and self.step == 1

    @property
    def nested(self) -> bool:
        return False

    @property
    def copies(self) -> int:
        """Windows that hold one bucket, at most."""
        return -(-self.span // self.step)

    def last(self, buckets: Int64s) -> Int64s:
        """Give the last window that starts at or before each bucket.

        Shapes: buckets int64 [n] -> windows int64 [n].
        """
        return floor_div(buckets, self.step, self.shift)

    def first(self, buckets: Int64s) -> Int64s:
        """Give the first window that ends behind each bucket.

        Shapes: buckets int64 [n] -> windows int64 [n].
        """
        turns, rest = divmod(self.shift + self.span, self.step)
        back = turns - 1
        windows = floor_div(buckets, self.step, rest)
        if back > 0:
            np.maximum(windows, MIN_TIME + back, out=windows)
        return windows - back

    def start(self, window: int) -> int:
        """Give the first bucket of a window."""
        return window * self.step + self.shift

    def stop(self, window: int) -> int:
        """Give the bucket behind the last one of a window."""
        return self.start(window) + self.span


ALONE = Cover(1, 1, 0)
"""Each bucket is one window."""


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """All windows of one size and slide.

    Units: epoch microseconds; a window is [start, end).
    Source: Akidau et al., The Dataflow Model, VLDB 2015, §2.2; panes: Li et al., No Pane, No Gain,
    SIGMOD Record 2005.
    """

    size_us: int
    slide_us: int
    offset_us: int

    @property
    def phase_us(self) -> int:
        """The offset within one slide: where window 0 starts."""
        return self.offset_us % self.slide_us

    @property
    def pane_us(self) -> int:
        return math.gcd(self.size_us, self.slide_us)

    @property
    def panes(self) -> int:
        """Panes of one window."""
        return self.size_us // self.pane_us

    @property
    def copies(self) -> int:
        """Windows that one row can lie in, at most."""
        return -(-self.size_us // self.slide_us)

    @property
    def gaps(self) -> bool:
        """Whether some times lie in no window."""
        return self.size_us < self.slide_us

    @property
    def cover(self) -> Cover:
        """How windows are made of panes."""
        pane_us = self.pane_us
        shift = self.phase_us // pane_us
        return Cover(self.size_us // pane_us, self.slide_us // pane_us, shift)

    def panes_of(self, times_us: Int64s) -> Int64s:
        """Give the pane of each time.

        Shapes: times_us int64 [n] -> panes int64 [n].
        """
        return floor_div(times_us, self.pane_us, self.phase_us % self.pane_us)

    def pane_of(self, time_us: int) -> int:
        """Give the pane of one time."""
        pane_us = self.pane_us
        return (time_us - self.phase_us % pane_us) // pane_us

    def covered(self, times_us: Int64s) -> npt.NDArray[np.bool_]:
        """Tell which times lie in a window at all."""
        into = times_us % self.slide_us - self.phase_us
        inside: npt.NDArray[np.bool_] = into % self.slide_us < self.size_us
        return inside

    def due(self, watermark_us: int) -> int:
        """Give the last window whose end - 1 is at or before a watermark; ends saturate."""
        if watermark_us >= MAX_TIME - 1:
            return MAX_TIME
        return (watermark_us + 1 - self.size_us - self.phase_us) // self.slide_us

    def live_us(self, watermark_us: int) -> int:
        """Give the first time that lies in a window that is not due; any int."""
        return self.start_of(self.due(watermark_us) + 1)

    def start_of(self, window: int) -> int:
        """Give the start of one window, exactly: it may lie before int64 begins."""
        return window * self.slide_us + self.phase_us

    def starts(self, windows: Int64s) -> Int64s:
        """Give the starts of windows; before int64 begins they saturate.

        Shapes: windows int64 [n] -> starts int64 [n].
        """
        least = -(-(MIN_TIME - self.phase_us) // self.slide_us)
        starts = self._scaled(windows, 0)
        if least > MIN_TIME:
            starts[windows < least] = MIN_TIME
        return starts

    def ends(self, windows: Int64s) -> Int64s:
        """Give the ends of windows; behind the end of int64 they saturate.

        Shapes: windows int64 [n] -> ends int64 [n].
        """
        greatest = (MAX_TIME - self.size_us - self.phase_us) // self.slide_us
        ends = self._scaled(windows, self.size_us)
        if greatest < MAX_TIME:
            ends[windows > greatest] = MAX_TIME
        return ends

    def _scaled(self, windows: Int64s, plus_us: int) -> Int64s:
        # NumPy wraps silently here, so a sum that fits is right whatever its parts were.
        scaled: Int64s = windows * np.int64(self.slide_us)
        scaled += np.int64(self.phase_us + plus_us)
        return scaled


def expand(first: Int64s, last: Int64s) -> tuple[Int64s, Int64s]:
    """Pair each item with every window from its first to its last; none where last < first.

    Shapes: first, last int64 [n] -> item int64 [m], window int64 [m], by item, windows ascending.
    """
    counts = np.maximum(last - first + 1, 0)
    items = np.repeat(np.arange(len(first), dtype=np.int64), counts)
    total = len(items)
    begins = np.cumsum(counts) - counts
    windows = np.arange(total, dtype=np.int64) - begins[items] + first[items]
    return items, windows


def floor_div(values: Int64s, by: int, shift: int) -> Int64s:
    """Give floor((values - shift) / by) for 0 <= shift < by, without overflow."""
    if by == 1:
        return values.copy()
    quotients: Int64s = values // np.int64(by)
    if shift:
        # The remainder is right even where the product wraps around.
        quotients -= (values - quotients * np.int64(by)) < shift
    return quotients
