"""Files with records that cannot be read: their neighbours come, and they are handed over."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raystream as rs

N = pa.schema({"n": pa.int64(), "text": pa.string()})


def read(path, format, schema, **given):
    job = rs.Job("it", runtime="local")
    rows = job.source(rs.FileSource(path, format=format, schema=schema), **given)
    rows.on_error("dead_letter")
    kept, dead = rs.MemorySink(), rs.MemorySink()
    rows.sink(kept)
    rows.dead_letters.sink(dead)
    job.run()
    return kept.rows, dead.rows


def test_lines_that_are_no_json_are_letters_of_raw_bytes(tmp_path):
    path = tmp_path / "a.json"
    lines = [json.dumps({"n": n, "text": str(n)}).encode() for n in range(40)]
    lines[3], lines[20], lines[21] = b"{oops", b'{"n": 1', b', "text": "a"}'
    lines[30] = b'{"n": "x", "text": "a"}'
    lines.insert(35, b"  ")
    path.write_bytes(b"\n".join(lines))
    rows, dead = read(path, "json", N)
    assert [row["n"] for row in rows] == [n for n in range(40) if n not in {3, 20, 21, 30}]
    assert [letter["row"] for letter in dead] == [lines[3], lines[20], lines[21], lines[30]]
    assert "cannot read" in dead[0]["error"]
    with pytest.raises(rs.JobFailed, match="a.json"):
        rs.Job("it").source(rs.FileSource(path, format="json", schema=N)).collect()


@pytest.mark.parametrize("line", [b"null", b"5", b"[]", b'{"n": 1}{"n": 2}', b'{"text": "\xff"}'])
def test_a_line_that_is_no_object_of_utf_8_is_refused(tmp_path, line):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"n": 1, "text": "a"}\r\n\n' + line + b'\n {"n": 2}\n')
    rows, dead = read(path, "json", N)
    assert [row["n"] for row in rows] == [1, 2]
    assert [letter["row"] for letter in dead] == [line]
    for schema in (N, None):
        with pytest.raises(rs.RaystreamError, match="a.json"):
            rs.Job("it").source(rs.FileSource(path, format="json", schema=schema)).collect()


def test_csv_rows_that_do_not_fit_are_letters(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'n,text\n1,"a\nb"\nx,c\n2,\xff\n3\n,"d,"\n4,e,f\n5,""\n')
    rows, dead = read(path, "csv", N)
    assert rows == [
        {"n": 1, "text": "a\nb"},
        {"n": None, "text": "d,"},
        {"n": 5, "text": ""},
    ]
    assert sorted(letter["row"] for letter in dead) == [b"2,\xff", b"3", b"4,e,f", b"x,c"]


def test_lines_that_are_no_utf_8_are_letters(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\n\xff\n\nthree")
    rows, dead = read(path, "text", None)
    assert [row["line"] for row in rows] == ["one", "", "three"]
    assert [letter["row"] for letter in dead] == [b"\xff"]


def test_values_of_a_parquet_file_that_do_not_fit_are_letters(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": ["1", "x", "3"], "text": ["a", "b", "c"]}), path)
    rows, dead = read(path, "parquet", N)
    assert [row["n"] for row in rows] == [1, 3]
    assert [letter["row"] for letter in dead] == [{"n": "x", "text": "b"}]


def test_event_times_that_are_missing_are_letters_too(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"n": 1, "text": "a"}\n{"text": "b"}\n{"n": 3, "text": "c"}\n')
    rows, dead = read(path, "json", N, watermark=rs.WatermarkStrategy("n"))
    assert [row["n"] for row in rows] == [1, 3]
    assert [letter["row"] for letter in dead] == [{"n": None, "text": "b"}]
