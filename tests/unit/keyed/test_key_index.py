"""The key index gives equal keys equal slots, in order of arrival, whatever their hashes."""

# ruff: noqa: DTZ001  naive datetimes are keys too

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.key import canonical
from raystream.keyed import code_table, numbering
from raystream.keyed.key_index import KeyIndex

NAN = float("nan")


def look_up(index, *columns):
    slots, first_new = index.lookup(list(columns))
    return slots.tolist(), first_new


def test_slots_are_dense_in_order_of_first_arrival():
    index = KeyIndex([pa.int64()])
    assert look_up(index, pa.array([30, 10, 30, 20])) == ([0, 1, 0, 2], 0)
    assert look_up(index, pa.array([5, 20, 10, 4, 5])) == ([3, 2, 1, 4, 3], 3)
    assert index.count == 5
    assert index.keys(np.array([4, 0]))[0].to_pylist() == [4, 30]


def test_strings_are_told_apart_and_come_back():
    index = KeyIndex([pa.string()])
    assert look_up(index, pa.array(["b", "", "ab", "b"])) == ([0, 1, 2, 0], 0)
    assert look_up(index, pa.array(["żółw", "ab", ""]).slice(1)) == ([2, 1], 3)
    assert index.keys(np.arange(3))[0].equals(pa.array(["b", "", "ab"]))


@pytest.mark.parametrize(
    ("type", "values", "slots"),
    [
        (pa.float64(), [0.0, -0.0, NAN, -NAN, None, 0.0], [0, 0, 1, 1, 2, 0]),
        (pa.int64(), [0, None, 1, None, 0], [0, 1, 2, 1, 0]),
        (pa.string(), [None, "", None, "a"], [0, 1, 0, 2]),
        (pa.bool_(), [True, False, None, True], [0, 1, 2, 0]),
        (pa.uint64(), [2**64 - 1, 2**63, 2**64 - 1], [0, 1, 0]),
        (pa.decimal128(9, 2), [Decimal("1.5"), Decimal("1.50"), None], [0, 0, 1]),
        (pa.timestamp("ns"), [datetime(2020, 1, 1), None, datetime(2020, 1, 1)], [0, 1, 0]),
        (pa.date64(), [date(2020, 1, 1), date(2020, 1, 2)], [0, 1]),
        (pa.binary(2), [b"ab", b"cd", None, b"ab"], [0, 1, 2, 0]),
        (pa.null(), [None, None], [0, 0]),
    ],
)
def test_nulls_nans_and_zeros_are_keys_like_others(type, values, slots):
    index = KeyIndex([type])
    array = pa.array(values, type)
    assert look_up(index, array) == (slots, 0)
    assert look_up(index, array.slice(1)) == (slots[1:], index.count)
    firsts = [values[slots.index(slot)] for slot in range(index.count)]
    back = index.keys(np.arange(index.count))[0]
    assert back.type == type
    assert list(map(canonical, back.to_pylist())) == list(map(canonical, firsts))


def test_a_null_that_comes_late_is_told_from_the_value_whose_bits_it_has():
    index = KeyIndex([pa.int64(), pa.string()])
    assert look_up(index, pa.array([0, 1]), pa.array(["a", "b"])) == ([0, 1], 0)
    late = (pa.array([None, 0, 0, 1]), pa.array(["a", None, "a", "b"]))
    assert look_up(index, *late) == ([2, 3, 0, 1], 2)
    first, second = index.keys(np.arange(4))
    assert first.to_pylist() == [0, 1, None, 0]
    assert second.to_pylist() == ["a", "b", "a", None]


def test_many_keys_survive_growth():
    index = KeyIndex([pa.int64()])
    rng = np.random.default_rng(7)
    known = {}
    for _ in range(8):
        keys = rng.integers(0, 30_000, 5_000) * 1_000_003
        wanted = [known.setdefault(key, len(known)) for key in keys.tolist()]
        assert look_up(index, pa.array(keys))[0] == wanted
    assert index.count == len(known)


def test_rows_whose_hashes_collide_stay_different_keys(monkeypatch):
    monkeypatch.setattr(code_table, "fmix64", lambda bits: bits & np.uint64(2**62))
    index = KeyIndex([pa.int64(), pa.int32()])
    keys = [(n % 50, n % 7) for n in range(3_000)]
    known = {}
    wanted = [known.setdefault(key, len(known)) for key in keys]
    columns = [
        pa.array(column, type)
        for column, type in zip(zip(*keys, strict=True), (pa.int64(), pa.int32()), strict=True)
    ]
    assert look_up(index, *columns)[0] == wanted
    assert look_up(index, *columns) == (wanted, len(known))


def test_strings_whose_hashes_collide_stay_different_keys(monkeypatch):
    monkeypatch.setattr(numbering, "xxh3_64_intdigest", lambda value, seed: len(value))
    index = KeyIndex([pa.string()])
    words = ["aa", "bb", "cc", "a", "b", "aa", "bb", "cc"]
    slots, _ = index.lookup([pa.array(words)])
    assert index.keys(slots)[0].to_pylist() == words
    assert index.count == 5
    assert index.lookup([pa.array(words[::-1])])[0].tolist() == slots.tolist()[::-1]


KEYS = st.one_of(
    st.tuples(st.sampled_from(["", "a", "b", None]), st.sampled_from([0, 1, -1, None])),
)


@given(st.lists(st.lists(KEYS, min_size=1), max_size=5))
def test_slots_equal_those_of_a_dict(batches):
    index, known = KeyIndex([pa.string(), pa.int8()]), {}
    for batch in batches:
        before = len(known)
        wanted = [known.setdefault(key, len(known)) for key in batch]
        words, numbers = zip(*batch, strict=True)
        found = look_up(index, pa.array(words, pa.string()), pa.array(numbers, pa.int8()))
        assert found == (wanted, before)
    back = index.keys(np.arange(len(known)))
    assert list(zip(*(column.to_pylist() for column in back), strict=True)) == list(known)
