"""Counters, gauges and histograms that functions and operators keep; plain numbers, no I/O."""

from __future__ import annotations

import bisect

from raystream.flow.figures import BOUNDS, quantile


class Counter:
    """A number that only grows."""

    def __init__(self) -> None:
        self.value = 0

    def inc(self, count: int = 1) -> None:
        self.value += count


class Gauge:
    """A number as it is now."""

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value


class Histogram:
    """A distribution, kept as counts between bounds that grow 1, 2, 5, 10."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS, value)] += 1
        self.total += value

    def quantile(self, q: float) -> float:
        """Give the upper bound of the bucket that holds the q-quantile; 0 where nothing is."""
        return quantile(self.counts, q)


class Metrics:
    """The metrics of one operator in one subtask, made on first use."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter] = {}
        self.gauges: dict[str, Gauge] = {}
        self.histograms: dict[str, Histogram] = {}

    def counter(self, name: str) -> Counter:
        return self.counters.setdefault(name, Counter())

    def gauge(self, name: str) -> Gauge:
        return self.gauges.setdefault(name, Gauge())

    def histogram(self, name: str) -> Histogram:
        return self.histograms.setdefault(name, Histogram())
