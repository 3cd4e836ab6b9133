"""Process functions: on one stream, on two, and beside one that all subtasks see."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from conformance import Advance, Case, Right, Row, Story, is_batch, plain
from models import key_id
from process_model import Model
from stories import ODD, ODD_WIRE, story

from raystream.contracts.process import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
    ProcessMaker,
)
from raystream.contracts.state import (
    BroadcastState,
    ListState,
    MapState,
    OperatorListState,
    UnionListState,
    ValueState,
)
from raystream.flow.batch import NO_TIME, wire_schema
from raystream.keyed.key_form import KeyForm
from raystream.operators.broadcast_process import BroadcastProcessSpec
from raystream.operators.co_process import CoProcessSpec
from raystream.operators.process import ProcessSpec

STORY = story(30, seed=21)
UNTIMED = story(30, seed=22, timed=False)
OUT = pa.schema([("what", pa.string()), ("k", pa.string()), ("n", pa.int64())])
OUT_WIRE = wire_schema(OUT, timed=True)


def by_k(row: Any) -> Any:
    return row["k"]


def by_f(row: Any) -> Any:
    return row["f"]


def by_both(row: Any) -> Any:
    return (row["k"], row["f"])


def with_advances(told: Story) -> Story:
    """Let processing time pass between batches."""
    rng = random.Random(23)
    out: Story = []
    for item in told:
        out += [item, Advance(rng.choice([1, 2, 5]))] if rng.random() < 0.6 else [item]
    return [*out, Advance(4)]


def with_right(told: Story) -> Story:
    """Let every other batch come in at the second port."""
    return [Right(item) if is_batch(item) and at % 2 else item for at, item in enumerate(told)]


# Functions ---------------------------------------------------------------------------------------


class Halves(ProcessFunction):
    """Gives a row, a list, nothing; sends aside; counts what it has seen since the job began."""

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state(OperatorListState("seen", type=pa.int64()))
        self.all = ctx.state(UnionListState("all"))

    def process(self, row: Any, ctx: Any) -> Any:
        self.seen.add(1)
        count = len(self.seen.get())
        if row["b"] is None:
            self.all.add((count, row["k"]))
            return None
        if row["b"]:
            ctx.output("true", {"n": count})
            return [{"what": "all", "k": k, "n": n} for n, k in self.all.get()[-20:]]
        return iter([{"what": "no", "k": row["k"], "n": count}])


class Busy(KeyedProcessFunction):
    """Counts rows of a key until a timer; the timer gives many rows, and sometimes sets another."""

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state(ValueState("seen", type=pa.int64(), default=0))
        self.times = ctx.state(ListState("times"))
        self.marks = ctx.state(MapState("marks", type=pa.int64()))

    def process(self, row: Any, ctx: Any) -> Any:
        count = self.seen.value() + 1
        self.seen.update(count)
        time = ctx.timestamp or 0
        self.times.add(time)
        self.marks.put(row["i"], count)
        for later in (7, 7, 3):
            ctx.timers.register_event_time(time + later)
        ctx.timers.register_event_time(time - 40)
        if count % 3 == 0:
            ctx.timers.delete_event_time(time + 7)
            ctx.output("third", {"k": row["k"], "n": count})
        for _ in range(len(row["l"] or ())):
            yield {"what": "row", "k": row["k"], "n": count}

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        assert ctx.domain == "event"
        assert ctx.watermark >= timestamp
        ctx.output("timer", timestamp)
        marks = dict(self.marks.items())
        total = sum(marks.values())
        for number in range(self.seen.value() * 3):
            yield {"what": "timer", "k": f"{timestamp}", "n": total + number}
        # Comes after rows that need several batches: it must not be lost where they are.
        self.seen.update(len(self.times.get()) % 5)
        if timestamp % 4 == 0:
            ctx.timers.register_event_time(timestamp + 1)
            self.marks.clear()


class Ticking(Busy):
    """Does the same by processing time."""

    def process(self, row: Any, ctx: Any) -> Any:
        now = ctx.processing_time
        ctx.timers.register_processing_time(now + 3)
        ctx.timers.register_processing_time(now - 1)
        ctx.timers.register_processing_time(now + 2)
        if row["b"]:
            ctx.timers.delete_processing_time(now + 2)
        self.seen.update(self.seen.value() + 1)
        return [{"what": "row", "k": row["k"], "n": now}]

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        assert ctx.domain == "processing"
        assert ctx.timestamp is None
        for number in range(self.seen.value() % 13):
            yield {"what": "tick", "k": f"{timestamp}", "n": number}
        if timestamp % 5 == 0:
            ctx.timers.register_processing_time(timestamp - 1)


class Meeting(CoProcessFunction):
    """Keeps rows of either side until a timer pairs them."""

    def open(self, ctx: Any) -> None:
        self.left = ctx.state(ListState("left", type=pa.int64()))
        self.right = ctx.state(ListState("right"))

    def process_left(self, row: Any, ctx: Any) -> Any:
        self.left.add(row["i"] or 0)
        ctx.timers.register_event_time(ctx.timestamp + 9)

    def process_right(self, row: Any, ctx: Any) -> Any:
        self.right.add(row["i"] or 0)
        ctx.timers.register_event_time(ctx.timestamp + 5)
        if len(self.right.get()) > 4:
            yield {"what": "right", "k": row["k"], "n": len(self.left.get())}

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        for one in self.left.get():
            for other in self.right.get():
                yield {"what": "pair", "k": f"{timestamp}", "n": one // 2 + other // 2}
        self.left.clear()


class Aside(CoProcessFunction):
    """Without a key: what came on either side, and how much of it."""

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state(OperatorListState("seen"))

    def process_left(self, row: Any, ctx: Any) -> Any:
        self.seen.add("l")
        yield from [{"what": "left", "k": row["k"], "n": len(self.seen.get())}] * 3

    def process_right(self, row: Any, ctx: Any) -> Any:
        self.seen.add("r")
        return [{"what": "right", "k": row["k"], "n": self.seen.get().count("r")}]


class Limits(BroadcastProcessFunction):
    """Compares the sum of a key with limits that all subtasks know."""

    def open(self, ctx: Any) -> None:
        self.limits = ctx.state(BroadcastState("limits", type=pa.int64()))
        self.total = ctx.state(ValueState("total", type=pa.int64(), default=0))

    def process(self, row: Any, ctx: Any) -> Any:
        self.total.update(self.total.value() + (row["i"] or 0) % 10)
        ctx.timers.register_event_time(ctx.timestamp + 6)
        for name, limit in self.limits.items():
            if self.total.value() > limit:
                yield {"what": str(name), "k": row["k"], "n": self.total.value()}

    def process_broadcast(self, row: Any, ctx: Any) -> Any:
        assert ctx.key is None
        self.limits.put(row["k"], (row["i"] or 0) % 20)
        return [{"what": "limit", "k": row["k"], "n": len(self.limits.items())}]

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        for name, _ in self.limits.items() * 4:
            yield {"what": f"{name} {timestamp}", "k": None, "n": self.total.value()}
        self.total.clear()


class Open(BroadcastProcessFunction):
    """Without a key: passes what is allowed."""

    def open(self, ctx: Any) -> None:
        self.allowed = ctx.state(BroadcastState("allowed"))

    def process(self, row: Any, ctx: Any) -> Any:
        if dict(self.allowed.items()).get(row["k"]):
            yield {"what": "allowed", "k": row["k"], "n": row["i"]}

    def process_broadcast(self, row: Any, ctx: Any) -> Any:
        self.allowed.put(row["k"], row["b"])


# Cases -------------------------------------------------------------------------------------------


def model(
    function: type, methods: tuple[str, ...], key: Callable[[Any], Any] | None, told: Story
) -> Model:
    """Let the model go through a story."""
    batches = [item for item in told if is_batch(item)]
    timed = all(time is not None for batch in batches for time, _ in batch)
    it = Model(function(), key_id, timed=timed, no_time=NO_TIME)
    for item in told:
        if is_batch(item):
            method = methods[isinstance(item, Right)]
            keyed = key is not None and method != "process_broadcast"
            for time, row in item:
                it.row(method, time, row, key(row) if keyed and key else None)
        elif isinstance(item, Advance):
            it.advance(item.us)
        else:
            it.watermark_is(item)
    return it


def expecting(
    function: type, methods: tuple[str, ...], key: Callable[[Any], Any] | None
) -> Callable[[Story, bool], list[Row]]:
    def expect(told: Story, ended: bool) -> list[Row]:
        it = model(function, methods, key, told)
        if ended:
            it.end()
        return [(time, plain(row)) for time, row in it.rows]

    return expect


def siding(
    function: type, methods: tuple[str, ...], key: Callable[[Any], Any] | None
) -> Callable[[Story], dict[str, list[Row]]]:
    def sides(told: Story) -> dict[str, list[Row]]:
        it = model(function, methods, key, told)
        it.end()
        return {tag: [(time, plain(row)) for time, row in some] for tag, some in it.sides.items()}

    return sides


def case(
    name: str,
    function: type,
    told: Story,
    key: Callable[[Any], Any] | None = None,
    names: tuple[str, ...] = (),
    *,
    columns: bool = True,
    objects_out: bool = False,
    moves: bool = True,
) -> Case:
    """Make a case; with columns the keys are those of ``names``, of objects what ``key`` gives."""
    two = issubclass(function, CoProcessFunction | BroadcastProcessFunction)
    methods: tuple[str, ...] = ("process",)
    if issubclass(function, CoProcessFunction):
        methods = ("process_left", "process_right")
    elif two:
        methods = ("process", "process_broadcast")
    timed = told is not UNTIMED
    wire = (ODD_WIRE if timed else ODD) if columns else None
    output = None if objects_out else (OUT_WIRE if timed else OUT)
    form: KeyForm | None = None
    if key is not None:
        fields = [ODD.field(name) for name in names]
        form = KeyForm.columns(fields) if columns else KeyForm.objects()
    keys = None if key is None else (names if columns else ())
    rest = (form, output, timed, "it", "")
    maker = ProcessMaker(function)

    def spec() -> Any:
        if issubclass(function, CoProcessFunction):
            return CoProcessSpec(maker, keys, keys, *rest)
        return (BroadcastProcessSpec if two else ProcessSpec)(maker, keys, *rest)

    return Case(
        name,
        spec,
        told,
        expecting(function, methods, key),
        input=wire,
        output=output,
        key_of=None if columns else key,
        keys=keys if moves else None,
        # Timers of one moment fire in no order that outlives a snapshot.
        ordered=key is None,
        sides=siding(function, methods, key),
        right=wire if two else None,
        right_key_of=key if two and not columns else None,
    )


RIGHT = with_right(STORY)

CASES: dict[str, list[Case]] = {
    "process": [
        case("rows without keys", Halves, STORY),
        case("objects without keys and event time", Halves, UNTIMED, columns=False),
        case("timers of a key column", Busy, STORY, by_k, ("k",)),
        case(
            "timers of two key columns, to objects",
            Busy,
            STORY,
            by_both,
            ("k", "f"),
            objects_out=True,
        ),
        case("timers of objects", Busy, STORY, by_f, columns=False),
        case("event timers without event time", Busy, UNTIMED, by_k, ("k",)),
        case("processing timers", Ticking, with_advances(STORY), by_k, ("k",)),
        case("processing timers of objects", Ticking, with_advances(STORY), by_f, columns=False),
        case("nothing comes", Busy, [], by_k, ("k",)),
    ],
    "co_process": [
        case("two inputs of a key", Meeting, RIGHT, by_k, ("k",)),
        case("two inputs of objects", Meeting, RIGHT, by_f, columns=False, objects_out=True),
        case("two inputs without keys", Aside, RIGHT, columns=False),
        case("one of the two comes", Aside, STORY),
    ],
    "broadcast_process": [
        case("limits of a key", Limits, RIGHT, by_k, ("k",), moves=False),
        case("limits of objects", Limits, RIGHT, by_f, columns=False, moves=False),
        case("without keys", Open, RIGHT, objects_out=True),
    ],
}
