"""Random jobs of tables: streams of rows and of changes, joined, aggregated and changed again.

A seed decides everything. Of a changelog ``Flow.rows`` are the rows of its table in the end, so
what a verb does to them is what Polars, or a loop, does to a table: nobody here knows of changes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pipeline_columns as kinds
import polars as pl
import pyarrow as pa
from pipelines import PARALLELISM_MAX, TIME, Flow, Pipeline
from table_changes import changes_source
from table_joins import Join, Row, joined

import raystream as rs

ROWS_MAX = 100
"""Joins that would give more are left out."""

HOWS = ("inner", "left", "right", "full", "semi", "anti")


def is_changelog(flow: Flow) -> bool:
    return flow.stream.changelog is not None


class TableJob(Pipeline):
    """One job; ``flows`` are its streams in the order in which they were made."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.log: list[str] = []
        self._number = 0
        parallelism = rng.randint(1, PARALLELISM_MAX)
        limits: dict[str, int] = {"batch_rows_max": rng.choice([1, 2, 5, 5, 20, 20, 32_768])}
        if rng.random() < 0.3:
            limits |= {"envelope_bytes_inline": 500, "envelope_bytes_large": 2_000}
            limits |= {"envelope_bytes_max": 4_000, "input_bytes_max": 10_000}
            limits |= {"channel_bytes_min": 1_000}
        self.job = rs.Job(
            f"tables-{seed}",
            parallelism=parallelism,
            max_parallelism=rng.choice([3, 7, 128]),
            config=limits,
        )
        self.log.append(f"parallelism {parallelism}, {limits}")
        self.flows = [self.add(self.source()) for _ in range(rng.choice([1, 2, 2, 3]))]
        wanted = rng.randint(2, 7)
        while wanted:
            # The newest most often: so that much stands behind one another.
            flow = self.flows[-1 - int(rng.random() ** 3 * len(self.flows))]
            verb = rng.choice(VERBS)
            said = len(self.log)
            self.said(f"of {self.flows.index(flow)}:")
            made = verb(self, flow)
            if made is None or made.rows.height > ROWS_MAX:
                del self.log[said:]
            else:
                self.flows.append(self.add(made))
                wanted -= 1

    def add(self, flow: Flow) -> Flow:
        kind = "rows" if not is_changelog(flow) else f"changes by {flow.stream.changelog}"
        self.said(f"  = {kind}: {flow.columns}")
        return flow

    def other(self, fits: Callable[[Flow], bool]) -> Flow | None:
        some = [flow for flow in self.flows if fits(flow)]
        return self.rng.choice(some) if some else None

    # Where rows come from --------------------------------------------------------------------

    def source(self) -> Flow:
        if self.rng.random() < 0.4:
            return self._source(timed=self.rng.random() < 0.85)
        source, keys, rows, said = changes_source(self.rng)
        self.said(said)
        timed = self.rng.random() < 0.5
        watermark = rs.WatermarkStrategy("at") if timed else None
        # As many subtasks twice: dealt out to others, what is said of a key would lose its order.
        parallelism = self.rng.randint(1, PARALLELISM_MAX)
        stream = self.job.source(source, watermark=watermark).with_parallelism(parallelism)
        stream = stream.drop("at").with_parallelism(parallelism)
        stream = self.place(stream.to_changelog(key=keys, op="op"))
        return self.untimed(stream, rows)

    def untimed(self, stream: rs.Stream, rows: pl.DataFrame) -> Flow:
        """Of a table no row has a known event time."""
        rows = rows.drop(TIME, strict=False).with_columns(pl.lit(None, pl.Int64).alias(TIME))
        return Flow(stream, rows, timed=False)

    def from_rows(self, stream: rs.Stream, rows: Iterable[Row], like: dict[str, Any]) -> Flow:
        """Give a flow of rows made by hand; ``like``: the columns' types."""
        made = pl.DataFrame(list(rows), schema={**like, TIME: pl.Int64}, orient="row")
        return Flow(self.place(stream), made, timed=False)

    # Columns ---------------------------------------------------------------------------------

    def union_of_two(self, flow: Flow) -> Flow | None:
        """Two streams, made alike: of each some columns, or what is computed of them."""

        def fits(other: Flow) -> bool:
            return _sort_of(other) == _sort_of(flow) and other.timed == flow.timed

        other = self.other(fits)
        assert other is not None, "the stream itself fits"
        shape = {self.fresh("u"): kinds.any_kind(self.rng) for _ in range(self.rng.randint(1, 3))}
        self.said(f"union with {self.flows.index(other)} of {shape}")
        one, two = self._shaped(flow, shape), self._shaped(other, shape)
        rows = pl.concat([one.rows, two.rows])
        return Flow(one.stream.union(two.stream), rows, flow.timed)

    def _shaped(self, flow: Flow, shape: dict[str, str]) -> Flow:
        made = {n: kinds.expression(self.rng, kind, flow.of, 1) for n, kind in shape.items()}
        self.said(f"  { ({name: text for name, (_, text) in made.items()}) }")
        stream = flow.stream.select(**{n: one(rs) for n, (one, _) in made.items()})
        rows = flow.rows.select(**{n: one(pl) for n, (one, _) in made.items()}, **{TIME: TIME})
        return replace(flow, stream=self.place(stream), rows=rows)

    def union_with_itself(self, flow: Flow) -> Flow:
        self.said("union with itself:")
        one, other = self.filter(flow), self.filter(flow)
        return self._joined(one, other)

    def way(self, flow: Flow) -> Flow:
        """Bring rows elsewhere, as far as that is allowed."""
        ways: dict[str, Callable[[], rs.Stream]] = {"to_one": flow.stream.to_one}
        if keys := flow.of("int", "str", "bool"):
            key = self.rng.choice(keys)
            ways[f"key_by {key}"] = lambda: flow.stream.key_by(key)
        if not is_changelog(flow):
            ways |= {"rebalance": flow.stream.rebalance, "shuffle": flow.stream.shuffle}
        name = self.rng.choice(list(ways))
        self.said(name)
        stream = ways[name]()
        moved = replace(flow, stream=stream)
        return self.filter(moved) if self.rng.random() < 0.5 else self.with_columns(moved)

    # Keys ------------------------------------------------------------------------------------

    def table_of_aggregates(self, flow: Flow) -> Flow | None:
        if (parts := self._keyed(flow)) is None:
            return None
        keyed, rows, keys = parts
        asked = kinds.aggregates(self, flow)
        emit = self.rng.choice(["changes", "changes", "changes", "final"])
        self.said(f"  emit={emit}")
        stream = keyed.aggregate(emit=emit, **{n: ours for n, (ours, _) in asked.items()})
        rows = rows.group_by(keys).agg(**{n: theirs for n, (_, theirs) in asked.items()})
        return self.untimed(self.place(stream), rows)

    def table_of_best(self, flow: Flow) -> Flow | None:
        if (parts := self._keyed(flow)) is None:
            return None
        keyed, rows, keys = parts
        columns = [name for name in rows.columns if name != TIME]
        k, down = self.rng.randint(1, 3), self.rng.random() < 0.5
        rank = self.fresh("rank") if self.rng.random() < 0.6 else None
        made, text = kinds.expression(self.rng, "int", flow.of)
        by = [rs.when(made(rs).is_null()).then(0).otherwise(made(rs))]
        order = pl.struct(made(pl).fill_null(0).alias("__one"))
        singles = [name for name in flow.of("int") if kinds.unique(flow, name)]
        ties = not singles
        if singles:
            by.append(rs.col(singles[0]))
            order = pl.struct(
                made(pl).fill_null(0).alias("__one"), pl.col(singles[0]).alias("__two")
            )
        emit = self.rng.choice(["changes", "changes", "final"])
        self.said(f"top {k} by {text}, {singles[:1]}, descending {down}, {rank=}, {emit=}")
        stream = keyed.top_k(k, by, descending=down, ties=ties, rank=rank, emit=emit)
        place = order.rank("min", descending=down).over(keys).cast(pl.Int64)
        rows = rows.with_columns(place.alias("__place")).filter(pl.col("__place") <= k)
        rows = rows.select(*columns, *([pl.col("__place").alias(rank)] if rank else []))
        return self.untimed(self.place(stream), rows)

    def newest(self, flow: Flow) -> Flow | None:
        """Keep the last row of each key, or the one with the greatest number."""
        if is_changelog(flow) or (parts := self._keyed(flow)) is None:
            return None
        keyed, rows, keys = parts
        if flow.timed and kinds.unique(flow, TIME) and self.rng.random() < 0.6:
            self.said("deduplicate last")
            stream, best = keyed.deduplicate("last", emit="changes"), TIME
        elif kinds.unique(flow, "id"):
            self.said("reduce to the greatest id")
            pick = max
            stream = keyed.reduce(
                lambda a, b: pick(a, b, key=lambda row: row["id"]), emit="changes"
            )
            best = "id"
        else:
            return None
        rows = rows.filter(pl.col(best) == pl.col(best).max().over(keys))
        return self.untimed(self.place(stream), rows)

    # Joins -----------------------------------------------------------------------------------

    def _on(self, flow: Flow, other: Flow) -> tuple[list[str], list[str]] | None:
        """Choose columns of both sides that may be equal."""
        pairs = [
            (one, two)
            for kind in ("int", "str", "bool")
            for one in flow.of(kind)
            for two in other.of(kind)
        ]
        if not pairs:
            return None
        chosen = self.rng.sample(pairs, min(len(pairs), self.rng.choice([1, 1, 2])))
        lefts = list(dict.fromkeys(one for one, _ in chosen))
        rights = list(dict.fromkeys(two for _, two in chosen))
        count = min(len(lefts), len(rights))
        pairs = [(a, b) for a, b in chosen if a in lefts[:count] and b in rights[:count]]
        if count == 2 and len(pairs) == 2:
            return [a for a, _ in pairs], [b for _, b in pairs]
        return [chosen[0][0]], [chosen[0][1]]

    def regular_join(self, flow: Flow) -> Flow | None:
        other = self.other(lambda _: True)
        assert other is not None
        if (on := self._on(flow, other)) is None:
            return None
        join = Join(*on, self.rng.choice(HOWS), self.fresh("_"))
        self.said(f"join {join.how} with {self.flows.index(other)} on {on}")
        left = flow.stream.key_by(*on[0]) if self.rng.random() < 0.2 else flow.stream
        stream = left.join(other.stream, how=join.how, ttl="forever", **join.given)
        made, like = joined(flow, other, join)
        return self.from_rows(stream, made, like)

    def table_join(self, flow: Flow) -> Flow | None:
        table = pl.DataFrame(
            {
                "ti": [self.rng.choice([None, 0, 1, 1, 2]) for _ in range(4)],
                "ts": [self.rng.choice([None, "a", "b", "cc"]) for _ in range(4)],
                "tv": [self.rng.randrange(5) for _ in range(4)],
            },
            schema={"ti": pl.Int64, "ts": pl.String, "tv": pl.Int64},
        ).with_columns(pl.lit(None, pl.Int64).alias(TIME))
        if self.rng.random() < 0.5:
            table = table.unique(["ti", "ts"], keep="first", maintain_order=True)
        other = Flow(flow.stream, table, timed=False)
        if (on := self._on(flow, other)) is None:
            return None
        join = Join(*on, self.rng.choice(["inner", "left", "semi", "anti"]), self.fresh("_"))
        self.said(f"join {join.how} with a table on {on}")
        given = table.drop(TIME).to_arrow()
        given = given.cast(pa.schema({"ti": pa.int64(), "ts": pa.string(), "tv": pa.int64()}))
        stream = flow.stream.join(given, how=join.how, **join.given)
        made, like = joined(flow, other, join)
        rows = [{**row, TIME: row[TIME] if flow.timed else None} for row in made]
        return replace(self.from_rows(stream, rows, like), timed=flow.timed)

    def timed_join(self, flow: Flow) -> Flow | None:
        """Join rows by their event time: in windows, in an interval, or with the newest."""
        other = self.other(lambda one: one.timed and not is_changelog(one))
        if not flow.timed or other is None or (on := self._on(flow, other)) is None:
            return None
        way = self.rng.choice([TableJob._windowed_join, TableJob._interval_join, TableJob._as_of])
        join = Join(*on, self.rng.choice(HOWS), self.fresh("_"))
        self.said(f"{way.__name__} {join.how} with {self.flows.index(other)} on {on}")
        made = way(self, flow, other, join)
        return None if made is None else replace(made, timed=True)

    def _interval_join(self, flow: Flow, other: Flow, join: Join) -> Flow:
        low, high = sorted(self.rng.choice([-7, -1, 0, 2, 9]) * 1_000_000 for _ in range(2))
        self.said(f"  {low}..{high}")
        stream = flow.stream.join(other.stream, how=join.how, within=(low, high), **join.given)
        made = joined(flow, other, join, lambda one, two: low <= two[TIME] - one[TIME] <= high)
        return self.from_rows(stream, *made)

    def _windowed_join(self, flow: Flow, other: Flow, join: Join) -> Flow:
        window = kinds.window(self.rng)
        self.said(f"  {window}")
        stream = flow.stream.join(other.stream, how=join.how, window=window, **join.given)
        spread = [kinds.in_windows(one.rows, window, TIME) for one in (flow, other)]
        sides = [
            replace(one, rows=rows.rename({"window_start": "__start"}).drop("window_end_us"))
            for one, rows in zip((flow, other), spread, strict=True)
        ]
        made, like = joined(*sides, join, lambda one, two: one["__start"] == two["__start"])
        rows = [{**row, TIME: row.pop("__start") + window.size_us - 1} for row in made]
        like.pop("__start")
        return self.from_rows(stream, rows, like)

    def _as_of(self, flow: Flow, other: Flow, join: Join) -> Flow | None:
        if not kinds.unique(other, TIME):
            return None
        join = replace(join, how=self.rng.choice(["inner", "left"]))
        tolerance = self.rng.choice([None, 3_000_000])
        stream = flow.stream.as_of_join(
            other.stream, how=join.how, tolerance=tolerance, **join.given
        )
        made: list[Row] = []
        _, like = joined(flow, other, join)
        for index in range(flow.rows.height):
            one = flow.rows[index : index + 1]
            time = one[TIME].item()
            near = other.rows.filter(pl.col(TIME) <= time)
            if tolerance is not None:
                near = near.filter(pl.col(TIME) >= time - tolerance)
            for a, b in zip(join.left_on, join.right_on, strict=True):
                value = pl.lit(one[a].item(), flow.rows.schema[a])
                near = near.filter(pl.col(b) == value)
            newest = replace(other, rows=near.sort(TIME).tail(1))
            rows, _ = joined(replace(flow, rows=one), newest, join)
            made += [{**row, TIME: time} for row in rows]
        return self.from_rows(stream, made, like)


def _sort_of(flow: Flow) -> tuple[bool, bool]:
    """Streams of which a union is possible have the same: whether they change, and are timed."""
    type = flow.stream._tip.node.type
    return type.changelog is not None, type.timed


VERBS: list[Callable[[TableJob, Flow], Flow | None]] = [
    *[TableJob.filter] * 2,
    *[TableJob.with_columns] * 2,
    TableJob.select,
    TableJob.drop_and_rename,
    TableJob.map,
    TableJob.filter_function,
    *[TableJob.union_of_two] * 2,
    TableJob.union_with_itself,
    *[TableJob.way] * 2,
    *[TableJob.table_of_aggregates] * 4,
    *[TableJob.table_of_best] * 3,
    *[TableJob.newest] * 2,
    *[TableJob.regular_join] * 6,
    *[TableJob.table_join] * 2,
    *[TableJob.timed_join] * 3,
    TableJob.window,
]
