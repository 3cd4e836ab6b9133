"""Operators that gather rows in sessions."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pyarrow as pa
from cases_keyed import MODELS, bind, values
from cases_windows import DENSE, FEW, LATE, SHORT, STORY, by, schema_of
from conformance import Advance, Case, Row, Story, is_batch, plain
from models import key_id, moment
from stories import ODD_WIRE, ONLY_TIME

from raystream.contracts.window_unaligned import Session
from raystream.operators.session_aggregate import SessionAggregateSpec

Open = tuple[int, int, Any, list[tuple[int, Row]]]
"""First and last time, key, and rows with their numbers of arrival."""


class Model:
    """Sessions that are merged one row at a time, by the time of rows or of the clock."""

    def __init__(self, gap: int, key: Any, *, by_event: bool) -> None:
        self.gap, self.key, self.by_event = gap, key, by_event
        self.open: dict[Hashable, list[Open]] = {}
        self.fired: list[Open] = []
        self.late: list[Row] = []
        self.time: float = -math.inf
        self.now = self.arrived = 0

    def tell(self, told: Story, ended: bool) -> Model:
        for item in told:
            if is_batch(item):
                for row in item:
                    self.take(row)
            elif isinstance(item, Advance):
                self.now += item.us
                if not self.by_event:
                    self.fire(self.now)
            elif self.by_event:
                self.fire(item)
        if ended and self.by_event:
            self.fire(math.inf)
        return self

    def take(self, row: Row) -> None:
        time = row[0] if self.by_event else self.now
        first = last = time
        self.arrived += 1
        rows = [(self.arrived, row)]
        apart = []
        sessions = self.open.get(key_id(self.key(row[1])), [])
        for one in sessions:
            if one[0] <= time + self.gap and time <= one[1] + self.gap:
                first, last = min(first, one[0]), max(last, one[1])
                rows += one[3]
            else:
                apart.append(one)
        if last + self.gap - 1 <= self.time:
            self.late.append(row)
            return
        # A key is shown as its first row had it.
        key = min(sessions, key=lambda one: one[3])[2] if sessions else self.key(row[1])
        self.open[key_id(key)] = [*apart, (first, last, key, sorted(rows, key=lambda r: r[0]))]

    def fire(self, time: float) -> None:
        self.time = max(self.time, time)
        for key, sessions in self.open.items():
            over = [one for one in sessions if one[1] + self.gap - 1 <= self.time]
            self.open[key] = [one for one in sessions if one not in over]
            self.fired += over


def in_sessions(
    gap: int,
    keys: tuple[str, ...],
    told: Story = STORY,
    models: Any = FEW,
    *,
    time: Any = "event",
    tag: str | None = None,
) -> Case:
    made = bind(models)
    output = schema_of(keys, [pa.field(b.name, b.output) for b in made])

    def tell(some: Story, ended: bool) -> Model:
        return Model(gap, by(keys), by_event=time == "event").tell(some, ended)

    def expect(some: Story, ended: bool) -> list[Row]:
        rows = []
        for first, last, key, numbered in tell(some, ended).fired:
            row = {**dict(zip(keys, key, strict=True)), "window_start": moment(first)}
            row |= {"window_end": moment(last + gap)}
            row |= values(models, [one for _, one in numbered])
            rows.append((last + gap - 1, plain(row)))
        return rows

    def sides(some: Story) -> dict[str, list[Row]]:
        late = tell(some, True).late
        return {tag: [(time, plain(row)) for time, row in late]} if tag else {}

    return Case(
        f"{gap} by {', '.join(keys) or 'nothing'}, {time} time{', late rows aside' * bool(tag)}",
        lambda: SessionAggregateSpec(keys, Session(gap, time=time), made, output, tag),
        told,
        expect,
        input=ODD_WIRE,
        output=output,
        keys=keys or None,
        ordered=False,
        late=len(tell(told, True).late),
        promises=time == "event",
        sides=sides,
    )


CLOCK: Story = [
    item
    for number, batch in enumerate(SHORT)
    for item in ([batch, Advance(number % 5 * 2 + 2)] if is_batch(batch) else [batch, Advance(10)])
]
"""Rows come while the clock goes on, now by less and now by more than a gap.

Never in the last instant of a window, which is an odd one: whether that has just fired, other keys
decide.
"""

SESSION_AGGREGATE = [
    in_sessions(3, ("k",), SHORT),
    in_sessions(9, ("k",), STORY, MODELS),
    in_sessions(1, ("f", "b"), STORY, tag="late"),
    in_sessions(6, (), LATE, tag="late"),
    in_sessions(4, ("d",), DENSE, tag="late"),
    in_sessions(10, ("t",), DENSE),
    in_sessions(5, ("k",), ONLY_TIME),
    in_sessions(8, ("k",), CLOCK, time="processing"),
    in_sessions(2, (), CLOCK, time="processing"),
]

CASES = {"session_aggregate": SESSION_AGGREGATE}
