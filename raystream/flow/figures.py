"""The parts of what a subtask tells of itself: its inputs, its outputs, its process, its snapshots.

Everything here has a bound: it travels once a second from every subtask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BOUNDS: tuple[float, ...] = tuple(
    base * 10.0**power for power in range(-3, 7) for base in (1.0, 2.0, 5.0)
)
"""The upper bounds of a histogram's counts; one more count is of what lies above the last."""

LATENCY = "latency_ms"
"""The histograms of sinks: how old markers are that come, by source, behind this and a colon."""

INPUTS_SHOWN_MAX = 8
"""So many inputs of a subtask are told one by one: those that hold its watermark come first."""

METRICS_SHOWN_MAX = 64
"""So many counters, gauges and histograms of one operator in one subtask are told, each."""


@dataclass(frozen=True, slots=True)
class InputFigures:
    """One channel or, of a source, one split, and how far it has brought event time.

    ``name`` is the subtask at the other end, or the split; ``status`` is ``active``, ``idle`` or
    ``finished``. ``silent_us`` is how long a split has had nothing to read though it was asked,
    None where it gives rows. ``still_us`` is how long its watermark has not moved, as far as the
    coordinator has seen; the subtask itself says 0.
    """

    name: str
    status: str
    watermark_us: int | None = None
    silent_us: int | None = None
    still_us: int = 0


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """One edge out of a subtask: what has been sent on it, and how long it was out of credit.

    ``held_us`` counts the time for which this edge kept the subtask from working; ``slowest`` is
    the subtask downstream that did so for longest, None where none has.
    """

    edge: int
    to: str
    bytes: int
    held_us: int = 0
    slowest: int | None = None


@dataclass(frozen=True, slots=True)
class HistogramFigures:
    """A histogram: counts between bounds, and the sum.

    The last count is of all that is greater than the last bound.
    """

    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values it has seen."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Give the upper bound of the bucket that holds the q-quantile; 0 where nothing is."""
        return quantile(self.counts, q)


@dataclass(frozen=True, slots=True)
class SnapshotFigures:
    """A subtask's part in a checkpoint, and where its time went.

    ``alignment_us``: from the first barrier to the last; ``sync_us``: the snapshot, while no row
    moved; ``upload_us``: storing it, beside the work. ``acked_us`` counts from the checkpoint's
    beginning until the coordinator heard of it. ``rows`` are stored rows of state, not keys.
    """

    checkpoint_id: int
    alignment_us: int = 0
    sync_us: int = 0
    upload_us: int = 0
    acked_us: int = 0
    bytes: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """The process that a subtask runs in, as its shell knows it; ``node_id`` is Ray's."""

    pid: int
    rss_bytes: int = 0
    node_id: str = ""
    node_ip: str = ""


def quantile(counts: Sequence[int], q: float) -> float:
    """Give the upper bound of the bucket that holds the q-quantile; 0 where nothing is."""
    seen, wanted = 0, q * sum(counts)
    for index, count in enumerate(counts):
        seen += count
        if count and seen >= wanted:
            return BOUNDS[min(index, len(BOUNDS) - 1)]
    return 0.0
