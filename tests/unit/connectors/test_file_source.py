"""What a path means, what its files hold, and what is said when they do not."""

from __future__ import annotations

import gzip
import pickle
from datetime import datetime, timezone
from decimal import Decimal

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from raystream.connectors.files import FileSource
from raystream.contracts.source import END
from raystream.errors import PlanError, SourceError

UTC = timezone.utc


def naive(*parts):
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def rows(source, max_rows=1000):
    given = []
    for split in source.splits():
        reader = source.open(split, None)
        while (batch := reader.poll(max_rows)) is not END:
            assert batch.schema.equals(source.schema, check_metadata=True)
            assert 0 < batch.num_rows <= max_rows
            given += batch.to_pylist()
        reader.close()
    return given


def table(count=10, first=0):
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "name": pa.array([f"n{i}" for i in numbers]),
            "at": pa.array([i * 1_000_000 for i in numbers], pa.timestamp("us", "UTC")),
        }
    )


def write(table, path):
    path = str(path)
    with fsspec.open(path, "wb") as out:
        if path.endswith(".parquet"):
            pq.write_table(table, out)
        elif path.endswith(".csv"):
            pa.csv.write_csv(table, out)
        elif path.endswith(".arrow"):
            with pa.ipc.new_file(out, table.schema) as writer:
                writer.write_table(table, max_chunksize=3)
        elif path.endswith(".json"):
            lines = [f'{{"id": {r["id"]}, "name": "{r["name"]}"}}\n' for r in table.to_pylist()]
            out.write("".join(lines).encode())
        else:
            out.write("".join(f"{r['name']}\n" for r in table.to_pylist()).encode())
    return path


EXPECTED = {
    "parquet": table().to_pylist(),
    "csv": table().to_pylist(),
    "arrow": table().to_pylist(),
    "json": table().select(["id", "name"]).to_pylist(),
    "txt": [{"line": f"n{i}"} for i in range(10)],
}


@pytest.mark.parametrize("extension", EXPECTED)
def test_a_file_of_each_format_gives_its_rows(tmp_path, extension):
    source = FileSource(write(table(), tmp_path / f"a.{extension}"))
    assert rows(source, 4) == EXPECTED[extension]


@pytest.mark.parametrize("extension", EXPECTED)
def test_a_file_of_each_format_is_read_from_a_filesystem_of_fsspec(extension):
    source = FileSource(write(table(), f"memory://source-test/{extension}/a.{extension}"))
    assert rows(source, 4) == EXPECTED[extension]


@pytest.mark.parametrize("extension", EXPECTED)
def test_a_source_travels_by_pickle_and_reads_the_same(tmp_path, extension):
    source = FileSource(write(table(), tmp_path / f"a.{extension}"))
    splits = pickle.loads(pickle.dumps(source.splits()))
    other = pickle.loads(pickle.dumps(source))
    assert other.open(splits[0], (0, 8)).poll(1).to_pylist() == EXPECTED[extension][8:9]


def test_a_folder_is_read_with_all_below_it_but_hidden_names(tmp_path):
    for name in ("b", "sub/a", "_tmp-1", ".c", "_old/d"):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        write(table(1, ord(name[-1])), path)
    (tmp_path / "_SUCCESS").touch()
    assert [row["id"] for row in rows(FileSource(tmp_path))] == [ord("b"), ord("a")]


def test_a_glob_and_a_list_name_files_each_once(tmp_path):
    for number in range(3):
        write(table(1, number), tmp_path / f"part-{number}.csv")
    (tmp_path / "notes.md").write_text("not data")
    assert [r["id"] for r in rows(FileSource(f"{tmp_path}/part-*.csv"))] == [0, 1, 2]
    two = FileSource([tmp_path / "part-2.csv", tmp_path / "part-0.csv", tmp_path / "part-2.csv"])
    assert [r["id"] for r in rows(two)] == [2, 0]


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path):
    source = FileSource(write(table(2), tmp_path / "a[1].parquet"))
    assert len(rows(source)) == 2


def test_a_relative_path_is_found_from_any_folder(tmp_path, monkeypatch):
    write(table(3), tmp_path / "a.parquet")
    monkeypatch.chdir(tmp_path)
    source = FileSource("a.parquet")
    monkeypatch.chdir("/")
    assert len(rows(source)) == 3


def test_what_a_compressed_name_says_is_undone(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x\n1\n2\n"))
    assert rows(FileSource(tmp_path / "a.csv.gz")) == [{"x": 1}, {"x": 2}]


def test_folders_named_by_a_column_become_that_column(tmp_path):
    for day, count in (("2020-01-01", 1), ("a%2Fb", 1), ("__HIVE_DEFAULT_PARTITION__", 2)):
        folder = tmp_path / "out" / f"day={day}"
        folder.mkdir(parents=True)
        write(table(count), folder / "a.parquet")
    source = FileSource(tmp_path / "out")
    assert source.schema.names == ["id", "name", "at", "day"]
    assert [row["day"] for row in rows(source)] == ["2020-01-01", None, None, "a/b"]
    only = source.project(["day"])
    assert only.schema.names == ["day"]
    assert [row["day"] for row in rows(only)] == ["2020-01-01", None, None, "a/b"]
    typed = FileSource(
        f"{tmp_path}/out/day=2020*", schema=pa.schema([("day", pa.date32()), ("id", pa.int64())])
    )
    assert rows(typed)[0]["day"].isoformat() == "2020-01-01"


@pytest.mark.parametrize("extension", ["parquet", "csv", "arrow"])
def test_projection_reads_only_those_columns_in_the_order_of_the_schema(tmp_path, extension):
    source = FileSource(write(table(), tmp_path / f"a.{extension}")).project(["at", "id"])
    assert source.schema.names == ["id", "at"]
    assert rows(source) == table().select(["id", "at"]).to_pylist()
    assert "[id, at]" in source.describe()


def test_projection_to_all_columns_is_the_source_itself_and_to_none_keeps_one(tmp_path):
    source = FileSource(write(table(), tmp_path / "a.parquet"))
    assert source.project(["name", "at", "id"]) is source
    assert source.project([]).schema.names == ["id"]


def test_columns_come_in_types_of_the_wire(tmp_path):
    odd = pa.table(
        {
            "d": pa.array(["a", "b", "a"]).dictionary_encode(),
            "l": pa.array(["x", None, "z"], pa.large_string()),
            "ns": pa.array([-1, None, 1_999], pa.timestamp("ns", "Europe/Berlin")),
            "s": pa.array([1, 2, 3], pa.timestamp("s")),
        }
    ).replace_schema_metadata({"k": "v"})
    pq.write_table(odd, tmp_path / "a.parquet")
    source = FileSource(tmp_path / "a.parquet")
    assert source.schema.equals(
        pa.schema(
            [
                ("d", pa.string()),
                ("l", pa.string()),
                ("ns", pa.timestamp("us", "Europe/Berlin")),
                ("s", pa.timestamp("us")),
            ]
        ),
        check_metadata=True,
    )
    given = rows(source)
    assert [row["d"] for row in given] == ["a", "b", "a"]
    assert given[0]["ns"] == datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)
    assert given[2]["ns"] == datetime(1970, 1, 1, 0, 0, 0, 1, UTC)
    assert given[0]["s"] == naive(1970, 1, 1, 0, 0, 1)


def test_a_schema_chooses_columns_and_types(tmp_path):
    schema = pa.schema([("name", pa.string()), ("id", pa.float64())])
    for extension in ("parquet", "csv", "arrow", "json"):
        source = FileSource(write(table(2), tmp_path / f"a.{extension}"), schema=schema)
        assert source.schema == schema
        assert rows(source) == [{"name": "n0", "id": 0.0}, {"name": "n1", "id": 1.0}]


def test_csv_reads_nulls_quoted_line_breaks_and_times_as_declared(tmp_path):
    (tmp_path / "a.csv").write_text(
        'x,text,at,none\n1,"two\nlines",2015-07-15 00:00:00,\nNA,"",2015-07-15 00:00:01.25,\n'
    )
    assert rows(FileSource(tmp_path / "a.csv")) == [
        {"x": 1, "text": "two\nlines", "at": naive(2015, 7, 15), "none": ""},
        {"x": None, "text": "", "at": naive(2015, 7, 15, 0, 0, 1, 250_000), "none": ""},
    ]
    (tmp_path / "b.csv").write_text("at,x\n1969-12-31T23:59:59.999999999Z,1\n")
    schema = pa.schema([("x", pa.decimal128(4, 1)), ("at", pa.timestamp("ns", "UTC"))])
    assert rows(FileSource(tmp_path / "b.csv", schema=schema)) == [
        {"x": Decimal(1), "at": datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)}
    ]


def test_json_fills_in_what_is_missing_and_leaves_out_what_is_new(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1, "b": {"c": [1]}}\n{"a": null}\n')
    (tmp_path / "b.json").write_text('{"b": null, "z": true, "a": 3}\n')
    assert rows(FileSource(tmp_path)) == [
        {"a": 1, "b": {"c": [1]}},
        {"a": None, "b": None},
        {"a": 3, "b": None},
    ]


def test_text_keeps_empty_lines_and_drops_what_ends_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\n\nü\r\nlast \r".encode())
    assert [row["line"] for row in rows(FileSource(tmp_path / "a.txt"))] == ["a", "", "ü", "last "]


def test_a_row_longer_than_a_block_is_read(tmp_path):
    long = "x" * 5_000_000
    (tmp_path / "a.csv").write_text(f"a,b\n1,s\n2,{long}\n3,s\n")
    (tmp_path / "a.json").write_text(f'{{"b": "s"}}\n{{"b": "{long}"}}\n')
    (tmp_path / "a.txt").write_text(f"s\n{long}\ns")
    assert [r["b"] for r in rows(FileSource(tmp_path / "a.csv"))] == ["s", long, "s"]
    assert [r["b"] for r in rows(FileSource(tmp_path / "a.json"))] == ["s", long]
    assert [r["line"] for r in rows(FileSource(tmp_path / "a.txt"))] == ["s", long, "s"]


def test_empty_files_give_no_rows(tmp_path):
    for extension in ("csv", "json", "txt"):
        (tmp_path / extension).mkdir()
        write(table(2), tmp_path / extension / f"b.{extension}")
        (tmp_path / extension / f"a.{extension}").touch()
        assert len(rows(FileSource(tmp_path / extension))) == 2
    write(table(0), tmp_path / "a.parquet")
    assert rows(FileSource(tmp_path / "a.parquet")) == []


def test_parquet_splits_are_runs_of_row_groups_with_their_least_values(tmp_path):
    count = 200_000
    numbers = pa.array(range(count))
    data = pa.table(
        {
            "n": numbers,
            "at": numbers.cast(pa.timestamp("ms", "UTC")),
            "ns": pa.array([i - 1_500 for i in range(count)], pa.timestamp("ns")),
            "day": pa.array([18_262] * count, pa.int32()).cast(pa.date32()),
            "x": numbers.cast(pa.float64()),
        }
    )
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=20_000)
    source = FileSource(tmp_path / "a.parquet")
    splits = source.splits()
    path = tmp_path / "a.parquet"
    assert [s.id for s in splits] == [f"{path}#0-3", f"{path}#4-7", f"{path}#8-9"]
    day_us = 18_262 * 86_400_000_000
    assert splits[0].earliest == {"n": 0, "at": 0, "ns": -2, "day": day_us}
    assert splits[1].earliest == {"n": 80_000, "at": 80_000_000, "ns": 78, "day": day_us}
    assert source.project(["n"]).splits()[1].id == splits[1].id
    assert [s.id for s in FileSource(path).splits()] == [s.id for s in splits]


def test_wide_rows_make_small_batches(tmp_path):
    texts = pa.array(["x" * 100_000] * 200)
    pq.write_table(pa.table({"plain": texts}), tmp_path / "plain.parquet", use_dictionary=False)
    pq.write_table(pa.table({"coded": texts}), tmp_path / "coded.parquet")
    for name in ("plain", "coded"):
        source = FileSource(tmp_path / f"{name}.parquet")
        reader = source.open(source.splits()[0], None)
        sizes = []
        while (batch := reader.poll(32_768)) is not END:
            sizes.append(batch.num_rows)
        assert sum(sizes) == 200
        assert max(sizes) <= 84


def test_continuous_finds_new_files_and_never_ends(tmp_path):
    write(table(1, 0), tmp_path / "a.parquet")
    source = FileSource(tmp_path, mode="continuous", poll="250ms")
    assert not source.bounded
    assert source.discover_every_us == 250_000
    assert [split.id for split in source.splits()] == [f"{tmp_path}/a.parquet#0-0"]
    assert source.discover() == []
    write(table(1, 1), tmp_path / "_tmp.parquet")
    assert source.discover() == []
    (tmp_path / "_tmp.parquet").rename(tmp_path / "b.parquet")
    assert [split.id for split in source.discover()] == [f"{tmp_path}/b.parquet#0-0"]
    assert source.discover() == []
    assert len(source.splits()) == 2


def test_continuous_waits_for_a_folder_if_it_knows_the_columns(tmp_path):
    schema = pa.schema([("id", pa.int64())])
    source = FileSource(tmp_path / "in", format="csv", schema=schema, mode="continuous")
    assert source.splits() == []
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id\n7\n")
    split = source.discover()[0]
    assert source.open(split, None).poll(5).to_pylist() == [{"id": 7}]
    with pytest.raises(PlanError, match=r"nothing there yet.*\n.*schema= and format="):
        FileSource(tmp_path / "other", mode="continuous")


def test_a_missing_file_is_named_with_the_close_one(tmp_path):
    write(table(), tmp_path / "bids.parquet")
    with pytest.raises(SourceError, match=r'(?s)bid\.parquet.*did you mean "bids.parquet"'):
        FileSource(tmp_path / "bid.parquet")


def test_a_glob_or_folder_of_nothing_is_refused(tmp_path):
    (tmp_path / "_hidden.parquet").touch()
    for path in (tmp_path, tmp_path / "*.csv"):
        with pytest.raises(SourceError, match="no files in"):
            FileSource(path)


@pytest.mark.parametrize("content", [b"not parquet at all", b"PAR1", b""])
def test_an_unreadable_parquet_file_is_named(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot read .*a\.parquet"):
        FileSource(tmp_path / "a.parquet")


def test_a_parquet_file_cut_off_in_the_middle_is_named_as_it_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    write(table(10_000), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + b"\0" * 20_000 + whole[21_000:])
    source = FileSource(path)
    with pytest.raises(SourceError, match=r"cannot read .*a\.parquet"):
        rows(source)


def test_formats_that_are_unknown_or_mixed_are_refused(tmp_path):
    write(table(), tmp_path / "a.parquet")
    (tmp_path / "a.xyz").touch()
    with pytest.raises(PlanError, match=r"a\.xyz.*\n.*format=, one of parquet, csv"):
        FileSource(tmp_path)
    with pytest.raises(PlanError, match="unknown format 'orc'"):
        FileSource(tmp_path, format="orc")
    with pytest.raises(PlanError, match="mode is"):
        FileSource(tmp_path / "a.parquet", mode="forever")
    (tmp_path / "a.xyz").unlink()
    write(table(), tmp_path / "b.csv")
    with pytest.raises(PlanError, match=r"a\.parquet is parquet and .*b\.csv is csv"):
        FileSource(tmp_path)


@pytest.mark.parametrize("extension", ["parquet", "arrow", "csv"])
def test_files_that_disagree_are_named_with_the_column(tmp_path, extension):
    write(table(2), tmp_path / f"a.{extension}")
    other = tmp_path / f"b.{extension}"
    write(table(2).drop_columns(["name"]), other)
    with pytest.raises(SourceError, match=rf'b\.{extension} has no column "name"'):
        rows(FileSource(tmp_path))
    write(table(2).append_column("new", pa.array([1, 2])), other)
    with pytest.raises(SourceError, match=rf'b\.{extension} has a column "new"'):
        rows(FileSource(tmp_path))
    write(table(2).set_column(0, "id", pa.array(["x", "y"])), other)
    with pytest.raises(SourceError, match=rf'(?s)"id".*b\.{extension}|b\.{extension}.*"id"'):
        rows(FileSource(tmp_path))


def test_json_of_another_type_names_file_and_column(tmp_path):
    (tmp_path / "a.json").write_text('{"id": 1}\n')
    (tmp_path / "b.json").write_text('{"id": "x"}\n')
    with pytest.raises(SourceError, match=r"b\.json.*id"):
        rows(FileSource(tmp_path))


def test_text_that_is_no_utf8_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"ok\n\xff\xfe\n")
    with pytest.raises(SourceError, match=r"a\.txt"):
        rows(FileSource(tmp_path / "a.txt"))


def test_a_file_that_is_gone_when_it_is_read_is_named(tmp_path):
    source = FileSource(write(table(), tmp_path / "a.csv"))
    split = source.splits()[0]
    (tmp_path / "a.csv").unlink()
    with pytest.raises(SourceError, match=r"a\.csv is gone"):
        source.open(split, None).poll(10)


def test_a_password_in_an_address_is_refused():
    with pytest.raises(PlanError) as refused:
        FileSource("ftp://me:hunter2@host/a.csv")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_splits_have_the_same_names_in_every_run(tmp_path, monkeypatch, extension):
    (tmp_path / "in").mkdir()
    write(table(), tmp_path / "in" / f"b.{extension}")
    one = FileSource(tmp_path / "in", mode="continuous")
    first = [split.id for split in one.splits()]
    monkeypatch.chdir(tmp_path)
    write(table(), tmp_path / "in" / f"a.{extension}")
    (later,) = one.discover()
    assert one.discover() == []
    assert later.id.startswith(f"{tmp_path}/in/a.{extension}")
    # A run that starts now lists all of them under the same names, wherever it is.
    for other in (FileSource("in", mode="continuous"), pickle.loads(pickle.dumps(one))):
        assert sorted(split.id for split in other.splits()) == sorted([later.id, *first])
        assert other.discover() == []


def test_continuous_reads_a_file_once_also_if_it_grows_and_waits_while_it_is_empty(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    source = FileSource(tmp_path, "text", pa.schema({"line": pa.string()}), mode="continuous")
    assert source.splits() == []
    assert source.discover() == []
    path.write_text("one\n")
    (split,) = source.discover()
    reader = source.open(split, None)
    assert reader.poll(9).to_pylist() == [{"line": "one"}]
    assert reader.poll(9) is END
    path.write_text("one\ntwo\n")
    assert source.discover() == []
    # Another run names it as this one did: whoever knows it as finished leaves it alone.
    assert [again.id for again in source.splits()] == [split.id]
