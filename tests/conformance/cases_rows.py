"""Operators that look at one row, or one batch, at a time: columns and row functions."""

from __future__ import annotations

from functools import partial
from typing import Any

import narwhals.stable.v2 as nw
import pyarrow as pa
import pyarrow.compute as pc
from conformance import Case, Row, Story, is_batch, keyed_rows, plain
from stories import EMPTY, ODD, ODD_WIRE, ONLY_TIME, VALUES, each, many, odd_rows, rows_of, story

from raystream.contracts.functions import Function
from raystream.flow.batch import wire_schema
from raystream.operators.columns import ColumnsSpec, Drop, Filter, Rename, Select, WithColumns
from raystream.operators.explode import ExplodeSpec
from raystream.operators.key_by import KeyByFieldsSpec, KeyByFunctionSpec
from raystream.operators.map_batches import MapBatchesSpec
from raystream.operators.row_functions import FilterFunctionSpec, FlatMapSpec, MapSpec
from raystream.operators.with_schema import WithSchemaSpec

STORY = story()
UNTIMED = story(timed=False)
ON_COLUMNS = partial(Case, story=STORY, input=ODD_WIRE)
ON_OBJECTS = partial(Case, story=STORY)


def unchanged(row: Any) -> Any:
    return row


def positive(row: dict[str, Any]) -> bool:
    return row["i"] is not None and row["i"] > 0


# columns -----------------------------------------------------------------------------------------


def steps(*some: Any, output: pa.Schema, timed: bool = True) -> Any:
    return lambda: ColumnsSpec("select", some, wire_schema(output, timed=timed))


I_POSITIVE = Filter(nw.col("i") > 0)
CHOSEN = pa.schema([ODD.field("l"), ("next", pa.int64()), ("letters", pa.uint32()), ODD.field("d")])
CHOOSE = Select(
    (
        ("l", None),
        ("next", nw.col("i") + 1),
        ("letters", nw.col("k").str.len_chars()),
        ("d", None),
    )
)


def chosen(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "l": row["l"],
        "next": None if row["i"] is None else row["i"] + 1,
        "letters": None if row["k"] is None else len(row["k"]),
        "d": row["d"],
    }


RUN = (
    WithColumns((("f", nw.col("f") * 2), ("new", nw.col("i").is_null()))),
    I_POSITIVE,
    Drop(("b", "l")),
    Rename((("k", "ключ"),)),
    Filter(~nw.col("f").is_null()),
)
BEHIND_RUN = pa.schema(
    [("ключ", pa.string()), *[ODD.field(n) for n in ("i", "f", "d", "t")], ("new", pa.bool_())]
)


def run(row: dict[str, Any]) -> list[dict[str, Any]]:
    if not positive(row) or row["f"] is None:
        return []
    kept = {name: row[name] for name in ("i", "d", "t")}
    return [{"ключ": row["k"], "f": row["f"] * 2, "new": False, **kept}]


def _time_as_a_column(told: Story, ended: bool) -> list[Row]:
    return [(time, plain({"at": time})) for time, _ in rows_of(told)]


COLUMNS = [
    ON_COLUMNS(
        "filter",
        steps(I_POSITIVE, output=ODD),
        expect=many(lambda row: [row] if positive(row) else []),
        output=ODD_WIRE,
    ),
    ON_COLUMNS(
        "select",
        steps(CHOOSE, output=CHOSEN),
        expect=each(chosen),
        output=wire_schema(CHOSEN, timed=True),
    ),
    ON_COLUMNS(
        "a run of all steps",
        steps(*RUN, output=BEHIND_RUN),
        expect=many(run),
        output=wire_schema(BEHIND_RUN, timed=True),
    ),
    ON_COLUMNS(
        "event time as a column",
        steps(Select((("at", nw.col("__ts")),)), output=pa.schema([("at", pa.int64())])),
        expect=_time_as_a_column,
        output=wire_schema(pa.schema([("at", pa.int64())]), timed=True),
    ),
    Case(
        "without event time",
        steps(I_POSITIVE, CHOOSE, output=CHOSEN, timed=False),
        UNTIMED,
        many(lambda row: [chosen(row)] if positive(row) else []),
        input=ODD,
        output=CHOSEN,
    ),
    Case(
        "nothing comes",
        steps(CHOOSE, output=CHOSEN),
        EMPTY,
        each(chosen),
        input=ODD_WIRE,
        output=wire_schema(CHOSEN, timed=True),
    ),
]

# explode -----------------------------------------------------------------------------------------

ELEMENTS = ODD.set(ODD.get_field_index("l"), pa.field("l", pa.int64()))


def elements(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**row, "l": element} for element in ([None] if row["l"] is None else row["l"])]


LONG = pa.schema([("n", pa.int64()), ("t", pa.list_(ODD.field("t").type))])
LONG_STORY: Story = [
    [(-3, {"n": 1, "t": VALUES["t"] * 20}), (-2, {"n": 2, "t": []}), (-1, {"n": 3, "t": None})]
]

EXPLODE = [
    ON_COLUMNS(
        "lists",
        lambda: ExplodeSpec("l", wire_schema(ELEMENTS, timed=True)),
        expect=many(elements),
        output=wire_schema(ELEMENTS, timed=True),
    ),
    Case(
        "lists longer than a batch",
        lambda: ExplodeSpec("t", pa.schema([("n", pa.int64()), ODD.field("t")])),
        [[(None, row) for _, row in LONG_STORY[0]]],
        many(lambda row: [{"n": row["n"], "t": one} for one in _or_null(row["t"])]),
        input=LONG,
        output=pa.schema([("n", pa.int64()), ODD.field("t")]),
    ),
]


def _or_null(some: list[Any] | None) -> list[Any]:
    return [None] if some is None else some


# key_by ------------------------------------------------------------------------------------------


def keyed_by(key: Any) -> Any:
    return each(lambda row: (key(row), row))


def by_two(row: dict[str, Any]) -> Any:
    return (row["k"], row["f"])


KEY_BY = [
    ON_COLUMNS(
        "a function of rows of columns",
        lambda: KeyByFunctionSpec(Function(by_two), "key_by", "", columnar=True),
        expect=keyed_by(by_two),
        shown=keyed_rows,
    ),
    ON_OBJECTS(
        "a function of objects",
        lambda: KeyByFunctionSpec(Function(by_two), "key_by", ""),
        expect=keyed_by(by_two),
        shown=keyed_rows,
    ),
    ON_OBJECTS(
        "one field",
        lambda: KeyByFieldsSpec(("f",), "key_by", ""),
        expect=keyed_by(lambda row: row["f"]),
        shown=keyed_rows,
    ),
    Case(
        "several fields, without event time",
        lambda: KeyByFieldsSpec(("k", "f"), "key_by", ""),
        UNTIMED,
        keyed_by(by_two),
        shown=keyed_rows,
    ),
]

# map_batches -------------------------------------------------------------------------------------

NUMBERS = wire_schema(pa.schema([("n", pa.int64()), ("x", pa.float64())]), timed=True)
NUMBER_STORY: Story = [
    [(row["i"] % 97, {"n": row["i"], "x": row["f"]}) for row in batch]
    for batch in (odd_rows(20, 4), odd_rows(1, 5), odd_rows(17, 6))
    for batch in [[{"i": r["i"] or 0, "f": r["f"] or 0.25} for r in batch]]
]
NUMBER_STORY = [
    [(time, {"n": row["n"], "x": 0.25 if row["x"] != row["x"] else row["x"]}) for time, row in part]
    for part in NUMBER_STORY
]
LENGTHS = pa.schema([("l", pa.list_(pa.int64())), ("length", pa.int32())])


def lengths(batch: pa.RecordBatch) -> pa.RecordBatch:
    column = batch.column("l")
    return pa.record_batch({"l": column, "length": pc.list_value_length(column)})


def thrice(batch: pa.RecordBatch) -> pa.RecordBatch:
    at = [index for index in range(batch.num_rows) for _ in range(3)]
    numbers = batch.column("n").take(pa.array(at, pa.int64()))
    times = pa.array([3 * index for index in range(3 * batch.num_rows)], pa.int64())
    times = pc.multiply(pc.bit_wise_and(numbers, 7), -2) if len(times) else times
    return pa.record_batch({"n": numbers, "at": times})


def doubled(columns: Any) -> Any:
    return {"n": columns["n"], "x": columns["x"] * 2}


def doubled_pandas(frame: Any) -> Any:
    return frame.assign(x=frame["x"] * 2)


def doubled_polars(frame: Any) -> Any:
    import polars as pl

    return frame.with_columns(pl.col("x") * 2)


def times_two(row: dict[str, Any]) -> dict[str, Any]:
    return {"n": row["n"], "x": row["x"] * 2}


def count_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"rows": pa.array([batch.num_rows] * batch.num_rows, pa.int64())})


def at_most_three(told: Story, ended: bool) -> list[Row]:
    out = []
    for item in told:
        for start in range(0, len(item) if is_batch(item) else 0, 3):
            part = item[start : start + 3]
            out += [(time, plain({"rows": len(part)})) for time, _ in part]
    return out


ROWS = wire_schema(pa.schema([("rows", pa.int64())]), timed=True)
THRICE = wire_schema(pa.schema([("n", pa.int64()), ("at", pa.int64())]), timed=True)


def batches(function: Any, output: pa.Schema | None, **more: Any) -> Any:
    return lambda: MapBatchesSpec(Function(function), output, "map_batches", "", **more)


ON_NUMBERS = partial(Case, story=NUMBER_STORY, input=NUMBERS, output=NUMBERS)
MAP_BATCHES = [
    ON_COLUMNS(
        "arrow",
        batches(lengths, wire_schema(LENGTHS, timed=True)),
        expect=each(
            lambda row: {"l": row["l"], "length": None if row["l"] is None else len(row["l"])}
        ),
        output=wire_schema(LENGTHS, timed=True),
    ),
    ON_NUMBERS(
        "more rows than came, by a column of the result",
        batches(thrice, THRICE, timestamp="at"),
        expect=lambda told, ended: [
            (-2 * (row["n"] & 7), plain({"n": row["n"], "at": -2 * (row["n"] & 7)}))
            for _, row in rows_of(told)
            for _ in range(3)
        ],
        output=THRICE,
    ),
    ON_NUMBERS("numpy", batches(doubled, NUMBERS, batch_format="numpy"), expect=each(times_two)),
    ON_NUMBERS(
        "pandas", batches(doubled_pandas, NUMBERS, batch_format="pandas"), expect=each(times_two)
    ),
    ON_NUMBERS(
        "polars", batches(doubled_polars, NUMBERS, batch_format="polars"), expect=each(times_two)
    ),
    ON_COLUMNS(
        "at most three rows at once",
        batches(count_rows, ROWS, batch_size=3),
        expect=at_most_three,
        output=ROWS,
        view=len,
    ),
    ON_OBJECTS("objects", batches(list, None), expect=each(unchanged)),
    ON_OBJECTS(
        "objects into columns",
        batches(lambda rows: rows, ODD_WIRE),
        expect=each(unchanged),
        output=ODD_WIRE,
    ),
]

# row_functions -----------------------------------------------------------------------------------

PAIR = pa.schema([("k", pa.string()), ("size", pa.int64())])
PAIR_WIRE = wire_schema(PAIR, timed=True)


def pair(row: dict[str, Any]) -> dict[str, Any]:
    return {"k": row["k"], "size": len(row["l"] or [])}


def parts(row: dict[str, Any]) -> Any:
    for element in row["l"] or []:
        yield {"k": row["k"], "size": element}


def part_list(row: dict[str, Any]) -> Any:
    return None if row["l"] is None else [element for element in row["l"] if element is not None]


class Scaled:
    """Made once a subtask, with arguments, opened and closed."""

    def __init__(self, by: int) -> None:
        self._by, self._open = by, False

    def open(self, ctx: Any) -> None:
        self._open = True

    def __call__(self, row: Any) -> int:
        assert self._open
        return (row["i"] or 0) * self._by

    def close(self) -> None:
        assert self._open
        self._open = False


def of(spec: Any, function: Any, *output: pa.Schema | None, **kwargs: Any) -> Any:
    return lambda: spec(Function(function, kwargs), *output, "it", "case.py:1")


ROW_FUNCTIONS = [
    ON_COLUMNS("map, columns to objects", of(MapSpec, pair, None), expect=each(pair)),
    ON_COLUMNS(
        "map, columns to columns",
        of(MapSpec, pair, PAIR_WIRE),
        expect=each(pair),
        output=PAIR_WIRE,
    ),
    ON_OBJECTS(
        "map, objects to columns",
        of(MapSpec, unchanged, ODD_WIRE),
        expect=each(unchanged),
        output=ODD_WIRE,
    ),
    ON_OBJECTS(
        "map, a class", of(MapSpec, Scaled, None, by=-3), expect=each(lambda r: (r["i"] or 0) * -3)
    ),
    Case(
        "map, without event time",
        of(MapSpec, pair, PAIR),
        UNTIMED,
        each(pair),
        input=ODD,
        output=PAIR,
    ),
    ON_COLUMNS(
        "flat_map, a generator, to columns",
        of(FlatMapSpec, parts, PAIR_WIRE),
        expect=many(lambda row: list(parts(row))),
        output=PAIR_WIRE,
    ),
    ON_OBJECTS(
        "flat_map, lists and None, to objects",
        of(FlatMapSpec, part_list, None),
        expect=many(lambda row: part_list(row) or []),
    ),
    Case(
        "flat_map, far more rows than a batch",
        of(FlatMapSpec, lambda row: range(row * 7), None),
        [[(None, n) for n in range(9)], [(None, 0)], [(None, 30)]],
        many(lambda row: list(range(row * 7))),
    ),
    ON_COLUMNS(
        "filter, columns",
        of(FilterFunctionSpec, positive),
        expect=many(lambda row: [row] if positive(row) else []),
        output=ODD_WIRE,
    ),
    ON_OBJECTS(
        "filter, objects",
        of(FilterFunctionSpec, lambda row: row["l"]),
        expect=many(lambda row: [row] if row["l"] else []),
    ),
    Case("map, nothing comes", of(MapSpec, pair, None), ONLY_TIME, each(pair), input=ODD_WIRE),
]

# with_schema -------------------------------------------------------------------------------------

WITH_SCHEMA = [
    ON_OBJECTS("dicts", lambda: WithSchemaSpec(ODD_WIRE), expect=each(unchanged), output=ODD_WIRE),
    Case("without event time", lambda: WithSchemaSpec(ODD), UNTIMED, each(unchanged), output=ODD),
]

CASES = {
    "columns": COLUMNS,
    "explode": EXPLODE,
    "key_by": KEY_BY,
    "map_batches": MAP_BATCHES,
    "row_functions": ROW_FUNCTIONS,
    "with_schema": WITH_SCHEMA,
}
