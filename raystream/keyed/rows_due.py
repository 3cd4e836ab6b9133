"""Rows in order of the time at which they go, whatever their key: what a watermark takes.

They lie in sorted runs that double, as chunks of a ``RowStore`` do: a row is sorted a logarithmic
number of times, and taking looks at few runs.
"""

from __future__ import annotations

import numpy as np

from raystream.flow.batch import Int64s


class RowsDue:
    """Numbers of rows that wait for their time."""

    def __init__(self) -> None:
        self.count = 0
        self._runs: list[tuple[Int64s, Int64s]] = []

    def append(self, times: Int64s, numbers: Int64s) -> None:
        """Add rows.

        Shapes: each int64 [n].
        """
        if not len(times):
            return
        self.count += len(times)
        order = np.argsort(times, kind="stable")
        self._runs.append((times[order], numbers[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            last = self._runs.pop()
            times, numbers = map(np.concatenate, zip(self._runs.pop(), last, strict=True))
            # Two sorted runs, one behind the other: the stable sort merges them.
            order = np.argsort(times, kind="stable")
            self._runs.append((times[order], numbers[order]))

    def take(self, until_us: int, most: int) -> Int64s:
        """Take rows of that time or an earlier one, the earliest first, ``most`` at most.

        Shapes: int64 [m].
        """
        counts = [
            min(int(np.searchsorted(times, until_us, side="right")), most)
            for times, _ in self._runs
        ]
        if not any(counts):
            return np.zeros(0, np.int64)
        heads = list(zip(self._runs, counts, strict=True))
        times = np.concatenate([run[0][:count] for run, count in heads])
        numbers = np.concatenate([run[1][:count] for run, count in heads])
        order = np.argsort(times, kind="stable")[:most]
        whose = np.repeat(np.arange(len(counts)), counts)[order]
        taken = np.bincount(whose, minlength=len(counts)).tolist()
        runs = zip(self._runs, taken, strict=True)
        self._runs = [(t[some:], n[some:]) for (t, n), some in runs if some < len(t)]
        self.count -= len(order)
        return numbers[order]

    def numbers(self) -> Int64s:
        """Give all rows that wait, in order of their numbers."""
        return np.sort(np.concatenate([np.zeros(0, np.int64), *(n for _, n in self._runs)]))
