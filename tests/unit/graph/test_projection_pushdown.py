"""Sources read only what somebody reads."""

import pyarrow as pa
import pytest

import raystream as rs
from raystream.graph.planner import physical_plan
from raystream.operators.columns import ColumnsSpec

TABLE = pa.table({"t": [0, 1], "k": [1, 2], "v": [3, 4], "w": [5, 6], "x": ["a", "b"]})
COL = rs.col
STRATEGY = rs.WatermarkStrategy("t")


def make(parallelism=2, watermark=STRATEGY):
    job = rs.Job("t", parallelism=parallelism)
    return job, job.from_items(TABLE, watermark=watermark).named("src")


def nodes(job, **options):
    plan = physical_plan(job._draft.plan(), **options)
    return {node.name: node for chain in plan.chains for node in chain.nodes}


def columns(node):
    return [name for name in node.schema.names if name != "__ts"]


def test_a_source_reads_what_is_selected_and_its_event_time():
    job, s = make()
    s.select("v").print()
    assert columns(nodes(job)["src"]) == ["t", "v"]


def test_a_source_without_event_time_reads_what_is_selected():
    job, s = make(watermark=None)
    s.select("v").print()
    assert columns(nodes(job)["src"]) == ["v"]


def test_expressions_and_filters_count_as_reading():
    job, s = make()
    s.filter(COL("w") > 5).select(y=COL("v") * 2).print()
    assert columns(nodes(job)["src"]) == ["t", "v", "w"]


def test_a_sink_of_whole_rows_reads_everything():
    job, s = make()
    s.filter(COL("w") > 5).print()
    assert columns(nodes(job)["src"]) == TABLE.column_names


def test_a_row_function_reads_everything():
    job, s = make()
    s.filter(lambda row: row["v"] > 3).select("v").print()
    assert columns(nodes(job)["src"]) == TABLE.column_names


def test_several_consumers_read_together():
    job, s = make()
    s.select("v").print()
    s.select("x").print()
    assert columns(nodes(job)["src"]) == ["t", "v", "x"]


def test_keys_and_aggregates_are_what_a_window_reads():
    job, s = make()
    s.key_by("k").window(rs.Tumbling("1s")).aggregate(n=rs.count(), m=rs.max("v")).print()
    assert columns(nodes(job)["src"]) == ["t", "k", "v"]


def top_two(s):
    best = s.key_by("k").window(rs.Tumbling("1s")).top_k(2, by="v", rank="place")
    return best.named("best")


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_top_k_reads_what_it_compares_and_what_is_read_behind_it(parallelism):
    job, s = make(parallelism)
    top_two(s).select("x", "place").print()
    made = nodes(job)
    assert columns(made["src"]) == ["t", "k", "v", "x"]
    assert columns(made["best"]) == ["x", "place"]
    if parallelism > 1:
        assert columns(made["best.partial"]) == ["k", "v", "x"]


def test_a_top_k_whose_rank_nobody_reads_leaves_it_out():
    job, s = make()
    top_two(s).select("w").print()
    assert columns(nodes(job)["best"]) == ["w"]


def test_a_top_k_of_whole_rows_reads_everything():
    job, s = make()
    top_two(s).print()
    assert columns(nodes(job)["src"]) == TABLE.column_names


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_top_k_gives_the_same_rows_whatever_is_left_out(parallelism):
    job = rs.Job("t", parallelism=parallelism, runtime="local")
    rows = pa.table({"t": [0, 1, 2, 2_000_000], "v": [3, 9, 9, 1], "w": [1, 2, 3, 4], "k": [1] * 4})
    s = job.from_items(rows, watermark=STRATEGY)
    best = s.window_all(rs.Tumbling("1s")).top_k(1, by="v", ties=True).select("w").collect()
    assert sorted(row["w"] for row in best) == [2, 3, 4]


def test_only_what_is_read_travels_between_subtasks():
    job, s = make()
    s.key_by("k").aggregate(m=rs.max("v")).print()
    plan = physical_plan(job._draft.plan())
    (edge,) = plan.edges
    assert [name for name in edge.schema.names if name != "__ts"] == ["k", "v"]


def test_a_step_that_nobody_needs_any_more_is_taken_out():
    job, s = make(watermark=None)
    s.key_by("k").aggregate(m=rs.max("v")).print()
    made = nodes(job)
    assert columns(made["src"]) == ["k", "v"]
    assert not any(name.endswith(".columns") for name in made)


def test_a_step_with_two_consumers_gives_what_both_read():
    job, s = make()
    kept = s.filter(COL("w") > 5)
    kept.select("v").print()
    kept.select("k").print()
    made = nodes(job)
    assert columns(made["filter#1"]) == ["k", "v"]
    assert columns(made["src"]) == ["t", "k", "v", "w"]


def test_a_step_before_an_exchange_gives_what_is_read_behind_it():
    job, s = make()
    s.filter(COL("w") > 5).rebalance().select("v").print()
    plan = physical_plan(job._draft.plan())
    (edge,) = plan.edges
    assert edge.schema.names == ["v", "__ts"]


def test_a_custom_exchange_reads_whole_rows():
    job, s = make()
    s.filter(COL("w") > 5).partition_by(lambda row: row["x"]).select("v").print()
    assert columns(nodes(job)["src"]) == TABLE.column_names


def test_a_column_that_is_computed_for_nobody_does_not_break_the_plan():
    job, s = make(watermark=None)
    s.with_columns(y=COL("w") * 2).select("v").print()
    spec = nodes(job)["with_columns#1+select#1"].spec
    assert isinstance(spec, ColumnsSpec)
    assert s.with_columns(y=COL("w") * 2).select("v").collect() == [{"v": 3}, {"v": 4}]


def test_event_time_by_an_expression_reads_its_columns():
    job, s = make(watermark=rs.WatermarkStrategy(COL("t") + COL("w")))
    s.select("v").print()
    assert columns(nodes(job)["src"]) == ["t", "v", "w"]


def test_event_time_by_a_function_reads_everything():
    job, s = make(watermark=rs.WatermarkStrategy(lambda row: row["t"]))
    s.select("v").print()
    assert columns(nodes(job)["src"]) == TABLE.column_names


def test_watermarks_of_rows_are_read_by_a_function_and_so_read_everything():
    job, s = make(watermark=rs.Punctuated("t", lambda row: None))
    s.select("v").print()
    assert columns(nodes(job)["src"]) == TABLE.column_names


def test_assigned_timestamps_pass_what_is_read_behind_them():
    job, s = make(watermark=None)
    s.assign_timestamps(rs.WatermarkStrategy("w")).select("v").print()
    made = nodes(job)
    assert columns(made["src"]) == ["v", "w"]
    assert columns(made["assign_timestamps#1"]) == ["v", "w"]


def test_the_streams_of_a_union_shrink_alike():
    job, s = make()
    other = job.from_items(TABLE.select(TABLE.column_names), watermark=STRATEGY).named("other")
    s.union(other).select("v").print()
    made = nodes(job)
    assert made["src"].schema == made["other"].schema
    assert columns(made["src"]) == ["t", "v"]


OTHER = pa.table({"t": [0, 1], "id": [1, 2], "v": [7, 8], "y": [9, 10], "z": ["c", "d"]})


def joined(job, s, how="inner"):
    other = job.from_items(OTHER, watermark=STRATEGY).named("other")
    return s.join(other, left_on="k", right_on="id", ttl="forever", how=how).named("joined")


def test_a_join_reads_its_keys_and_what_is_read_behind_it():
    job, s = make()
    joined(job, s).filter(COL("v_right") > 3).select("w").print()
    made = nodes(job)
    assert columns(made["src"]) == ["t", "k", "w"]
    assert columns(made["other"]) == ["t", "id", "v"]
    assert columns(made["joined"]) == ["k", "w", "v_right"]


def test_a_join_holds_no_column_that_others_read_of_its_inputs():
    job, s = make()
    s.select("x").print()
    joined(job, s).select("w").print()
    plan = nodes(job)["joined"].spec.plan
    assert plan.left.names == ["k", "w", "__ts"]
    assert plan.right.names == ["id", "__ts"]


@pytest.mark.parametrize("how", ["inner", "left", "right", "full", "semi", "anti"])
def test_a_join_gives_the_same_rows_whatever_is_left_out(how):
    job = rs.Job("t", runtime="local")
    s = job.from_items(TABLE.slice(1), watermark=STRATEGY)
    rows = joined(job, s, how)
    whole = rows.to_arrow().select(["w"]).to_pylist()
    assert rows.select("w").to_arrow().to_pylist() == whole


def test_a_join_whose_rows_are_taken_back_reads_whole_rows():
    job, s = make()
    changes = s.key_by("k").aggregate(n=rs.count(), most=rs.max("w"), emit="changes")
    joined(job, changes).select("z", "k", "n").to_rows().print()
    made = nodes(job)
    assert made["joined"].spec.plan.left.names == ["k", "n", "most", "__op", "__ts"]
    assert columns(made["other"]) == OTHER.column_names


def test_a_join_of_whole_rows_reads_everything():
    job, s = make()
    joined(job, s).print()
    made = nodes(job)
    assert columns(made["src"]) == TABLE.column_names
    assert columns(made["other"]) == OTHER.column_names


def test_a_join_with_a_table_reads_its_keys_and_what_is_read_behind_it():
    job, s = make()
    beside = s.join(OTHER, left_on="k", right_on="id")
    beside.select("z", "w").print()
    assert columns(nodes(job)["src"]) == ["t", "k", "w"]


def test_a_count_of_rows_still_reads_one_column():
    job, s = make(watermark=None)
    s.select(n=rs.lit(1)).print()
    assert len(columns(nodes(job)["src"])) == 1
    assert s.select(n=rs.lit(1)).collect() == [{"n": 1}, {"n": 1}]


def test_without_the_rule_everything_is_read():
    job, s = make()
    s.select("v").print()
    assert columns(nodes(job, rules=("chain",))["src"]) == TABLE.column_names


def test_steps_in_a_row_become_one_operator():
    job, s = make()
    s.filter(COL("w") > 5).with_columns(y=COL("v")).select("y").named("last").print()
    made = nodes(job)
    assert "filter#1+with_columns#1+last" in made
    assert len(made["filter#1+with_columns#1+last"].spec.steps) >= 3


def test_steps_of_several_consumers_stay_apart():
    job, s = make()
    kept = s.filter(COL("w") > 5)
    kept.select("v").print()
    kept.print()
    assert {"filter#1", "select#1"} <= set(nodes(job))


def test_steps_that_are_not_in_one_chain_stay_apart():
    job, s = make()
    s.filter(COL("w") > 5).disable_chaining().select("v").print()
    assert {"filter#1", "select#1"} <= set(nodes(job))


def test_hidden_columns_are_made_in_the_step_before_them():
    job, s = make()
    s.filter(COL("w") > 5).key_by("k").aggregate(n=rs.sum(COL("v") * 2)).print()
    made = nodes(job)
    assert "filter#1" in made
    assert columns(made["filter#1"]) == ["k", "__a0"]


def test_a_column_that_is_replaced_unread_keeps_its_place():
    job, s = make()
    replaced = s.with_columns(n="v", w=COL("v") + 1)
    replaced.print()
    assert "w" not in columns(nodes(job)["src"])
    assert replaced.collect() == [
        {"t": 0, "k": 1, "v": 3, "w": 4, "x": "a", "n": 3},
        {"t": 1, "k": 2, "v": 4, "w": 5, "x": "b", "n": 4},
    ]


def test_event_time_given_behind_a_function_leaves_out_what_nobody_reads():
    job, s = make()
    again = s.map(lambda row: row, TABLE.schema).assign_timestamps(STRATEGY)
    again.named("again").select("v").print()
    assert columns(nodes(job)["again"]) == ["t", "v"]
    assert again.select("v").collect() == [{"v": 3}, {"v": 4}]
