"""Operators that gather rows in event-time windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
    longest,
    own,
    values,
)
from conformance import Case, Row, Story, plain
from models import Model, Window, bounds, fired, late_rows
from stories import EMPTY, ODD, ODD_WIRE, ONLY_TIME, UTC, rows_of, story

from raystream.contracts.window import Sliding, Tumbling
from raystream.flow.batch import wire_schema
from raystream.keyed.snapshot import Snapshot
from raystream.operators.object_window import ObjectWindowSpec
from raystream.operators.operator import Operator
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_partial import WindowPartialSpec, partial_schema
from raystream.operators.window_top_k import WindowTopKSpec
from raystream.operators.window_top_k_partial import WindowTopKPartialSpec

STORY = story(60, seed=5, jitter=25)
SHORT = story(40, seed=7, jitter=25)
DENSE = story(80, seed=6, jitter=40)
LATE: Story = [
    [(3, {**row}) for _, row in rows_of(STORY)[:3]],
    9,
    [(5, {**row}) for _, row in rows_of(STORY)[3:5]],
    [(12, {**row}) for _, row in rows_of(STORY)[5:9]],
    30,
    [(-(10**15), rows_of(STORY)[9][1]), (10**15, rows_of(STORY)[10][1])],
]

WINDOWS = {
    "tumbling": (Tumbling(10), Window(10, 10)),
    "tumbling with an offset": (Tumbling(10, offset=-7), Window(10, 10, -7)),
    "sliding": (Sliding(12, 4), Window(12, 4)),
    "sliding, size no multiple of the slide": (Sliding(10, 3), Window(10, 3)),
    "sliding with gaps": (Sliding(4, 11, offset=5), Window(4, 11, 5)),
    "sliding, many panes": (Sliding(30, 7), Window(30, 7)),
    "sliding, more panes than are shared": (Sliding(50, 3), Window(50, 3)),
}


def by(keys: tuple[str, ...]) -> Callable[[Any], Any]:
    return lambda row: tuple(row[name] for name in keys)


def schema_of(keys: tuple[str, ...], fields: Any) -> pa.Schema:
    named = [ODD.field(key) for key in keys]
    stamps = [pa.field("window_start", UTC), pa.field("window_end", UTC)]
    return wire_schema(pa.schema([*named, *stamps, *fields]), timed=True)


def gathering(
    name: str,
    keys: tuple[str, ...],
    told: Story = STORY,
    models: dict[str, Model] = MODELS,
    *,
    with_own: bool = True,
) -> Case:
    window, model = WINDOWS[name]
    made = (*bind(models), *([OWN] if with_own else []))
    output = schema_of(keys, [pa.field(b.name, b.output) for b in made])

    def expect(some: Story, ended: bool) -> list[Row]:
        rows = []
        for start, key, inside in fired(some, ended, model, by(keys)):
            row = {**dict(zip(keys, key, strict=True)), **bounds(model, start)}
            row |= values(models, inside)
            if with_own:
                row["own"] = own(inside)
            rows.append((start + model.size - 1, plain(row)))
        return rows

    return Case(
        f"{name} by {', '.join(keys) or 'nothing'}",
        lambda: WindowAggregateSpec(keys, window, made, output),
        told,
        expect,
        input=ODD_WIRE,
        output=output,
        keys=keys or None,
        ordered=False,
        late=late_rows(told, model),
        promises=True,
    )


FEW = {name: MODELS[name] for name in ("rows", "sum_i", "max_f", "min_k", "mean_i", "sum_d")}
WINDOW_AGGREGATE = [
    *(gathering(name, ("k",), SHORT, FEW, with_own=False) for name in WINDOWS),
    gathering("tumbling", ("k",)),
    gathering("tumbling", (), LATE),
    gathering("sliding with gaps", ("f", "b")),
    gathering("sliding", ("d",), SHORT),
    gathering("sliding, more panes than are shared", ("b",), SHORT),
    gathering("sliding", (), DENSE, FEW, with_own=False),
    gathering("tumbling", ("t",), DENSE, FEW, with_own=False),
    gathering("tumbling", ("k",), ONLY_TIME),
]

# Two phases --------------------------------------------------------------------------------------

MERGEABLE = {
    name: model
    for name, model in MODELS.items()
    if model.kind in ("count", "sum", "mean", "min", "max")
}


@dataclass(frozen=True)
class Both:
    """The first phase and the second, as one operator: the first holds nothing back."""

    first: WindowPartialSpec | WindowTopKPartialSpec
    second: WindowAggregateSpec | WindowTopKSpec
    between: pa.Schema

    @property
    def verb(self) -> str:
        return self.second.verb

    def describe(self) -> str:
        return f"{self.first.describe()} then {self.second.describe()}"

    def build(self) -> _Both:
        return _Both(self.first.build(), self.second.build(), self.between)


class _Both(Operator):
    def __init__(self, first: Any, second: Any, between: pa.Schema) -> None:
        self._first, self._second, self._between = first, second, between

    def open(self, ctx: Any) -> None:
        self._first.open(ctx)
        self._second.open(ctx)

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        for partials in self._first.on_batch(port, batch):
            assert partials.record.schema.equals(self._between)
            yield from self._second.on_batch(0, partials)

    def on_watermark(self, time_us: int) -> Iterator[Any]:
        assert not list(self._first.on_watermark(time_us))
        return self._second.on_watermark(time_us)

    def output_watermark(self, time_us: int) -> int | None:
        forwarded = self._first.output_watermark(time_us)
        return None if forwarded is None else self._second.output_watermark(forwarded)

    def on_end(self) -> Iterator[Any]:
        assert not list(self._first.on_end())
        return self._second.on_end()

    def snapshot(self) -> Snapshot:
        first = [replace(one, name=f"first {one.name}") for one in self._first.snapshot()]
        return (*first, *self._second.snapshot())

    def restore(self, snapshot: Snapshot) -> None:
        first = [one for one in snapshot if one.name.startswith("first ")]
        second = tuple(one for one in snapshot if one not in first)
        if first:
            self._first.restore(tuple(replace(one, name=one.name[6:]) for one in first))
        self._second.restore(second)

    def close(self) -> None:
        self._first.close()
        self._second.close()


def in_two_phases(name: str, keys: tuple[str, ...], told: Story = STORY) -> Case:
    whole = gathering(name, keys, told, MERGEABLE, with_own=False)
    window = WINDOWS[name][0]
    made = bind(MERGEABLE)
    between = partial_schema([ODD.field(key) for key in keys], window, made)
    assert whole.output is not None
    output = whole.output
    return Case(
        f"{name} by {', '.join(keys) or 'nothing'}, in two phases",
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


def alone(told: Story) -> Case:
    """See that the partials themselves say how many rows they stand for, and till when."""
    window, model = WINDOWS["tumbling"]
    made = bind({"rows": Model("count")})
    between = partial_schema([ODD.field("k")], window, made)

    def expect(some: Story, ended: bool) -> list[Row]:
        groups: dict[Any, list[int]] = {}
        for time, row in rows_of(some):
            groups.setdefault((row["k"], model.starts(time)[0]), []).append(time)
        return [(max(times), (key, len(times))) for (key, _), times in groups.items()]

    def view(rows: list[Row]) -> Any:
        latest: dict[Any, list[Any]] = {}
        for time, (key, count) in rows:
            got = latest.setdefault((key, model.starts(time)[0]), [0, time])
            got[0], got[1] = got[0] + count, max(got[1], time)
        return {place: tuple(got) for place, got in latest.items()}

    def shown(batch: Any) -> list[Row]:
        record = batch.record
        counts = record.column(2).to_pylist()
        keys = record.column("k").to_pylist()
        return list(zip(batch.timestamps.tolist(), zip(keys, counts, strict=True), strict=True))

    return Case(
        "partials",
        lambda: WindowPartialSpec(("k",), window, made, between),
        told,
        expect,
        input=ODD_WIRE,
        output=between,
        keys=("k",),
        exact=False,
        view=view,
        shown=shown,
    )


WINDOW_PARTIAL = [
    alone(STORY),
    *(in_two_phases(name, ("k",), SHORT) for name in WINDOWS if "many" not in name),
    in_two_phases("tumbling", (), LATE),
    in_two_phases("sliding", ("k", "b"), DENSE),
]

# object_window -----------------------------------------------------------------------------------


def gathering_objects(
    name: str, names: tuple[str, ...], key: Callable[[Any], Any], told: Story = STORY
) -> Case:
    window, model = WINDOWS[name]

    def expect(some: Story, ended: bool) -> list[Row]:
        rows = []
        for start, first, inside in fired(some, ended, model, key):
            parts = (first,) if len(names) == 1 else first or ()
            row = {**dict(zip(names, parts, strict=True)), **bounds(model, start)}
            row |= values(OBJECT_MODELS, inside)
            row["own"] = longest(inside)
            rows.append((start + model.size - 1, plain(row)))
        return rows

    return Case(
        f"{name} by {', '.join(names) or 'nothing'}",
        lambda: ObjectWindowSpec(window, OBJECT_AGGREGATES, names, "it", ""),
        told,
        expect,
        key_of=key,
        keys=() if names else None,
        ordered=False,
        late=late_rows(told, model),
        promises=True,
    )


def no_key(row: Any) -> None:
    return None


OBJECT_WINDOW = [
    *(gathering_objects(name, ("key",), by_f, SHORT) for name in WINDOWS),
    gathering_objects("tumbling", ("k", "f"), by_both, LATE),
    gathering_objects("sliding", (), no_key, DENSE),
    gathering_objects("tumbling", ("key",), by_f, EMPTY),
]

# window_top_k ------------------------------------------------------------------------------------


def ranking(
    name: str,
    keys: tuple[str, ...],
    k: int,
    order: tuple[tuple[str, bool], ...],
    *,
    ties: bool,
    rank: str | None,
    told: Story = STORY,
) -> Case:
    window, model = WINDOWS[name]
    fields = list(ODD) + ([] if rank is None else [pa.field(rank, pa.int64())])
    output = wire_schema(pa.schema(fields), timed=True)

    def expect(some: Story, ended: bool) -> list[Row]:
        out = []
        for start, _, inside in fired(some, ended, model, by(keys)):
            for place, row in best([row for _, row in inside], k, order, ties=ties):
                shown = row if rank is None else {**row, rank: place}
                out.append((start + model.size - 1, plain(shown)))
        return out

    direction = ", ".join(f"{column}{' down' if down else ''}" for column, down in order)
    return Case(
        f"{name} by {', '.join(keys) or 'nothing'}, {k} of {direction}{', ties' if ties else ''}",
        lambda: WindowTopKSpec(keys, window, k, order, ties, rank, output),
        told,
        expect,
        input=ODD_WIRE,
        output=output,
        keys=keys or None,
        ordered=False,
        late=late_rows(told, model),
        promises=True,
    )


def best(
    rows: list[Any], k: int, order: tuple[tuple[str, bool], ...], *, ties: bool
) -> list[tuple[int, Any]]:
    """Rank rows by sorting them once a column; rows without a value come behind all others."""
    ranked = list(rows)
    for column, down in reversed(order):
        ranked.sort(key=lambda row: sort_key(row[column]), reverse=False)
        if down:
            ranked = falling(ranked, column)
    out = []
    compared = [[plain(row[column]) for column, _ in order] for row in ranked]
    for at, row in enumerate(ranked):
        place = 1 + (compared.index(compared[at]) if ties else at)
        if place > k:
            break
        out.append((place, row))
    return out


def falling(ranked: list[Any], column: str) -> list[Any]:
    """Turn rising order into falling order: what has no value stays last."""
    valued = [row for row in ranked if sort_key(row[column])[0] == 0]
    rest = [row for row in ranked if sort_key(row[column])[0] > 0]
    return sorted(valued, key=lambda row: row[column], reverse=True) + rest


def sort_key(value: Any) -> tuple[int, Any]:
    if value is None:
        return (2, 0)
    return (1, 0) if value != value else (0, value)  # noqa: PLR0124  NaN


WINDOW_TOP_K = [
    ranking("tumbling", ("k",), 2, (("i", True),), ties=False, rank="rank"),
    ranking("tumbling", (), 3, (("d", False), ("i", True)), ties=True, rank="rank"),
    ranking("sliding", ("b",), 3, (("t", False), ("k", True)), ties=False, rank=None, told=DENSE),
    ranking("sliding with gaps", ("k",), 1, (("k", False),), ties=True, rank="rank"),
    ranking(
        "sliding, more panes than are shared", ("k",), 2, (("f", True),), ties=False, rank="rank"
    ),
    ranking("sliding, many panes", (), 30, (("i", False),), ties=True, rank=None, told=DENSE),
    ranking("tumbling", ("k",), 2, (("f", False),), ties=True, rank="rank", told=LATE),
    ranking("tumbling", ("k",), 2, (("f", False),), ties=True, rank="rank", told=EMPTY),
]

# window_top_k_partial -----------------------------------------------------------------------------


def ranking_in_two_phases(
    name: str, keys: tuple[str, ...], k: int, order: Any, *, ties: bool, told: Story = STORY
) -> Case:
    whole = ranking(name, keys, k, order, ties=ties, rank="rank", told=told)
    spec = whole.spec()
    return replace(
        whole,
        name=f"{whole.name}, in two phases",
        spec=lambda: Both(WindowTopKPartialSpec(spec, ODD_WIRE), spec, ODD_WIRE),
        late=None,  # rows that are pruned before are not known to be late
    )


WINDOW_TOP_K_PARTIAL = [
    ranking_in_two_phases("tumbling", ("k",), 2, (("i", True),), ties=False),
    ranking_in_two_phases("tumbling", ("k",), 1, (("f", False),), ties=True, told=LATE),
    ranking_in_two_phases(
        "tumbling with an offset", (), 3, (("d", False), ("i", True)), ties=True, told=DENSE
    ),
]

CASES = {
    "object_window": OBJECT_WINDOW,
    "window_aggregate": WINDOW_AGGREGATE,
    "window_partial": WINDOW_PARTIAL,
    "window_top_k": WINDOW_TOP_K,
    "window_top_k_partial": WINDOW_TOP_K_PARTIAL,
}
