"""Jobs over rows that are odd: the same verbs on streams of columns and of objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

import raystream as rs

SECOND = 1_000_000
SCHEMA = pa.schema({"k": pa.string(), "v": pa.float64()})
KINDS = ["columns", "objects"]
AGGREGATES: dict[str, Any] = {
    "n": rs.count(),
    "values": rs.count("v"),
    "sum": rs.sum("v"),
    "least": rs.min("v"),
    "greatest": rs.max("v"),
    "all": rs.collect("v"),
}


class Counting(rs.KeyedProcessFunction):
    """Counts the rows of a key, and says so once more when time has passed."""

    def open(self, ctx):
        self.count = ctx.state(rs.ValueState("count", type=pa.int64(), default=0))

    def process(self, row, ctx):
        self.count.update(self.count.value() + 1)
        ctx.timers.register_event_time(ctx.timestamp + 1)
        yield ctx.key, self.count.value()

    def on_timer(self, timestamp, ctx):
        yield ctx.key, -self.count.value()


def counting(state, row):
    return state + 1, (row["k"], state + 1)


Verb = Callable[[rs.KeyedStream], rs.Stream]

WINDOWS: dict[str, Any] = {
    "tumbling": rs.Tumbling("10s"),
    "sliding": rs.Sliding("10s", "5s"),
    "session": rs.Session("10s"),
    "cumulative": rs.Cumulative("10s", "5s"),
    "of a count": rs.TumblingCount(2),
    "sliding by count": rs.SlidingCount(2, 1),
}

VERBS: dict[str, Verb] = {
    **{
        name: lambda s, window=window: s.window(window).aggregate(**AGGREGATES)
        for name, window in WINDOWS.items()
    },
    "apply": lambda s: s.window(rs.Tumbling("10s")).apply(
        lambda key, window, rows: [(key, window.start, window.end, len(rows))]
    ),
    "best of a window": lambda s: s.window(rs.Tumbling("10s")).top_k(1, "v"),
    "first of a window": lambda s: s.window(rs.Tumbling("10s")).deduplicate(),
    "process": lambda s: s.process(Counting),
    "map_with_state": lambda s: s.map_with_state(counting, 0),
    "reduce": lambda s: s.reduce(lambda earlier, row: row),
    "running": lambda s: s.aggregate(**AGGREGATES),
    "final": lambda s: s.aggregate(emit="final", **AGGREGATES),
    "first": lambda s: s.deduplicate(),
    "last": lambda s: s.deduplicate("last"),
    "best": lambda s: s.top_k(1, "v"),
    "ranked": lambda s: s.top_k(2, "v", rank="place"),
}
"""What both kinds of streams know."""

OVER: dict[str, Verb] = {
    "over a time": lambda s: s.aggregate(over="10s", **AGGREGATES),
    "over rows": lambda s: s.aggregate(over=2, **AGGREGATES),
}
"""What columns alone know."""


def stream(kind: str, rows: Any, times: Any = None, schema: pa.Schema = SCHEMA) -> rs.Stream:
    """Make a stream of rows, of columns or of objects."""
    given = schema if kind == "columns" else None
    return rs.Job("odd", runtime="local").from_items(rows, schema=given, timestamps=times)


def outcome(build: Callable[[], Any]) -> Any:
    """Give what comes of it: the result, or the text of an error of ours; others go through."""
    try:
        return build()
    except rs.RaystreamError as error:
        return str(error)


def plain(rows: Any) -> list[tuple[Any, ...]]:
    """Give rows as tuples without times of windows, NaN as a word, in an order of their own."""

    def value(one: Any) -> Any:
        if isinstance(one, list | tuple):
            return tuple(map(value, one))
        return "nan" if isinstance(one, float) and math.isnan(one) else one

    left = [
        tuple(v for name, v in row.items() if not name.startswith("window_"))
        if isinstance(row, dict)
        else row
        for row in rows
    ]
    return sorted(map(value, left), key=repr)
