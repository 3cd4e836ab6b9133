"""Keys made of columns, and columns as the texts that stores without types keep."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors.key_template import KeyTemplate
from raystream.connectors.text_columns import from_texts, texts


def keys(written, **columns):
    return KeyTemplate.of(written, "key=").keys(pa.RecordBatch.from_pydict(columns)).to_pylist()


def test_columns_stand_in_braces():
    assert keys("order:{id}", id=[1, 20]) == ["order:1", "order:20"]
    assert keys("{a}-{b}", a=["x", 'y"'], b=[True, False]) == ["x-true", 'y"-false']
    assert keys("{{{a}}}", a=[date(2020, 1, 2)]) == ["{2020-01-02}"]
    assert keys("plain", a=[1, 2]) == ["plain", "plain"]


def test_a_null_finds_nothing():
    with pytest.raises(rs.SinkError, match='key column "a" is null'):
        keys("{a}", a=[1, None])


@pytest.mark.parametrize("written", ["", None, "{", "}", "{}", "{a", "a}", "{a}}", 5])
def test_a_template_that_cannot_be_read_is_refused(written):
    with pytest.raises(rs.PlanError, match="key="):
        KeyTemplate.of(written, "key=")


def test_columns_that_are_not_there_are_named():
    with pytest.raises(rs.PlanError, match="no column b; it has a"):
        KeyTemplate.of("{a}{b}", "key=").check(["a"], "a sink")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int64(), [1, -(2**63), None]),
        (pa.float64(), [0.1, -1e300, None]),
        (pa.bool_(), [True, False, None]),
        (pa.string(), ['"quoted"', "line\nbreak", "", None]),
        (pa.binary(), [b"\xff\x00", b"", None]),
        (pa.timestamp("us", "UTC"), [0, 1_600_000_000_123_456, None]),
        (pa.timestamp("us"), [0, 1_600_000_000_123_456, None]),
        (pa.date32(), [0, 20_000, None]),
        (pa.decimal128(20, 2), None),
        (pa.list_(pa.int64()), [[1, None], [], None]),
        (pa.struct({"a": pa.string()}), [{"a": '"'}, {"a": None}, None]),
    ],
)
def test_texts_are_read_back_as_what_they_were(kind, values):
    column = (
        pa.array([1, 2, None], pa.int8()).cast(kind) if values is None else pa.array(values, kind)
    )
    read = from_texts(texts(column), kind, "c")
    assert read.to_pylist() == column.to_pylist()
    assert read.type == kind


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.int64(), "x"),
        (pa.int64(), "1.5"),
        (pa.bool_(), "maybe"),
        (pa.binary(), "no base64!"),
        (pa.list_(pa.int64()), "[1"),
        (pa.list_(pa.int64()), '[1]},{"v":[2]'),
    ],
)
def test_a_text_of_something_else_is_refused(kind, text):
    with pytest.raises(rs.SourceError, match='field "c" holds no'):
        from_texts(pa.array([text]), kind, "c")
