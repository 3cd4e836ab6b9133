"""Windows of any kind in plain Python, row by row: firings within lateness and late rows too."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from conformance import Advance, Row, Story, is_batch, plain

from raystream.flow.time import EPOCH, MICROSECOND

Span: TypeAlias = tuple[int, int]
Assign: TypeAlias = Callable[[int], list[Span]]


def sliding(size: int, slide: int, offset: int = 0) -> Assign:
    """Try every start there may be."""

    def assign(time: int) -> list[Span]:
        first = (time - offset - size) // slide * slide + offset
        starts = range(first, time + 1, slide)
        return [(start, start + size) for start in starts if start <= time < start + size]

    return assign


def cumulative(size: int, step: int, offset: int = 0) -> Assign:
    def assign(time: int) -> list[Span]:
        start = (time - offset) // size * size + offset
        ends = range(start + step, start + size + 1, step)
        return [(start, end) for end in ends if time < end]

    return assign


def local_days(tz: str, days: int, offset: timedelta = timedelta()) -> Assign:
    """Walk from one local midnight to the next, none of which is skipped or comes twice."""

    def begin(day: int) -> int:
        naive = datetime(1970, 1, 1) + timedelta(days=day) + offset  # noqa: DTZ001  it is local
        local = naive.replace(tzinfo=ZoneInfo(tz))
        return (local.astimezone(timezone.utc) - EPOCH) // MICROSECOND

    def assign(time: int) -> list[Span]:
        about = (EPOCH + timedelta(microseconds=time)).date() - date(1970, 1, 1)
        day = about.days // days * days + 2 * days
        while begin(day) > time:
            day -= days
        return [(begin(day), begin(day + days))]

    return assign


@dataclass
class Windows:
    """What has fired, in order: (start, end, key, rows in order of arrival); and late rows."""

    assign: Assign
    key: Callable[[Any], Any]
    lateness: int = 0
    by_event: bool = True
    fired: list[tuple[int, int, Any, list[Row]]] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    open: dict[tuple[Span, Hashable], tuple[Any, list[Row]]] = field(default_factory=dict)
    time: float = -math.inf
    now: int = 0

    def tell(self, told: Story, ended: bool) -> Windows:
        for item in told:
            if is_batch(item):
                for row in item:
                    self.take(row)
            elif isinstance(item, Advance):
                self.now += item.us
                if not self.by_event:
                    self.advance(self.now)
            elif self.by_event:
                self.advance(item)
        if ended and self.by_event:
            self.advance(math.inf)
        return self

    def take(self, row: Row) -> None:
        spans = self.assign(row[0] if self.by_event else self.now)
        live = [(s, e) for s, e in spans if e - 1 + self.lateness > self.time]
        if spans and not live:
            self.late.append(row)
        for span in live:
            place = (span, plain(self.key(row[1])))
            first, rows = self.open.setdefault(place, (self.key(row[1]), []))
            rows.append(row)
            if span[1] - 1 <= self.time:
                self.fired.append((*span, first, list(rows)))

    def advance(self, time: float) -> None:
        if time <= self.time:
            return
        for place in sorted(self.open, key=lambda place: place[0][1]):
            (start, end), _ = place
            first, rows = self.open[place]
            if self.time < end - 1 <= time:
                self.fired.append((start, end, first, list(rows)))
            if end - 1 + self.lateness <= time:
                del self.open[place]
        self.time = time
