"""Keys in snapshots and on disk: what is read back is what was written."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raystream.flow.hashing import hash_column, hash_objects
from raystream.flow.key import canonical
from raystream.keyed.key_bytes import key_bytes, read_key
from raystream.keyed.key_form import KeyForm, plain_key

UTC = timezone.utc
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
)
KEYS = st.recursive(PLAIN, lambda parts: st.lists(parts, max_size=3).map(tuple), max_leaves=5)


@given(KEYS)
def test_a_canonical_key_stands_for_a_value_with_that_key(key):
    assert canonical(plain_key(canonical(key))) == canonical(key)


@example([timedelta.max, 1, timedelta.min])
@given(st.lists(KEYS, max_size=4))
def test_bytes_of_keys_are_read_back_one_by_one(keys):
    raw = b"".join(key_bytes(canonical(key)) for key in keys)
    found, end = [], 0
    while end < len(raw):
        key_id, end = read_key(raw, end)
        found.append(key_id)
    assert found == list(map(canonical, keys))


@example(timedelta.max, timedelta.min)
@given(KEYS, KEYS)
def test_no_key_is_the_beginning_of_another(one, other):
    one_id, other_id = canonical(one), canonical(other)
    if one_id != other_id:
        assert not key_bytes(one_id).startswith(key_bytes(other_id))


@given(st.lists(KEYS, max_size=5))
def test_objects_come_back_with_their_hashes(keys):
    ids = list(map(canonical, keys))
    columns, hashes = KeyForm.objects().write(ids)
    found, plain = KeyForm.objects().read(pa.table(columns))
    assert found == ids
    assert list(map(canonical, plain)) == ids
    assert hashes.tolist() == hash_objects(keys).tolist()


@pytest.mark.parametrize(
    ("type", "values"),
    [
        (pa.int8(), [1, -3]),
        (pa.uint64(), [2**64 - 1, 0]),
        (pa.float64(), [0.5, math.inf]),
        (pa.float32(), [0.5, 3.0]),
        (pa.bool_(), [True, False]),
        (pa.string(), ["a", ""]),
        (pa.binary(), [b"a", b""]),
        (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("-2.00")]),
        (pa.timestamp("us", "UTC"), [datetime(2024, 1, 2, 3, tzinfo=UTC)]),
        (pa.timestamp("us"), [datetime(1960, 1, 2, 3, 4, 5, 6)]),  # noqa: DTZ001  a naive one
        (pa.date32(), [date(2024, 1, 2), date(1960, 1, 1)]),
        (pa.date64(), [date(2024, 1, 2)]),
        (pa.time64("us"), [time(1, 2, 3, 4)]),
        (pa.time32("s"), [time(1, 2, 3)]),
        (pa.duration("ms"), [timedelta(seconds=1.5), timedelta(seconds=-1)]),
    ],
)
def test_columns_of_every_type_come_back(type, values):
    form = KeyForm.columns([pa.field("k", type)])
    values = [*values, None]
    ids = list(map(canonical, values))
    columns, hashes = form.write(ids)
    assert columns["k"].equals(pa.array(values, type))
    assert hashes.tolist() == hash_column(columns["k"]).tolist()
    found, keys = form.read(pa.table(columns))
    assert (found, keys) == (ids, values)


def test_several_columns_are_a_tuple():
    form = KeyForm.columns([pa.field("value", pa.string()), pa.field("day", pa.date32())])
    keys = [("a", date(2024, 1, 2)), (None, None)]
    ids = list(map(canonical, keys))
    columns, hashes = form.write(ids)
    assert list(columns) == ["key_value", "day"]
    assert hashes.tolist() == hash_objects(keys).tolist()
    assert form.read(pa.table(columns)) == (ids, keys)


def test_moments_that_python_has_no_datetime_for_stay_keys():
    key = np.datetime64(2**62, "us")
    assert canonical(plain_key(canonical(key))) == canonical(key)


def test_keys_are_written_as_their_user_knows_them():
    form = KeyForm.objects()
    columns, _ = form.write([5], [np.int32(5)])
    ids, keys = form.read(pa.table(columns))
    assert (ids, type(keys[0])) == ([5], np.int32)
