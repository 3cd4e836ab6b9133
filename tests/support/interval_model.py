"""An interval join one row at a time, over all rows there have ever been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance import Right, Row, Story, is_batch

from raystream.flow.element import MAX_TIME, MIN_TIME


@dataclass
class Waiting:
    """A row that was on time, and whether it has had a partner or has gone out alone."""

    time: int
    row: Any
    matched: bool = False
    gone: bool = False


@dataclass
class IntervalModel:
    """What must come out of a story: ``pair(left or None, right or None)`` makes a row.

    ``key(row)`` is None where it has a null in it.
    """

    how: str
    lower: int
    upper: int
    key: Callable[[Any], Any]
    pair: Callable[[Any, Any], Any]

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self.late = 0
        self.watermark = MIN_TIME
        self.sides: tuple[list[Waiting], list[Waiting]] = ([], [])

    def play(self, told: Story, *, ended: bool) -> IntervalModel:
        for item in [*told, MAX_TIME] if ended else told:
            if not is_batch(item):
                self.watermark = max(self.watermark, item)
                for port in (0, 1):
                    for one in self.sides[port]:
                        self._alone(one, port)
                continue
            for time, row in item:
                self._take(int(isinstance(item, Right)), Waiting(time, row))
        return self

    def _take(self, port: int, new: Waiting) -> None:
        if new.time <= self.watermark:
            self.late += 1
            return
        pairs = []
        for other in self.sides[1 - port]:
            left, right = (other, new) if port else (new, other)
            key = self.key(left.row)
            if key is None or key != self.key(right.row):
                continue
            if self.lower <= right.time - left.time <= self.upper:
                pairs.append((max(left.time, right.time), left, right))
        if self.how == "semi":
            # Only one left row where it is new: the earliest pair is its first match.
            for time, left, _ in sorted(pairs, key=lambda pair: pair[0]):
                if not left.matched:
                    left.matched = True
                    self.rows.append((time, self.pair(left.row, None)))
        for time, left, right in pairs:
            left.matched = right.matched = True
            if self.how not in ("semi", "anti"):
                self.rows.append((time, self.pair(left.row, right.row)))
        self.sides[port].append(new)
        self._alone(new, port)

    def _alone(self, one: Waiting, port: int) -> None:
        """Let a row out that nothing can match any more."""
        over = one.time - self.lower if port else one.time + self.upper
        waits = self.watermark < over and self.key(one.row) is not None
        if (waits and self.watermark < MAX_TIME) or one.matched or one.gone:
            return
        one.gone = True
        if port and self.how in ("right", "full"):
            self.rows.append((one.time, self.pair(None, one.row)))
        if not port and self.how in ("left", "full", "anti"):
            self.rows.append((one.time, self.pair(one.row, None)))
