"""collect(), to_arrow() and show(): what one stream needs, run at once."""

import pyarrow as pa
import pytest

import raystream as rs

TABLE = pa.table({"a": [1, 2, 3]})


def endless():
    return rs.Job("t").source(rs.DataGenSource(pa.schema({"a": pa.int64()})))


def test_collect_gives_dicts_of_columns_and_objects_as_they_are():
    job = rs.Job("t")
    assert job.from_items(TABLE).collect() == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert job.from_items(["x", (1, 2)]).collect() == ["x", (1, 2)]


def test_collect_runs_no_other_sinks():
    sink = rs.MemorySink()
    s = rs.Job("t").from_items(TABLE)
    s.sink(sink)
    assert len(s.collect()) == 3
    assert sink.rows == []


def test_collecting_leaves_no_trace_in_the_job():
    job = rs.Job("t")
    s = job.from_items(TABLE)
    before = job.explain()
    s.collect()
    s.to_arrow()
    assert job.explain() == before


def test_a_limit_ends_an_endless_stream():
    assert len(endless().collect(limit=7)) == 7
    assert endless().to_arrow(limit=2).num_rows == 2


@pytest.mark.parametrize("verb", ["collect", "to_arrow"])
def test_an_endless_stream_needs_a_limit(verb):
    with pytest.raises(rs.PlanError, match="has no end") as error:
        getattr(endless(), verb)()
    assert "limit=" in error.value.hint
    assert "test_collecting.py:" in error.value.where


@pytest.mark.parametrize("limit", [-1, "3", True, 1.5])
def test_a_limit_is_a_count(limit):
    with pytest.raises(rs.PlanError, match="a limit is an int"):
        rs.Job("t").from_items(TABLE).collect(limit=limit)


def test_a_limit_of_nothing_gives_nothing():
    assert rs.Job("t").from_items(TABLE).collect(limit=0) == []
    assert rs.Job("t").from_items(TABLE).to_arrow(limit=0).schema == TABLE.schema


def test_the_runtime_is_one_that_there_is():
    with pytest.raises(rs.PlanError, match='"ray" or "local"'):
        rs.Job("t").from_items(TABLE).collect(runtime="flink")


def test_a_table_without_rows_still_has_its_columns():
    s = rs.Job("t").from_items(TABLE, watermark=rs.WatermarkStrategy("a"))
    assert s.filter(rs.col("a") > 5).to_arrow().schema == TABLE.schema


def test_to_arrow_gives_the_rows_without_the_hidden_event_time():
    s = rs.Job("t").from_items(TABLE, watermark=rs.WatermarkStrategy("a"))
    assert s.to_arrow().equals(TABLE)


def test_dicts_make_a_table_and_other_objects_do_not():
    job = rs.Job("t")
    assert job.from_items([{"x": 1}]).to_arrow().to_pylist() == [{"x": 1}]
    with pytest.raises(rs.SinkError):
        job.from_items([1, 2]).to_arrow()


def test_show_prints_the_first_rows_under_their_names(capsys):
    rs.Job("t").from_items(pa.table({"name": ["x", "longer"], "n": [1, 2]})).show()
    assert capsys.readouterr().out == "name    n\n──────  ─\nx       1\nlonger  2\n"
    rs.Job("t").from_items(range(100)).show(2)
    assert capsys.readouterr().out == "0\n1\n"


def test_a_stream_can_be_called_collect():
    s = rs.Job("t").from_items(TABLE).named("collect#1")
    assert len(s.collect()) == 3


def test_a_failure_names_the_operator_and_the_line():
    with pytest.raises(rs.JobFailed, match="map#1") as error:
        rs.Job("t").from_items([0]).map(lambda x: 1 / x).collect()
    assert "ZeroDivisionError" in str(error.value)
    assert "test_collecting.py:" in error.value.where
