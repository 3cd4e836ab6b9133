"""Values of nested types are kept whole: what a restore gives back is what was written."""

import datetime as dt

import pyarrow as pa
import pytest

import raystream as rs
from raystream.errors import UserError
from raystream.keyed.value_type import ValueType

POINT = pa.struct({"n": pa.int64(), "at": pa.timestamp("us", "UTC")})


def kept(value, type):
    """Give a value as it is in memory, and as it is after a restore."""
    values = ValueType(type, "s", "Mine")
    fitted = value if value.__class__ in values.kinds else values.fit(value)
    return fitted, values.read(values.write([fitted]), plain=True)[0]


@pytest.mark.parametrize(
    ("value", "type", "expected"),
    [
        ({"n": 1}, POINT, {"n": 1, "at": None}),
        ({}, POINT, {"n": None, "at": None}),
        ({"n": 1.0, "at": None}, POINT, {"n": 1, "at": None}),
        ([1, None, 3.0], pa.list_(pa.int64()), [1, None, 3]),
        ((1, 2), pa.large_list(pa.int64()), [1, 2]),
        ([{"n": 1}, None], pa.list_(POINT), [{"n": 1, "at": None}, None]),
        ({"f": 0.1}, pa.struct({"f": pa.float32()}), {"f": pytest.approx(0.1)}),
        ({"l": {1}}, pa.struct({"l": pa.list_(pa.int64())}), {"l": [1]}),
        ([], pa.list_(POINT), []),
    ],
)
def test_a_nested_value_is_the_same_before_and_after_a_restore(value, type, expected):
    before, after = kept(value, type)
    assert before == after == expected


def test_a_naive_time_inside_is_utc_as_it_is_outside():
    naive = dt.datetime(2024, 5, 6)  # noqa: DTZ001
    before, after = kept({"at": naive}, POINT)
    assert before["at"] == after["at"] == naive.replace(tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ({"n": 1.5}, POINT),
        ({"n": "x"}, POINT),
        ({"n": 1, "m": 2}, POINT),
        ([1, 1.5], pa.list_(pa.int64())),
        (["x"], pa.list_(pa.int64())),
        ([{"n": 1, "m": 2}], pa.list_(POINT)),
        ({"p": {"n": 0.5}}, pa.struct({"p": POINT})),
    ],
)
def test_what_would_lose_a_part_is_told_where_it_is_written(value, type):
    with pytest.raises(UserError, match='state "s" of Mine is of type .* does not fit'):
        kept(value, type)


def test_a_list_that_fits_is_not_copied():
    value = [1, None]
    assert kept(value, pa.list_(pa.int64()))[0] is value


class Keeps(rs.KeyedProcessFunction):
    def open(self, ctx):
        self.one = ctx.state(rs.ValueState("one", type=POINT))
        self.many = ctx.state(rs.ListState("many", type=POINT))
        self.named = ctx.state(rs.MapState("named", type=pa.list_(pa.int64())))

    def process(self, row, ctx):
        self.one.update({"n": row})
        self.many.add({"n": row})
        self.named.put("x", [row])


def test_a_function_reads_the_same_before_and_after_a_restore():
    before, after = (rs.testing.harness(Keeps(), keyed_by=str) for _ in range(2))
    before.push(1)
    after.restore(before.snapshot())
    for name in ("one", "many", "named"):
        assert before.state(name) == after.state(name)
    with pytest.raises(UserError, match=r'"one" of Keeps .* does not fit'):
        before.push(1.5)
