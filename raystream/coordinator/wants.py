"""What one chain wants: how many subtasks, why, and why not more; and the sentences that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raystream.coordinator.demand import Arrivals, Fit, capacity
from raystream.coordinator.loads import Load
from raystream.coordinator.rates import Known
from raystream.graph.freedom import Freedom

_RISING, _AHEAD = 1.15, 4 / 3
"""Who grows again because so much more has come since takes so much more than is due now."""


@dataclass(slots=True)
class Want:
    """What one chain wants in this look."""

    load: Load
    freedom: Freedom
    growth: float
    rate: float | None
    hot: float
    most: int
    target: int
    limit: str = ""
    short: bool = False
    grows: bool = False

    @property
    def due(self) -> float:
        """Rows a second that it is to be sized for."""
        return self.load.rate * self.growth


def brings(want: Want) -> float:
    """Tell what share of what is due, beyond what comes now, a chain can do at its best."""
    if want.rate is None or want.growth <= 1 or not want.limit:
        return 1.0
    best = capacity(max(want.target, want.load.parallelism), want.rate, want.hot)
    return min(1.0, max(best, want.load.rate) / want.due)


def bounds(load: Load, freedom: Freedom, barred: tuple[int, str] | None) -> tuple[int, str]:
    """Give how many subtasks a chain may have, or be of use, and why not more."""
    most, why = freedom.most, freedom.why
    if freedom.only_reads and load.splits is not None and 0 < load.splits < most:
        most = load.splits
        why = f"it reads {most} split{'' if most == 1 else 's'}, each in one subtask"
    if barred is not None and barred[0] < most:
        most, why = max(barred[0], min(load.parallelism, most)), barred[1]
    return most, why


def ahead(want: Want, known: Known, wanted: Fit) -> int:
    """Take some more where the load goes on rising, so that few steps follow it."""
    if known.grown_due is not None and want.due > known.grown_due * _RISING:
        return max(wanted.count, min(want.most, math.floor(wanted.count * _AHEAD)))
    return wanted.count


def full(load: Load) -> float:
    """Tell how much of its time the fullest subtask works, or waits for credit."""
    return max((b + h for b, h in zip(load.busy, load.held, strict=True)), default=0.0)


# Sentences -----------------------------------------------------------------------------------


def grown(want: Want, target: int, aim: float) -> str:
    """Say why a chain gets more subtasks."""
    size, rate = want.load.parallelism, want.rate
    move = f"{want.load.chain}: {size} → {target}"
    if rate is None:
        return f"{move}, the least that it is to have"
    said = f"{move}, for {want.due:,.0f} rows/s where one subtask does {rate:,.0f} and is to be "
    hot = f", and one key has {want.hot:.0%} of the rows" if want.hot else ""
    limit = f"; more would not help or cannot be had: {want.limit}" if want.limit else ""
    return f"{said}busy {aim:.0%} of its time{hot}{limit}"


def shrunk(targets: Mapping[str, int], wants: Mapping[str, Want], stable_us: int) -> str:
    """Say why chains get fewer subtasks."""
    moves = [
        f"{name}: {wants[name].load.parallelism} → {target}, busy "
        f"{sum(wants[name].load.busy) / wants[name].load.parallelism:.0%} of its time"
        for name, target in targets.items()
    ]
    return f"{'; '.join(moves)}: no more was needed for {stable_us / 1e6:,.0f} s"


def at_rest(wants: Mapping[str, Want], sources: Mapping[str, Arrivals], *, growing: bool) -> str:
    """Say why nothing is done."""
    busiest = max(wants.values(), key=lambda want: full(want.load))
    limited = [want for want in wants.values() if want.limit and want.short]
    behind = any(one.behind for one in sources.values())
    if growing:
        return "more is due than the job can do at its size; it grows if that lasts"
    if behind and limited:
        worst = max(limited, key=lambda want: full(want.load))
        return f"{worst.load.chain} would need more, but {worst.limit}"
    backlogs = [one.backlog for one in sources.values() if one.behind]
    if behind and all(one.known for one in sources.values()):
        known = sum(rows for rows in backlogs if rows is not None)
        rows = f" of {known:,} rows" if known else ""
        return f"it catches up with its backlog{rows} at this size"
    if behind:
        return "there is a backlog, and no operator was seen to be full because of it"
    return f"the size fits: {busiest.load.chain} is busiest, {full(busiest.load):.0%} of its time"
