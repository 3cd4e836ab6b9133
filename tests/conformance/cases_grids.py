"""Windows of grids that are not plain: cumulative ones, local days, those of the clock."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from cases_keyed import MODELS, OWN, bind, own, values
from cases_sessions import CLOCK
from cases_windows import DENSE, FEW, LATE, MERGEABLE, SHORT, STORY, Both, by, schema_of
from conformance import Case, Row, Story, is_batch, plain
from models import moment
from stories import ODD, ODD_WIRE, ONLY_TIME
from window_models import Assign, Windows, cumulative, local_days, sliding

from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_partial import WindowPartialSpec, partial_schema

HOUR = 3_600_000_000


def days_story(told: Story, around: int) -> Story:
    """Let half an hour pass where a story has one tick, around a moment."""
    half = HOUR // 2
    return [
        [(around + time * half, row) for time, row in item]
        if is_batch(item)
        else around + item * half
        for item in told
    ]


SPRING = 1_711_846_800_000_000
"""2024-03-31 01:00 UTC: clocks go from two to three in Berlin."""

DAYS = days_story(SHORT, SPRING)

GRIDS: dict[str, tuple[Any, Assign]] = {
    "cumulative": (Cumulative(12, 3), cumulative(12, 3)),
    "cumulative with an offset": (Cumulative(20, 5, offset=-7), cumulative(20, 5, -7)),
    "cumulative of one step": (Cumulative(10, 10, offset=3), cumulative(10, 10, 3)),
    "cumulative, many steps": (Cumulative(40, 2, offset=1), cumulative(40, 2, 1)),
    "local days": (Tumbling("1d", tz="Europe/Berlin"), local_days("Europe/Berlin", 1)),
    "two local days": (Tumbling("2d", tz="America/New_York"), local_days("America/New_York", 2)),
}
LATER: dict[str, tuple[Any, Assign]] = {
    **GRIDS,
    "tumbling": (Tumbling(10, offset=3), sliding(10, 10, 3)),
    "sliding": (Sliding(12, 4), sliding(12, 4)),
    "sliding with gaps": (Sliding(4, 7), sliding(4, 7)),
    "sliding, more panes than are shared": (Sliding(50, 3), sliding(50, 3)),
}
CLOCKED: dict[str, tuple[Any, Assign]] = {
    "tumbling": (Tumbling(10, offset=4, time="processing"), sliding(10, 10, 4)),
    "sliding": (Sliding(12, 4, time="processing"), sliding(12, 4)),
    "sliding with gaps": (Sliding(4, 14, time="processing"), sliding(4, 14)),
    "cumulative": (Cumulative(24, 6, time="processing"), cumulative(24, 6)),
}


def gathering(
    name: str,
    keys: tuple[str, ...],
    told: Story = STORY,
    models: Any = FEW,
    *,
    with_own: bool = False,
    grids: Any = GRIDS,
    lateness: int = 0,
    tag: str | None = None,
) -> Case:
    window, assign = grids[name]
    made = (*bind(models), *([OWN] if with_own else []))
    output = schema_of(keys, [pa.field(b.name, b.output) for b in made])
    by_event = window.time == "event"

    def tell(some: Story, ended: bool) -> Windows:
        return Windows(assign, by(keys), lateness, by_event).tell(some, ended)

    def expect(some: Story, ended: bool) -> list[Row]:
        rows = []
        for start, end, key, inside in tell(some, ended).fired:
            row = {**dict(zip(keys, key, strict=True))}
            row |= {"window_start": moment(start), "window_end": moment(end)}
            row |= values(models, inside)
            if with_own:
                row["own"] = own(inside)
            rows.append((end - 1, plain(row)))
        return rows

    def sides(some: Story) -> dict[str, list[Row]]:
        late = tell(some, True).late
        return {tag: [(time, plain(row)) for time, row in late]} if tag else {}

    late = f", late by {lateness}" if lateness else ""
    return Case(
        f"{name} by {', '.join(keys) or 'nothing'}, {window.time} time{late}",
        lambda: WindowAggregateSpec(keys, window, made, output, lateness_us=lateness, late_tag=tag),
        told,
        expect,
        input=ODD_WIRE,
        output=output,
        keys=keys or None,
        ordered=False,
        late=len(tell(told, True).late),
        promises=by_event and not lateness,
        sides=sides,
    )


def in_two_phases(name: str, keys: tuple[str, ...], told: Story) -> Case:
    whole = gathering(name, keys, told, MERGEABLE)
    window, made, output = GRIDS[name][0], bind(MERGEABLE), whole.output
    assert output is not None
    between = partial_schema([ODD.field(key) for key in keys], window, made)
    return Case(
        f"{whole.name}, in two phases",
        lambda: Both(
            WindowPartialSpec(keys, window, made, between),
            WindowAggregateSpec(keys, window, made, output, partial_input=True),
            between,
        ),
        told,
        whole.expect,
        input=ODD_WIRE,
        output=output,
        keys=whole.keys,
        ordered=False,
        late=whole.late,
        promises=True,
    )


WINDOW_AGGREGATE = [
    gathering("cumulative", ("k",), STORY, MODELS),
    gathering("cumulative", (), SHORT, with_own=True),
    gathering("cumulative with an offset", (), LATE),
    gathering("cumulative of one step", ("f", "b"), SHORT),
    gathering("cumulative, many steps", ("k",), DENSE, MODELS),
    gathering("cumulative, many steps", ("b",), SHORT, with_own=True),
    gathering("cumulative", ("k",), ONLY_TIME),
    gathering("local days", ("k",), DAYS),
    gathering("two local days", (), DAYS, MODELS, with_own=True),
    *(gathering(name, ("k",), CLOCK, grids=CLOCKED) for name in CLOCKED),
    gathering("sliding", (), CLOCK, MODELS, with_own=True, grids=CLOCKED),
]


def within(lateness: int, name: str, keys: tuple[str, ...], told: Story, models: Any = FEW) -> Case:
    return gathering(name, keys, told, models, grids=LATER, lateness=lateness, tag="late")


WINDOW_AGGREGATE += [
    within(0, "tumbling", ("k",), STORY),
    within(0, "sliding with gaps", (), STORY),
    within(7, "tumbling", ("k",), STORY, MODELS),
    within(15, "tumbling", (), LATE),
    within(9, "sliding", ("f", "b"), SHORT),
    within(20, "sliding with gaps", ("k",), STORY),
    within(5, "sliding, more panes than are shared", ("k",), SHORT),
    within(6, "cumulative", ("k",), DENSE, MODELS),
    within(4 * HOUR, "local days", ("k",), DAYS),
    within(10**18, "tumbling", ("t",), LATE),
]
WINDOW_PARTIAL = [
    in_two_phases("cumulative", ("k",), SHORT),
    in_two_phases("cumulative, many steps", (), DENSE),
    in_two_phases("local days", ("k",), DAYS),
]

CASES = {"window_aggregate": WINDOW_AGGREGATE, "window_partial": WINDOW_PARTIAL}
