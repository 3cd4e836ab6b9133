"""Counters, gauges and histograms that functions and operators keep; plain numbers, no I/O."""

from __future__ import annotations

import bisect

_BOUNDS: tuple[float, ...] = tuple(
    base * 10.0**power for power in range(-3, 7) for base in (1.0, 2.0, 5.0)
)


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
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(_BOUNDS, value)] += 1
        self.total += value

    def quantile(self, q: float) -> float:
        """Give the upper bound of the bucket that holds the q-quantile; 0 where nothing is."""
        seen, wanted = 0, q * sum(self.counts)
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return _BOUNDS[min(index, len(_BOUNDS) - 1)]
        return 0.0


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
