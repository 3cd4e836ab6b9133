"""A simulated run gives the rows of a plain one, whatever its seed, splits and parallelism."""

from __future__ import annotations

import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs

T = rs.testing
TABLE = pa.table(
    {"t": range(40), "a": [i % 3 for i in range(40)], "c": [i * i % 13 for i in range(40)]}
)
SCHEMA = TABLE.schema


AGGREGATES = st.sampled_from(["rows", "running", "final", "window", "window_all"])
STEPS = st.lists(st.sampled_from(["filter", "add", "map", "rebalance", "union"]), max_size=3)


def build(source, steps, end):
    s = source
    for step in steps:
        s = {
            "filter": lambda s: s.filter(rs.col("c") > 2),
            "add": lambda s: s.with_columns(c=rs.col("c") + rs.col("a")),
            "map": lambda s: s.map(lambda row: row | {"a": row["a"] + 1}, schema=SCHEMA),
            "rebalance": lambda s: s.rebalance(),
            "union": lambda s: s.union(s.filter(rs.col("a") == 1)),
        }[step](s)
    sums = {"n": rs.count(), "total": rs.sum("c")}
    return {
        "rows": lambda: s,
        "running": lambda: s.key_by("a").aggregate(n=rs.count()),
        "final": lambda: s.key_by("a").aggregate(emit="final", **sums),
        "window": lambda: s.key_by("a").window(rs.Tumbling(10)).aggregate(**sums),
        "window_all": lambda: s.window_all(rs.Sliding(10, 5)).aggregate(**sums),
    }[end]()


def as_set(rows):
    return sorted(tuple(row.items()) for row in rows)


@given(
    steps=STEPS,
    end=AGGREGATES,
    parallelism=st.integers(1, 3),
    splits=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_seed_the_rows_are_those_of_a_plain_run(steps, end, parallelism, splits, seed):
    strategy = rs.WatermarkStrategy("t", out_of_orderness=0)
    plain = build(rs.Job("t").from_items(TABLE, watermark=strategy), steps, end).collect()
    parts = [[] for _ in range(splits)]
    rng = random.Random(seed)
    for row in TABLE.to_pylist():
        rng.choice(parts).append(row)
    tested = rs.Job("t").source(T.Source(splits=parts, schema=SCHEMA), watermark=strategy)
    run = T.run(build(tested, steps, end), seed=seed, parallelism=parallelism)
    assert as_set(run.rows) == as_set(plain)
