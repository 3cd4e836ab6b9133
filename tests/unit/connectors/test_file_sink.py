"""Files appear whole, once, and only when they are committed."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raystream.connectors.file_sink import FileSink
from raystream.connectors.files import FileSource
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import commits
from raystream.contracts.source import END
from raystream.errors import PlanError, SinkError

RECORD = pa.record_batch(
    {
        "n": pa.array([1, 2, None]),
        "text": pa.array(['a,"b"\n', "", None]),
        "at": pa.array([0, 1_500_000, -1], pa.timestamp("us", "UTC")),
    }
)


def context(subtask=0):
    return OpenContext(subtask_index=subtask)


def written(sink, *batches, checkpoint=1, subtask=0):
    writer = sink.open(context(subtask))
    for batch in batches:
        writer.write(Batch(batch))
    committables = writer.prepare_commit(checkpoint)
    writer.close()
    return committables


def visible(folder):
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("_")
    )


def all_files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def rows(source):
    given = []
    for split in source.splits():
        reader = source.open(split, None)
        while (batch := reader.poll(1_000)) is not END:
            given += batch.to_pylist()
    return given


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("format", ["parquet", "csv", "json", "arrow"])
def test_what_is_written_is_read_back(tmp_path, format, place):
    path = tmp_path / "out" if place == "local" else f"memory://sink-test/{format}"
    sink = pickle.loads(pickle.dumps(FileSink(path, format)))
    sink.commit(1, written(sink, RECORD, RECORD.slice(0, 1)))
    expected = RECORD.to_pylist()
    if format == "csv":  # where a string that is null reads as empty
        expected[2]["text"] = ""
    expected.append(expected[0])
    assert rows(FileSource(path, schema=RECORD.schema)) == expected


def test_text_is_written_line_by_line(tmp_path):
    sink = FileSink(tmp_path, "text")
    sink.commit(1, written(sink, pa.record_batch({"line": ["a", "", "ü"]})))
    sink.commit(2, written(sink, ["b", "c"], checkpoint=2))
    assert sorted(r["line"] for r in rows(FileSource(tmp_path))) == ["", "a", "b", "c", "ü"]


def test_nothing_is_visible_before_the_commit_and_everything_after(tmp_path):
    sink = FileSink(tmp_path / "out", "parquet")
    writer = sink.open(context(3))
    writer.write(Batch(RECORD))
    assert visible(tmp_path) == []
    committables = writer.prepare_commit(12)
    assert visible(tmp_path) == []
    sink.commit(12, committables)
    (name,) = visible(tmp_path / "out")
    assert name.startswith("part-0003-000012-000001-")
    assert name.endswith(".parquet")
    writer.close()
    assert all_files(tmp_path) == [name]
    assert commits(sink)


def test_a_commit_may_be_repeated_also_at_the_same_time(tmp_path):
    for path in (tmp_path / "out", "memory://sink-test/repeated"):
        sink = FileSink(path, "parquet", roll_rows=1)
        committables = written(sink, RECORD)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: sink.commit(1, committables), range(16)))  # noqa: B023
        sink.commit(1, committables)
        assert len(rows(FileSource(path))) == 3


def test_a_prepared_file_that_is_gone_is_an_error(tmp_path):
    sink = FileSink(tmp_path, "csv")
    committables = written(sink, RECORD)
    (tmp_path / committables[0][0]).unlink()
    with pytest.raises(SinkError, match="was prepared and is gone"):
        sink.commit(1, committables)


def test_what_was_aborted_or_never_prepared_is_removed(tmp_path):
    sink = FileSink(tmp_path, "parquet", roll_rows=2)
    writer = sink.open(context())
    writer.write(Batch(RECORD))
    committables = writer.prepare_commit(1)
    assert len(committables) == 2
    writer.write(Batch(RECORD))
    writer.close()
    writer.close()
    assert all_files(tmp_path) == sorted(name for name, _ in committables)
    sink.abort(committables)
    sink.abort(committables)
    assert all_files(tmp_path) == []


def test_prepared_files_wait_for_their_commit_after_the_writer_is_gone(tmp_path):
    sink = FileSink(tmp_path, "json")
    committables = written(sink, RECORD)
    pickle.loads(pickle.dumps(sink)).commit(1, pickle.loads(pickle.dumps(committables)))
    assert len(rows(FileSource(tmp_path))) == 3


def test_runs_and_checkpoints_never_collide(tmp_path):
    sink = FileSink(tmp_path, "csv")
    for _ in range(2):
        writer = sink.open(context())
        for checkpoint in (1, 1, 2):
            writer.write(Batch(RECORD))
            sink.commit(checkpoint, writer.prepare_commit(checkpoint))
    assert len(visible(tmp_path)) == 6
    assert len(rows(FileSource(tmp_path))) == 18


def test_no_rows_make_no_files(tmp_path):
    sink = FileSink(tmp_path / "out", "parquet")
    assert written(sink, RECORD.slice(0, 0)) == []
    assert (tmp_path / "out").is_dir()


def test_files_roll_at_a_number_of_rows(tmp_path):
    sink = FileSink(tmp_path, "parquet", roll_rows=4)
    sink.commit(1, written(sink, RECORD, RECORD, RECORD, RECORD))
    assert [pq.read_metadata(tmp_path / f).num_rows for f in visible(tmp_path)] == [4, 4, 4]


@pytest.mark.parametrize("format", ["parquet", "csv", "json"])
def test_files_roll_at_about_a_number_of_bytes(tmp_path, format):
    sink = FileSink(tmp_path, format, roll_bytes=10_000)
    wide = pa.record_batch({"text": [str(i) * 300 for i in range(10)]})
    sink.commit(1, written(sink, *[wide] * 12))
    assert 3 <= len(visible(tmp_path)) <= 5
    assert len(rows(FileSource(tmp_path))) == 120


def test_small_batches_make_large_row_groups(tmp_path):
    sink = FileSink(tmp_path, "parquet")
    many = [pa.record_batch({"n": range(i, i + 10)}) for i in range(0, 2_000, 10)]
    sink.commit(1, written(sink, *many))
    (name,) = visible(tmp_path)
    assert pq.read_metadata(tmp_path / name).num_row_groups == 1
    assert [row["n"] for row in rows(FileSource(tmp_path))] == list(range(2_000))


def test_partitions_are_folders_and_their_columns_leave_the_files(tmp_path):
    record = pa.record_batch(
        {
            "day": pa.array([date(2020, 1, 1), date(2020, 1, 2), date(2020, 1, 1), None]),
            "hm": ["12:30", "12:30", "a/b", ""],
            "n": [1, 2, 3, 4],
        }
    )
    sink = FileSink(tmp_path, "parquet", partition_by=["day", "hm"])
    sink.commit(1, written(sink, record))
    assert [name.rpartition("/")[0] for name in visible(tmp_path)] == [
        "day=2020-01-01/hm=12%3A30",
        "day=2020-01-01/hm=a%2Fb",
        "day=2020-01-02/hm=12%3A30",
        "day=__HIVE_DEFAULT_PARTITION__/hm=",
    ]
    back = rows(FileSource(tmp_path))
    assert sorted((row["n"], row["day"], row["hm"]) for row in back[:3]) == [
        (1, "2020-01-01", "12:30"),
        (2, "2020-01-02", "12:30"),
        (3, "2020-01-01", "a/b"),
    ]
    assert back[3] == {"n": 4, "day": None, "hm": ""}
    other = pa.dataset.dataset(tmp_path, partitioning="hive").to_table()
    assert sorted(other.column("n").to_pylist()) == [1, 2, 3, 4]


def test_more_partitions_than_open_files_lose_nothing(tmp_path):
    record = pa.record_batch({"k": [i % 150 for i in range(600)], "n": range(600)})
    sink = FileSink(tmp_path, "csv", partition_by="k")
    sink.commit(1, written(sink, record, record))
    assert len({name.split("/")[0] for name in visible(tmp_path)}) == 150
    assert sorted(row["n"] for row in rows(FileSource(tmp_path))) == sorted([*range(600)] * 2)


def test_dicts_are_written_as_csv_and_json(tmp_path):
    given = [{"a": 1.5, "b": None, "day": "x"}, {"a": 2.5, "b": "u,v", "day": "y"}]
    for format in ("csv", "json"):
        sink = FileSink(tmp_path / format, format, partition_by="day")
        sink.commit(1, written(sink, given))
    assert rows(FileSource(tmp_path / "json")) == [
        {"a": 1.5, "b": None, "day": "x"},
        {"a": 2.5, "b": "u,v", "day": "y"},
    ]
    text = [(tmp_path / "csv" / name).read_text() for name in visible(tmp_path / "csv")]
    assert text == ["a,b\n1.5,\n", 'a,b\n2.5,"u,v"\n']


def test_json_has_a_form_for_every_ordinary_value(tmp_path):
    utc = timezone.utc
    record = pa.record_batch(
        {
            "at": pa.array([datetime(2020, 1, 2, 3, tzinfo=utc)], pa.timestamp("us", "Asia/Tokyo")),
            "day": [date(2020, 1, 2)],
            "d": [Decimal("1.50")],
            "x": [float("nan")],
            "nested": [{"b": b"\x00", "t": [datetime(2020, 1, 2, tzinfo=utc)]}],
            "long": [timedelta(seconds=1.5)],
        }
    )
    sink = FileSink(tmp_path, "json")
    sink.commit(1, written(sink, record))
    (name,) = visible(tmp_path)
    assert json.loads((tmp_path / name).read_text()) == {
        "at": "2020-01-02T03:00:00.000000Z",
        "day": "2020-01-02",
        "d": "1.50",
        "x": None,
        "nested": {"b": "AA==", "t": ["2020-01-02T00:00:00+00:00"]},
        "long": 1.5,
    }


@pytest.mark.parametrize(
    ("format", "batch", "message"),
    [
        ("parquet", [{"a": 1}], "take columns; this stream holds Python objects"),
        ("arrow", [1], "take columns"),
        ("csv", [1], "csv files take dicts; a row is int 1"),
        ("csv", [{"a": 1}, {"b": 1}], "other keys than the first"),
        ("csv", pa.record_batch({"l": [[1]]}), 'csv cannot hold column "l", a list'),
        ("json", [{"a": object()}], "object .* has no form in JSON"),
        ("text", [1], "text files take strings"),
        ("text", RECORD, "one string column; this stream has"),
    ],
)
def test_rows_that_a_format_cannot_hold_are_refused_and_leave_nothing(
    tmp_path, format, batch, message
):
    writer = FileSink(tmp_path, format).open(context())
    with pytest.raises(SinkError, match=message):
        writer.write(Batch(batch))
    writer.close()
    assert all_files(tmp_path) == []


def test_a_partition_column_must_be_there(tmp_path):
    writer = FileSink(tmp_path, "csv", partition_by=["dy"]).open(context())
    with pytest.raises(SinkError, match='"dy", which is no column'):
        writer.write(Batch(RECORD))
    with pytest.raises(SinkError, match="has not the keys dy"):
        writer.write(Batch([{"day": 1}]))
    writer = FileSink(tmp_path, "csv", partition_by=["n"]).open(context())
    with pytest.raises(SinkError, match="names all columns"):
        writer.write(Batch(RECORD.select(["n"])))


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot write to .*file"):
        FileSink(tmp_path / "file", "csv").open(context())


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(PlanError, match="unknown format 'xml'"):
        FileSink(tmp_path, "xml")
    with pytest.raises(PlanError, match="roll_rows must be positive"):
        FileSink(tmp_path, "csv", roll_rows=0)


def test_other_filesystems_hide_what_is_not_committed():
    sink = FileSink("memory://sink-test/hidden", "csv")
    committables = written(sink, RECORD)
    memory = fsspec.filesystem("memory")
    assert all("/_tmp-" in path for path in memory.find("/sink-test/hidden"))
    sink.abort(committables)
    assert memory.find("/sink-test/hidden") == []


def test_epochs_of_one_run_appear_one_by_one(tmp_path):
    sink = FileSink(tmp_path, "csv", partition_by="k", roll_rows=2)
    writer = sink.open(context())
    epochs = []
    for epoch in (1, 2, 3):
        for n in range(3):
            writer.write(Batch([{"k": n % 2, "n": 10 * epoch + n}]))
        epochs.append(writer.prepare_commit(epoch))
    assert visible(tmp_path) == []
    # The first was given up: its rows come with the second, in order.
    for last in (2, 3):
        sink.commit(last, epochs[last - 1])
        assert all(f"-{last:06}-" in name for name in visible(tmp_path)[-1:])
    sink.commit(1, epochs[0])
    assert sorted(row["n"] for row in rows(FileSource(tmp_path))) == [
        *(10 * epoch + n for epoch in (1, 2, 3) for n in range(3))
    ]
    writer.close()
    assert all_files(tmp_path) == sorted(name.rpartition("/")[2] for name in visible(tmp_path))


def test_an_epoch_is_prepared_once(tmp_path):
    writer = FileSink(tmp_path, "csv").open(context())
    writer.write(Batch(RECORD))
    assert len(writer.prepare_commit(1)) == 1
    assert writer.prepare_commit(2) == []


def test_a_file_that_has_its_name_survives_an_abort_and_a_commit_that_comes_again(tmp_path):
    sink = FileSink(tmp_path, "csv")
    committables = written(sink, RECORD)
    sink.commit(1, committables)
    before = {name: (tmp_path / name).read_bytes() for name in visible(tmp_path)}
    sink.abort(committables)
    # As after a copy that stopped before it took the first name away.
    (old, new), *_ = committables
    (tmp_path / old).write_bytes((tmp_path / new).read_bytes())
    sink.commit(1, committables)
    assert {name: (tmp_path / name).read_bytes() for name in all_files(tmp_path)} == before


@pytest.mark.parametrize("mode", ["bounded", "continuous"])
def test_what_killed_writers_leave_is_never_read(tmp_path, mode):
    sink = FileSink(tmp_path, "json", partition_by="k")
    sink.commit(1, written(sink, [{"k": 1, "n": 1}]))
    left = sink.open(context())
    left.write(Batch([{"k": 1, "n": 2}]))
    left.prepare_commit(2)
    left.write(Batch([{"k": 2, "n": 3}]))
    assert sum(name.startswith("_tmp-") for name in all_files(tmp_path)) == 2
    for path in (tmp_path, f"{tmp_path}/*", f"{tmp_path}/**"):
        schema = pa.schema({"n": pa.int64()})
        source = FileSource(path, "json", schema, mode=mode)
        assert [row["n"] for row in rows(source)] == [1]
        assert not source.discover()
