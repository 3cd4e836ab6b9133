"""Iceberg tables: what is written is there exactly once, whatever fails, and can be followed."""

from __future__ import annotations

import datetime as dt
import pickle

import pyarrow as pa
import pytest
from lake_rows import FULL, KINDS, ROW, once, rows_of, taken

import raystream as rs
from raystream.connectors.iceberg import IcebergSink, IcebergSource

load_catalog = pytest.importorskip(
    "pyiceberg.catalog", reason="the extra iceberg is not installed"
).load_catalog

pytestmark = [
    pytest.mark.slow,
    # The library leaves connections of its SQLite catalog to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]
T = rs.testing
NAME = "lake.rows"


@pytest.fixture
def catalog(tmp_path):
    return {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": f"file://{tmp_path}/warehouse",
    }


def opened(catalog):
    return load_catalog("default", **catalog).load_table(NAME)


def read(catalog):
    return opened(catalog).scan().to_arrow().to_pylist()


def write(catalog, rows, schema=ROW, **settings):
    job = rs.Job("write", runtime="local")
    job.from_items(rows, schema=schema).sink(IcebergSink(NAME, catalog, **settings))
    return job.run()


def prepared(sink, rows, checkpoint_id=1, schema=ROW):
    writer = sink.open(rs.OpenContext(operator="sink"))
    writer.write(rs.Batch(pa.RecordBatch.from_pylist(rows, schema)))
    return pickle.loads(pickle.dumps(writer.prepare_commit(checkpoint_id)))


def test_values_of_every_type_come_back(catalog):
    rows = [FULL, dict.fromkeys(FULL)]
    write(catalog, rows, KINDS)
    assert sorted(read(catalog), key=str) == sorted(rows, key=str)
    back = rs.Job("back").source(IcebergSource(NAME, catalog)).collect()
    assert sorted(back, key=str) == sorted(rows, key=str)


def test_partitions_come_back_as_values(catalog):
    schema = pa.schema({"n": pa.int64(), "k": pa.string(), "d": pa.date32()})
    rows = [
        {"n": 0, "k": "a b/ä%=", "d": dt.date(2020, 1, 1)},
        {"n": 1, "k": None, "d": None},
        {"n": 2, "k": "", "d": dt.date(1969, 1, 1)},
    ]
    write(catalog, rows, schema, partition_by=["k", "d"])
    assert [field.name for field in opened(catalog).spec().fields] == ["k", "d"]
    by_n = lambda found: sorted(found, key=lambda row: row["n"])
    assert by_n(read(catalog)) == rows
    source = rs.Job("back").source(IcebergSource(NAME, catalog))
    assert by_n(source.collect()) == rows
    assert source.filter(rs.col("n") == 0).select("k").collect() == [{"k": "a b/ä%="}]


def test_a_table_keeps_its_own_partitioning(catalog):
    write(catalog, rows_of(2))
    with opened(catalog).update_spec() as spec:
        spec.add_identity("kind")
    write(catalog, rows_of(20, 2))
    assert once(read(catalog)) == 22
    assert len(list(opened(catalog).scan().plan_files())) == 3


def test_the_same_checkpoint_of_another_run_is_another_commit(catalog):
    write(catalog, rows_of(5))
    write(catalog, rows_of(5, 5))
    assert once(read(catalog)) == 10


def test_others_may_append_between(catalog):
    sink = IcebergSink(NAME, catalog, schema=ROW)
    made = prepared(sink, rows_of(3))
    opened(catalog).append(pa.Table.from_pylist(rows_of(3, 3), ROW))
    sink.commit(1, made)
    opened(catalog).append(pa.Table.from_pylist(rows_of(3, 6), ROW))
    sink.commit(1, made)
    assert once(read(catalog)) == 9


def test_files_that_are_gone_before_their_commit_are_an_error(catalog, tmp_path):
    sink = IcebergSink(NAME, catalog)
    made = prepared(sink, rows_of(3))
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(rs.SinkError, match="was prepared and is gone"):
        sink.commit(1, made)


def test_a_table_partitioned_anew_before_the_commit_is_an_error(catalog):
    sink = IcebergSink(NAME, catalog)
    made = prepared(sink, rows_of(3))
    with opened(catalog).update_spec() as spec:
        spec.add_identity("kind")
    with pytest.raises(rs.SinkError, match="partitioned in another way"):
        sink.commit(1, made)


def test_abort_deletes_what_is_not_visible(catalog, tmp_path):
    sink = IcebergSink(NAME, catalog)
    made, lost = prepared(sink, rows_of(3)), prepared(sink, rows_of(3), 2)
    sink.commit(1, made)
    for _ in range(2):
        sink.abort(lost)
        sink.abort(made)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert once(read(catalog)) == 3


def test_no_rows_make_no_snapshot(catalog):
    write(catalog, rows_of(3))
    write(catalog, [])
    assert len(opened(catalog).snapshots()) == 1


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema({"n": pa.int32(), "kind": pa.string()}), 'column "n" of .* is int64'),
        (pa.schema({"n": pa.int64(), "sort": pa.string()}), 'has no column "sort"'),
    ],
)
def test_what_does_not_fit_the_table_is_named(catalog, schema, message):
    write(catalog, rows_of(3))
    with pytest.raises(rs.JobFailed, match=message):
        write(catalog, [dict.fromkeys(schema.names)], schema)
    with pytest.raises(rs.SinkError, match=message):
        IcebergSink(NAME, catalog, schema=schema).open(rs.OpenContext())
    assert once(read(catalog)) == 3


def test_mistakes_are_found_where_the_job_is_built(catalog):
    with pytest.raises(rs.PlanError, match='column "u" is uint64'):
        IcebergSink(NAME, catalog, schema=pa.schema({"u": pa.uint64()}))
    with pytest.raises(rs.PlanError, match='"day", which is no column'):
        IcebergSink(NAME, catalog, schema=ROW, partition_by="day")
    with pytest.raises(rs.SourceError, match="Table does not exist"):
        IcebergSource("lake.none", catalog)
    write(catalog, rows_of(3))
    with pytest.raises(rs.SourceError, match="has no snapshot 7"):
        IcebergSource(NAME, catalog, snapshot=7)


@pytest.mark.parametrize(
    "secret",
    [{"token": "hunter2"}, {"s3.secret-access-key": "hunter2"}, {"uri": "pg://me:hunter2@host/db"}],
)
def test_secrets_are_not_written_out(catalog, secret):
    with pytest.raises(rs.PlanError, match="has a (secret|password) in it") as caught:
        IcebergSink(NAME, {**catalog, **secret})
    assert "hunter2" not in str(caught.value)


def test_a_named_secret_is_in_no_error(catalog, monkeypatch):
    monkeypatch.setenv("LAKE_PLACE", "/proc/hunter2")
    sink = IcebergSink(NAME, {**catalog, "warehouse": rs.secret("LAKE_PLACE")}, schema=ROW)
    with pytest.raises(rs.SinkError, match=r"cannot open lake.rows: .*…") as caught:
        sink.open(rs.OpenContext())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "hunter2" not in sink.describe()
    assert b"hunter2" not in pickle.dumps(sink)


def test_columns_that_were_added_or_renamed_are_followed(catalog):
    from pyiceberg.types import LongType

    write(catalog, rows_of(2))
    with opened(catalog).update_schema() as change:
        change.add_column("more", LongType())
        change.rename_column("kind", "sort")
    rows = [{"n": n, "sort": "x"} for n in (2, 3)]
    write(catalog, rows, pa.schema({"n": pa.int64(), "sort": pa.string()}))
    back = rs.Job("back").source(IcebergSource(NAME, catalog)).collect()
    assert once(back) == 4
    assert [row["sort"] for row in sorted(back, key=lambda row: row["n"])] == [
        *("even", "odd", "x", "x")
    ]
    assert {row["more"] for row in back} == {None}


def test_a_snapshot_is_read_as_it_was(catalog):
    write(catalog, rows_of(3))
    first = opened(catalog).current_snapshot().snapshot_id
    write(catalog, rows_of(3, 3))
    back = rs.Job("back").source(IcebergSource(NAME, catalog, snapshot=first)).collect()
    assert once(back) == 3


def test_following_refuses_rows_that_are_taken_back(catalog):
    write(catalog, rows_of(5))
    source = IcebergSource(NAME, catalog, mode="continuous")
    (split,) = source.splits()
    opened(catalog).delete("n = 2")
    reader = source.open(split, None)
    taken(reader, 5)
    with pytest.raises(rs.SourceError, match="deletes or changes rows"):
        reader.poll(1)
