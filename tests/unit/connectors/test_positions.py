"""Every source goes on exactly where a position says, wherever it was taken."""

from __future__ import annotations

import bz2
import gzip
import json
import random

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from positions import check_positions, read_on

import raystream as rs
from raystream.connectors import line_blocks
from raystream.connectors.items import ItemsSource

ROWS = 23
N = pa.schema({"n": pa.int64(), "text": pa.string()})
TABLE = pa.table({"n": range(ROWS), "text": ["t" * (n % 4) for n in range(ROWS)]}, schema=N)
BROKEN = {0, 4, 5, 6, 11, 21, 22}


@pytest.fixture
def small_blocks(monkeypatch):
    """A file of a few lines has several blocks, and a line may be longer than one."""
    monkeypatch.setattr(line_blocks, "_BLOCK_BYTES", 64)


def text_file(format: str, broken: set[int] = frozenset()) -> bytes:
    """A file of ``ROWS`` records, of which some cannot be read."""
    lines = []
    for n in range(ROWS):
        text = "a" * (150 if n == 13 else n % 5)
        good = {"json": f'{{"n": {n}, "text": "{text}"}}', "csv": f'{n},"{text}\nb"', "text": text}
        bad = {"json": b"{" * (n + 1), "csv": b"x,a" if n % 2 else b"1,2,3", "text": b"\xff"}
        lines.append(bad[format] if n in broken else good[format].encode())
    if format == "json":
        lines.insert(3, b"   ")
    return b"\n".join([b"n,text"] * (format == "csv") + lines) + b"\n"


def source_of(path, format: str) -> rs.FileSource:
    return rs.FileSource(path, format=format, schema=None if format == "text" else N)


@pytest.mark.parametrize("end", ["", ".gz", ".bz2"])
@pytest.mark.parametrize("format", ["json", "csv", "text"])
def test_files_of_lines(tmp_path, small_blocks, format, end):
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[end]
    path = tmp_path / f"a.{format}{end}"
    path.write_bytes(pack(text_file(format)))
    given, _ = check_positions(source_of(path, format), seed=1, rows_max=5)
    assert len(given) == ROWS
    if format != "text":
        assert [row["n"] for row, _ in given] == list(range(ROWS))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("format", ["json", "csv", "text"])
def test_files_with_records_that_cannot_be_read(tmp_path, small_blocks, format, end, seed):
    path = tmp_path / f"a.{format}{end}"
    whole = text_file(format, BROKEN)
    path.write_bytes(gzip.compress(whole) if end else whole)
    source = source_of(path, format).tolerating()
    given, broken = check_positions(source, seed=seed, rows_max=4)
    assert (len(given), len(broken)) == (ROWS - len(BROKEN), len(BROKEN))
    if format != "text":
        assert [row["n"] for row, _ in given] == [n for n in range(ROWS) if n not in BROKEN]


@pytest.mark.parametrize("groups", [3, 100])
def test_parquet_and_arrow(tmp_path, groups):
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=groups)
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), N) as writer:
        writer.write_table(TABLE, max_chunksize=groups)
    for name in ("a.parquet", "a.arrow"):
        given, _ = check_positions(rs.FileSource(tmp_path / name), seed=2, rows_max=6)
        assert [row for row, _ in given] == TABLE.to_pylist()


def test_values_that_do_not_fit_are_told_where_they_stand(tmp_path):
    values = [f"{n}" if n not in BROKEN else f"x{n}" for n in range(ROWS)]
    pq.write_table(pa.table({"n": values}), tmp_path / "a.parquet", row_group_size=5)
    schema = pa.schema({"n": pa.int64()})
    source = rs.FileSource(tmp_path / "a.parquet", schema=schema).tolerating()
    given, broken = check_positions(source, seed=3, rows_max=4)
    assert [raw["n"] for raw, _ in broken] == [f"x{n}" for n in sorted(BROKEN)]
    assert [row["n"] for row, _ in given] == [n for n in range(ROWS) if n not in BROKEN]


def test_many_files_in_folders(tmp_path):
    for day in range(3):
        (tmp_path / f"day={day}").mkdir()
        pq.write_table(TABLE.slice(day, 9), tmp_path / f"day={day}" / "a.parquet")
    given, _ = check_positions(rs.FileSource(tmp_path), seed=4, rows_max=4)
    assert [row["day"] for row, _ in given] == ["0"] * 9 + ["1"] * 9 + ["2"] * 9


def test_a_line_file_is_not_read_again_from_its_start(tmp_path, small_blocks):
    path = tmp_path / "a.text"
    path.write_bytes(text_file("text"))
    source = source_of(path, "text")
    (split,) = source.splits()
    reader = source.open(split, None)
    for _ in range(20):
        reader.poll(1)
    position = reader.position()
    assert position[0] > 0
    # What stands before the block of the position may as well be gone.
    path.write_bytes(b"?" * position[0] + text_file("text")[position[0] :])
    rest, _ = read_on(source, split, position, random.Random(0), 5)
    assert [row["line"] for row, _ in rest] == ["", "a", "aa"]


@pytest.mark.parametrize(
    "source",
    [
        ItemsSource(list("abcdefg")),
        ItemsSource(TABLE, timestamps=range(ROWS)),
        rs.DataGenSource(pa.schema({"n": pa.int64(), "t": pa.timestamp("us")}), rows=40),
        rs.DataGenSource(str, rows=40),
        rs.NexmarkSource(120, seed=1),
        rs.NexmarkSource(530, seed=1, kind="bid"),
        rs.testing.Source([1, 2, rs.testing.Watermark(5), 3, rs.testing.Idle(), 4]),
        rs.testing.Source(
            splits=[
                [rs.testing.At(1, {"n": 1}), rs.testing.At(3, {"n": 2}), rs.testing.Watermark(2)],
                [rs.testing.At(9, {"n": 3}), rs.testing.Open()],
            ],
            schema=pa.schema({"n": pa.int64()}),
        ),
    ],
    ids=lambda source: source.describe(),
)
def test_sources_of_made_up_rows(source):
    rows_max = 40 if "Nexmark" in source.describe() else 4
    given, broken = check_positions(source, seed=5, rows_max=rows_max)
    assert given
    assert not broken


def test_an_endless_generator_goes_on():
    source = rs.DataGenSource(lambda i: i)
    split = source.splits()[0]
    reader = source.open(split, None)
    first = reader.poll(5)
    assert source.open(split, reader.position()).poll(3) == reader.poll(3)
    assert first[0] == 0


def test_json_goes_on_behind_what_it_has_read_of_a_file_that_grows(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"n": 1, "text": "a"}) + "\n")
    source = source_of(path, "json")
    (split,) = source.splits()
    reader = source.open(split, None)
    assert reader.poll(10).num_rows == 1
    position = reader.position()
    path.write_text(path.read_text() + json.dumps({"n": 2, "text": "b"}) + "\n")
    rest, _ = read_on(source, split, position, random.Random(0), 5)
    assert [row["n"] for row, _ in rest] == [2]
