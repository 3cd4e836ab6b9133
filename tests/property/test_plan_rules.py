"""Whatever the rules of the plan and the parallelism, the same rows come out."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import raystream as rs
from raystream.connectors.memory import MemorySink
from raystream.graph.logical import LogicalNode, StreamType
from raystream.graph.planner import RULES, physical_plan
from raystream.operators.sink import SinkSpec
from raystream.runtime import local

COL = rs.col
TABLE = pa.table(
    {
        "t": list(range(40)),
        "a": [i % 3 for i in range(40)],
        "b": [None if i % 7 == 0 else i * 5 % 11 for i in range(40)],
        "c": [i * i % 13 for i in range(40)],
    }
)
NAMES = st.sampled_from(["a", "b", "c"])
SMALL = st.integers(0, 9)
STEPS = st.one_of(
    st.tuples(st.just("filter"), NAMES, SMALL),
    st.tuples(st.just("filter_rows"), NAMES, SMALL),
    st.tuples(st.just("add"), NAMES, NAMES, SMALL),
    st.tuples(st.just("swap"), NAMES, NAMES),
    st.tuples(st.just("select_all")),
    st.tuples(st.just("rebalance")),
    st.tuples(st.just("alone")),
    st.tuples(st.just("wide"), st.integers(1, 3)),
    st.tuples(st.just("union"), NAMES, SMALL),
    st.tuples(st.just("assign")),
    st.tuples(st.just("table"), NAMES, st.sampled_from(["left", "semi", "anti"])),
)
ENDS = st.sampled_from(
    ["rows", "one", "computed", "running", "window", "window_all", "top", "joined", "met"]
)
SIDE = pa.table({"id": [1, 1, 5, None], "c": [3, 4, 5, 6], "d": [7, 8, 9, 0]})


def step(s, kind, *arguments):
    if kind == "filter":
        name, least = arguments
        return s.filter(COL(name) >= least)
    if kind == "filter_rows":
        name, least = arguments
        return s.filter(lambda row: row[name] is not None and row[name] >= least)
    if kind == "add":
        into, name, more = arguments
        return s.with_columns(**{into: COL(name) + more})
    if kind == "swap":
        one, other = arguments
        return s.with_columns(**{one: COL(other), other: COL(one)})
    if kind == "union":
        name, least = arguments
        return s.union(s.filter(COL(name) < least))
    if kind == "table":
        name, how = arguments
        beside = s.join(SIDE, left_on=name, right_on="id", how=how)
        return beside.with_columns(b=COL("d")).drop("c_right", "d") if how == "left" else beside
    if kind == "wide":
        return s.select(*s.schema.names).with_parallelism(*arguments)
    return {
        "select_all": lambda: s.select("c", "b", "t", "a"),
        "rebalance": s.rebalance,
        "alone": lambda: s.drop().disable_chaining(),
        "assign": lambda: s.assign_timestamps(rs.WatermarkStrategy("t", out_of_orderness=100)),
    }[kind]()


def end(s, kind):
    if kind == "rows":
        return s
    if kind == "one":
        return s.select("b")
    if kind == "computed":
        return s.select(x=COL("a") + COL("c"), t=rs.event_time())
    if kind in ("joined", "met"):
        other = s.filter(COL("t") > 4).rename({"a": "x"})
        how = "inner" if kind == "joined" else "semi"
        pairs = s.join(other, left_on="t", right_on="t", ttl="forever", how=how)
        return pairs.select("b", "x") if kind == "joined" else pairs.select("c")
    windows = rs.Sliding(10, 4)
    aggregates = {
        "n": rs.count(),
        "some": rs.count("b").where(COL("c") > 4),
        "total": rs.sum(COL("b") * 2),
        "most": rs.max("c"),
    }
    return {
        "running": lambda: s.key_by("a").aggregate(emit="final", **aggregates),
        "window": lambda: s.key_by("a").window(windows).aggregate(**aggregates),
        "window_all": lambda: s.window_all(windows).aggregate(**aggregates),
        "top": lambda: s.window_all(rs.Tumbling(10)).top_k(2, by=["c", "t", "a", "b"]).select("c"),
    }[kind]()


def rows(steps, last, parallelism, rules):
    job = rs.Job("t", parallelism=parallelism)
    strategy = rs.WatermarkStrategy("t", out_of_orderness=100)
    s = job.from_items(TABLE, watermark=strategy)
    for one in steps:
        s = step(s, *one)
    s = end(s, last)
    sink = MemorySink()
    tip = s._tip
    node = LogicalNode("sink", SinkSpec(sink, "out", ""), StreamType(None), (tip.input,), "", "out")
    local.run(physical_plan(job._draft.plan([node]), rules))
    return sorted(map(repr, sink.rows))


@given(
    steps=st.lists(STEPS, max_size=5),
    last=ENDS,
    parallelism=st.integers(1, 3),
    rules=st.sets(st.sampled_from(RULES)),
)
@settings(max_examples=60)
def test_rules_and_parallelism_do_not_change_the_rows(steps, last, parallelism, rules):
    assert rows(steps, last, parallelism, rules) == rows(steps, last, 1, ())


@given(steps=st.lists(STEPS, max_size=6), last=ENDS)
@settings(max_examples=40)
def test_all_rules_together_do_not_change_the_rows(steps, last):
    assert rows(steps, last, 2, RULES) == rows(steps, last, 1, ())
