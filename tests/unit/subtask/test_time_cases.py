"""What watermarks cause in one subtask, case by case: windows, promises, the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from subtasks import END, WIRE, Driven, SilentSource, one_chain, rows, spell

from raystream.contracts.aggregate import Bound
from raystream.contracts.source import Split
from raystream.contracts.watermark import Punctuated, Strategy, WatermarkStrategy
from raystream.contracts.window import Tumbling
from raystream.errors import UserFunctionError
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, wire_schema
from raystream.flow.element import MAX_TIME, EndOfInput, Watermark
from raystream.flow.exchange import ToOne
from raystream.flow.ids import ChannelId
from raystream.flow.messages import Ended, Start
from raystream.graph.physical import ChainNode
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.operator import Operator
from raystream.operators.source import SourceSpec
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.subtask.events import Tell

OUT = ChannelId(1, 0, 0)
KEYED = pa.schema([pa.field("k", pa.string()), EVENT_TIME_FIELD])
TIME = pa.timestamp("us", "UTC")
COUNTS = wire_schema(
    pa.schema([("k", pa.string()), ("window_start", TIME), ("window_end", TIME), ("n", "int64")]),
    timed=True,
)


def node(spec: Any, schema: pa.Schema, children: Any = (), outputs: Any = (1,)) -> ChainNode:
    return ChainNode("it", "it", spec, schema, "", tuple(children), tuple(outputs))


def counting(size: int) -> Driven:
    counts = (Bound("n", "count", pa.int64()),)
    spec = WindowAggregateSpec(("k",), Tumbling(size), counts, COUNTS)
    return Driven(one_chain((node(spec, COUNTS),), KEYED, [ToOne()], schema_out=COUNTS))


def keyed(*rows_: tuple[str, int]) -> Columns:
    columns = [pa.array([k for k, _ in rows_]), pa.array([time for _, time in rows_])]
    return Columns(pa.RecordBatch.from_arrays(columns, schema=KEYED))


def sent(it: Driven) -> list[Any]:
    """Say what has been sent: ``(key, start, end, n, ts)`` of each window, and the rest."""
    said: list[Any] = []
    for frame in it.frames.get(OUT, []):
        for element in it._elements(frame):
            if not isinstance(element, Columns):
                said += spell([element])
                continue
            micros = [element.record.column(i).cast(pa.int64()).to_pylist() for i in (1, 2, 3, 4)]
            said += zip(element.record.column(0).to_pylist(), *micros, strict=True)
    return said


def test_c1_a_window_fires_when_its_last_instant_has_passed_and_before_the_watermark_goes_on():
    it = counting(10)
    it.receive(keyed(("a", 0), ("a", 9)), Watermark(8))
    it.settle()
    assert sent(it) == ["W8"]
    it.receive(Watermark(9))
    it.settle()
    assert sent(it) == ["W8", ("a", 0, 10, 2, 9), "W9"]


def reading(strategy: Strategy, wire: pa.Schema = WIRE) -> Driven:
    source = SilentSource(["a"], pa.schema(list(wire)[:-1]))
    spec = SourceSpec(source, wire, strategy, "it", "job.py:7", timed=True)
    plan = one_chain((node(spec, wire),), None, [ToOne()], up=0, schema_out=wire)
    return Driven(plan, start=Start((Split("a"),)))


def numbers(*values: int) -> pa.RecordBatch:
    """Give rows whose event time is ``n``."""
    texts = pa.array(["x"] * len(values), pa.string())
    return pa.RecordBatch.from_arrays([pa.array(values), texts], schema=pa.schema(list(WIRE)[:-1]))


def test_c2_the_watermark_trails_the_greatest_time_and_does_not_regress():
    it = reading(WatermarkStrategy("n", out_of_orderness=3))
    it.settle()
    assert sent_numbers(it) == []  # none before the first row
    it.answer(numbers(10, 12))
    it.settle()
    assert sent_numbers(it) == [10, 12, "W8"]
    it.answer(numbers(5))
    it.settle()
    assert sent_numbers(it) == [10, 12, "W8", 5]


def sent_numbers(it: Driven) -> list[object]:
    return spell(e for frame in it.frames.get(OUT, []) for e in it._elements(frame))


@dataclass(frozen=True)
class Noting:
    """Passes rows on and notes every watermark, in order with the end."""

    noted: list[object] = field(default_factory=list)
    verb: str = "note"

    def describe(self) -> str:
        return ""

    def build(self) -> NotingOperator:
        return NotingOperator(self.noted)


class NotingOperator(Operator):
    def __init__(self, noted: list[object]) -> None:
        self._noted = noted

    def on_batch(self, port: int, batch: Any) -> Iterator[Any]:
        yield batch

    def on_watermark(self, time_us: int) -> Iterator[Any]:
        self._noted.append(time_us)
        return iter(())

    def on_end(self) -> Iterator[Any]:
        self._noted.append("end")
        return iter(())


def test_c9_the_end_of_bounded_input_is_max_exactly_once_then_the_end():
    first, second = Noting(), Noting()
    nodes = (node(first, WIRE, [1], ()), node(second, WIRE))
    it = Driven(one_chain(nodes, WIRE, [ToOne()], up=2))
    it.receive(rows(0, 2), Watermark(5), EndOfInput())
    it.settle()
    it.receive(rows(2, 1), Watermark(7), upstream=1)
    it.settle()
    it.receive(EndOfInput(), upstream=1)
    it.settle()
    assert first.noted == second.noted == [7, MAX_TIME, "end"]
    assert it.sent() == [0, 1, 2, "W7", "end"]
    assert it.effects == [Tell(Ended())]


def test_c9_the_end_fires_what_is_open_and_then_ends():
    it = counting(10)
    it.receive(keyed(("a", 3), ("b", 25)), Watermark(9), EndOfInput())
    it.settle()
    assert sent(it) == [("a", 0, 10, 1, 9), "W9", ("b", 20, 30, 1, 29), "end"]


def test_c9_a_source_s_own_watermarks_never_reach_max():
    # Only the end of the input is the end of time: rows may come behind any other watermark.
    it = reading(Punctuated("n", lambda row: MAX_TIME))
    it.answer(numbers(1))
    it.settle()
    assert it.sent() == [1, f"W{MAX_TIME - 1}"]
    it.answer(END)
    it.settle()
    assert it.sent()[2:] == ["end"]


# Punctuation -------------------------------------------------------------------------------------


def tens(row: dict[str, Any]) -> int | None:
    """Every row of a round number says that all before it have come."""
    return row["n"] - 1 if row["n"] % 10 == 0 else None


ROWS = [3, 10, 4, 12, 20, 5, 10, 21]
STORY = [3, 10, "W9", 4, 12, 20, "W19", 5, 10, 21, "end"]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_watermark_stands_behind_its_row_however_rows_are_cut_into_batches(size):
    it = reading(Punctuated("n", tens))
    for start in range(0, len(ROWS), size):
        it.answer(numbers(*ROWS[start : start + size]))
        it.settle()
    it.answer(END)
    it.settle()
    assert it.sent() == STORY


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_in_the_middle_of_a_stream_too(size):
    spec = AssignTimestampsSpec(Punctuated("n", tens), WIRE, "it", "")
    it = Driven(one_chain((node(spec, WIRE),), WIRE, [ToOne()]))
    for start in range(0, len(ROWS), size):
        record = numbers(*ROWS[start : start + size])
        times = pa.array(np.zeros(record.num_rows, np.int64))
        it.receive(Columns(pa.RecordBatch.from_arrays([*record.columns, times], schema=WIRE)))
    it.receive(EndOfInput())
    it.settle()
    assert it.sent() == STORY


def test_watermarks_of_rows_are_combined_over_the_splits():
    source = SilentSource(["a", "b"], pa.schema(list(WIRE)[:-1]))
    spec = SourceSpec(source, WIRE, Punctuated("n", tens), "it", "", timed=True)
    it = Driven(
        one_chain((node(spec, WIRE),), None, [ToOne()], up=0),
        start=Start((Split("a"), Split("b"))),
    )
    said = {"a": iter([numbers(10, 20, 30)]), "b": iter([numbers(20)])}
    while it.polls:
        it.answer(next(said[it.polls[0].split.id], END))
        it.settle()
    # The first of "b" lets pass what "a" had said long before; its end lets pass the rest.
    assert it.sent() == [10, 20, 30, 20, "W19", "end"]


class Opened:
    """A function that lives: made in the subtask, opened, closed."""

    log: list[str] = []  # noqa: RUF012  what all instances of a test write to

    def __init__(self) -> None:
        self.log.append("made")

    def open(self, ctx: Any) -> None:
        self.log.append(f"open {ctx.operator}")

    def __call__(self, row: dict[str, Any]) -> int:
        return int(row["n"])

    def close(self) -> None:
        self.log.append("close")


def test_functions_of_time_are_made_opened_and_closed_once_a_subtask():
    Opened.log.clear()
    it = reading(Punctuated(Opened, Opened))
    it.answer(numbers(4))
    it.answer(END)
    it.settle()
    assert it.sent() == [4, "W4", "end"]
    it.machine._chain.close()
    assert Opened.log == ["made", "open it"] * 2 + ["close"] * 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (lambda row: 1 // 0, "ZeroDivisionError"),
        (lambda row: "10s", "not a point in time: '10s', a str"),
        (lambda row: 4.5, "not a point in time: 4.5, a float"),
        (lambda row: True, "not a point in time: True, a bool"),
        (lambda row: float("nan"), "not a point in time: nan"),
        (lambda row: 2**63, "64 bits"),
    ],
)
def test_what_a_function_says_of_time_wrong_names_the_operator_and_the_row(said, told):
    it = reading(Punctuated("n", said))
    it.answer(numbers(7))
    with pytest.raises(UserFunctionError, match=told) as failure:
        it.settle()
    assert failure.value.operator == "it"
    assert failure.value.row == "{'n': 7, 'text': 'x'}"
    assert failure.value.where == "job.py:7"


@pytest.mark.parametrize(
    ("said_ns", "passes_us"), [(999, 0), (1_000, 0), (1_998, 0), (1_999, 1), (-1, -1), (-2, -2)]
)
def test_a_watermark_in_nanoseconds_promises_no_more_than_it_says(said_ns, passes_us):
    # A row one nanosecond behind it is not late, and is read by floor.
    it = reading(Punctuated("n", lambda row: said_ns, unit="ns"))
    it.answer(numbers(said_ns))
    it.settle()
    assert it.sent() == [said_ns, f"W{passes_us}"]
    assert (said_ns + 1) // 1_000 > passes_us
