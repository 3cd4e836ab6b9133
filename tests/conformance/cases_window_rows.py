"""Windows that are gathered row by row, against windows in which nothing is shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from cases_keyed import (
    MODELS,
    OBJECT_AGGREGATES,
    OBJECT_MODELS,
    OWN,
    bind,
    by_both,
    by_f,
    by_k,
    longest,
    own,
    values,
)
from cases_windows import DENSE, LATE, SHORT, STORY, best
from conformance import Advance, Case, Row, Story, plain
from models import Window as Grid
from models import key_id, moment
from stories import EMPTY, ODD, ODD_WIRE, ONLY_TIME, UTC, rows_of
from window_model import Bounds, Model

from raystream.contracts import evictors, triggers
from raystream.contracts.functions import Function
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.contracts.window_unaligned import Global, Session, SlidingCount, TumblingCount
from raystream.flow.batch import wire_schema
from raystream.operators.window_lists import Applying, Ranking
from raystream.operators.window_outcomes import Aggregating, Keeping, Reducing, of_columns
from raystream.operators.window_rows import WindowRowsSpec

Out = Callable[[Bounds, Any, list[Row]], list[Any]]
"""Gives what a window's rows become: bounds, key, rows."""

EVENT = wire_schema(ODD, timed=True)


def grid(size: int, slide: int, offset: int = 0) -> Callable[[int], list[Bounds]]:
    window = Grid(size, slide, offset)
    return lambda time: [(start, start + size) for start in window.starts(time)]


def growing(size: int, step: int) -> Callable[[int], list[Bounds]]:
    """Try every end there may be."""

    def windows(time: int) -> list[Bounds]:
        (start,) = Grid(size, size).starts(time)
        return [(start, start + end) for end in range(step, size + 1, step) if time < start + end]

    return windows


def gap_of(row: Any) -> int:
    return 3 + len(row["k"] or "")


WINDOWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tumbling": (Tumbling(10, offset=-7), {"windows": grid(10, 10, -7)}),
    "sliding": (Sliding(10, 4), {"windows": grid(10, 4)}),
    "sliding with gaps": (Sliding(4, 11, offset=5), {"windows": grid(4, 11, 5)}),
    "cumulative": (Cumulative(20, 5), {"windows": growing(20, 5)}),
    "session": (Session(4), {"gap": lambda row: 4}),
    "session by row": (Session(gap_of), {"gap": gap_of}),
}
PROCESSING: dict[str, tuple[Any, dict[str, Any]]] = {
    "tumbling": (Tumbling(10, time="processing"), {"windows": grid(10, 10)}),
    "sliding": (Sliding(12, 5, time="processing"), {"windows": grid(12, 5)}),
    "session": (Session(9, time="processing"), {"gap": lambda row: 9}),
}


def by(keys: tuple[str, ...]) -> Callable[[Any], Any]:
    if len(keys) == 1:
        return lambda row: row[keys[0]]
    return lambda row: tuple(row[name] for name in keys)


def case(
    name: str,
    outcome: Any,
    out: Out,
    *,
    window: Any,
    model: Model,
    told: Story,
    keys: tuple[str, ...] | None,
    key_names: tuple[str, ...] = ("key",),
    schema: pa.Schema | None = None,
    **choices: Any,
) -> Case:
    """Make the case of columns by ``keys``, or of objects (``keys`` None) by the model's key."""
    columnar = keys is not None
    lates = model.gather(told, ended=True).late
    spec = WindowRowsSpec(
        window=window,
        outcome=outcome,
        keys=tuple(ODD.field(key) for key in keys) if keys is not None else None,
        key_names=keys if keys is not None else key_names,
        output=None if schema is None else wire_schema(schema, timed=True),
        timed=True,
        operator="it",
        where="",
        lateness_us=model.lateness,
        late_tag="late",
        **choices,
    )

    def expect(some: Story, ended: bool) -> list[Row]:
        return [
            (bounds[1] - 1, plain(row))
            for bounds, key, rows in model.gather(some, ended=ended).fired
            for row in out(bounds, key, rows)
        ]

    def sides(some: Story) -> dict[str, list[Row]]:
        late = model.gather(some, ended=True).late
        return {"late": [(time, plain(row)) for time, row in late]}

    divided = keys or None if columnar else (() if key_names else None)
    return Case(
        name,
        lambda: spec,
        told,
        expect,
        input=ODD_WIRE if columnar else None,
        output=spec.output,
        key_of=None if columnar else model.key,
        keys=divided,
        ordered=False,
        late=len(lates),
        sides=sides,
        promises=not model.lateness and not model.processing,
    )


# Aggregates --------------------------------------------------------------------------------------


def stamps(bounds: Bounds) -> dict[str, Any]:
    return {"window_start": moment(bounds[0]), "window_end": moment(bounds[1])}


def aggregating(
    name: str,
    keys: tuple[str, ...],
    told: Story = SHORT,
    *,
    windows: dict[str, tuple[Any, dict[str, Any]]] = WINDOWS,
    lateness: int = 0,
    purging: bool = False,
    **choices: Any,
) -> Case:
    window, arguments = windows[name]
    bounds_of = (*bind(MODELS), OWN)
    fields = [ODD.field(key) for key in keys]
    fields += [pa.field("window_start", UTC), pa.field("window_end", UTC)]
    fields += [pa.field(one.name, one.output) for one in bounds_of]
    processing = windows is PROCESSING
    if purging:
        choices["trigger"] = triggers.Purging(triggers.EventTime())

    def out(bounds: Bounds, key: Any, rows: list[Row]) -> list[Any]:
        parts = (key,) if len(keys) == 1 else key
        named = dict(zip(keys, parts or (), strict=True))
        return [{**named, **stamps(bounds), **values(MODELS, rows), "own": own(rows)}]

    return case(
        f"{name} by {', '.join(keys) or 'nothing'}, lateness {lateness}"
        f"{', purging' if purging else ''}{', processing time' if processing else ''}",
        Aggregating(of_columns(bounds_of)),
        out,
        window=window,
        model=Model(
            **arguments,
            lateness=lateness,
            purging=purging,
            processing=processing,
            key=by(keys),
        ),
        told=told,
        keys=keys,
        schema=pa.schema(fields),
        **choices,
    )


def aggregating_objects(
    name: str, names: tuple[str, ...], key: Any, told: Story = SHORT, *, lateness: int = 0
) -> Case:
    window, arguments = WINDOWS[name]

    def out(bounds: Bounds, first: Any, rows: list[Row]) -> list[Any]:
        parts = (first,) if len(names) == 1 else first or ()
        named = dict(zip(names, parts, strict=True))
        whole = values(OBJECT_MODELS, rows)
        return [{**named, **stamps(bounds), **whole, "own": longest(rows)}]

    return case(
        f"objects, {name} by {', '.join(names) or 'nothing'}, lateness {lateness}",
        Aggregating(OBJECT_AGGREGATES),
        out,
        window=window,
        model=Model(**arguments, lateness=lateness, key=key),
        told=told,
        keys=None,
        key_names=names,
    )


def ticking(told: Story) -> Story:
    """Let processing time pass between the elements."""
    return [one for item in told for one in (item, Advance(7))]


AGGREGATES = [
    *(aggregating(name, ("k",)) for name in WINDOWS),
    *(aggregating(name, ("f", "b"), STORY, lateness=9) for name in WINDOWS),
    aggregating("tumbling", (), LATE),
    aggregating("tumbling", ("d",), STORY, lateness=15, purging=True),
    aggregating("session", ("t",), STORY, lateness=15, purging=True),
    aggregating("session", (), DENSE),
    *(aggregating(name, ("k",), ticking(SHORT), windows=PROCESSING) for name in PROCESSING),
    aggregating("session", ("k",), ONLY_TIME),
    *(aggregating_objects(name, ("key",), by_f, lateness=6) for name in WINDOWS),
    aggregating_objects("session", ("k", "f"), by_both, LATE),
    aggregating_objects("cumulative", (), lambda row: None, DENSE),
    aggregating_objects("session", ("key",), by_f, EMPTY),
]

# Functions ---------------------------------------------------------------------------------------

SUMMED = pa.schema([("key", pa.string()), ("start", pa.int64()), ("end", pa.int64()),
                    ("i", pa.int64()), ("all", pa.list_(pa.int64()))])  # fmt: skip


def each_value(key: Any, window: Any, rows: Any) -> Any:
    """Give a row for each whole row, and one more: more than a batch where there are many."""
    found = [row["i"] for row in rows]
    for value in found:
        if value != 0:
            yield {"key": key, "start": window.start, "end": window.end, "i": value, "all": None}
    rows[0].clear()  # theirs to change: other windows, and later firings, do not see it
    yield {"key": key, "start": window.start, "end": window.end, "i": None, "all": found}


def each_value_of(bounds: Bounds, key: Any, rows: list[Row]) -> list[Any]:
    found = [row["i"] for _, row in rows]
    row = {"key": key, "start": bounds[0], "end": bounds[1]}
    whole = [{**row, "i": value, "all": None} for value in found if value != 0]
    return [*whole, {**row, "i": None, "all": found}]


def applying(name: str, told: Story = SHORT, *, lateness: int = 0, columnar: bool = True) -> Case:
    window, arguments = WINDOWS[name]
    return case(
        f"{'' if columnar else 'objects, '}{name}, a function of rows, lateness {lateness}",
        Applying(Function(each_value)),
        each_value_of,
        window=window,
        model=Model(**arguments, lateness=lateness, key=by_k),
        told=told,
        keys=("k",) if columnar else None,
        schema=SUMMED if columnar else None,
    )


def joined(a: Any, b: Any) -> Any:
    """Add up in place: a row that lies in other windows must not change with it."""
    a["i"] = ((a["i"] or 0) + (b["i"] or 0)) % 1_000
    a["l"] = [*(a["l"] or []), *(b["l"] or [])][-3:]
    return a


def joined_of(bounds: Bounds, key: Any, rows: list[Row]) -> list[Any]:
    whole = {**rows[0][1]}
    for _, row in rows[1:]:
        whole["i"] = ((whole["i"] or 0) + (row["i"] or 0)) % 1_000
        whole["l"] = [*(whole["l"] or []), *(row["l"] or [])][-3:]
    return [whole]


def reducing(name: str, told: Story = SHORT, *, lateness: int = 0, columnar: bool = True) -> Case:
    window, arguments = WINDOWS[name]
    return case(
        f"{'' if columnar else 'objects, '}{name}, reduced, lateness {lateness}",
        Reducing(Function(joined)),
        joined_of,
        window=window,
        model=Model(**arguments, lateness=lateness, key=by_k),
        told=told,
        keys=("k",) if columnar else None,
        schema=ODD if columnar else None,
    )


def keeping(name: str, keep: str, *, columnar: bool = True) -> Case:
    window, arguments = WINDOWS[name]

    def out(bounds: Bounds, key: Any, rows: list[Row]) -> list[Any]:
        kept = rows[0]
        for row in rows[1:]:
            kept = row if keep == "last" and row[0] > kept[0] else kept
        return [kept[1]]

    return case(
        f"{'' if columnar else 'objects, '}{name}, the {keep} row",
        Keeping(keep),
        out,
        window=window,
        model=Model(**arguments, lateness=8, key=by_k),
        told=STORY,
        keys=("k",) if columnar else None,
        schema=ODD if columnar else None,
    )


def ranking(name: str, order: tuple[tuple[str, bool], ...], *, ties: bool) -> Case:
    window, arguments = WINDOWS[name]

    def out(bounds: Bounds, key: Any, rows: list[Row]) -> list[Any]:
        ranked = best([row for _, row in rows], 2, order, ties=ties)
        return [{**row, "place": place} for place, row in ranked]

    return case(
        f"{name}, 2 of {order}{', ties' if ties else ''}",
        Ranking(2, order, ties, "place"),
        out,
        window=window,
        model=Model(**arguments, lateness=5, key=by_k),
        told=STORY,
        keys=("k",),
        schema=ODD.append(pa.field("place", pa.int64())),
    )


FUNCTIONS = [
    applying("session", STORY),
    applying("sliding", lateness=7),
    applying("cumulative", columnar=False),
    reducing("tumbling", STORY, lateness=9),
    reducing("sliding", columnar=False),
    keeping("session", "first"),
    keeping("sliding", "last"),
    keeping("cumulative", "last", columnar=False),
    ranking("session", (("f", True), ("i", False)), ties=True),
    ranking("sliding", (("d", False),), ties=False),
]

# Counts ------------------------------------------------------------------------------------------


def counting(
    name: str,
    window: Any,
    slices: Callable[[int], tuple[int, int] | None],
    *,
    columnar: bool = True,
    **choices: Any,
) -> Case:
    """Give, after each row of a key, the rows that fire: from one number to another, or none."""
    schema = pa.schema([("k", pa.string()), ("n", pa.int64()), ("all", pa.list_(pa.int64()))])
    aggregates = bind({})  # none of these

    def collected(rows: list[Row]) -> Any:
        found = [row["i"] for _, row in rows if row["i"] is not None]
        return {"n": len(rows), "all": found or None}

    def expect(some: Story, ended: bool) -> list[Row]:
        seen: dict[Any, list[Row]] = {}
        out = []
        for time, row in rows_of(some):
            rows = seen.setdefault(key_id(row["k"]), [])
            rows.append((time, row))
            if (bounds := slices(len(rows))) is not None:
                inside = rows[slice(*bounds)]
                latest = max(time for time, _ in inside)
                out.append((latest, plain({"k": row["k"], **collected(inside)})))
        return out

    from raystream.contracts.aggregate import Aggregate

    outcome = Aggregating((*of_columns(aggregates), ("n", Aggregate("count")),
                           ("all", Aggregate("collect", "i"))))  # fmt: skip
    spec = WindowRowsSpec(
        window=window,
        outcome=outcome,
        keys=(ODD.field("k"),) if columnar else None,
        key_names=("k",),
        output=wire_schema(schema, timed=True) if columnar else None,
        timed=True,
        operator="it",
        where="",
        **choices,
    )
    return Case(
        f"{'' if columnar else 'objects, '}{name}",
        lambda: spec,
        STORY,
        expect,
        input=ODD_WIRE if columnar else None,
        output=spec.output,
        key_of=None if columnar else by_k,
        keys=("k",) if columnar else (),
    )


COUNTS = [
    counting("3 rows", TumblingCount(3), lambda n: None if n % 3 else (n - 3, n)),
    counting("3 rows", TumblingCount(3), lambda n: None if n % 3 else (n - 3, n), columnar=False),
    counting("4 rows every 3", SlidingCount(4, 3), lambda n: None if n % 3 else (max(0, n - 4), n)),
    counting(
        "5 rows every 1",
        SlidingCount(5, 1),
        lambda n: (max(0, n - 5), n),
        columnar=False,
    ),
    counting("2 rows every 5", SlidingCount(2, 5), lambda n: None if n % 5 else (n - 2, n)),
    counting(
        "all rows so far after every 4",
        Global(),
        lambda n: None if n % 4 else (0, n),
        trigger=triggers.Count(4),
    ),
    counting(
        "the last two of every 4",
        Global(),
        lambda n: None if n % 4 else (n - 2, n),
        trigger=triggers.Purging(triggers.Count(4)),
        evictor=evictors.Count(2),
    ),
]

CASES = {"window_rows": [*AGGREGATES, *FUNCTIONS, *COUNTS]}
