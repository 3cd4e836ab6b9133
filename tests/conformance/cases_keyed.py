"""Operators that keep something for each key, without windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from conformance import Case, Row, Story, plain
from models import Model, aggregate, key_id, running
from stories import EMPTY, ODD, ODD_WIRE, ONLY_TIME, rows_of, story

from raystream.contracts.aggregate import Aggregate, AggregateFunction, Bound, result_type
from raystream.contracts.functions import Function
from raystream.contracts.state import ValueState
from raystream.flow.batch import wire_schema
from raystream.keyed.key_form import KeyForm
from raystream.operators.map_with_state import MapWithStateSpec
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.reduce import ReduceSpec
from raystream.operators.running_aggregate import RunningAggregateSpec

STORY = story(50, seed=2)
UNTIMED = story(50, seed=3, timed=False)


def by_k(row: Any) -> Any:
    return row["k"]


def by_f(row: Any) -> Any:
    return row["f"]


def by_both(row: Any) -> Any:
    return (row["k"], row["f"])


def last_of_keys(names: tuple[str, ...]) -> Callable[[list[Row]], Any]:
    """View rows as the newest of each key: what ``emit="batch"`` gives however rows are batched."""

    def view(rows: list[Row]) -> Any:
        newest = {}
        for _, row in rows:
            values = dict(row[1])
            newest[tuple(map(values.get, names))] = row
        return newest

    return view


# map_with_state ----------------------------------------------------------------------------------

COUNTED = pa.schema([("k", pa.string()), ("seen", pa.int64()), ("l", pa.list_(pa.int64()))])
COUNTED_WIRE = wire_schema(COUNTED, timed=True)


def count_to_four(state: Any, row: Any) -> tuple[Any, Any]:
    """Count the rows of a key; forget it at the fourth; say nothing of even ones."""
    state = (state or 0) + 1
    out = {"k": row["k"], "seen": state, "l": row["l"]} if state % 2 else None
    return (None if state == 4 else state), out


def counted(key: Callable[[Any], Any]) -> Any:
    def expect(told: Story, ended: bool) -> list[Row]:
        seen: dict[Any, int] = {}
        out = []
        for time, row in rows_of(told):
            number = seen[key_id(key(row))] = seen.get(key_id(key(row)), 0) % 4 + 1
            if number % 2:
                out.append((time, plain({"k": row["k"], "seen": number, "l": row["l"]})))
        return out

    return expect


def grow(state: list[Any], row: Any) -> tuple[Any, Any]:
    """Change the state in place and give it: what went out must not change with it."""
    state.append(row["i"])
    return state, state


def grown(told: Story, ended: bool) -> list[Row]:
    states: dict[Any, list[Any]] = {}
    out = []
    for time, row in rows_of(told):
        some = states.setdefault(key_id(row["f"]), ["new"])
        some.append(row["i"])
        out.append((time, plain(list(some))))
    return out


def stateful(function: Any, initial: Any, keys: Any, output: Any) -> Any:
    return lambda: MapWithStateSpec(Function(function), initial, keys, output, "it", "")


MAP_WITH_STATE = [
    Case(
        "columns to columns",
        stateful(count_to_four, None, ("k",), COUNTED_WIRE),
        STORY,
        counted(by_k),
        input=ODD_WIRE,
        output=COUNTED_WIRE,
        keys=("k",),
    ),
    Case(
        "several key columns, to objects",
        stateful(count_to_four, None, ("k", "f"), None),
        STORY,
        counted(by_both),
        input=ODD_WIRE,
        keys=("k", "f"),
    ),
    Case(
        "objects, state that is changed in place",
        stateful(grow, ["new"], None, None),
        STORY,
        grown,
        key_of=by_f,
        keys=(),
    ),
    Case(
        "objects, state that is made, without event time",
        stateful(grow, lambda: ["new"], None, None),
        UNTIMED,
        grown,
        key_of=by_f,
        keys=(),
    ),
    Case(
        "state of a type",
        lambda: MapWithStateSpec(
            Function(count_to_four),
            None,
            ("k",),
            COUNTED_WIRE,
            "it",
            "",
            ValueState("state", type=pa.int64(), ttl="1h"),
            KeyForm.columns([ODD.field("k")]),
        ),
        STORY,
        counted(by_k),
        input=ODD_WIRE,
        output=COUNTED_WIRE,
        keys=("k",),
    ),
    Case(
        "state with an end, of objects",
        lambda: MapWithStateSpec(
            Function(grow), ["new"], None, None, "it", "", ValueState("state", ttl="1h")
        ),
        STORY,
        grown,
        key_of=by_f,
        keys=(),
    ),
    Case(
        "nothing comes",
        stateful(grow, list, ("k",), None),
        EMPTY,
        grown,
        input=ODD_WIRE,
        keys=("k",),
    ),
]

# reduce ------------------------------------------------------------------------------------------


def gather(a: Any, b: Any) -> Any:
    """Add up in place: the row that went out before must not change with it."""
    a["i"] = ((a["i"] or 0) + (b["i"] or 0)) % 1_000
    a["l"] = [*(a["l"] or []), *(b["l"] or [])][-3:]
    return a


def gathered(first: Any, rows: list[Row]) -> Any:
    row = dict(rows[0][1])
    for _, other in rows[1:]:
        row["i"] = ((row["i"] or 0) + (other["i"] or 0)) % 1_000
        row["l"] = [*(row["l"] or []), *(other["l"] or [])][-3:]
    return row


def gather_own(a: Any, b: Any) -> Any:
    """Do the same to rows that belong to who made them: the first is copied, once."""
    return gather(a if "mine" in a else {**a, "mine": True}, b)


def gathered_own(first: Any, rows: list[Row]) -> Any:
    row = gathered(first, rows)
    return {**row, "mine": True} if len(rows) > 1 else row


def reducing(emit: str, names: tuple[str, ...], told: Story, *, columns: bool) -> Case:
    untimed = told is UNTIMED
    wire = (ODD if untimed else ODD_WIRE) if columns else None
    key = by_k if names == ("k",) else by_both
    function, out = (gather, gathered) if columns else (gather_own, gathered_own)
    return Case(
        f"{'columns' if columns else 'objects'} by {', '.join(names)}, emit={emit}"
        f"{', without event time' if untimed else ''}",
        lambda: ReduceSpec(Function(function), names if columns else None, wire, emit, "it", ""),
        told,
        lambda some, ended: running(some, ended, key, out, emit),
        input=wire,
        output=wire,
        key_of=None if columns else key,
        keys=names if columns else (),
        ordered=emit == "row",
        forwards=emit != "final",
        view=last_of_keys(names) if emit == "batch" else None,
    )


REDUCE = [
    *(reducing(emit, ("k",), STORY, columns=True) for emit in ("row", "batch", "final")),
    *(reducing(emit, ("k", "f"), STORY, columns=False) for emit in ("row", "batch", "final")),
    reducing("final", ("k",), UNTIMED, columns=False),
    reducing("row", ("k", "f"), UNTIMED, columns=True),
]

# aggregates --------------------------------------------------------------------------------------


class Longest(AggregateFunction):
    """The longest text of each key; of equals, the first."""

    type = pa.string()

    def create(self) -> Any:
        return None

    def add(self, acc: Any, row: Any) -> Any:
        text = row["k"]
        return text if text is not None and (acc is None or len(text) > len(acc)) else acc

    def merge(self, a: Any, b: Any) -> Any:
        return b if a is None or (b is not None and len(b) > len(a)) else a

    def result(self, acc: Any) -> Any:
        return acc


def longest(rows: list[Row]) -> Any:
    texts = [row["k"] for _, row in rows if row["k"] is not None]
    return max(texts, key=len) if texts else None


def positive(row: Any) -> bool:
    return row["i"] is not None and row["i"] > 0


MODELS: dict[str, Model] = {
    "rows": Model("count"),
    "count_d": Model("count", "d"),
    "sum_i": Model("sum", "i"),
    "sum_f": Model("sum", "f"),
    "sum_d": Model("sum", "d"),
    "mean_i": Model("mean", "i"),
    "mean_f": Model("mean", "f"),
    "min_f": Model("min", "f"),
    "max_f": Model("max", "f"),
    "min_k": Model("min", "k"),
    "max_d": Model("max", "d"),
    "max_t": Model("max", "t"),
    "min_b": Model("min", "b"),
    "var_f": Model("variance", "f"),
    "std_i": Model("stddev", "i"),
    "first_k": Model("first", "k"),
    "last_l": Model("last", "l"),
    "last_t": Model("last", "t"),
    "least_l": Model("min_by", "l", "f"),
    "most_k": Model("max_by", "k", "i"),
    "some_t": Model("max_by", "i", "t"),
    "kinds_f": Model("count_distinct", "f"),
    "kinds_k": Model("approx_count_distinct", "k"),
    "median_i": Model("quantile", "i", q=0.3),
    "all_k": Model("collect", "k"),
    "all_l": Model("collect", "l"),
}


def bind(models: dict[str, Model]) -> tuple[Bound, ...]:
    """Bind aggregates to the odd columns."""
    return tuple(_bind(name, model) for name, model in models.items())


def _bind(name: str, model: Model) -> Bound:
    kind = None if model.value is None else ODD.field(model.value).type
    by_type = None if model.by is None else ODD.field(model.by).type
    aggregate_ = Aggregate(model.kind, model.value, model.by, model.q)
    output = result_type(aggregate_, kind)
    return Bound(
        name, model.kind, output, model.value, kind, by=model.by, by_type=by_type, q=model.q
    )


OWN = Bound(
    "own", "function", pa.string(), function=Longest(), row_columns=("k", "t"), condition="b"
)


def own(rows: list[Row]) -> Any:
    return longest([row for row in rows if row[1]["b"]])


def columns_of(
    keys: tuple[str, ...], bounds: tuple[Bound, ...], *, timed: bool = True
) -> pa.Schema:
    fields = [ODD.field(key) for key in keys] + [pa.field(b.name, b.output) for b in bounds]
    return wire_schema(pa.schema(fields), timed=timed)


def values(models: dict[str, Model], rows: list[Row]) -> dict[str, Any]:
    return {name: aggregate(model, rows) for name, model in models.items()}


def aggregating(emit: str, keys: tuple[str, ...], told: Story, *, timed: bool = True) -> Case:
    bounds = (*bind(MODELS), OWN)
    output = columns_of(keys, bounds, timed=timed)

    def key(row: Any) -> Any:
        return tuple(row[name] for name in keys)

    def out(first: Any, rows: list[Row]) -> Any:
        named = dict(zip(keys, first, strict=True))
        return {**named, **values(MODELS, rows), "own": own(rows)}

    return Case(
        f"by {', '.join(keys)}, emit={emit}{'' if timed else ', without event time'}",
        lambda: RunningAggregateSpec(keys, bounds, emit, output),
        told,
        lambda some, ended: running(some, ended, key, out, emit),
        input=ODD_WIRE if timed else ODD,
        output=output,
        keys=keys,
        ordered=emit == "row",
        forwards=emit != "final",
        view=last_of_keys(keys) if emit == "batch" else None,
    )


RUNNING = [
    aggregating("row", ("k",), STORY),
    aggregating("batch", ("f",), STORY),
    aggregating("final", ("k", "d"), STORY),
    aggregating("row", ("t", "b"), UNTIMED, timed=False),
    aggregating("final", ("f",), UNTIMED, timed=False),
    aggregating("final", ("i",), ONLY_TIME),
]


def by_name(models: dict[str, Model]) -> tuple[tuple[str, Aggregate], ...]:
    """Write aggregates for objects: fields by name, or read by a function."""
    return tuple(
        (name, Aggregate(m.kind, m.value, m.by, m.q, condition=m.only))
        for name, m in models.items()
    )


OBJECT_MODELS = {**MODELS, "only": Model("sum", "i", only=positive)}
OBJECT_AGGREGATES = (*by_name(OBJECT_MODELS), ("own", Aggregate("function", function=Longest())))


def aggregating_objects(emit: str, names: tuple[str, ...], told: Story, key: Any) -> Case:
    def out(first: Any, rows: list[Row]) -> Any:
        parts = (first,) if len(names) == 1 else first
        named = dict(zip(names, parts, strict=True))
        return {**named, **values(OBJECT_MODELS, rows), "own": longest(rows)}

    return Case(
        f"by {', '.join(names)}, emit={emit}{'' if told is STORY else ', without event time'}",
        lambda: ObjectAggregateSpec(OBJECT_AGGREGATES, emit, names, "it", ""),
        told,
        lambda some, ended: running(some, ended, key, out, emit),
        key_of=key,
        keys=(),
        ordered=emit == "row",
        forwards=emit != "final",
        view=last_of_keys(names) if emit == "batch" else None,
    )


OBJECT_AGGREGATE = [
    aggregating_objects("row", ("key",), STORY, by_f),
    aggregating_objects("batch", ("k", "f"), STORY, by_both),
    aggregating_objects("final", ("k",), STORY, by_k),
    aggregating_objects("row", ("k", "f"), UNTIMED, by_both),
    aggregating_objects("final", ("key",), UNTIMED, by_k),
]

CASES = {
    "map_with_state": MAP_WITH_STATE,
    "object_aggregate": OBJECT_AGGREGATE,
    "reduce": REDUCE,
    "running_aggregate": RUNNING,
}
