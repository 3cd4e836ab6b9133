"""Delta tables: what is written is there exactly once, whatever fails, and can be followed."""

from __future__ import annotations

import datetime as dt
import json
import pickle

import pyarrow as pa
import pytest
from lake_rows import FULL, KINDS, ROW, once, rows_of, taken

import raystream as rs
from raystream.connectors.delta import DeltaSink, DeltaSource

deltalake = pytest.importorskip("deltalake", reason="the extra delta is not installed")

pytestmark = pytest.mark.slow
T = rs.testing


KINDS = pa.schema([field for field in KINDS if field.name != "clock"])  # it has no such type
FULL = {name: FULL[name] for name in KINDS.names}


def read(path):
    return pa.table(deltalake.DeltaTable(str(path)).to_pyarrow_table()).to_pylist()


def write(path, rows, schema=ROW, **settings):
    job = rs.Job("write", runtime="local")
    job.from_items(rows, schema=schema).sink(DeltaSink(path, **settings))
    return job.run()


def prepared(sink, rows, checkpoint_id=1, schema=ROW):
    writer = sink.open(rs.OpenContext(operator="sink"))
    writer.write(rs.Batch(pa.RecordBatch.from_pylist(rows, schema)))
    made = writer.prepare_commit(checkpoint_id)
    return pickle.loads(pickle.dumps(made))


def test_values_of_every_type_come_back(tmp_path):
    rows = [FULL, dict.fromkeys(FULL)]
    write(tmp_path / "t", rows, KINDS)
    assert sorted(read(tmp_path / "t"), key=str) == sorted(rows, key=str)
    back = rs.Job("back").source(DeltaSource(tmp_path / "t")).collect()
    assert sorted(back, key=str) == sorted(rows, key=str)


def test_partitions_come_back_as_values(tmp_path):
    schema = pa.schema({"n": pa.int64(), "k": pa.string(), "d": pa.date32(), "b": pa.bool_()})
    rows = [
        {"n": 0, "k": "a b/ä%=", "d": dt.date(2020, 1, 1), "b": True},
        {"n": 1, "k": None, "d": None, "b": None},
        {"n": 2, "k": "x", "d": dt.date(1969, 1, 1), "b": False},
    ]
    write(tmp_path / "t", rows, schema, partition_by=["k", "d", "b"])
    table = deltalake.DeltaTable(str(tmp_path / "t"))
    assert table.metadata().partition_columns == ["k", "d", "b"]
    by_n = lambda found: sorted(found, key=lambda row: row["n"])
    assert by_n(read(tmp_path / "t")) == rows
    assert by_n(rs.Job("back").source(DeltaSource(tmp_path / "t")).collect()) == rows
    (one,) = (
        rs.Job("narrow")
        .source(DeltaSource(tmp_path / "t"))
        .filter(rs.col("n") == 0)
        .select("k")
        .collect()
    )
    assert one == {"k": "a b/ä%="}


def test_the_log_has_bounds_that_hold(tmp_path):
    write(tmp_path / "t", [FULL, dict.fromkeys(FULL)], KINDS)
    (entry,) = [
        json.loads(line)["add"]
        for line in (tmp_path / "t/_delta_log/00000000000000000001.json").read_text().splitlines()
        if "add" in json.loads(line)
    ]
    said = json.loads(entry["stats"])
    assert said["numRecords"] == 2
    assert said["minValues"]["at"] == "2020-01-01T12:00:00.123Z"
    assert said["maxValues"]["at"] == "2020-01-01T12:00:00.124Z"
    assert said["minValues"]["local"] == "1969-12-31T23:59:59.999"
    assert said["maxValues"]["local"] == "1970-01-01T00:00:00.000"
    assert said["minValues"]["i64"] == 2**62
    assert "s" not in said["minValues"]
    assert said["nullCount"]["s"] == 1


def test_the_same_checkpoint_of_another_run_is_another_commit(tmp_path):
    write(tmp_path / "t", rows_of(5))
    write(tmp_path / "t", rows_of(5, 5))
    assert once(read(tmp_path / "t")) == 10


def test_others_may_append_and_compact_between(tmp_path):
    sink = DeltaSink(tmp_path / "t", schema=ROW)
    made = prepared(sink, rows_of(3))
    deltalake.write_deltalake(
        str(tmp_path / "t"), pa.Table.from_pylist(rows_of(3, 3), ROW), mode="append"
    )
    sink.commit(1, made)
    deltalake.DeltaTable(str(tmp_path / "t")).optimize.compact()
    sink.commit(1, made)
    assert once(read(tmp_path / "t")) == 6


def test_a_repeated_commit_needs_no_files_that_were_compacted_and_deleted(tmp_path):
    sink = DeltaSink(tmp_path / "t")
    made = prepared(sink, rows_of(3))
    sink.commit(1, made)
    sink.commit(2, prepared(sink, rows_of(3, 3), 2))
    table = deltalake.DeltaTable(str(tmp_path / "t"))
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    sink.commit(1, made)
    assert once(read(tmp_path / "t")) == 6


def test_files_that_are_gone_before_their_commit_are_an_error(tmp_path):
    sink = DeltaSink(tmp_path / "t")
    made = prepared(sink, rows_of(3))
    for file in (tmp_path / "t").glob("*.parquet"):
        file.unlink()
    with pytest.raises(rs.SinkError, match="was prepared and is gone"):
        sink.commit(1, made)


def test_abort_deletes_what_is_not_visible(tmp_path):
    sink = DeltaSink(tmp_path / "t")
    made, lost = prepared(sink, rows_of(3)), prepared(sink, rows_of(3), 2)
    sink.commit(1, made)
    for _ in range(2):
        sink.abort(lost)
        sink.abort(made)
    assert len(list((tmp_path / "t").glob("*.parquet"))) == 1
    assert once(read(tmp_path / "t")) == 3


def test_a_writer_that_closes_leaves_nothing_that_was_not_prepared(tmp_path):
    sink = DeltaSink(tmp_path / "t", partition_by="kind")
    writer = sink.open(rs.OpenContext())
    writer.write(rs.Batch(pa.RecordBatch.from_pylist(rows_of(3), ROW)))
    writer.close()
    assert list((tmp_path / "t").glob("*.parquet")) == []


def test_no_rows_make_no_version(tmp_path):
    write(tmp_path / "t", rows_of(3))
    write(tmp_path / "t", [])
    assert deltalake.DeltaTable(str(tmp_path / "t")).version() == 1


@pytest.mark.parametrize(
    ("schema", "settings", "message"),
    [
        (pa.schema({"n": pa.int32(), "kind": pa.string()}), {}, 'column "n" of .* is int64'),
        (pa.schema({"n": pa.int64(), "sort": pa.string()}), {}, 'has no column "sort"'),
        (ROW, {"partition_by": "kind"}, "is partitioned by nothing"),
        (ROW, {"partition_by": "sort"}, "is partitioned by nothing"),
    ],
)
def test_what_does_not_fit_the_table_is_named(tmp_path, schema, settings, message):
    write(tmp_path / "t", rows_of(3))
    with pytest.raises(rs.JobFailed, match=message):
        write(tmp_path / "t", [dict.fromkeys(schema.names)], schema, **settings)
    assert once(read(tmp_path / "t")) == 3


def test_types_that_delta_has_not_are_refused_where_the_job_is_built(tmp_path):
    with pytest.raises(rs.PlanError, match=r'column "t" is time64\[us\]'):
        DeltaSink(tmp_path / "t", schema=pa.schema({"t": pa.time64("us")}))
    with pytest.raises(rs.PlanError, match='"day", which is no column'):
        DeltaSink(tmp_path / "t", schema=ROW, partition_by="day")
    with pytest.raises(rs.PlanError, match="holds a password"):
        DeltaSink("s3://me:hunter2@bucket/t")


def test_a_null_where_the_table_takes_none_is_refused(tmp_path):
    exact = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    deltalake.DeltaTable.create(str(tmp_path / "t"), exact)
    with pytest.raises(rs.JobFailed, match='column "n" of .* takes no null; row 1'):
        write(tmp_path / "t", [{"n": 1}, {"n": None}], pa.schema({"n": pa.int64()}))
    write(tmp_path / "t", [{"n": 0}], pa.schema({"n": pa.int64()}))
    assert once(read(tmp_path / "t")) == 1


def test_rules_that_would_not_be_kept_are_refused(tmp_path):
    write(tmp_path / "t", rows_of(3))
    deltalake.DeltaTable(str(tmp_path / "t")).alter.add_constraint({"small": "n < 100"})
    with pytest.raises(rs.JobFailed, match="has the rule delta.constraints.small"):
        write(tmp_path / "t", rows_of(1, 1_000))


def test_columns_that_were_added_are_null_in_older_files(tmp_path):
    write(tmp_path / "t", rows_of(2))
    table = deltalake.DeltaTable(str(tmp_path / "t"))
    table.alter.add_columns([deltalake.Field("more", deltalake.schema.PrimitiveType("long"))])
    write(tmp_path / "t", rows_of(2, 2))
    back = rs.Job("back").source(DeltaSource(tmp_path / "t")).collect()
    assert once(back) == 4
    assert {row["more"] for row in back} == {None}


def test_a_version_is_read_as_it_was(tmp_path):
    write(tmp_path / "t", rows_of(3))
    write(tmp_path / "t", rows_of(3, 3))
    back = rs.Job("back").source(DeltaSource(tmp_path / "t", version=1)).collect()
    assert once(back) == 3


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(rs.SourceError, match="there is no Delta table"):
        DeltaSource(tmp_path / "none")
    write(tmp_path / "t", rows_of(3))
    with pytest.raises(rs.SourceError, match="at version 7"):
        DeltaSource(tmp_path / "t", version=7)


def test_following_goes_on_in_the_middle_of_any_version(tmp_path):
    write(tmp_path / "t", rows_of(5))
    source = DeltaSource(tmp_path / "t", mode="continuous", poll="1ms")
    (split,) = source.splits()
    write(tmp_path / "t", rows_of(5, 5), partition_by=None)
    deltalake.DeltaTable(str(tmp_path / "t")).optimize.compact()
    write(tmp_path / "t", rows_of(5, 10))
    for stop in range(1, 15):
        reader = source.open(split, None)
        rows = taken(reader, stop)
        position = pickle.loads(pickle.dumps(reader.position()))
        reader.close()
        again = source.open(split, position)
        rows += taken(again, 15 - stop)
        assert once(rows) == 15
        assert not isinstance(again.poll(1), pa.RecordBatch)
        last = source.open(split, again.position())
        assert not isinstance(last.poll(9), pa.RecordBatch)


def test_following_refuses_rows_that_are_taken_back(tmp_path):
    write(tmp_path / "t", rows_of(5))
    source = DeltaSource(tmp_path / "t", mode="continuous")
    (split,) = source.splits()
    deltalake.DeltaTable(str(tmp_path / "t")).delete("n = 2")
    reader = source.open(split, None)
    taken(reader, 5)
    with pytest.raises(rs.SourceError, match="version 2 of .* deletes or changes rows"):
        reader.poll(1)


def test_following_says_when_the_log_was_cleaned_up(tmp_path):
    write(tmp_path / "t", rows_of(2))
    source = DeltaSource(tmp_path / "t", mode="continuous")
    (split,) = source.splits()
    write(tmp_path / "t", rows_of(2, 2))
    write(tmp_path / "t", rows_of(2, 4))
    deltalake.DeltaTable(str(tmp_path / "t")).create_checkpoint()
    (tmp_path / "t/_delta_log/00000000000000000002.json").unlink()
    reader = source.open(split, None)
    taken(reader, 2)
    with pytest.raises(rs.SourceError, match="version 2 is gone from the log"):
        reader.poll(1)
