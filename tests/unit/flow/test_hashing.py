"""The hash of keys is frozen; these values must never change."""

# ruff: noqa: DTZ001  naive datetimes are keys too

import enum
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.errors import PlanError, UserFunctionError
from raystream.flow.hashing import hash_column, hash_columns, hash_objects, hash_value
from raystream.flow.key import canonical, check_key_type

GOLDEN = [
    (None, 13224177006683112673),
    (0, 0),
    (1, 12994781566227106604),
    (-1, 7256831767414464289),
    (42, 9297814886316923340),
    (2**63 - 1, 12373989555017149930),
    (-(2**63), 10338021812380738707),
    (2**63, 12103061616284227408),
    (2**64 - 1, 16297623031919299196),
    (2**64, 2710213463693871056),
    (-(2**70), 360975320805565991),
    (True, 6696539344911836870),
    (False, 4488097791034006823),
    (0.0, 2521883589062376856),
    (-0.0, 2521883589062376856),
    (1.0, 6992041736200901282),
    (-1.5, 9014951124749974608),
    (float("nan"), 3911333705280903754),
    (float("inf"), 14840424767280695100),
    ("", 2335736107261230984),
    ("a", 12682730448593403107),
    ("raystream", 17836656341039208730),
    ("żółw", 7683411039735761720),
    (b"", 15713130317657684212),
    (b"raystream", 16433223408395584910),
    (Decimal("1.50"), 7519498998119824358),
    (Decimal("0.00"), 3549218645894283111),
    (Decimal(-1200), 6672539750143612270),
    (datetime(1970, 1, 1), 3720209548851217382),
    (datetime(2024, 2, 29, 12, 30, 0, 1, tzinfo=timezone.utc), 5981127751320310559),
    (date(2024, 2, 29), 14687103120886505810),
    (time(12, 30, 0, 1), 13381004538388339895),
    (timedelta(days=-1, microseconds=1), 15901890822425138724),
    ((1,), 5274486382206473476),
    ((1, "a"), 10441380431085999024),
    (("a", 1), 8666651827894200103),
    ((None, (True, b"x")), 12989045983845301148),
]


class Color(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(("key", "hashed"), GOLDEN)
def test_the_hash_of_a_value_is_what_it_was_at_the_first_release(key, hashed):
    assert hash_value(key) == hashed
    assert hash_objects([key]).tolist() == [hashed]


def test_a_list_of_all_kinds_hashes_each_as_alone():
    keys = [key for key, _ in GOLDEN]
    assert hash_objects(keys).tolist() == [hashed for _, hashed in GOLDEN]


@pytest.mark.parametrize(
    ("array", "key"),
    [
        (pa.array([7], pa.int8()), 7),
        (pa.array([7], pa.uint16()), 7),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
        (pa.array([1.5], pa.float32()), 1.5),
        (pa.array([np.float16(1.5)], pa.float16()), 1.5),
        (pa.array([-0.0]), 0.0),
        (pa.array(["x"], pa.large_string()), "x"),
        (pa.array(["x"], pa.string_view()), "x"),
        (pa.array(["x", "y"]).dictionary_encode().slice(1), "y"),
        (pa.array([b"xy"], pa.binary(2)), b"xy"),
        (pa.array([Decimal("1.5")], pa.decimal128(9, 4)), Decimal("1.50")),
        (pa.array([Decimal("1.5")], pa.decimal256(50, 4)), Decimal("1.50")),
        (pa.array([-1], pa.timestamp("ns")), datetime(1969, 12, 31, 23, 59, 59, 999999)),
        (pa.array([1], pa.timestamp("s", "Europe/Berlin")), datetime(1970, 1, 1, 0, 0, 1)),
        (pa.array([date(2024, 2, 29)], pa.date64()), date(2024, 2, 29)),
        (pa.array([3], pa.time32("s")), time(0, 0, 3)),
        (pa.array([3_999], pa.time64("ns")), time(0, 0, 0, 3)),
        (pa.array([-1], pa.duration("ns")), timedelta(microseconds=-1)),
        (pa.nulls(1), None),
        (pa.nulls(1, pa.string()), None),
        (pa.nulls(1, pa.int32()), None),
    ],
)
def test_every_arrow_form_hashes_as_the_python_value(array, key):
    assert hash_column(array).tolist() == [hash_value(key)]


@pytest.mark.parametrize(
    ("scalar", "key"),
    [
        (np.int32(5), 5),
        (np.uint64(2**63), 2**63),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2024-02-29T00:00:00.000001"), datetime(2024, 2, 29, 0, 0, 0, 1)),
        (np.datetime64("2024-02-29"), date(2024, 2, 29)),
        (np.timedelta64(1, "ms"), timedelta(milliseconds=1)),
        (np.datetime64("NaT"), None),
        (Color.RED, 1),
        (bytearray(b"x"), b"x"),
        (pa.scalar(5), 5),
    ],
)
def test_scalars_of_libraries_count_as_their_python_values(scalar, key):
    assert hash_value(scalar) == hash_value(key)
    assert canonical(scalar) == canonical(key)


def test_several_columns_hash_as_tuples():
    columns = [pa.array([1, None, 3]), pa.array(["a", "b", None])]
    rows = [(1, "a"), (None, "b"), (3, None)]
    assert hash_columns(columns).tolist() == [hash_value(row) for row in rows]
    assert hash_objects(rows).tolist() == [hash_value(row) for row in rows]


def test_nulls_in_a_slice_hash_as_none():
    array = pa.array([1, 2, None, 4]).slice(1)
    assert hash_column(array).tolist() == [hash_value(2), hash_value(None), hash_value(4)]


def test_what_looks_alike_is_told_apart():
    keys = [1, 1.0, True, "1", b"1", Decimal(1), (1,), timedelta(microseconds=1), None]
    assert len(set(map(hash_value, keys))) == len(keys)
    assert len(set(map(canonical, keys))) == len(keys)


@pytest.mark.parametrize("key", [[1], {"a": 1}, {1}, object(), (1, [2])])
def test_a_value_that_cannot_be_a_key_is_refused_with_the_ones_that_can(key):
    with pytest.raises(UserFunctionError, match="a key cannot be a") as error:
        hash_value(key)
    assert "tuple of these" in str(error.value)


@pytest.mark.parametrize(
    "type", [pa.list_(pa.int8()), pa.struct({"a": pa.int8()}), pa.map_(pa.string(), pa.int8())]
)
def test_nested_columns_cannot_be_keys(type):
    with pytest.raises(PlanError, match="a key cannot be of type"):
        check_key_type(type)


def test_encoded_columns_of_plain_values_can_be_keys():
    check_key_type(pa.dictionary(pa.int32(), pa.string()))
    check_key_type(pa.timestamp("ns", "UTC"))


SCALARS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.text(),
    st.binary(),
    st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)),
    st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc)),
    st.dates(),
    st.times(),
    st.timedeltas(timedelta(days=-9_999), timedelta(days=9_999)),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
    ),
)


@given(SCALARS)
def test_a_python_value_and_its_arrow_form_have_one_hash(key):
    assert hash_column(pa.array([key])).tolist() == [hash_value(key)]


@given(st.lists(st.tuples(SCALARS, SCALARS)))
def test_objects_hash_as_each_value_does(keys):
    assert hash_objects(keys).tolist() == [hash_value(key) for key in keys]
