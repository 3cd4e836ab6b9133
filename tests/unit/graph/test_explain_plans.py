"""Plans as text, Mermaid and JSON."""

import json

import pyarrow as pa
import pytest

import raystream as rs

TABLE = pa.table({"t": [0], "k": [1], "v": [3], "unused": ["x"]})


def job_of_two_chains():
    job = rs.Job("explained", parallelism=2)
    s = job.from_items(TABLE, watermark=rs.WatermarkStrategy("t")).named("items").uid("items")
    kept = s.filter(rs.col("v") > 1)
    kept.key_by("k").aggregate(n=rs.count(), most=rs.max("v")).named("counts").print()
    return job


def test_the_logical_plan_shows_operators_inputs_parallelism_and_lines():
    text = job_of_two_chains().explain()
    assert text.startswith("job explained  parallelism 2, max_parallelism 128")
    (line,) = [line for line in text.splitlines() if line.strip().startswith("counts")]
    assert "n=count()" in line
    assert "max(v)" in line
    assert "← filter#1 hash(k)" in line
    assert "p=2" in line
    assert "test_explain_plans.py:" in line
    assert "physical" not in text


def test_state_without_a_given_uid_is_marked():
    text = job_of_two_chains().explain()
    assert "counts*" in text
    assert "items*" not in text
    assert "uid(" in text


def test_the_physical_plan_shows_chains_exchanges_bounds_and_what_sources_read():
    text = job_of_two_chains().explain(physical=True)
    logical, physical = text.split("physical plan")
    assert "chain items→filter#1  p=2" in physical
    assert "reads t, k, v" in physical
    assert "unused" not in physical
    assert "hash(k) from items→filter#1, 4 channels" in physical
    assert "32 MiB of input a subtask" in physical
    assert "2 chains, 4 subtasks, 1 edge" in physical
    assert "64 MiB in all" in physical
    assert "logical plan" in logical


def test_a_limit_of_the_job_shows_in_its_plan():
    job = rs.Job("t", parallelism=2, config={"input_bytes_max": 5 * 2**20})
    job.from_items(TABLE).rebalance().print()
    assert "10 MiB in all" in job.explain(physical=True)


def test_json_holds_both_plans():
    plan = json.loads(job_of_two_chains().explain(physical=True, format="json"))
    assert plan["job"] == "explained"
    operators = {one["name"]: one for one in plan["logical"]["operators"]}
    assert operators["counts"]["schema"] == {"k": "int64", "n": "int64", "most": "int64"}
    assert operators["counts"]["inputs"] == [{"from": "filter#1", "exchange": "hash(k)"}]
    assert operators["items"]["uid_given"]
    assert not operators["counts"]["uid_given"]
    (edge,) = plan["physical"]["edges"]
    assert (edge["from"], edge["to"]) == ("items→filter#1", "counts→print#1")
    assert plan["physical"]["limits"]["batch_rows_max"] == 32_768


def test_json_of_the_logical_plan_has_no_physical_one():
    assert "physical" not in json.loads(job_of_two_chains().explain(format="json"))


def test_mermaid_draws_operators_or_chains():
    logical = job_of_two_chains().explain(format="mermaid")
    assert logical.startswith("flowchart LR\n")
    assert 'n1 -->|"hash(k)"| n2' in logical
    physical = job_of_two_chains().explain(physical=True, format="mermaid")
    assert 'subgraph c0["items→filter#1 p=2"]' in physical
    assert 'c0n1 -->|"hash(k)"| c1n0' in physical


def test_mermaid_escapes_what_would_break_it():
    job = rs.Job("t")
    job.from_items([{"a": 'say "hi" <b>'}]).with_schema([("a", "string")]).filter(
        rs.col("a") == 'x"y'
    )
    drawn = job.explain(format="mermaid")
    inside = [line.split("[", 1)[1] for line in drawn.splitlines() if "[" in line]
    assert all(text.count('"') == 2 for text in inside)


def test_unions_are_dissolved_in_the_drawing():
    job = rs.Job("t")
    s = job.from_items(TABLE)
    s.union(s).print()
    drawn = job.explain(format="mermaid")
    assert drawn.count("n0 --> n2") == 2


def test_streams_without_a_sink_are_left_out_once_there_is_one():
    job = rs.Job("t")
    s = job.from_items(TABLE)
    s.select("k")
    assert "select#1" in job.explain()
    s.print()
    assert "select#1" not in job.explain()


def test_a_sink_says_what_it_guarantees():
    job = rs.Job("t")
    job.from_items(TABLE).print()
    assert "at least once" in job.explain()


def test_another_format_is_refused():
    with pytest.raises(rs.PlanError, match="text, mermaid, json"):
        rs.Job("t").explain(format="xml")


def test_a_plan_says_where_time_and_watermarks_come_from():
    class Marks:
        def __call__(self, row):
            return None

    job = rs.Job("timed")
    job.from_items(TABLE, watermark=rs.Punctuated("t", Marks())).print()
    bounded = rs.WatermarkStrategy(rs.col("t"), out_of_orderness="5s")
    job.from_items(TABLE).assign_timestamps(bounded).print()
    text = job.explain()
    assert "1 items by t, watermarks by Marks" in text
    assert "by expr, up to 5s late" in text


def test_a_changelog_is_shown_with_its_key():
    job = rs.Job("shop")
    rows = job.from_items([{"k": "a"}], schema=pa.schema([("k", pa.string())]))
    counts = rows.key_by("k").aggregate(n=rs.count(), emit="changes")
    counts.to_rows().print()
    shown = job.explain()
    assert "changelog by k" in next(line for line in shown.splitlines() if "aggregate#1" in line)
    assert shown.count("changelog by") == 1
    nodes = json.loads(job.explain(format="json"))["logical"]
    assert [node["changelog"] for node in nodes["operators"]] == [None, ["k"], None, None]


def test_a_join_says_how_it_joins_on_what_and_what_waits_how_long():
    job = rs.Job("joins", parallelism=2)
    schema = pa.schema({"k": pa.int64(), "t": pa.int64()})
    times = rs.WatermarkStrategy("t")
    a, b = (job.from_items([], schema=schema, watermark=times).named(name) for name in "ab")
    a.join(b, on="k", window=rs.Tumbling("10s"), how="semi").print()
    a.join(b, left_on=["k", "t"], right_on=["t", "k"], within=("-1h", "5m")).print()
    a.join(b, on="k", ttl="1d", how="left").to_rows().print()
    a.as_of_join(b, on="k", tolerance="1d").print()
    a.join(pa.table({"k": [1, 2]}), on="k", how="anti").print()
    # A line is a name, what it does, the parallelism and where it is written.
    lines = [line.split(None, 1)[1] for line in job.explain().splitlines() if "join#" in line]
    joins = [line for line in lines if not line.startswith(("print", "to_rows"))]
    shown = [" ".join(line.partition("  p=2  ")[0].split()) for line in joins]
    assert shown == [
        "join semi on k in tumbling 10s ← a hash(k), b hash(k)",
        "join inner on k = t, t = k within -1h to 5m ← a hash(k, t), b hash(t, k)",
        "join left on k ttl=1d changelog by k, t, t_right ← a hash(k), b hash(k)",
        "as_of_join left on k, the newest up to 1d before ← a hash(k), b hash(k)",
        "join anti on k with a table of 2 rows ← a",
    ]
