"""A chain as one generator: who is called when, with what, and what leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from subtasks import WIRE, SilentSource, rows, spell

from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.errors import ProtocolError
from raystream.flow.batch import Columns, Objects
from raystream.flow.element import MAX_TIME, Side, Watermark
from raystream.graph.physical import Chain, ChainNode
from raystream.operators.operator import Operator
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.subtask.chain import RunningChain


@dataclass(frozen=True, eq=False)
class Telling:
    """An operator that writes down what happens to it; what it gives can be chosen."""

    name: str
    log: list[Any]
    copies: int = 1
    at_watermark: tuple[Any, ...] = ()
    at_end: tuple[Any, ...] = ()
    forwards: bool = True
    fails: tuple[str, ...] = ()
    verb: str = field(default="tell")

    def describe(self) -> str:
        return self.name

    def build(self) -> Any:
        return _Telling(self)


class _Telling(Operator):
    def __init__(self, spec: Telling) -> None:
        self._spec = spec
        self._rest = list(spec.at_watermark)

    def _tell(self, what: str, *more: Any) -> None:
        self._spec.log.append((self._spec.name, what, *more))
        if what in self._spec.fails:
            raise RuntimeError(f"{self._spec.name} {what}")

    def open(self, ctx: OpenContext) -> None:
        self._tell("open")

    def on_batch(self, port: int, batch: Any):
        self._tell("batch", port, spell([batch]))
        for _ in range(self._spec.copies):
            yield batch

    def on_watermark(self, time_us: int):
        self._tell("watermark", "MAX" if time_us == MAX_TIME else time_us)
        while self._rest:
            yield self._rest.pop(0)

    def output_watermark(self, time_us: int) -> int | None:
        return time_us if self._spec.forwards else None

    def on_end(self):
        self._tell("end")
        yield from self._spec.at_end

    def close(self) -> None:
        self._tell("close")


def node(spec, children=(), outputs=(), schema=WIRE) -> ChainNode:
    name = getattr(spec, "name", "it")
    return ChainNode(name, name, spec, schema, "", tuple(children), tuple(outputs))


def running(*nodes: ChainNode) -> RunningChain:
    chain = RunningChain(Chain("it", nodes, 1), lambda n: OpenContext(n.name))
    chain.open()
    return chain


def left(emitted):
    """Say what leaves: (edges, word) for each element; places to pause are left out."""
    return [(edges, word) for edges, element in emitted if edges for word in spell([element])]


def test_a_batch_without_rows_is_a_place_to_pause_and_goes_nowhere():
    log = []
    nothing = rows(1, 1).slice(0, 0)
    chain = running(
        node(Telling("a", log, at_watermark=(nothing, nothing)), [1], [0]), node(Telling("b", log))
    )
    emitted = list(chain.watermark(5))
    assert [edges for edges, _ in emitted[:2]] == [(), ()]
    assert left(emitted) == [((0,), "W5")]
    assert ("b", "batch") not in [entry[:2] for entry in log]


def test_sinks_are_open_before_what_writes_to_them():
    log = []
    running(node(Telling("a", log), [1]), node(Telling("b", log), [2]), node(Telling("c", log)))
    assert log == [("c", "open"), ("b", "open"), ("a", "open")]


def test_only_what_is_open_is_closed_when_opening_fails():
    log = []
    nodes = (
        node(Telling("a", log), [1]),
        node(Telling("b", log, fails=("open",)), [2]),
        node(Telling("c", log)),
    )
    chain = RunningChain(Chain("it", nodes, 1), lambda n: OpenContext(n.name))
    with pytest.raises(RuntimeError, match="b open"):
        chain.open()
    log.clear()
    chain.close()
    assert log == [("b", "close"), ("c", "close")]


def test_there_is_nothing_to_close_when_building_fails():
    @dataclass(frozen=True, eq=False)
    class Unbuilt(Telling):
        def build(self) -> Any:
            raise RuntimeError("b build")

    log = []
    nodes = (node(Telling("a", log), [1]), node(Unbuilt("b", log)))
    chain = RunningChain(Chain("it", nodes, 1), lambda n: OpenContext(n.name))
    with pytest.raises(RuntimeError, match="b build"):
        chain.open()
    chain.close()
    assert log == []


def test_all_are_closed_once_though_closing_one_fails():
    log = []
    chain = running(
        node(Telling("a", log, fails=("close",)), [1]),
        node(Telling("b", log), [2]),
        node(Telling("c", log)),
    )
    log.clear()
    with pytest.raises(RuntimeError, match="a close"):
        chain.close()
    chain.close()
    assert log == [("a", "close"), ("b", "close"), ("c", "close")]


def test_a_row_goes_through_all_before_the_next_is_made():
    log = []
    chain = running(node(Telling("a", log, copies=2), [1]), node(Telling("b", log), outputs=[7]))
    log.clear()
    assert left(chain.batch(0, rows(1, 1))) == [((7,), 1), ((7,), 1)]
    assert log == [("a", "batch", 0, [1]), ("b", "batch", 0, [1]), ("b", "batch", 0, [1])]


def test_nothing_is_made_before_it_is_asked_for():
    log = []
    chain = running(node(Telling("a", log, copies=100), outputs=[7]))
    log.clear()
    emitted = chain.batch(0, rows(1, 1))
    assert log == []
    next(emitted)
    emitted.close()
    assert chain.rows_out == [1]


def test_between_two_batches_there_is_a_place_to_pause():
    log = []
    chain = running(node(Telling("a", log, copies=3), [1]), node(Telling("b", log), outputs=[7]))
    edges = [bool(edges) for edges, _ in chain.batch(0, rows(1, 1))]
    assert edges == [False, True] * 3


def test_the_port_reaches_the_head_and_only_the_head():
    log = []
    chain = running(node(Telling("a", log), [1]), node(Telling("b", log)))
    log.clear()
    list(chain.batch(3, rows(1, 1)))
    assert log == [("a", "batch", 3, [1]), ("b", "batch", 0, [1])]


def test_several_consumers_each_get_every_row():
    log = []
    chain = running(
        node(Telling("a", log), [1, 2], outputs=[9]),
        node(Telling("b", log), outputs=[5]),
        node(Telling("c", log), outputs=[6, 7]),
    )
    assert left(chain.batch(0, rows(1, 2))) == [
        *(((9,), n) for n in (1, 2)),
        *(((5,), n) for n in (1, 2)),
        *(((6, 7), n) for n in (1, 2)),
    ]


def test_what_a_watermark_causes_leaves_before_it_on_every_level():
    log = []
    chain = running(
        node(Telling("a", log, at_watermark=(rows(1, 1), rows(2, 1))), [1]),
        node(Telling("b", log, at_watermark=(rows(3, 1),)), outputs=[7]),
    )
    log.clear()
    assert left(chain.watermark(50)) == [((7,), n) for n in (1, 2, 3, "W50")]
    assert log == [
        ("a", "watermark", 50),
        ("b", "batch", 0, [1]),
        ("b", "batch", 0, [2]),
        ("b", "watermark", 50),
    ]


def test_an_operator_may_keep_a_watermark_to_itself():
    log = []
    chain = running(
        node(Telling("a", log, forwards=False), [1], outputs=[7]), node(Telling("b", log))
    )
    log.clear()
    assert left(chain.watermark(5)) == []
    assert log == [("a", "watermark", 5)]


def test_a_watermark_that_does_not_rise_is_not_passed_on():
    chain = running(node(Telling("a", []), outputs=[7]))
    assert left(chain.watermark(5)) == [((7,), "W5")]
    assert left(chain.watermark(5)) == []
    assert left(chain.watermark(4)) == []


def test_watermarks_of_an_operators_own_stand_behind_its_rows():
    class Own(_Telling):
        def on_batch(self, port, batch):
            yield batch
            yield Watermark(int(batch.timestamps.max()))

    @dataclass(frozen=True, eq=False)
    class OwnSpec(Telling):
        def build(self):
            return Own(self)

    log = []
    chain = running(node(OwnSpec("a", []), [1]), node(Telling("b", log), outputs=[7]))
    assert left(chain.batch(0, rows(4, 2))) == [((7,), 4), ((7,), 5), ((7,), "W5")]


def test_the_end_comes_operator_by_operator_and_each_is_still_open_for_the_one_before():
    log = []
    chain = running(
        node(Telling("a", log, at_watermark=(rows(1, 1),), at_end=(rows(2, 1),)), [1, 2]),
        node(Telling("b", log, at_watermark=(rows(3, 1),), at_end=(rows(4, 1),)), outputs=[7]),
        node(Telling("c", log), outputs=[8]),
    )
    log.clear()
    assert left(chain.end()) == [
        ((7,), 1),
        ((8,), 1),
        ((7,), 2),
        ((8,), 2),
        ((7,), 3),
        ((7,), 4),
    ]
    assert [entry for entry in log if entry[1] != "batch"] == [
        ("a", "watermark", "MAX"),
        ("a", "end"),
        ("b", "watermark", "MAX"),
        ("b", "end"),
        ("c", "watermark", "MAX"),
        ("c", "end"),
    ]


def test_a_source_at_the_head_is_read_and_its_watermarks_are_its_own():
    log = []
    source = SourceSpec(SilentSource(), WIRE, None, "read", "", timed=True)
    chain = running(node(source, [1], outputs=[7]), node(Telling("b", log), outputs=[8]))
    assert chain.source is chain.operators[0]
    assert left(chain.read(rows(1, 1))) == [((7,), 1), ((8,), 1)]
    assert left(chain.watermark(5)) == [((7,), "W5"), ((8,), "W5")]
    assert left(chain.end()) == []
    assert log[-1] == ("b", "end")


def test_rows_are_counted_at_each_operator():
    chain = running(
        node(Telling("a", [], copies=3), [1]), node(Telling("b", [], copies=0), outputs=[7])
    )
    list(chain.batch(0, rows(0, 10)))
    assert chain.rows_in == [10, 30]
    assert chain.rows_out == [30, 0]


def test_batches_without_rows_go_nowhere():
    log = []
    chain = running(
        node(Telling("a", log, at_watermark=(rows(0, 0),)), [1], outputs=[7]),
        node(Telling("b", log)),
    )
    log.clear()
    assert left(chain.batch(0, rows(0, 0))) == []
    assert log == []
    assert left(chain.watermark(1)) == [((7,), "W1")]
    assert ("b", "batch", 0, []) not in log


@pytest.mark.parametrize(
    ("schema", "gives", "message"),
    [
        (WIRE, Columns(pa.record_batch({"n": [1]})), "the plan says"),
        (None, rows(0, 1), "gave columns"),
        (WIRE, Objects([1]), "gave objects"),
    ],
)
def test_rows_of_another_kind_than_planned_are_refused(schema, gives, message):
    chain = running(node(Telling("a", [], at_watermark=(gives,)), outputs=[7], schema=schema))
    with pytest.raises(ProtocolError, match=message):
        list(chain.watermark(1))


def test_the_operators_that_write_are_found():
    class Keeping(Sink):
        def open(self, ctx):
            return Kept()

    class Kept(Writer):
        def write(self, batch):
            pass

    chain = running(
        node(Telling("a", []), [1, 2]),
        ChainNode("w", "w", SinkSpec(Keeping(), "w", ""), None),
        node(Telling("c", [])),
    )
    assert [found.name for found, _ in chain.sinks()] == ["w"]


class _Sending(_Telling):
    """Sends every row aside too, and one more when its timer is due."""

    due_us: int | None = 100

    def on_batch(self, port, batch):
        yield batch
        yield Side("aside", batch)
        yield Side("unread", batch)

    def timer_due_us(self):
        return self.due_us

    def on_timer(self, now_us):
        self.due_us = None
        yield rows(now_us, 1)


@dataclass(frozen=True, eq=False)
class Sending(Telling):
    def build(self):
        return _Sending(self)


def test_a_side_output_goes_to_those_who_read_it_and_watermarks_to_all():
    aside = SideOutputSpec("aside", WIRE, "side", "")
    chain = running(
        node(Sending("a", []), [1, 2], [7]),
        node(aside, outputs=[8]),
        node(Telling("b", []), outputs=[9]),
    )
    assert left(chain.batch(0, rows(4, 1))) == [((7,), 4), ((9,), 4), ((8,), 4)]
    assert left(chain.watermark(5)) == [((7,), "W5"), ((8,), "W5"), ((9,), "W5")]


def test_timers_fire_when_they_are_due_and_only_then():
    chain = running(node(Sending("a", []), outputs=[7]), node(Telling("b", []), outputs=[8]))
    assert chain.timer_due_us() == 100
    assert left(chain.timers(99)) == []
    assert left(chain.timers(120)) == [((7,), 120)]
    assert chain.timer_due_us() is None
