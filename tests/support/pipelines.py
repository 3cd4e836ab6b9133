"""Random pipelines, and what they must give: each step is written for us and for Polars.

A seed decides everything. Steps whose rows depend on the order of arrival are left out, or followed
by one that forgets it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pipeline_columns as kinds
import polars as pl
import pyarrow as pa
from pipeline_sources import TIMES, table_source

import raystream as rs

TIME = "__t"
PARALLELISM_MAX = 3
ARROW = {
    pl.Int64: pa.int64(),
    pl.Float64: pa.float64(),
    pl.String: pa.string(),
    pl.Boolean: pa.bool_(),
    TIMES: pa.timestamp("us", "UTC"),
}


@dataclass(frozen=True)
class Flow:
    """A stream, and the rows that it must give; ``timed`` while each has a known event time."""

    stream: rs.Stream
    rows: pl.DataFrame
    timed: bool

    @property
    def columns(self) -> list[str]:
        return [name for name in self.rows.columns if name != TIME]

    def of(self, *names: str) -> list[str]:
        """The columns of some kinds; without those that rounding may make differ."""
        exact = [name for name in self.columns if not name.startswith(kinds.ROUNDED)]
        return [name for name in exact if kinds.kind(self.rows.schema[name]) in names]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, ARROW[self.rows.schema[name]]) for name in self.columns])


class Pipeline:
    """One pipeline; ``log`` says how it came to be."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.log: list[str] = []
        self._number = 0
        parallelism = rng.randint(1, PARALLELISM_MAX)
        limits = {"batch_rows_max": rng.choice([1, 3, 8, 20, 60, 32_768])}
        if rng.random() < 0.5:
            limits["row_batch_rows_max"] = rng.choice([1, 3, 20])
            limits["firing_rows_max"] = rng.choice([1, 4, 50])
            limits["pane_copies_max"] = rng.choice([1, 2, 64])
        if rng.random() < 0.5:
            limits |= {"envelope_bytes_inline": 500, "envelope_bytes_large": 2_000}
            limits |= {"envelope_bytes_max": 4_000, "input_bytes_max": 10_000}
            limits |= {"channel_bytes_min": 1_000}
        self.job = rs.Job(
            f"random-{seed}",
            parallelism=parallelism,
            max_parallelism=rng.choice([3, 7, 128]),
            config=limits,
        )
        self.log.append(f"parallelism {parallelism}, {limits}")
        flow = self._source()
        if rng.random() < 0.3:
            other = self._source(flow.timed)
            flow = self._joined(flow, other)
        wanted = rng.randint(2, 7)
        while wanted:
            made = rng.choice(STEPS)(self, flow)
            if made is not None:
                flow, wanted = made, wanted - 1
        if flow.timed and rng.random() < 0.5:
            flow = self._stamped(flow, "event_time")
        self.rows = flow.rows.drop(TIME)
        self.sink = rs.MemorySink()
        flow.stream.sink(self.sink)

    def fresh(self, start: str) -> str:
        self._number += 1
        return f"{start}{self._number}"

    def said(self, text: str) -> None:
        self.log.append(text)

    def place(self, stream: rs.Stream) -> rs.Stream:
        """Leave an operator where it is, or run it elsewhere."""
        if self.rng.random() < 0.3:
            parallelism = self.rng.randint(1, PARALLELISM_MAX)
            self.said(f"  at parallelism {parallelism}")
            stream.with_parallelism(parallelism)
        if self.rng.random() < 0.15:
            self.said("  not chained")
            stream.disable_chaining()
        return stream

    # Where rows come from --------------------------------------------------------------------

    def _source(self, timed: bool | None = None) -> Flow:
        if timed is None:
            timed = self.rng.random() < 0.85
        source, rows, delay_us = table_source(self.rng)
        self.said(f"source of {len(source.splits())} splits, {rows.height} rows, timed {timed}")
        watermark = rs.WatermarkStrategy("at", out_of_orderness=delay_us) if timed else None
        stream = self.place(self.job.source(source, watermark=watermark))
        rows = rows.with_columns(pl.col("at").dt.epoch("us").alias(TIME))
        return Flow(stream, rows, timed)

    def _joined(self, one: Flow, other: Flow) -> Flow:
        self.said("union")
        rows = pl.concat([one.rows, other.rows.select(one.rows.columns)])
        return Flow(one.stream.union(other.stream), rows, one.timed)

    def union(self, flow: Flow) -> Flow:
        """A stream with a part of itself: each way another filter, perhaps another exchange."""
        self.said("branches:")
        one, other = self.filter(flow), self.filter(flow)
        if self.rng.random() < 0.4:
            other = replace(other, stream=other.stream.shuffle())
        return self._joined(one, other)

    # Columns ---------------------------------------------------------------------------------

    def filter(self, flow: Flow) -> Flow:
        made, text = kinds.expression(self.rng, "bool", flow.of)
        self.said(f"filter {text}")
        stream = self.place(flow.stream.filter(made(rs)))
        return replace(flow, stream=stream, rows=flow.rows.filter(made(pl)))

    def with_columns(self, flow: Flow) -> Flow:
        computed = {}
        for _ in range(self.rng.randint(1, 3)):
            replaces = [name for name in flow.columns if name not in {"id", "at"}]
            again = replaces and self.rng.random() < 0.4
            name = self.rng.choice(replaces) if again else self.fresh("c")
            computed[name] = kinds.expression(self.rng, kinds.any_kind(self.rng), flow.of)
        self.said(f"with_columns { ({name: text for name, (_, text) in computed.items()}) }")
        stream = flow.stream.with_columns(**{n: made(rs) for n, (made, _) in computed.items()})
        rows = flow.rows.with_columns(**{n: made(pl) for n, (made, _) in computed.items()})
        return replace(flow, stream=self.place(stream), rows=rows)

    def select(self, flow: Flow) -> Flow:
        kept = [name for name in flow.columns if self.rng.random() < 0.8] or flow.columns[:1]
        self.rng.shuffle(kept)
        name = self.fresh("s")
        made, text = kinds.expression(self.rng, kinds.any_kind(self.rng), flow.of)
        self.said(f"select {kept} and {name} = {text}")
        stream = flow.stream.select(*kept, **{name: made(rs)})
        rows = flow.rows.select(*kept, made(pl).alias(name), TIME)
        return replace(flow, stream=self.place(stream), rows=rows)

    def drop_and_rename(self, flow: Flow) -> Flow | None:
        if len(flow.columns) < 3:
            return None
        gone, old = self.rng.sample(flow.columns, 2)
        new = self.fresh(kinds.ROUNDED if old.startswith(kinds.ROUNDED) else "r")
        self.said(f"drop {gone}, rename {old} to {new}")
        stream = flow.stream.drop(gone).rename({old: new})
        return replace(flow, stream=stream, rows=flow.rows.drop(gone).rename({old: new}))

    def stamp(self, flow: Flow) -> Flow | None:
        return self._stamped(flow, self.fresh("t")) if flow.timed else None

    def _stamped(self, flow: Flow, name: str) -> Flow:
        self.said(f"{name} = event time")
        stream = self.place(flow.stream.with_columns(**{name: rs.event_time()}))
        times = pl.col(TIME).cast(TIMES).alias(name)
        return replace(flow, stream=stream, rows=flow.rows.with_columns(times))

    def assign_timestamps(self, flow: Flow) -> Flow | None:
        times = [name for name in flow.of("time") if not flow.rows[name].null_count()]
        if not times:
            return None
        name = self.rng.choice(times)
        self.said(f"assign_timestamps {name}")
        # Rows of several subtasks come in any order: only so long a wait is long enough.
        watermark = rs.WatermarkStrategy(name, out_of_orderness="20000d")
        rows = flow.rows.with_columns(pl.col(name).dt.epoch("us").alias(TIME))
        return Flow(self.place(flow.stream.assign_timestamps(watermark)), rows, timed=True)

    # Functions of rows -----------------------------------------------------------------------

    def map(self, flow: Flow) -> Flow:
        name, function = self.fresh("m"), kinds.row_function(self.rng, flow)
        self.said(f"map: {name}")
        schema = flow.schema.append(pa.field(name, pa.int64()))
        stream = flow.stream.map(lambda row: row | {name: function(row)}, schema)
        values = [function(row) for row in flow.rows.drop(TIME).to_dicts()]
        rows = flow.rows.with_columns(pl.Series(name, values, dtype=pl.Int64))
        return replace(flow, stream=self.place(stream), rows=rows)

    def flat_map(self, flow: Flow) -> Flow:
        function = kinds.row_function(self.rng, flow)
        self.said("flat_map")
        stream = flow.stream.flat_map(lambda row: [row] * (function(row) % 3), flow.schema)
        times = [function(row) % 3 for row in flow.rows.drop(TIME).to_dicts()]
        index = [i for i, count in enumerate(times) for _ in range(count)]
        return replace(flow, stream=self.place(stream), rows=flow.rows[index])

    def filter_function(self, flow: Flow) -> Flow:
        function = kinds.row_function(self.rng, flow)
        self.said("filter by a function")
        stream = flow.stream.filter(lambda row: function(row) % 4 > 0)
        kept = [function(row) % 4 > 0 for row in flow.rows.drop(TIME).to_dicts()]
        rows = flow.rows.filter(pl.Series(kept, dtype=pl.Boolean))
        return replace(flow, stream=self.place(stream), rows=rows)

    def map_batches(self, flow: Flow) -> Flow:
        size = self.rng.choice([None, 1, 7])
        self.said(f"map_batches of {size}")
        stream = flow.stream.map_batches(lambda batch: batch, batch_size=size)
        return replace(flow, stream=self.place(stream))

    def objects(self, flow: Flow) -> Flow:
        self.said("objects and back")
        stream = self.place(flow.stream.map(lambda row: row))
        if self.rng.random() < 0.5:
            stream = self.place(self._exchanged(stream, flow).filter(lambda row: True))
        return replace(flow, stream=self.place(stream.with_schema(flow.schema)))

    # Exchanges -------------------------------------------------------------------------------

    def exchange(self, flow: Flow) -> Flow:
        return self.with_columns(replace(flow, stream=self._exchanged(flow.stream, flow)))

    def _exchanged(self, stream: rs.Stream, flow: Flow) -> rs.Stream:
        function = kinds.row_function(self.rng, flow)
        ways: dict[str, Callable[[], rs.Stream]] = {
            "rebalance": stream.rebalance,
            "local rebalance": lambda: stream.rebalance(local=True),
            "shuffle": stream.shuffle,
            "to_one": stream.to_one,
            "partition_by": lambda: stream.partition_by(lambda row: function(row) - 20),
        }
        way = self.rng.choice(list(ways))
        self.said(way)
        return ways[way]()

    def broadcast(self, flow: Flow) -> Flow:
        copies = self.rng.randint(1, PARALLELISM_MAX)
        self.said(f"broadcast to {copies}")
        stream = flow.stream.broadcast().select(*flow.columns).with_parallelism(copies)
        return replace(flow, stream=stream, rows=pl.concat([flow.rows] * copies))

    # Keys ------------------------------------------------------------------------------------

    def _keyed(self, flow: Flow) -> tuple[rs.KeyedStream, pl.DataFrame, list[str]] | None:
        names = flow.of("int", "str", "bool", "time")
        if not names:
            return None
        keys = self.rng.sample(names, min(len(names), self.rng.choice([1, 1, 2])))
        self.said(f"key_by {keys}")
        if self.rng.random() < 0.25:
            name = self.fresh("k")
            made, text = kinds.expression(self.rng, "int", flow.of)
            self.said(f"  and {name} = {text}")
            keyed = flow.stream.key_by(*keys, **{name: made(rs)})
            return keyed, flow.rows.with_columns(made(pl).alias(name)), [*keys, name]
        return flow.stream.key_by(*keys), flow.rows, keys

    def aggregate(self, flow: Flow) -> Flow | None:
        if (parts := self._keyed(flow)) is None:
            return None
        keyed, rows, keys = parts
        asked = kinds.aggregates(self, flow)
        stream = keyed.aggregate(emit="final", **{n: ours for n, (ours, _) in asked.items()})
        rows = rows.group_by(keys).agg(**{n: theirs for n, (_, theirs) in asked.items()})
        return self._untimed(stream, rows)

    def running_count(self, flow: Flow) -> Flow | None:
        if (parts := self._keyed(flow)) is None:
            return None
        keyed, rows, keys = parts
        name = self.fresh("n")
        way = self.rng.choice(["aggregate", "map_with_state", "batch"])
        self.said(f"running count by {way}: {name}")
        counts = rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias(name))
        if way == "batch":
            newest = keyed.aggregate(emit="batch", **{name: rs.count()})
            last = self.place(newest).key_by(*keys).aggregate(emit="final", **{name: rs.max(name)})
            return self._untimed(last, counts)
        if way == "aggregate":
            stream = keyed.aggregate(**{name: rs.count()})
        else:
            schema = pa.schema([keyed.schema.field(key) for key in keys] + [(name, pa.int64())])
            stream = keyed.map_with_state(
                lambda n, row: (n + 1, {key: row[key] for key in keys} | {name: n + 1}),
                0,
                schema=schema,
            )
        each = counts.with_columns(pl.int_ranges(1, pl.col(name) + 1).alias(name))
        return self._untimed(stream, each.explode(name))

    def reduce(self, flow: Flow) -> Flow | None:
        if not kinds.unique(flow, "id") or (parts := self._keyed(flow)) is None:
            return None
        keyed, rows, keys = parts
        self.said("reduce to the greatest id")
        stream = keyed.reduce(lambda a, b: a if a["id"] > b["id"] else b, emit="final")
        best = rows.filter(pl.col("id") == pl.col("id").max().over(keys))
        return self._untimed(stream, best.drop(TIME))

    def _untimed(self, stream: rs.Stream, rows: pl.DataFrame) -> Flow:
        rows = rows.with_columns(pl.lit(None, pl.Int64).alias(TIME))
        return Flow(self.place(stream), rows, timed=False)

    # Windows ---------------------------------------------------------------------------------

    def window(self, flow: Flow) -> Flow | None:
        return self._windowed(flow, top=False)

    def top_k(self, flow: Flow) -> Flow | None:
        return self._windowed(flow, top=True)

    def _windowed(self, flow: Flow, *, top: bool) -> Flow | None:
        if not flow.timed:
            return None
        taken = {n: self.fresh("w") for n in ("window_start", "window_end") if n in flow.columns}
        if taken:
            stream, rows = flow.stream.rename(taken), flow.rows.rename(taken)
            flow = replace(flow, stream=stream, rows=rows)
        keyed = self._keyed(flow) if self.rng.random() < 0.8 else None
        window = kinds.window(self.rng)
        self.said(f"{window}")
        by_key, rows, keys = keyed or (None, flow.rows, [])
        windowed = flow.stream.window_all(window) if by_key is None else by_key.window(window)
        rows = kinds.in_windows(rows, window, TIME)
        if top:
            flow = replace(flow, rows=rows.drop("window_start", "window_end_us"))
            return self._top(flow, windowed, rows, [*keys, "window_start"], single=not keyed)
        asked = kinds.aggregates(self, flow)
        made = windowed.aggregate(**{n: ours for n, (ours, _) in asked.items()})
        rows = rows.group_by([*keys, "window_start"], maintain_order=True).agg(
            **{n: theirs for n, (_, theirs) in asked.items()}
        )
        end = pl.col("window_start") + window.size_us
        rows = rows.select(
            *keys,
            pl.col("window_start").cast(TIMES),
            end.cast(TIMES).alias("window_end"),
            *asked,
            (end - 1).alias(TIME),
        )
        return Flow(made if not keyed else self.place(made), rows, timed=True)

    def _top(
        self,
        flow: Flow,
        windowed: rs.WindowedStream,
        rows: pl.DataFrame,
        groups: list[str],
        *,
        single: bool,
    ) -> Flow:
        k, down, rank = self.rng.randint(1, 3), self.rng.random() < 0.5, self.fresh("rank")
        made, text = kinds.expression(self.rng, "int", flow.of)
        self.said(f"top {k} by {text}, descending {down}")
        value = rs.when(made(rs).is_null()).then(0).otherwise(made(rs))
        stream = windowed.top_k(k, value, descending=down, ties=True, rank=rank)
        place = made(pl).fill_null(0).rank("min", descending=down).over(groups).cast(pl.Int64)
        rows = rows.with_columns(place.alias(rank)).filter(pl.col(rank) <= k)
        rows = rows.with_columns(pl.col("window_end_us").sub(1).alias(TIME))
        rows = rows.select(*flow.columns, rank, TIME)
        return Flow(stream if single else self.place(stream), rows, timed=True)


STEPS: list[Callable[[Pipeline, Flow], Flow | None]] = [
    *[Pipeline.filter] * 2,
    *[Pipeline.with_columns] * 2,
    Pipeline.select,
    Pipeline.drop_and_rename,
    Pipeline.stamp,
    Pipeline.assign_timestamps,
    Pipeline.map,
    Pipeline.flat_map,
    Pipeline.filter_function,
    Pipeline.map_batches,
    Pipeline.objects,
    *[Pipeline.exchange] * 3,
    Pipeline.broadcast,
    Pipeline.union,
    *[Pipeline.aggregate] * 2,
    Pipeline.running_count,
    Pipeline.reduce,
    *[Pipeline.window] * 4,
    *[Pipeline.top_k] * 2,
]
