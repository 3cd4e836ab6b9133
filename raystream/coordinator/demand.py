"""What rows ask of a plan: the rate that is due at each chain, and the subtasks that it takes.

After DS2 (Kalavri et al., Three steps is all you need, OSDI 2018, §3): rates are propagated from
the sources with the selectivities that are seen, and divided by what one subtask does in a second
of work. What DS2 takes for granted, that rows spread evenly and every operator scales, is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raystream.coordinator.loads import Load
from raystream.graph.physical import PhysicalPlan

_SKEW_LEAST = 0.05
"""A smaller share of rows of one key is no skew: hashes are never quite even."""

_WORTH = 0.9
"""Where no number of subtasks does what is due, the least that does so much of the most."""

_UNKNOWN_GROWTH = 2.0
"""A source that could give more, and does not say how much, is taken to have twice as much."""

_PACE_LEAST, _MORE_MOST = 0.01, 10.0
"""A source is taken to have at most so many times what it gives, whatever its event time says."""

_FULL = 0.95
"""The share of its time that a subtask may be busy while it catches up."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What comes to a source: ``rate`` rows a second, of which ``backlog`` wait.

    ``due`` is the rate that the job is to be sized for; ``known`` False: it is a guess.
    """

    rate: float
    due: float
    behind: bool
    known: bool = True
    backlog: int | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """So many subtasks, and the rows a second that they do when fully busy."""

    count: int
    capacity: float
    enough: bool


def arrivals(load: Load, utilisation: float, span_s: float, horizon_s: float) -> Arrivals:
    """Tell what comes to a source; it is to catch up within a horizon.

    A source that is held back gives less than comes: what its backlog grows by comes, too; or, if
    that is not known, its event time goes by more slowly than time does.
    """
    rate = load.rate
    if load.backlog is not None:
        comes = max(0.0, rate + load.growth)
        late = load.backlog - comes * span_s
        full = comes + max(0.0, late) / horizon_s
        due = max(comes, full * utilisation / _FULL)
        return Arrivals(comes, due, late > 0 and load.backlog > 1, backlog=load.backlog)
    if load.caught_up:
        return Arrivals(rate, rate, behind=False)
    if load.pace is not None and load.pace >= _PACE_LEAST:
        comes = rate * min(1 / load.pace, _MORE_MOST)
        return Arrivals(comes, comes, behind=True)
    return Arrivals(rate, rate * _UNKNOWN_GROWTH, behind=True, known=False)


def growths(
    plan: PhysicalPlan, loads: Mapping[str, Load], sources: Mapping[str, float]
) -> dict[str, float]:
    """Give, for each chain, how many times the rows that it takes now are due.

    ``sources`` says so of the chains without input; the others follow by the rows that each sends.
    """
    found: dict[str, float] = {}
    for chain in plan.chains:  # each stands behind those that it takes from
        edges = plan.inputs(chain.name)
        if not edges:
            found[chain.name] = sources.get(chain.name, 1.0)
            continue
        parts = [(found[e.upstream], loads[e.upstream].out.get(e.id, 0.0)) for e in edges]
        whole = sum(rows for _, rows in parts)
        if whole > 0:
            found[chain.name] = sum(growth * rows for growth, rows in parts) / whole
        else:
            found[chain.name] = max(growth for growth, _ in parts)
    return found


def upstream_sources(plan: PhysicalPlan, chain: str) -> set[str]:
    """Name the sources whose rows come to a chain."""
    edges = plan.inputs(chain)
    if not edges:
        return {chain}
    return {name for edge in edges for name in upstream_sources(plan, edge.upstream)}


def hot_share(load: Load) -> float:
    """Tell what share of all rows the busiest subtask has beyond its fair one.

    That is what would come to one subtask however many there are: the rows of a hot key.
    """
    count, rate = load.parallelism, load.rate
    if count < 2 or rate <= 0:
        return 0.0
    share = (max(load.rows) / rate - 1 / count) / (1 - 1 / count)
    return share if share >= _SKEW_LEAST else 0.0


def capacity(count: int, rate: float, hot: float) -> float:
    """Rows a second of so many subtasks, each of which does ``rate``; the hottest is full first."""
    return rate / (hot + (1 - hot) / count)


def fit(due: float, rate: float, utilisation: float, hot: float, bounds: tuple[int, int]) -> Fit:
    """Give the least number of subtasks that does what is due at a utilisation.

    Units: ``due`` rows a second, ``rate`` those of one subtask that is always busy.
    """
    least, most = bounds[0], max(bounds)
    spare = rate * utilisation - due * hot
    if due <= 0:
        return Fit(least, capacity(least, rate, hot), enough=True)
    wanted = math.ceil((1 - hot) * due / spare - 1e-9) if spare > 0 else most + 1
    if wanted <= most:
        count = max(least, wanted)
        return Fit(count, capacity(count, rate, hot), enough=True)
    count = most
    if hot:
        # However many there are, the subtask with the hot key is full: these do nearly as much.
        worth = capacity(most, rate, hot) * _WORTH
        count = math.ceil((1 - hot) / (rate / worth - hot) - 1e-9)
        count = min(max(least, count), most)
    return Fit(count, capacity(count, rate, hot), enough=False)
