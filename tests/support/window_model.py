"""What windows are, in plain Python: every row and every window looked at alone, nothing shared.

A window holds the rows of one key; it fires by itself when time passes its last instant, and again
at once for each row that comes later, until it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from conformance import Advance, Row, Story, is_batch, plain

Bounds = tuple[int, int]


@dataclass
class Open:
    """A window of one key that is not gone."""

    key: Any
    bounds: Bounds
    rows: list[tuple[int, Any, Any]] = field(default_factory=list)
    waits: bool = True

    @property
    def last(self) -> int:
        return self.bounds[1] - 1


@dataclass
class Gathered:
    """What comes of a story: (bounds, key, rows in order of arrival), and rows that are late."""

    fired: list[tuple[Bounds, Any, list[Row]]] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)


@dataclass
class Model:
    """Windows of bounds by time, or sessions of a gap by row; one of both."""

    windows: Callable[[int], list[Bounds]] | None = None
    gap: Callable[[Any], int] | None = None
    lateness: int = 0
    purging: bool = False
    processing: bool = False
    key: Callable[[Any], Any] = lambda row: None

    def gather(self, told: Story, *, ended: bool) -> Gathered:
        out, live = Gathered(), []
        watermark, now, arrived = -(2**63), 0, 0
        for item in told:
            if isinstance(item, Advance):
                now += item.us
                live = self._pass(out, live, now if self.processing else watermark)
            elif not is_batch(item):
                watermark = max(watermark, item)
                live = self._pass(out, live, now - 1 if self.processing else watermark)
            else:
                for time, row in item:
                    arrived += 1
                    level = None if self.processing else watermark
                    when = now if self.processing else time
                    live = self._row(out, live, (arrived, time, row), when, level)
        if ended and not self.processing:
            self._pass(out, live, 2**63 - 1)
        return out

    def _pass(self, out: Gathered, live: list[Open], level: int) -> list[Open]:
        """Let everything happen that a time causes: firings first, by the ends of windows."""
        for one in sorted(live, key=lambda one: one.bounds[1]):
            if one.waits and one.last <= level:
                one.waits = False
                self._fire(out, one)
        lateness = 0 if self.processing else self.lateness
        return [one for one in live if one.last + lateness > level]

    def _fire(self, out: Gathered, one: Open) -> None:
        rows = [(time, row) for _, time, row in sorted(one.rows, key=lambda row: row[0])]
        if rows:
            out.fired.append((one.bounds, one.key, rows))
        if self.purging:
            one.rows = []

    def _row(
        self, out: Gathered, live: list[Open], row: Any, when: int, level: int | None
    ) -> list[Open]:
        key = self.key(row[2])
        mine = [one for one in live if _id(one.key) == _id(key)]
        others = [one for one in live if one not in mine]
        if self.gap is not None:
            joined, one = self._joined(mine, key, (when, when + self.gap(row[2])))
            held = [one] if level is None or one.last + self.lateness > level else []
            mine = joined if held else mine
        else:
            assert self.windows is not None
            held = []
            for bounds in self.windows(when):
                if level is not None and bounds[1] - 1 + self.lateness <= level:
                    continue
                found = next((one for one in mine if one.bounds == bounds), None)
                if found is None:
                    found = Open(key, bounds)
                    mine.append(found)
                held.append(found)
            if not self.windows(when):
                return live
        if not held:
            out.late.append((row[1], row[2]))
        for one in held:
            one.rows.append(row)
            if level is not None and one.last <= level:
                one.waits = False
                self._fire(out, one)
        return others + mine

    def _joined(self, mine: list[Open], key: Any, bounds: Bounds) -> tuple[list[Open], Open]:
        """Merge what overlaps or touches the new window, until nothing does."""
        one = Open(key, bounds)
        apart = list(mine)
        while True:
            near = [
                o for o in apart if o.bounds[0] <= one.bounds[1] and one.bounds[0] <= o.bounds[1]
            ]
            if not near:
                return [*apart, one], one
            for other in near:
                starts, ends = zip(one.bounds, other.bounds, strict=True)
                one.bounds = (min(starts), max(ends))
                one.rows += other.rows
                apart.remove(other)


def _id(key: Any) -> Hashable:
    return plain(key)
