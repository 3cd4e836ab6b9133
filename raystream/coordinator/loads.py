"""What each chain does now, in rates and shares of time: figures of a short while, differenced."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from raystream.flow.control import SubtaskFigures
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Chain, PhysicalPlan

_KEPT_MAX = 16
"""So many figures of a subtask span what is looked at, whatever the heartbeat."""

_HELD_MOST = 0.5
"""A source that waits for credit for half its time does not keep up, whatever else it says."""

_LIVE_US = 24 * 3_600_000_000
"""Event time further back than this is history: how fast it goes by says nothing of now."""


@dataclass(frozen=True, slots=True)
class Load:
    """One chain in a short while; tuples have a value for each subtask.

    Units: ``rows`` that came in a second; ``busy`` and ``held`` (without credit) between 0 and 1;
    ``out`` rows a second by edge; ``backlog`` in rows, None where it is not known, ``growth`` of it
    in a second; ``queued`` seconds of work that wait. Of sources: ``splits`` that have not ended,
    ``caught_up`` where every subtask that reads had nothing to read at times, ``pace`` seconds of
    event time a second, where that is live.
    """

    chain: str
    rows: tuple[float, ...]
    busy: tuple[float, ...]
    held: tuple[float, ...]
    out: Mapping[int, float] = field(default_factory=dict)
    splits: int | None = None
    caught_up: bool = True
    backlog: int | None = None
    growth: float = 0.0
    pace: float | None = None
    queued: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """Rows a second, of all subtasks."""
        return sum(self.rows)

    @property
    def parallelism(self) -> int:
        return len(self.rows)


class Meter:
    """The figures of all subtasks over a short while."""

    def __init__(self, span_us: int) -> None:
        self._span_us = max(1, span_us)
        self._kept: dict[SubtaskId, deque[SubtaskFigures]] = {}

    def clear(self) -> None:
        """Begin anew: other processes run, and count from zero."""
        self._kept.clear()

    def take(self, figures: SubtaskFigures) -> None:
        """Take newer figures of a subtask."""
        kept = self._kept.setdefault(figures.subtask, deque(maxlen=_KEPT_MAX))
        if kept and lived_us(figures) < lived_us(kept[-1]):
            kept.clear()
        # All that is kept but the newest lies a share of the span apart, so that it spans enough.
        if len(kept) > 1 and lived_us(kept[-1]) - lived_us(kept[-2]) < self._span_us // 8:
            kept.pop()
        kept.append(figures)

    def loads(self, plan: PhysicalPlan, now_us: int) -> dict[str, Load] | None:
        """Give the load of each chain; None while some subtask has not told enough.

        Units: ``now_us`` is the time of day.
        """
        found: dict[str, Load] = {}
        for chain in plan.chains:
            pairs = [self._pair(subtask) for subtask in chain.subtasks]
            known = [pair for pair in pairs if pair is not None]
            if len(known) < len(pairs):
                return None
            found[chain.name] = _load(chain, known, now_us, is_source=not plan.inputs(chain.name))
        return found

    def _pair(self, subtask: SubtaskId) -> tuple[SubtaskFigures, SubtaskFigures] | None:
        kept = self._kept.get(subtask)
        if not kept:
            return None
        newest = kept[-1]
        for before in reversed(kept):
            if lived_us(newest) - lived_us(before) >= self._span_us:
                return before, newest
        return None


def lived_us(figures: SubtaskFigures) -> int:
    """Tell how old a subtask is."""
    return figures.busy_us + figures.idle_us + figures.backpressured_us


def _load(
    chain: Chain,
    pairs: list[tuple[SubtaskFigures, SubtaskFigures]],
    now_us: int,
    *,
    is_source: bool,
) -> Load:
    seconds = [(lived_us(new) - lived_us(old)) / 1e6 for old, new in pairs]
    timed = list(zip(pairs, seconds, strict=True))
    load = Load(
        chain.name,
        tuple((new.operators[0].rows_in - old.operators[0].rows_in) / s for (old, new), s in timed),
        tuple((new.busy_us - old.busy_us) / 1e6 / s for (old, new), s in timed),
        tuple((new.backpressured_us - old.backpressured_us) / 1e6 / s for (old, new), s in timed),
        {
            edge: sum(
                (new.operators[place].rows_out - old.operators[place].rows_out) / s
                for (old, new), s in timed
            )
            for place, node in enumerate(chain.nodes)
            for edge in node.outputs
        },
        queued=tuple(_queued_s(old, new, s) for (old, new), s in timed),
    )
    return _of_source(load, timed, now_us) if is_source else load


def _queued_s(old: SubtaskFigures, new: SubtaskFigures, seconds: float) -> float:
    """Tell for how long what is queued will keep a subtask busy, at the pace that it has."""
    done = new.bytes_in - new.queued_bytes - old.bytes_in + old.queued_bytes
    return new.queued_bytes * seconds / done if done > 0 else 0.0


def _of_source(
    load: Load, timed: list[tuple[tuple[SubtaskFigures, SubtaskFigures], float]], now_us: int
) -> Load:
    reading = [(old, new, s) for (old, new), s in timed if new.splits]
    backlogs = [new.backlog_rows for _, new, _ in reading]
    growths = [
        (new.backlog_rows - old.backlog_rows) / s
        for old, new, s in reading
        if new.backlog_rows is not None and old.backlog_rows is not None
    ]
    return Load(
        load.chain,
        load.rows,
        load.busy,
        load.held,
        load.out,
        splits=sum(new.splits for _, new, _ in reading),
        caught_up=all(new.dry_polls > old.dry_polls for old, new, _ in reading)
        and max(load.held) < _HELD_MOST,
        backlog=None if None in backlogs else sum(b for b in backlogs if b is not None),
        growth=sum(growths) if len(growths) == len(reading) else 0.0,
        pace=_pace(reading, now_us),
        queued=load.queued,
    )


def _pace(reading: list[tuple[SubtaskFigures, SubtaskFigures, float]], now_us: int) -> float | None:
    """Tell how fast event time goes by; whoever reads what happened just now keeps pace at 1."""
    if not reading:
        return None
    paces = []
    for old, new, seconds in reading:
        if old.watermark_us is None or new.watermark_us is None:
            return None
        if not 0 <= now_us - new.watermark_us < _LIVE_US:
            return None
        paces.append((new.watermark_us - old.watermark_us) / 1e6 / seconds)
    return min(paces)
