"""The job itself: its settings, its sources, running it."""

from datetime import datetime, timezone

import narwhals.stable.v2 as nw
import pyarrow as pa
import pytest

import raystream as rs

HERE = "test_job.py:"


def test_a_job_runs_in_this_process_and_says_how_it_went():
    sink = rs.MemorySink()
    job = rs.Job("t", runtime="local")
    job.from_items([1, 2, 3]).map(lambda x: x * 2).sink(sink)
    result = job.run()
    assert sink.rows == [2, 4, 6]
    assert (result.status, result.records_in, result.records_out) == ("finished", 3, 3)
    assert result.restarts == 0
    assert result.duration_s >= 0


def test_the_runtime_of_run_beats_that_of_the_job():
    sink = rs.MemorySink()
    job = rs.Job("t")
    job.from_items([1]).sink(sink)
    job.run(runtime="local")
    assert sink.rows == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": 7}, r"Job\(checkpoint=\) is a directory or a rs.Checkpointing, got 7"),
        ({"restart": "always"}, r"Job\(restart=\) is a rs.Restart, got 'always'"),
        ({"restart": object()}, "restart"),
        ({"autoscale": object()}, r"Job\(autoscale=\) is a rs.Autoscale, got <object"),
        ({"autoscale": (1, 8)}, r"Job\(autoscale=\) is a rs.Autoscale, got \(1, 8\)"),
        ({"autoscale": rs.Autoscale(1, 200)}, "up to 200 subtasks an operator: .* is 128"),
        ({"autoscale": rs.Autoscale(9), "max_parallelism": 8}, "up to 9 subtasks"),
        ({"parallelism": 0}, "parallelism is a positive int"),
        ({"parallelism": True}, "parallelism is a positive int"),
        ({"max_parallelism": "8"}, "max_parallelism is a positive int"),
        ({"parallelism": 129}, "parallelism 129 is above max_parallelism 128"),
        ({"runtime": "flink"}, 'runtime is "ray" or "local"'),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_line(settings, message):
    with pytest.raises(rs.PlanError, match=message) as error:
        rs.Job("t", **settings)
    assert HERE in error.value.where


@pytest.mark.parametrize("name", ["", " ", "a/b", 7, None])
def test_a_name_is_a_text_without_slashes(name):
    with pytest.raises(rs.PlanError, match="a job's name"):
        rs.Job(name)


def test_a_limit_that_there_is_not_names_the_close_one():
    with pytest.raises(rs.ConfigError) as error:
        rs.Job("t", config={"batch_row_max": 5})
    assert "batch_rows_max" in str(error.value)


def test_a_job_without_a_sink_has_nothing_to_run():
    job = rs.Job("t")
    job.from_items([1])
    with pytest.raises(rs.PlanError, match="has no sink") as error:
        job.run(runtime="local")
    assert "collect()" in error.value.hint


def test_only_what_sinks_need_is_run():
    touched = []
    sink = rs.MemorySink()
    job = rs.Job("t", runtime="local")
    s = job.from_items([1, 2])
    s.map(touched.append)
    s.sink(sink)
    job.run()
    assert (touched, sink.rows) == ([], [1, 2])


def test_the_latest_snapshot_is_looked_for_in_a_directory_that_must_be_named():
    job = rs.Job("t", runtime="local")
    job.from_items([1]).print()
    with pytest.raises(rs.PlanError, match="checkpoint directory, and the job has none"):
        job.run(from_snapshot="latest")


def test_submitting_needs_a_cluster():
    job = rs.Job("t", runtime="local")
    job.from_items([1]).print()
    with pytest.raises(rs.PlanError, match=r"submit\(\) needs a cluster"):
        job.submit()


def test_a_failing_function_fails_the_job_with_its_own_traceback_first():
    def broken(row):
        return row["nothing"]

    job = rs.Job("t", runtime="local")
    job.from_items([{"a": 1}]).map(broken).named("broken").print()
    with pytest.raises(rs.JobFailed) as error:
        job.run()
    text = str(error.value)
    assert text.startswith("Traceback")
    assert "KeyError: 'nothing'" in text
    assert 'job "t" failed: broken failed' in text
    assert isinstance(error.value.__cause__, rs.UserFunctionError)


def test_a_source_is_a_source():
    with pytest.raises(rs.PlanError, match=r"source\(\) takes a source, got list"):
        rs.Job("t").source([1, 2])


def test_a_missing_file_is_named_with_the_line():
    with pytest.raises(rs.RaystreamError, match="nowhere") as error:
        rs.Job("t").source(rs.FileSource("/nowhere/bids.parquet"))
    assert "nowhere" in str(error.value)


def test_items_are_read_once_when_the_job_is_built():
    items = iter([1, 2, 3])
    s = rs.Job("t").from_items(items)
    assert list(items) == []
    assert s.collect() == s.collect() == [1, 2, 3]


def test_dicts_with_a_schema_are_columns_and_without_are_objects():
    job = rs.Job("t")
    schema = pa.schema({"a": pa.int64()})
    assert job.from_items([{"a": 1}], schema=schema).schema == schema
    assert job.from_items([{"a": 1}]).schema is None


def test_a_table_is_columns_in_plain_types():
    table = pa.table({"a": pa.array(["x", "y"]).dictionary_encode(), "b": [1, 2]})
    s = rs.Job("t").from_items(table)
    assert s.schema == pa.schema({"a": pa.string(), "b": pa.int64()})
    assert s.collect() == [{"a": "x", "b": 1}, {"a": "y", "b": 2}]


def test_timestamps_are_points_in_time_of_the_same_length():
    job = rs.Job("t")
    noon = datetime(2020, 1, 1, 12, tzinfo=timezone.utc)
    s = job.from_items(["a", "b"], timestamps=[0, noon])
    counted = s.window_all(rs.Tumbling("1s")).aggregate(n=rs.count()).collect()
    assert [row["window_start"].year for row in counted] == [1970, 2020]
    with pytest.raises(rs.PlanError, match="2 timestamps for 1 rows") as error:
        job.from_items(["a"], timestamps=[0, 1])
    assert HERE in error.value.where


def test_a_timestamp_that_is_no_point_in_time_is_refused():
    with pytest.raises(rs.PlanError, match="'soon' is no point in time"):
        rs.Job("t").from_items(["a"], timestamps=["soon"])


@pytest.mark.parametrize("items", ["abc", b"abc", {"a": 1}, 5])
def test_items_that_are_no_rows_are_refused(items):
    with pytest.raises(rs.PlanError, match="takes an iterable of rows"):
        rs.Job("t").from_items(items)


def test_a_data_frame_is_not_taken_for_its_columns():
    frame = nw.from_native(pa.table({"a": [1]}))
    with pytest.raises(rs.PlanError, match="takes an iterable of rows") as error:
        rs.Job("t").from_items(frame)
    assert "pa.table(frame)" in str(error.value)
    assert rs.Job("t").from_items(pa.table(frame)).collect() == [{"a": 1}]


def test_items_that_do_not_fit_the_schema_are_refused_with_the_line():
    with pytest.raises(rs.PlanError, match="does not fit int64") as error:
        rs.Job("t").from_items([{"a": "x"}], schema=pa.schema({"a": pa.int64()}))
    assert HERE in error.value.where


def test_a_watermark_column_must_be_there():
    table = pa.table({"time": [1], "name": ["x"]})
    with pytest.raises(rs.PlanError, match='"tiem" not found') as error:
        rs.Job("t").from_items(table, watermark=rs.WatermarkStrategy("tiem"))
    assert '"time"' in str(error.value)
    assert HERE in error.value.where


@pytest.mark.parametrize("timestamp", ["name", rs.col("name"), rs.col("time") / 2])
def test_event_time_is_read_from_times_and_integers_only(timestamp):
    table = pa.table({"time": [1], "name": ["x"]})
    with pytest.raises(rs.PlanError, match="event time is read from"):
        rs.Job("t").from_items(table, watermark=rs.WatermarkStrategy(timestamp))


def test_objects_have_their_time_from_a_key_or_a_function_not_an_expression():
    job = rs.Job("t")
    rows = [{"t": 5}]
    for timestamp in ("t", lambda row: row["t"]):
        s = job.from_items(rows, watermark=rs.WatermarkStrategy(timestamp))
        assert s._tip.node.type.timed
    with pytest.raises(rs.PlanError, match="not by an expression"):
        job.from_items(rows, watermark=rs.WatermarkStrategy(rs.col("t")))


def test_a_watermark_is_a_strategy():
    with pytest.raises(rs.PlanError, match=r"takes a rs.WatermarkStrategy, got 't'"):
        rs.Job("t").from_items([{"t": 1}], watermark="t")


async def later(row):
    return None


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (rs.WatermarkStrategy(5), "takes a function, got int 5"),
        (rs.WatermarkStrategy(later), "later is async"),
        (rs.Punctuated("t", later), "later is async"),
        (rs.Punctuated(5, int), "takes a function, got int 5"),
    ],
)
def test_what_reads_time_can_be_called(strategy, told):
    with pytest.raises(rs.PlanError, match=told):
        rs.Job("t").from_items([{"t": 1}], watermark=strategy)
    with pytest.raises(rs.PlanError, match=told):
        rs.Job("t").from_items([{"t": 1}]).assign_timestamps(strategy)


def test_a_sink_that_commits_needs_checkpoints_where_there_is_no_end(tmp_path):
    job = rs.Job("t", runtime="local")
    source = rs.DataGenSource(pa.schema({"a": pa.int64()}))
    job.source(source).sink(rs.FileSink(str(tmp_path / "out"), "csv")).named("files")
    with pytest.raises(rs.PlanError, match='"files"') as error:
        job.run()
    assert "checkpoints" in error.value.message
    assert HERE in error.value.where
    assert "files" in job.explain()


def test_a_sink_is_a_sink():
    with pytest.raises(rs.PlanError, match=r"sink\(\) takes a sink, got str"):
        rs.Job("t").from_items([1]).sink("out.csv")


def test_print_writes_rows_and_gives_an_end_that_can_be_named(capsys):
    job = rs.Job("t", runtime="local")
    end = job.from_items([1, 2]).print("n").named("shown").with_parallelism(1)
    job.run()
    assert capsys.readouterr().out == "n> 1\nn> 2\n"
    assert repr(end) == '<End "shown">'


def test_jobs_and_streams_show_what_they_are():
    job = rs.Job("t")
    s = job.from_items(pa.table({"a": [1]})).named("items")
    assert repr(job) == '<Job "t": 1 operators>'
    assert repr(s) == '<Stream "items": a int64>'
    assert repr(s.key_by("a")) == '<KeyedStream "items": a int64>'
    assert repr(s.map(len)) == '<Stream "items" after "map#1": objects>'
