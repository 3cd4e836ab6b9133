"""Keys and values that are odd: a defined result, or one error that names the row and the line."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from bad_input import AGGREGATES, KINDS, OVER, SECOND, VERBS, outcome, plain, stream

import raystream as rs

HERE = Path(__file__).name
NAN = float("nan")
UTC = dt.timezone.utc
NAIVE = dt.datetime(2024, 1, 1)  # noqa: DTZ001  naive on purpose
TIMES = [1 * SECOND, 2 * SECOND, 3 * SECOND]

NULL_KEYS = [{"k": None, "v": 1.0}, {"k": "a", "v": 2.0}, {"k": None, "v": 3.0}]
AFTER_NULLS = {
    "tumbling": [("a", 1, 1, 2.0, 2.0, 2.0, (2.0,)), (None, 2, 2, 4.0, 1.0, 3.0, (1.0, 3.0))],
    "session": [("a", 1, 1, 2.0, 2.0, 2.0, (2.0,)), (None, 2, 2, 4.0, 1.0, 3.0, (1.0, 3.0))],
    "of a count": [(None, 2, 2, 4.0, 1.0, 3.0, (1.0, 3.0))],
    "apply": [("a", 0, 10 * SECOND, 1), (None, 0, 10 * SECOND, 2)],
    "best of a window": [("a", 2.0), (None, 3.0)],
    "first of a window": [("a", 2.0), (None, 1.0)],
    "process": [("a", -1), ("a", 1), (None, -2), (None, -2), (None, 1), (None, 2)],
    "map_with_state": [("a", 1), (None, 1), (None, 2)],
    "reduce": [("a", 2.0), (None, 1.0), (None, 3.0)],
    "final": [("a", 1, 1, 2.0, 2.0, 2.0, (2.0,)), (None, 2, 2, 4.0, 1.0, 3.0, (1.0, 3.0))],
    "first": [("a", 2.0), (None, 1.0)],
    "last": [("a", 2.0), (None, 1.0), (None, 3.0)],
    "best": [("a", 2.0), (None, 1.0), (None, 3.0)],
    "ranked": [("a", 2.0, 1), (None, 1.0, 1), (None, 1.0, 2), (None, 3.0, 1)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", AFTER_NULLS)
def test_null_is_a_key_of_its_own(verb, kind):
    keyed = stream(kind, NULL_KEYS, TIMES).key_by("k")
    assert plain(VERBS[verb](keyed).collect()) == sorted(AFTER_NULLS[verb], key=repr)


NAN_KEYS = [{"k": NAN, "v": 1.0}, {"k": -math.nan, "v": 2.0}, {"k": None, "v": 3.0}]
FLOAT_KEYS = pa.schema({"k": pa.float64(), "v": pa.float64()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        (
            "tumbling",
            [("nan", 2, 2, 3.0, 1.0, 2.0, (1.0, 2.0)), (None, 1, 1, 3.0, 3.0, 3.0, (3.0,))],
        ),
        ("process", [("nan", -2), ("nan", -2), ("nan", 1), ("nan", 2), (None, -1), (None, 1)]),
        ("first", [("nan", 1.0), (None, 3.0)]),
        ("map_with_state", [("nan", 1), ("nan", 2), (None, 1)]),
    ],
)
def test_all_nans_are_one_key_and_not_null(verb, expected, kind):
    keyed = stream(kind, NAN_KEYS, TIMES, FLOAT_KEYS).key_by("k")
    assert plain(VERBS[verb](keyed).collect()) == sorted(expected, key=repr)


ODD_VALUES = [{"k": "a", "v": NAN}, {"k": "a", "v": 2.0}, {"k": "a", "v": None}]
AFTER_NANS = {
    "tumbling": [("a", 3, 2, "nan", 2.0, 2.0, ("nan", 2.0))],
    "session": [("a", 3, 2, "nan", 2.0, 2.0, ("nan", 2.0))],
    "of a count": [("a", 2, 2, "nan", 2.0, 2.0, ("nan", 2.0))],
    "best of a window": [("a", 2.0)],
    "reduce": [("a", "nan"), ("a", 2.0), ("a", None)],
    "final": [("a", 3, 2, "nan", 2.0, 2.0, ("nan", 2.0))],
    "last": [("a", "nan"), ("a", 2.0), ("a", None)],
    "best": [("a", "nan"), ("a", 2.0)],
    "ranked": [("a", "nan", 1), ("a", "nan", 2), ("a", 2.0, 1)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", AFTER_NANS)
def test_nan_makes_sums_nan_and_is_neither_least_nor_greatest_and_null_is_skipped(verb, kind):
    keyed = stream(kind, ODD_VALUES, TIMES).key_by("k")
    assert plain(VERBS[verb](keyed).collect()) == sorted(AFTER_NANS[verb], key=repr)


@pytest.mark.parametrize("verb", OVER)
def test_null_keys_and_nan_values_over_the_rows_before(verb):
    nulls = OVER[verb](stream("columns", NULL_KEYS, TIMES).key_by("k"))
    assert plain(nulls.select("k", "n", "sum").collect()) == [
        ("a", 1, 2.0),
        (None, 1, 1.0),
        (None, 2, 4.0),
    ]
    nans = OVER[verb](stream("columns", ODD_VALUES, TIMES).key_by("k"))
    assert plain(nans.select("n", "least").collect())[:2] == [(1, "nan"), (2, 2.0)]


class Unhashable:
    def __init__(self, text="it"):
        self.text = text

    def __repr__(self):
        return f"<{self.text}>"


NO_KEYS = [
    ([1], "a key cannot be a list: [1]"),
    ({"a": 1}, "a key cannot be a dict"),
    ({1}, "a key cannot be a set"),
    (Unhashable(), "a key cannot be a Unhashable: <it>"),
    ((1, [2]), "a key cannot be a list: [2]"),
    (1 + 2j, "a key cannot be a complex"),
]


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("named", [True, False], ids=["field", "function"])
@pytest.mark.parametrize(("key", "told"), NO_KEYS, ids=[told for _, told in NO_KEYS])
def test_what_cannot_be_a_key_is_told_with_the_row_and_where_the_key_is_made(
    key, told, named, parallelism
):
    rows = [{"k": "a", "v": 1.0}, {"k": key, "v": 2.0}]
    job = rs.Job("odd", runtime="local", parallelism=parallelism)
    given = job.from_items(rows, timestamps=[1, 2])
    keyed = given.key_by("k") if named else given.key_by(lambda row: row["k"])
    for verb in ("tumbling", "process", "first"):
        said = outcome(VERBS[verb](keyed).collect)
        assert f"key_by#1 failed: {told}" in said
        assert f"row: {rows[1]!r}" in said
        assert HERE in said
        assert "hint: a key is an int, str," in said


def test_a_row_whose_key_is_none_is_given_up_where_the_job_goes_on():
    rows = [{"k": key, "n": n} for n, key in enumerate(["a", [1], "a", ({},), "b"])]
    it = rs.Job("odd", runtime="local").from_items(rows).key_by("k").on_error("skip")
    assert plain(it.aggregate(n=rs.count()).collect()) == [("a", 1), ("a", 2), ("b", 1)]
    several = rs.Job("odd", runtime="local").from_items(rows).key_by("n", "k").on_error("skip")
    assert [row["n"] for row in several.deduplicate().collect()] == [0, 2, 4]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, False),
        (1, True, False),
        (0.0, -0.0, True),
        ("a", b"a", False),
        (Decimal("1.5"), Decimal("1.50"), True),
        (NAIVE, dt.datetime(2024, 1, 1, tzinfo=UTC), True),
        (NAIVE, dt.date(2024, 1, 1), False),
        (None, NAN, False),
        (2**70, 2**70, True),
        ("\ud800", "\ud800", True),
        ((1, None), (1, None), True),
        ((1, NAN), (1, -NAN), True),
    ],
    ids=repr,
)
def test_which_values_are_the_same_key(one, other, same):
    job = rs.Job("odd", runtime="local", parallelism=2)
    counts = job.from_items([{"k": one}, {"k": other}]).key_by("k").aggregate(n=rs.count())
    assert sorted(row["n"] for row in counts.collect()) == ([1, 2] if same else [1, 1])


@pytest.mark.parametrize(
    "type",
    [pa.list_(pa.int64()), pa.struct({"a": pa.int64()}), pa.map_(pa.string(), pa.int64())],
    ids=str,
)
def test_a_nested_column_is_no_key_before_anything_runs(type):
    schema = pa.schema({"k": type, "v": pa.float64()})
    with pytest.raises(rs.PlanError, match='key "k": a key cannot be of type') as error:
        stream("columns", [], None, schema).key_by("k")
    assert HERE in error.value.where


@pytest.mark.parametrize(
    ("kind", "build", "told"),
    [
        ("columns", lambda s: s.key_by("zz"), 'column "zz" not found'),
        ("objects", lambda s: s.key_by("zz").deduplicate(), "key_by#1 failed: KeyError: 'zz'"),
        ("columns", lambda s: s.key_by(), "key_by() has no key"),
        ("objects", lambda s: s.key_by("k", "k"), "names a key twice"),
        ("columns", lambda s: s.key_by(None), "takes names and expressions, got None"),
        ("objects", lambda s: s.key_by(lambda r: 1 / 0).deduplicate(), "ZeroDivisionError"),
    ],
)
def test_keys_that_are_not_there(kind, build, told):
    said = outcome(lambda: build(stream(kind, [{"k": "a", "v": 1.0}])).collect())
    assert told in said
    assert HERE in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_no_rows_make_no_rows(verb, kind):
    assert VERBS[verb](stream(kind, [], []).key_by("k")).collect() == []


ODD_PAIRS = list(itertools.product([NAN, None, 1.0, -0.0, 0.0, math.inf, -math.inf], repeat=2))
EVERY = {
    **AGGREGATES,
    "mean": rs.mean("v"),
    "variance": rs.variance("v"),
    "stddev": rs.stddev("v"),
    "first": rs.first("v"),
    "last": rs.last("v"),
    "different": rs.count_distinct("v"),
    "about": rs.approx_count_distinct("v"),
    "middle": rs.quantile("v", 0.5),
    "at_least": rs.min_by("n", "v"),
    "at_most": rs.max_by("n", "v"),
}
EVERY_OVER = {f"a_{name}": one for name, one in EVERY.items()}
WHOLE = {
    "tumbling": rs.Tumbling("10s"),
    "session": rs.Session("10s"),
    "of a count": rs.TumblingCount(2),
}
SAME_ROWS = {
    **{name: lambda s, w=w: s.window(w).aggregate(**EVERY) for name, w in WHOLE.items()},
    "final": lambda s: s.aggregate(emit="final", **EVERY),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", SAME_ROWS)
def test_every_aggregate_means_the_same_of_odd_numbers_wherever_it_runs(verb, kind):
    rows = [
        {"k": f"{number:02}", "v": value, "n": place}
        for number, pair in enumerate(ODD_PAIRS)
        for place, value in enumerate(pair)
    ]
    schema = pa.schema({"k": pa.string(), "v": pa.float64(), "n": pa.int64()})
    times = [1] * len(rows)
    given = SAME_ROWS[verb](stream(kind, rows, times, schema).key_by("k")).collect()
    over = stream("columns", rows, times, schema).key_by("k").aggregate(over="10s", **EVERY_OVER)
    last = [row for row in over.collect() if row["n"] == 1]
    names = ("k", *EVERY)
    expected = [tuple(row[name if name == "k" else f"a_{name}"] for name in names) for row in last]
    assert plain(given) == plain(expected)
