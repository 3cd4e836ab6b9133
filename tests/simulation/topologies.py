"""Jobs of every shape, whose visible rows do not hang on what comes first."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from ledger import Ledger, LedgerSink, WholeSink

import raystream as rs
from raystream.contracts.checkpointing import Checkpointing, Exponential
from raystream.contracts.source import END, Reader, Source, Split
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan

KEYS = 5
ROWS = 60
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("t", pa.timestamp("us", "UTC"))])
TIMES = rs.WatermarkStrategy("t", out_of_orderness="5ms")


class Rows(Source):
    """Splits of numbered rows, in batches whose sizes differ from poll to poll."""

    schema = SCHEMA

    def __init__(self, splits: int = 3, rows: int = ROWS, first: int = 0) -> None:
        self._splits, self._rows, self._first = splits, rows, first

    def splits(self) -> list[Split]:
        return [Split(f"s{i}") for i in range(self._splits)]

    def open(self, split: Split, position: Any) -> Reader:
        number = int(split.id[1:])
        rng = random.Random(number * 1_000 + self._first)
        rows = []
        for i in range(self._rows):
            time_us = i * 2_000 + rng.randrange(-2_000, 2_000)
            value = self._first + number * self._rows + i
            rows.append({"k": rng.randrange(KEYS), "v": value, "t": 1_000_000_000_000 + time_us})
        return _RowsReader(rows, position or 0, SCHEMA)


class _RowsReader(Reader):
    def __init__(self, rows: list[dict[str, Any]], position: int, schema: pa.Schema) -> None:
        self._rows, self._position, self._schema = rows, position, schema
        self._polls = 0

    def poll(self, max_rows: int) -> Any:
        self._polls += 1
        if self._position >= len(self._rows):
            return END
        if self._polls % 5 == 0:
            return None
        count = 1 + (self._position * 7 + self._polls) % 6
        rows = self._rows[self._position : self._position + count]
        self._position += len(rows)
        return pa.RecordBatch.from_pylist(rows, schema=self._schema)

    def position(self) -> int:
        return self._position


def count(state: int | None, row: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    seen = (state or 0) + 1
    return seen, {"k": row["k"], "seen": seen}


def chain(job: rs.Job, ledger: Ledger) -> None:
    rows = job.source(Rows())
    rows.filter(rs.col("v") % 3 != 0).map(lambda row: {"v": row["v"] * 2}).sink(LedgerSink(ledger))


def diamond(job: rs.Job, ledger: Ledger) -> None:
    rows = job.source(Rows(), watermark=TIMES)
    left = rows.map(lambda row: ("left", row["v"]))
    right = rows.rebalance().map(lambda row: ("right", row["v"]))
    left.union(right).key_by(lambda pair: pair[1] % KEYS).map_with_state(
        lambda state, pair: ((state or 0) + 1, (pair[1] % KEYS, (state or 0) + 1))
    ).sink(LedgerSink(ledger))


def union(job: rs.Job, ledger: Ledger) -> None:
    one = job.source(Rows(2), name="one")
    two = job.source(Rows(3, first=10_000), name="two")
    one.union(two).key_by("k").map_with_state(count).uid("count").sink(LedgerSink(ledger))


def aligned(job: rs.Job, ledger: Ledger) -> None:
    # Two sources wait for each other; each reads history first, then what is behind it.
    together = rs.Alignment("both", max_drift="10ms")
    times = rs.WatermarkStrategy("t", out_of_orderness="5ms", alignment=together)
    streams = [
        job.source(
            rs.chain(Rows(3, ROWS // 4, first), Rows(2, ROWS // 4, first + 1_000)),
            name=name,
            watermark=times,
        )
        for name, first in (("one", 0), ("two", 10_000))
    ]
    both = streams[0].union(streams[1])
    both.key_by("k").map_with_state(count).uid("count").sink(LedgerSink(ledger))


def windows(job: rs.Job, ledger: Ledger) -> None:
    keyed = job.source(Rows(), watermark=TIMES).key_by("k")
    for name, window in {
        "tumbling": rs.Tumbling("20ms"),
        "sliding": rs.Sliding("30ms", "10ms"),
        "session": rs.Session("4ms"),
        "cumulative": rs.Cumulative("40ms", "10ms"),
    }.items():
        keyed.window(window).aggregate(n=rs.count(), total=rs.sum("v"), top=rs.max("v")).map(
            lambda row, name=name: (name, *row.values())
        ).sink(LedgerSink(ledger))
    keyed.window(rs.Tumbling("20ms")).apply(
        lambda key, window, rows: [(key, sorted(row["v"] for row in rows))]
    ).sink(LedgerSink(ledger))


class Known(rs.BroadcastProcessFunction):
    def open(self, ctx):
        self.rules = ctx.state(rs.BroadcastState("rules"))

    def process(self, row, ctx):
        yield "row", row["v"]

    def process_broadcast(self, row, ctx):
        self.rules.put(row["v"], row["k"])


def broadcast(job: rs.Job, ledger: Ledger) -> None:
    rows = job.source(Rows(2), name="rows")
    rules = job.source(Rows(1, rows=20, first=5_000), name="rules")
    rows.connect(rules.broadcast()).process(Known()).uid("known").sink(LedgerSink(ledger))


async def look_up(row: dict[str, Any]) -> tuple[str, int]:
    return "looked up", row["v"]


def asynchronous(job: rs.Job, ledger: Ledger) -> None:
    rows = job.source(Rows(2))
    rows.async_map(look_up, capacity=4).sink(LedgerSink(ledger))


def fetched(job: rs.Job, ledger: Ledger) -> None:
    # What comes back later goes to others, which count it.
    rows = job.source(Rows(2), watermark=TIMES).rebalance()
    keyed = rows.async_map(look_up, capacity=4, ordered=False).key_by(lambda pair: pair[1] % KEYS)
    keyed.map_with_state(
        lambda state, pair: ((state or 0) + 1, (pair[1] % KEYS, (state or 0) + 1))
    ).uid("count").sink(LedgerSink(ledger))


def two_sinks(job: rs.Job, ledger: Ledger) -> None:
    rows = job.source(Rows())
    rows.map(lambda row: ("one", row["v"])).sink(LedgerSink(ledger))
    rows.key_by("k").aggregate(n=rs.count()).map(lambda row: ("whole", row["k"], row["n"])).sink(
        WholeSink(ledger)
    )


class Gathering(rs.KeyedProcessFunction):
    """Gives, a while behind the first row of a key, that it has come; every kind of state."""

    def open(self, ctx):
        self.rows = ctx.state(rs.ListState("rows"))
        self.due = ctx.state(rs.ValueState("due", type=pa.int64()))
        self.seen = ctx.state(rs.MapState("seen", key_type=pa.int64(), type=pa.int64()))

    def process(self, row, ctx):
        self.rows.add(row["v"])
        third = row["v"] % 3
        self.seen.put(third, (self.seen.get(third) or 0) + 1)
        if self.due.value() is None:
            self.due.update(10**15)
            ctx.timers.register_event_time(10**15)
        ctx.timers.register_event_time(ctx.timestamp + 1)

    def on_timer(self, timestamp, ctx):
        if timestamp == self.due.value():
            self.due.clear()
            thirds = sorted(self.seen.items())
            self.seen.clear()
            return [("all", ctx.key, sorted(self.rows.get()), thirds)]
        return [("timer", ctx.key, timestamp)]


def process(job: rs.Job, ledger: Ledger) -> None:
    keyed = job.source(Rows(), watermark=TIMES).key_by("k")
    keyed.process(Gathering()).uid("gather").sink(LedgerSink(ledger))


def counts(job: rs.Job, ledger: Ledger) -> None:
    keyed = job.source(Rows(), watermark=TIMES).key_by("k")
    for name, window in {
        "four": rs.TumblingCount(4),
        "six by two": rs.SlidingCount(6, 2),
    }.items():
        # Which rows are together hangs on what comes first; how many are does not.
        keyed.window(window).aggregate(n=rs.count()).map(
            lambda row, name=name: (name, row["k"], row["n"])
        ).sink(LedgerSink(ledger))
    triggered = keyed.window(rs.Global()).trigger(rs.triggers.Purging(rs.triggers.Count(5)))
    triggered.aggregate(n=rs.count()).map(lambda row: ("global", row["k"], row["n"])).sink(
        LedgerSink(ledger)
    )


def greater(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return max(one, other, key=lambda row: row["v"])


def best(job: rs.Job, ledger: Ledger) -> None:
    keyed = job.source(Rows(), watermark=TIMES).key_by("k")
    keyed.window(rs.Tumbling("20ms")).top_k(2, "v").map(
        lambda row: ("best", row["k"], row["v"])
    ).sink(LedgerSink(ledger))
    keyed.window(rs.Tumbling("20ms")).reduce(greater).map(
        lambda row: ("greatest", row["k"], row["v"])
    ).sink(LedgerSink(ledger))
    keyed.deduplicate().map(lambda row: ("first", row["k"])).sink(LedgerSink(ledger))
    keyed.reduce(greater).map(lambda row: ("reduced", row["k"])).sink(LedgerSink(ledger))


def joins(job: rs.Job, ledger: Ledger) -> None:
    # As many subtasks as have splits: what waits for all of them would take long otherwise.
    left = job.source(Rows(2), name="left", watermark=TIMES).with_parallelism(2)
    right = job.source(Rows(1, first=10_000), name="right", watermark=TIMES).with_parallelism(1)
    for how in ("inner", "full"):
        windowed = left.join(right, on="k", how=how, window=rs.Tumbling("8ms"))
        within = left.join(right, on="k", how=how, within=("-3ms", "1ms"))
        for name, joined in (("window", windowed), ("within", within)):
            joined.map(lambda row, name=name, how=how: (name, how, row["v"], row["v_right"])).sink(
                LedgerSink(ledger)
            )
    regular = left.join(right.filter(rs.col("v") % 5 == 0), on="k", ttl="forever").uid("regular")
    regular.map(lambda row: ("regular", row["v"], row["v_right"])).sink(LedgerSink(ledger))
    left.as_of_join(right, on="k", tolerance="9ms").map(
        lambda row: ("as of", row["v"], row["v_right"])
    ).sink(LedgerSink(ledger))


CHANGES = pa.schema({"id": pa.int64(), "k": pa.int64(), "v": pa.int64(), "op": pa.string()})


class Changes(Source):
    """Splits that tell of rows of a table of their own: new ones, updates, tombstones."""

    schema = CHANGES

    def splits(self) -> list[Split]:
        return [Split(f"s{i}") for i in range(2)]

    def open(self, split: Split, position: Any) -> Reader:
        number = int(split.id[1:])
        rng = random.Random(number)
        told, there = [], set()
        for at in range(ROWS // 2):
            id = 10 * number + rng.randrange(6)
            row = {"id": id, "k": None, "v": None, "op": "-D"}
            if id not in there or rng.random() < 0.75:
                row |= {"k": rng.randrange(KEYS), "v": at, "op": "+U"}
            (there.discard if row["op"] == "-D" else there.add)(id)
            told.append(row)
        return _RowsReader(told, position or 0, CHANGES)


def changes(job: rs.Job, ledger: Ledger) -> None:
    # Of all that comes and goes only the end is seen: between, it hangs on what comes first.
    told = job.source(Changes(), name="told").with_parallelism(2)
    table = told.to_changelog(key="id").uid("table")
    rows = job.source(Rows(1, rows=ROWS // 3, first=10_000), name="rows").with_parallelism(1)
    both = table.join(rows, on="k", how="full", ttl="forever").uid("both")
    kept = both.filter(rs.col("v") % 3 != 0).key_by("k")
    counts = kept.aggregate(n=rs.count(), most=rs.max("v"), emit="changes").uid("counts")
    numbers = counts.key_by("n").aggregate(
        keys=rs.count(), sum=rs.sum("k"), most=rs.max("most"), emit="final"
    )
    best = table.key_by("k").top_k(2, ["v", "id"], rank="rank", emit="changes").uid("best")
    ranked = best.key_by("k").top_k(9, "v", emit="final")
    for name, stream in (("numbers", numbers), ("ranked", ranked)):
        stream.with_parallelism(1).map(
            lambda row, name=name: (name, *row.values())
        ).with_parallelism(1).sink(LedgerSink(ledger)).with_parallelism(1)


@dataclass(frozen=True)
class Topology:
    """A job, and the sections of state that an undisturbed run would have in the end, too."""

    build: Callable[[rs.Job, Ledger], None]
    states: tuple[tuple[str, str], ...] = ()


TOPOLOGIES = {
    "chain": Topology(chain),
    "diamond": Topology(diamond, (("map_with_state#1", "state:state"),)),
    "union": Topology(union, (("count", "state:state"),)),
    "aligned": Topology(aligned, (("count", "state:state"),)),
    "windows": Topology(
        windows,
        (
            ("apply#1", "state:window:rows"),
            ("apply#1", "timers"),
            ("window#1", "windows"),
            ("window#2", "panes"),
            ("window#3", "sessions"),
        ),
    ),
    "broadcast": Topology(broadcast, (("known", "operator_state:rules"),)),
    "async": Topology(asynchronous),
    "fetched": Topology(fetched, (("count", "state:state"),)),
    "two sinks": Topology(two_sinks, (("aggregate#1", "keys"),)),
    "counts": Topology(
        counts,
        (
            ("window#1", "state:trigger:count"),
            ("window#2", "state:trigger:count"),
            ("window#3", "state:trigger:count"),
        ),
    ),
    "best": Topology(
        best, (("reduce#2", "states"), ("reduce#1", "timers"), ("top_k#1", "windows"))
    ),
    "joins": Topology(joins),
    "changes": Topology(
        changes,
        (("table", "keys"), ("both", "left"), ("both", "right"), ("best", "rows")),
    ),
    "process": Topology(
        process,
        (
            ("gather", "state:rows"),
            ("gather", "state:due"),
            ("gather", "state:seen"),
            ("gather", "timers"),
        ),
    ),
}


def plan_of(
    name: str, ledger: Ledger, parallelism: int, settings: Checkpointing | None = None
) -> PhysicalPlan:
    """Give the plan of a topology, kept safe so often that many checkpoints meet many faults."""
    return replan_of(name, ledger, parallelism, settings).plan({})


def replan_of(
    name: str, ledger: Ledger, parallelism: int, settings: Checkpointing | None = None
) -> Replan:
    """Give what makes the plan of a topology at any parallelism."""
    checkpoint = settings or Checkpointing(
        "sim://", every="15ms", timeout="80ms", keep=2, tolerate_failures=1
    )
    job = rs.Job(
        name,
        parallelism=parallelism,
        checkpoint=checkpoint,
        restart=Exponential(1_000, 10_000, 1_000_000),
        config={"batch_rows_max": 16, "row_batch_rows_max": 8},
    )
    TOPOLOGIES[name].build(job, ledger)
    return Replan(job._draft.plan())
