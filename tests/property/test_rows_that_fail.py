"""Rows that fail are left out and nothing else is, however rows are cut."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.aggregate import Aggregate
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.contracts.process import KeyedProcessFunction, ProcessFunction, ProcessMaker
from raystream.contracts.rejects import Rejects
from raystream.contracts.sink import Sink, Writer
from raystream.contracts.source import Source
from raystream.contracts.state import ValueState
from raystream.contracts.watermark import WatermarkStrategy
from raystream.errors import RaystreamError
from raystream.flow.batch import Columns, Objects, wire_schema, with_times
from raystream.keyed.key_form import KeyForm
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.async_map import AsyncMapSpec
from raystream.operators.columns import ColumnsSpec, Filter, WithColumns
from raystream.operators.key_by import KeyByFieldsSpec, KeyByFunctionSpec
from raystream.operators.map_batches import MapBatchesSpec
from raystream.operators.map_with_state import MapWithStateSpec
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.object_top_k import ObjectTopKSpec
from raystream.operators.process import ProcessSpec
from raystream.operators.reduce import ReduceSpec
from raystream.operators.row_functions import FilterFunctionSpec, FlatMapSpec, MapSpec
from raystream.operators.sink import SinkOperator, SinkSpec
from raystream.operators.source import SourceOperator, SourceSpec
from raystream.operators.with_schema import WithSchemaSpec

TINY = Limits(batch_rows_max=5, row_batch_rows_max=3)
N = pa.schema([("n", pa.int64()), ("text", pa.string())])
WIRE = wire_schema(N, timed=True)


class Bad(Exception):
    """What the functions of these tests raise."""


def good(n: int) -> int:
    if n < 0:
        raise Bad(n)
    return n


def made(row: dict[str, Any]) -> dict[str, Any]:
    """Fail for negative numbers; give what does not fit the schema for multiples of ten."""
    n = good(row["n"])
    return {"n": "no number" if n % 10 == 0 else n + 1, "text": row["text"]}


async def awaited(row: dict[str, Any]) -> dict[str, Any]:
    for _ in range(row["n"] % 3):
        await asyncio.sleep(0)
    return made(row)


def many(row: dict[str, Any]) -> Any:
    for at in range(abs(row["n"]) % 7):
        yield {"n": at, "text": row["text"]}
    good(row["n"])


class Many(ProcessFunction):
    def process(self, row: dict[str, Any], ctx: Any) -> Any:
        return many(row)


class Adding(KeyedProcessFunction):
    """Gives several rows, of which one may not fit, and then fails or counts."""

    def open(self, ctx: Any) -> None:
        self.sum = ctx.state(ValueState("sum", default=0))

    def process(self, row: dict[str, Any], ctx: Any) -> Any:
        yield {"n": self.sum.value(), "text": ctx.key}
        last = made({**row, "n": abs(row["n"])})
        good(row["n"])
        if row["n"] % 10:
            self.sum.update(self.sum.value() + row["n"])
        yield last


def batches(rows: pa.RecordBatch) -> Any:
    yield rows.slice(0, 1)
    if any(n < 0 for n in rows.column("n").to_pylist()):
        raise Bad
    yield rows.slice(1)


def adding(state: int, row: dict[str, Any]) -> Any:
    n = good(row["n"])
    return None if n % 5 == 0 else (state + n, {"n": state, "text": str(n)})


def joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {"n": good(a["n"]) + good(b["n"]), "text": b["text"]}


class Refusing(Sink):
    """Writes nothing of a batch that holds a negative number."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def open(self, ctx: OpenContext) -> Writer:
        return _Refusing(self)


class _Refusing(Writer):
    def __init__(self, sink: Refusing) -> None:
        self._sink = sink

    def write(self, batch: Any) -> None:
        rows = batch.to_pylist()
        for row in rows:
            good(row["n"])
        self._sink.rows += rows


class Raw(Source):
    """Stands for any source: its rows are given to the operator by the test."""

    schema = N

    def splits(self) -> list[Any]:
        return []

    def open(self, split: Any, position: Any) -> Any:
        raise AssertionError


def is_negative(n: int) -> bool:
    return n < 0


@dataclass(frozen=True)
class Kind:
    """An operator; ``fails`` tells of a number whether its row does, ``gives`` what comes of it."""

    name: str
    spec: Any
    columns: bool
    fails: Any = is_negative
    keyed: bool = False


def fn(function: Any) -> Function:
    return Function(function)


KINDS = [
    Kind("map", MapSpec(fn(lambda row: good(row["n"])), None, "it", ""), columns=True),
    Kind("map to columns", MapSpec(fn(made), WIRE, "it", ""), True, lambda n: n < 0 or n % 10 == 0),
    Kind("flat_map", FlatMapSpec(fn(many), None, "it", ""), columns=True),
    Kind("flat_map to columns", FlatMapSpec(fn(many), WIRE, "it", ""), columns=False),
    Kind("filter", FilterFunctionSpec(fn(lambda row: good(row["n"]) % 2), "it", ""), columns=True),
    Kind("key_by", KeyByFunctionSpec(fn(lambda row: good(row["n"])), "it", "", True), columns=True),
    Kind(
        "key_by unhashable",
        KeyByFunctionSpec(fn(lambda row: [1] if row["n"] < 0 else 1), "it", ""),
        columns=False,
    ),
    Kind(
        "key_by fields",
        KeyByFieldsSpec(("missing",), "it", ""),
        columns=False,
        fails=lambda n: True,
    ),
    Kind("map_batches", MapBatchesSpec(fn(batches), WIRE, "it", "", batch_size=4), columns=True),
    Kind(
        "cast",
        ColumnsSpec(
            "with_columns",
            (WithColumns((("n", nw.col("text").cast(nw.Int64)),)), Filter(nw.col("n") > 3)),
            WIRE,
        ),
        columns=True,
        fails=lambda n: n % 10 == 7,
    ),
    Kind(
        "with_schema",
        WithSchemaSpec(
            wire_schema(pa.schema([("n", pa.uint8()), ("text", pa.string())]), timed=True)
        ),
        columns=False,
        fails=lambda n: not 0 <= n < 256,
    ),
    Kind(
        "map_with_state",
        MapWithStateSpec(fn(adding), 0, None, WIRE, "it", ""),
        False,
        lambda n: n < 0 or n % 5 == 0,
        keyed=True,
    ),
    Kind("reduce", ReduceSpec(fn(joined), None, None, "row", "it", ""), columns=False, keyed=True),
    Kind(
        "reduce at the end",
        ReduceSpec(fn(joined), ("text",), WIRE, "final", "it", ""),
        columns=True,
        keyed=True,
    ),
    Kind(
        "aggregate",
        ObjectAggregateSpec(
            (("sum", Aggregate("sum", lambda row: good(row["n"]))),), "row", ("key",), "it", ""
        ),
        columns=False,
        keyed=True,
    ),
    Kind(
        "assign_timestamps",
        AssignTimestampsSpec(WatermarkStrategy(lambda row: good(row["n"])), WIRE, "it", ""),
        columns=True,
    ),
    Kind(
        "assign_timestamps by column",
        AssignTimestampsSpec(
            WatermarkStrategy(nw.when(nw.col("n") >= 0).then(nw.col("n"))), WIRE, "it", ""
        ),
        columns=True,
    ),
    Kind(
        "async_map",
        AsyncMapSpec(fn(awaited), None, WIRE, "it", "", capacity=2),
        True,
        lambda n: n < 0 or n % 10 == 0,
    ),
    Kind(
        "process",
        ProcessSpec(ProcessMaker(Many), None, None, None, True, "it", ""),
        columns=True,
    ),
    Kind(
        "process by key to columns",
        ProcessSpec(ProcessMaker(Adding), (), KeyForm.objects(), WIRE, True, "it", ""),
        False,
        lambda n: n < 0 or n % 10 == 0,
        keyed=True,
    ),
    Kind(
        "top_k",
        ObjectTopKSpec(2, ((lambda row: good(row["n"]), True),), False, "rank", "row", "it", ""),
        columns=False,
        keyed=True,
    ),
    Kind("sink", SinkSpec(Refusing(), "it", ""), columns=True),
]


def text(n: int) -> str:
    return "x" if n % 10 == 7 else str(n)


def batch_of(kind: Kind, numbers: list[int], start: int) -> Columns | Objects:
    rows = [{"n": n, "text": "a" if kind.keyed else text(n)} for n in numbers]
    times = np.arange(start, start + len(rows))
    if kind.columns:
        return with_times(pa.RecordBatch.from_pylist(rows, schema=N), times)
    return Objects(rows, times, ["a"] * len(rows) if kind.keyed else None)


def played(kind: Kind, parts: list[list[int]], policy: str) -> tuple[list[Any], list[Any], int]:
    """Give what comes out, what was given up, and how many rows were counted as failed."""
    ctx = OpenContext("it", "job.py:1", limits=TINY, errors=Rejects(policy, "it"))
    operator = kind.spec.build()
    operator.open(ctx)
    out: list[Any] = []
    letters: list[Any] = []

    def take(given: Any) -> None:
        for batch in given:
            if isinstance(batch, Columns | Objects) and batch.num_rows:
                columnar = isinstance(batch, Columns)
                rows = batch.visible.to_pylist() if columnar else batch.values
                out.extend(zip(rows, batch.timestamps.tolist(), strict=True))
        letters.extend(ctx.errors.take())

    start = 0
    for numbers in parts:
        take(operator.on_batch(0, batch_of(kind, numbers, start)))
        start += len(numbers)
    take(operator.on_watermark(2**63 - 1))
    if isinstance(operator, SinkOperator):
        out += kind.spec.sink.rows
        kind.spec.sink.rows.clear()
    operator.close()
    return out, letters, ctx.errors._failed_rows.value


every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
numbers = st.lists(st.integers(-300, 300), max_size=9)


@every_kind
@given(parts=st.lists(numbers, max_size=4))
def test_what_is_left_is_what_comes_of_the_rows_that_do_not_fail(kind, parts):
    flat = [n for part in parts for n in part]
    failing = [n for n in flat if kind.fails(n)]
    if kind.spec.verb == "reduce" and (not flat or kind.fails(flat[0])):
        return  # the first row is taken as it is: nothing is called with it
    out, letters, failed = played(kind, parts, "dead_letter")
    clean = [n for n in flat if not kind.fails(n)]
    places = [at for at, n in enumerate(flat) if not kind.fails(n)]
    wanted, none, _ = played(kind, [clean], "fail")
    if kind.spec.verb not in {"assign_timestamps", "sink"}:
        wanted = [(row, places[time]) for row, time in wanted]
    assert out == wanted
    assert none == []
    assert failed == len(failing)
    assert sorted((letter["timestamp"], letter["row"]["n"]) for letter in letters) == [
        (at, n) for at, n in enumerate(flat) if kind.fails(n)
    ]
    assert {letter["operator"] for letter in letters} <= {"it"}
    assert played(kind, parts, "skip") == (out, [], failed)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if "unhashable" not in kind.name],  # the exchange refuses that
    ids=lambda kind: kind.name,
)
def test_a_row_fails_the_job_where_nothing_else_was_said(kind):
    with pytest.raises(RaystreamError):
        played(kind, [[1], [-10, -7, 1, -3], [7]], "fail")


@given(
    rows=st.lists(
        st.sampled_from(
            [
                {"n": 1, "text": "a"},
                {"n": 2, "text": "b"},
                {"n": None, "text": "no time"},
                {"n": "x", "text": "no number"},
                {"n": 3},
                "no dict",
            ]
        )
    )
)
def test_a_source_gives_up_rows_that_do_not_fit_and_rows_without_time(rows):
    spec = SourceSpec(Raw(), WIRE, WatermarkStrategy("n"), "raw", "job.py:1", timed=True)
    operator = spec.build()
    assert isinstance(operator, SourceOperator)
    ctx = OpenContext("raw", errors=Rejects("dead_letter", "raw"))
    operator.open(ctx)
    ((batch, watermark),) = operator.convert(list(rows))
    whole = [row for row in rows if isinstance(row, dict) and len(row) == 2]
    fitting = [row for row in whole if isinstance(row["n"], int)]
    assert batch.visible.to_pylist() == fitting
    assert batch.timestamps.tolist() == [row["n"] for row in fitting]
    assert watermark == (max(row["n"] for row in fitting) - 1 if fitting else None)
    dead = [letter["row"] for letter in ctx.errors.take()]
    without_time = [row for row in whole if row["n"] is None]
    assert dead == [row for row in rows if row not in fitting and row not in without_time] + (
        without_time
    )
