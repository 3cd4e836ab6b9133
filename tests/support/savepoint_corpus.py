"""Savepoints that every later release must read: ``python tests/support/savepoint_corpus.py``.

Each release adds a folder of its own, made once when it is published, and never changes another's.
Beside each savepoint stands what its job gives when it goes on, and what its state reads as.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import lives
import pyarrow as pa

import raystream as rs

CORPUS = Path(__file__).parents[1] / "corpus" / "savepoints"
RELEASE = "0.1"
S = rs.micros("1s")
FOREVER = "36500d"
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("w", pa.string()), ("t", pa.int64())])
ROWS = [
    {"k": i * 5 % 7, "v": i * 37 % 101, "w": "xyz"[i % 3], "t": (i + i % 3) * S} for i in range(100)
]
HELD = {"answers": False}
"""While true, calls that ``ask`` has begun get no answer: they are in flight."""


class Kinds(rs.KeyedProcessFunction):
    """Has a state of every kind, and timers."""

    def open(self, ctx):
        self.total = ctx.state(rs.ValueState("total", type=pa.int64(), default=0))
        self.late = ctx.state(rs.ValueState("late", type=pa.int64(), ttl=FOREVER))
        self.words = ctx.state(rs.MapState("words", key_type=pa.string(), type=pa.int64()))
        self.last = ctx.state(rs.ListState("last", type=pa.int64()))
        self.loose = ctx.state(rs.ValueState("loose"))
        self.pairs = ctx.state(rs.MapState("pairs"))
        self.items = ctx.state(rs.ListState("items"))
        self.least = ctx.state(rs.ReducingState("least", min, type=pa.int64()))
        self.mean = ctx.state(rs.AggregatingState("mean", rs.mean("v")))

    def process(self, row, ctx):
        self.total.update(self.total.value() + row["v"])
        self.late.update(row["v"])
        self.words.put(row["w"], (self.words.get(row["w"]) or 0) + 1)
        self.last.update([*self.last.get()[-2:], row["v"]])
        self.loose.update({"n": (self.loose.value() or {"n": 0})["n"] + 1, "w": row["w"]})
        self.pairs.put((row["w"], row["v"] % 2), row["v"])
        self.items.update([*self.items.get()[-2:], row["w"]])
        self.least.add(row["v"])
        self.mean.add(row)
        ctx.timers.register_event_time(ctx.timestamp + 15 * S)

    def on_timer(self, timestamp, ctx):
        yield {
            "k": ctx.key,
            "at": timestamp,
            "total": self.total.value(),
            "late": self.late.value(),
            "words": sorted(self.words.items()),
            "last": self.last.get(),
            "loose": self.loose.value(),
            "pairs": sorted(self.pairs.items()),
            "items": self.items.get(),
            "least": self.least.get(),
            "mean": round(self.mean.get(), 9),
        }


class Rules(rs.BroadcastProcessFunction):
    """Gives what the rules say of a row; there are rules from the first row on."""

    def open(self, ctx):
        self.rules = ctx.state(rs.BroadcastState("rules", key_type=pa.int64(), type=pa.string()))
        self.seen = ctx.state(rs.OperatorListState("seen"))

    def process(self, row, ctx):
        self.seen.update([*self.seen.get()[-1:], row["v"]])
        if row["v"] >= 90:
            yield {"v": row["v"], "known": row["v"] in self.rules}

    def process_broadcast(self, row, ctx):
        self.rules.put(row["v"], row["w"])


async def ask(row):
    """Answer, unless answers are held back."""
    while HELD["answers"] and row["v"] % 5 == 0:  # noqa: ASYNC110  nobody sets it while it waits
        await asyncio.sleep(0)
    return {"asked": row["v"]}


def counted(state, row):
    state = {"n": state["n"] + 1, "words": sorted({*state["words"], row["w"]})}
    return state, {"k": row["k"], **state}


def functions(rows):
    keyed = rows.key_by("k")
    return {
        "kinds": keyed.process(Kinds()),
        "counted": keyed.map_with_state(counted, {"n": 0, "words": []}),
        "typed": keyed.map_with_state(lambda n, r: (n + 1, {"n": n + 1}), 0, type=pa.int64()),
        "asked": rows.async_map(ask, capacity=1_000, ordered=False),
    }


def rules(rows):
    return {"rules": rows.connect(rows.broadcast()).process(Rules())}


def windows(rows):
    keyed = rows.key_by("k")
    objects = rows.map(lambda row: row).key_by(lambda row: row["w"])
    total = {"n": rs.count(), "high": rs.max("v"), "mean": rs.mean("v")}
    picks = {"one": rs.first("v"), "other": rs.last("w"), "all": rs.collect("v")}
    return {
        "tumbling": keyed.window(rs.Tumbling("20s")).aggregate(**total),
        "sliding": keyed.window(rs.Sliding("20s", "5s")).aggregate(**total),
        "cumulative": keyed.window(rs.Cumulative("20s", "5s")).aggregate(**picks),
        "session": keyed.window(rs.Session("6s")).aggregate(**total),
        "late": keyed.window(rs.Session("6s")).allowed_lateness("5s").aggregate(**picks),
        "ranked": keyed.window(rs.Tumbling("20s")).top_k(2, "v"),
        "latest": keyed.window(rs.Tumbling("20s")).deduplicate(keep="last"),
        "applied": keyed.window(rs.Tumbling("20s")).apply(
            lambda key, window, rows: [{"k": key, "v": [row["v"] for row in rows]}]
        ),
        "counts": keyed.window(rs.TumblingCount(5)).aggregate(**total),
        "objects": objects.window(rs.Tumbling("20s")).aggregate(n=rs.count(), high=rs.max("v")),
    }


def aggregates(rows):
    keyed = rows.key_by("k")
    many = {
        "n": rs.count(),
        "total": rs.sum("v"),
        "low": rs.min("v"),
        "spread": rs.stddev("v"),
        "word": rs.first("w"),
        "most": rs.max_by("w", "v"),
        "kinds": rs.count_distinct("w"),
        "half": rs.quantile("v", 0.5),
        "odd": rs.count().where(rs.col("v") % 2 == 1),
    }
    return {
        "running": keyed.aggregate(**many),
        "final": keyed.aggregate(**many, emit="final"),
        "over": keyed.aggregate(over="10s", n=rs.count(), total=rs.sum("v")),
        "ranks": keyed.top_k(2, "v"),
        "firsts": keyed.deduplicate(),
        "lasts": keyed.deduplicate(keep="last"),
        "reduced": keyed.reduce(lambda one, other: max(one, other, key=lambda row: row["v"])),
    }


JOBS = {"functions": functions, "rules": rules, "windows": windows, "aggregates": aggregates}


def build(name, sink, parallelism):
    """Make a job of the corpus; all its branches give plain tuples."""
    job = rs.Job(name, parallelism=parallelism, config={"batch_rows_max": 8})
    times = rs.WatermarkStrategy("t", out_of_orderness="5s")
    rows = job.from_items(ROWS, schema=SCHEMA, watermark=times).named("read").uid("read")
    tuples = []
    for branch, out in JOBS[name](rows).items():
        tuples.append(
            out.uid(branch).map(lambda row, branch=branch: (branch, *map(plain, row.items())))
        )
    (tuples[0].union(*tuples[1:]) if len(tuples) > 1 else tuples[0]).sink(sink)
    return job


def plain(item):
    name, value = item
    return name, round(value, 6) if isinstance(value, float) else value


def going_on(name, path, parallelism):
    """Give the rows of a job that goes on from a savepoint, in an order of their own."""
    sink = rs.MemorySink()
    build(name, sink, parallelism).run(runtime="local", from_snapshot=str(path))
    return sorted(map(repr, sink.rows))


def reads(path):
    """Give all that a savepoint holds as text: by operator and name, in an order of its own."""
    found = {}
    for one in rs.state.list(str(path)):
        table = rs.state.read(str(path), one.uid, one.name, allow_pickle=True)
        lines = [repr(row) for row in table.drop_columns(drifting(table)).to_pylist()]
        found[f"{one.uid}/{one.name}"] = sorted(lines)
    return found


def drifting(table):
    """Name the columns that tell when the savepoint was made, or that are pickled."""
    return [
        field.name
        for field in table.schema
        if field.name in ("written", "__written") or pa.types.is_large_binary(field.type)
    ]


def make(name, folder):
    """Make the savepoint of a job, and write down what is expected of it."""
    shutil.rmtree(folder, ignore_errors=True)
    HELD["answers"] = name == "functions"
    lives.savepoint(build(name, rs.MemorySink(), 2), folder, rows=50)
    HELD["answers"] = False
    expected = {"rows": going_on(name, folder, 2), "state": reads(folder)}
    (folder / "expected.json").write_text(json.dumps(expected, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    for job in JOBS:
        make(job, CORPUS / RELEASE / job)
