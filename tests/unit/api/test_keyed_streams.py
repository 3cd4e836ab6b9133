"""Keys, running aggregates, functions with state, windows: checks and results."""

import pyarrow as pa
import pytest

import raystream as rs

COL = rs.col
HERE = "test_keyed_streams.py:"
TABLE = pa.table(
    {"k": ["a", "b", "a", "a"], "v": [1, 2, 3, None], "t": [0, 1, 2, 3], "l": [[1], [2], [3], []]}
)


def stream(**settings):
    return rs.Job("t", **settings).from_items(TABLE, watermark=rs.WatermarkStrategy("t"))


def objects(**settings):
    rows = [{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "a", "v": 3}]
    return rs.Job("t", **settings).from_items(rows, timestamps=[0, 1, 2])


def test_a_running_aggregate_gives_keys_and_aggregates():
    s = stream().key_by("k").aggregate(n=rs.count(), s=rs.sum("v"), m=rs.mean("v"))
    assert s.schema == pa.schema(
        {"k": pa.string(), "n": pa.int64(), "s": pa.int64(), "m": pa.float64()}
    )
    assert [tuple(row.values()) for row in s.collect()] == [
        ("a", 1, 1, 1.0),
        ("b", 1, 2, 2.0),
        ("a", 2, 4, 2.0),
        ("a", 3, 4, 2.0),
    ]


def test_expressions_and_conditions_are_computed_before_and_seen_by_nobody():
    s = (
        stream()
        .key_by("k")
        .aggregate(
            emit="final",
            big=rs.count().where(COL("v") > 1),
            twice=rs.sum(COL("v") * 2),
            odd=rs.sum("v").where(COL("v") == 1),
            none=rs.max("v").where("no"),
        )
        if False
        else stream()
        .with_columns(no=COL("v") > 100)
        .key_by("k")
        .aggregate(
            emit="final",
            big=rs.count().where(COL("v") > 1),
            twice=rs.sum(COL("v") * 2),
            odd=rs.sum("v").where(COL("v") == 1),
            none=rs.max("v").where("no"),
        )
    )
    assert s.schema.names == ["k", "big", "twice", "odd", "none"]
    rows = {row.pop("k"): row for row in s.collect()}
    assert rows == {
        "a": {"big": 1, "twice": 8, "odd": 1, "none": None},
        "b": {"big": 1, "twice": 4, "odd": None, "none": None},
    }


def test_hidden_columns_give_way_to_columns_of_that_name():
    table = pa.table({"k": [1], "__a0": [5], "__a1": [6]})
    s = rs.Job("t").from_items(table).key_by("k")
    made = s.aggregate(a=rs.sum(COL("__a0") + 1), b=rs.sum("__a1"), c=rs.sum(COL("__a1") + 1))
    assert made.collect() == [{"k": 1, "a": 6, "b": 6, "c": 7}]


def test_a_condition_used_twice_is_computed_once():
    big = COL("v") > 1
    s = stream().key_by("k").aggregate(a=rs.sum("v").where(big), b=rs.mean("v").where(big))
    (node,) = [one for one in s._tip.draft.graph.nodes if one.verb == "aggregate"]
    assert node.inputs[0].prepared.type.schema.names == ["k", "__a0"]


def test_a_computed_key_is_a_column():
    s = stream().key_by("k", big=COL("v") > 1)
    assert s.schema.names == ["k", "v", "t", "l", "big"]
    counted = s.aggregate(emit="final", n=rs.count())
    assert {(row["k"], row["big"]): row["n"] for row in counted.collect()} == {
        ("a", False): 1,
        ("b", True): 1,
        ("a", True): 1,
        ("a", None): 1,
    }


def test_an_expression_without_a_name_keeps_that_of_its_column():
    s = stream().key_by(COL("k").str.to_uppercase()).aggregate(emit="final", n=rs.count())
    assert sorted(row["k"] for row in s.collect()) == ["A", "B"]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_function_of_the_row_is_a_key_called_key(parallelism):
    s = objects(parallelism=parallelism).key_by(lambda row: row["k"])
    rows = s.aggregate(emit="final", n=rs.count(), s=rs.sum("v")).collect()
    assert sorted(map(str, rows)) == [
        "{'key': 'a', 'n': 2, 's': 4}",
        "{'key': 'b', 'n': 1, 's': 2}",
    ]


def test_a_function_keys_columns_too_and_makes_them_objects():
    s = stream().key_by(lambda row: row["k"])
    assert s.schema is None
    counted = s.aggregate(emit="final", n=rs.count()).collect()
    assert sorted((row["key"], row["n"]) for row in counted) == [("a", 3), ("b", 1)]


def test_names_key_dicts_by_their_values():
    s = objects().key_by("k").aggregate(emit="final", n=rs.sum(lambda row: row["v"]))
    assert sorted((row["k"], row["n"]) for row in s.collect()) == [("a", 4), ("b", 2)]


def test_words_are_counted():
    words = rs.Job("t").from_items(["a b", "b"]).flat_map(str.split)
    counted = words.key_by(lambda word: word).aggregate(emit="final", n=rs.count())
    assert {row["key"]: row["n"] for row in counted.collect()} == {"a": 1, "b": 2}


def test_reduce_keeps_the_columns():
    s = stream().drop("l").filter(~COL("v").is_null()).key_by("k")
    reduced = s.reduce(lambda a, b: a | {"v": a["v"] + b["v"]}, emit="final")
    assert reduced.schema.names == ["k", "v", "t"]
    assert {row["k"]: row["v"] for row in reduced.collect()} == {"a": 4, "b": 2}


def test_map_with_state_gives_objects_or_columns():
    def number(state, row):
        return state + 1, {"k": row["k"], "n": state}

    schema = pa.schema({"k": pa.string(), "n": pa.int64()})
    s = stream().key_by("k").map_with_state(number, 0, schema=schema)
    assert s.schema == schema
    assert [(row["k"], row["n"]) for row in s.collect()] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
        ("a", 2),
    ]
    plain = objects().key_by("k").map_with_state(number, lambda: 10)
    assert plain.schema is None
    assert plain.collect()[0] == {"k": "a", "n": 10}


def test_a_window_gives_keys_bounds_and_aggregates():
    s = stream().key_by("k").window(rs.Tumbling(2)).aggregate(n=rs.count(), most=rs.max("v"))
    stamp = pa.timestamp("us", "UTC")
    assert s.schema == pa.schema(
        {
            "k": pa.string(),
            "window_start": stamp,
            "window_end": stamp,
            "n": pa.int64(),
            "most": pa.int64(),
        }
    )
    found = {(row["k"], row["window_start"].microsecond): row["n"] for row in s.collect()}
    assert found == {("a", 0): 1, ("b", 0): 1, ("a", 2): 2}


def test_event_time_behind_a_window_is_its_last_microsecond():
    s = stream().window_all(rs.Tumbling(2)).aggregate(n=rs.count()).select(t=rs.event_time())
    assert [row["t"].microsecond for row in s.collect()] == [1, 3]


def test_windows_of_objects_are_dicts():
    s = objects().key_by("k").window(rs.Tumbling(2)).aggregate(n=rs.count())
    rows = {(row["k"], row["window_start"].microsecond): row["n"] for row in s.collect()}
    assert rows == {("a", 0): 1, ("b", 0): 1, ("a", 2): 1}
    alone = objects().window_all(rs.Tumbling("1s")).aggregate(n=rs.count()).collect()
    assert list(alone[0]) == ["window_start", "window_end", "n"]


def test_the_best_rows_of_a_window_come_whole():
    s = stream().window_all(rs.Tumbling("1s")).top_k(2, by="v", rank="place")
    assert s.schema.names == ["k", "v", "t", "l", "place"]
    assert [(row["v"], row["place"]) for row in s.collect()] == [(3, 1), (2, 2)]


def test_the_best_rows_can_be_found_by_what_is_computed():
    s = stream().key_by("k").window(rs.Tumbling("1s")).top_k(1, by=-COL("t"))
    assert s.schema.names == ["k", "v", "t", "l"]
    assert sorted((row["k"], row["t"]) for row in s.collect()) == [("a", 0), ("b", 1)]


class Longest(rs.AggregateFunction):
    type = pa.string()

    def create(self):
        return ""

    def add(self, acc, row):
        return max(acc, row["k"] * (row["v"] or 0), key=len)

    def merge(self, a, b):
        return max(a, b, key=len)

    def result(self, acc):
        return acc


@pytest.mark.parametrize("given", [Longest, Longest()])
def test_an_aggregate_of_ones_own_sees_rows(given):
    s = stream().key_by("k").aggregate(emit="final", longest=given)
    assert s.schema.field("longest").type == pa.string()
    assert {row["k"]: row["longest"] for row in s.collect()} == {"a": "aaa", "b": "bb"}


def test_an_aggregate_of_ones_own_sees_the_rows_that_where_keeps():
    s = stream().key_by("k").aggregate(emit="final", longest=Longest().where(COL("v") < 3))
    assert {row["k"]: row["longest"] for row in s.collect()} == {"a": "a", "b": "bb"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.key_by(), "key_by.. has no key"),
        (lambda s: s.key_by("k", "k"), 'makes column "k" twice'),
        (lambda s: s.key_by(str, "k"), "one function, or columns"),
        (lambda s: s.key_by("l"), 'key "l": a key cannot be of type list'),
        (lambda s: s.key_by("k").aggregate(), "has no aggregates"),
        (lambda s: s.key_by("k").aggregate(k=rs.count()), 'name "k" is taken by a key column'),
        (lambda s: s.key_by("k").aggregate(n=5), "takes an aggregate, got int 5"),
        (lambda s: s.key_by("k").aggregate(n="v"), "takes an aggregate, got str 'v'"),
        (lambda s: s.key_by("k").aggregate(n=rs.sum("k")), r"n: sum\(\) takes numbers, not string"),
        (lambda s: s.key_by("k").aggregate(n=rs.max("l")), "n: max.. compares values"),
        (lambda s: s.key_by("k").aggregate(n=rs.max_by("v", "l")), "n: max_by.. compares values"),
        (lambda s: s.key_by("k").aggregate(n=rs.sum(len)), "n: a function of the row"),
        (lambda s: s.key_by("k").aggregate(n=rs.count().where("v")), "takes a condition"),
        (lambda s: s.key_by("k").aggregate(n=rs.count().where(COL("v"))), "takes a condition"),
        (lambda s: s.key_by("k").aggregate(n=Longest().where("v")), "takes a condition"),
        (lambda s: s.key_by("k").aggregate(n=rs.count(), emit="now"), "emit is one of row"),
        (lambda s: s.key_by("k").aggregate(n=rs.count(), emit=rs.count()), "emit is one of row"),
        (lambda s: s.key_by("k").aggregate(n=rs.count(), over="long"), "not a duration: 'long'"),
        (lambda s: s.key_by("k").aggregate(n=rs.count(), over=0), "a positive number of rows"),
        (lambda s: s.key_by("k").aggregate(v=rs.count(), over=3), '"v" is taken by a column'),
        (lambda s: s.key_by("k").aggregate(n=rs.count(), over=3, emit="batch"), "gives every row"),
        (lambda s: s.key_by("k").deduplicate("newest"), '"first" or "last", got'),
        (lambda s: s.key_by("k").deduplicate(ttl="-1s"), "longer than nothing"),
        (lambda s: s.key_by("k").top_k(0, by="v"), "takes a positive int"),
        (lambda s: s.key_by("k").top_k(1, by="l"), "compares values"),
        (lambda s: s.key_by("k").top_k(1, by="v", rank="v"), '"v" is taken by a column'),
        (lambda s: s.key_by("k").top_k(1, by="v", emit="changes").map(str), "map.. cannot take"),
        (lambda s: s.to_rows(), "carries plain rows already"),
        (lambda s: s.key_by("k").map_with_state("v"), r"map_with_state\(\) takes a function"),
        (lambda s: s.key_by("k").reduce("v"), r"reduce\(\) takes a function"),
        (lambda s: s.key_by("k").window("10s"), "takes a window, got '10s'"),
        (lambda s: s.rename({"k": "window_end"}).key_by("window_end").window(rs.Tumbling(1)),
         'cannot be called "window_end"'),
        (lambda s: s.window_all(rs.Tumbling(1)).aggregate(window_start=rs.count()),
         'name "window_start" is taken by the window'),
        (lambda s: s.window_all(rs.Tumbling(1)).top_k(0, by="v"), "takes a positive int"),
        (lambda s: s.window_all(rs.Tumbling(1)).top_k(1, by="w"), 'column "w" not found'),
        (lambda s: s.window_all(rs.Tumbling(1)).top_k(1, by="l"), "compares values"),
        (lambda s: s.window_all(rs.Tumbling(1)).top_k(1, by=["v", "t"], descending=[True]),
         "as many descending= as by="),
        (lambda s: s.window_all(rs.Tumbling(1)).top_k(1, by="v", rank="k"), '"k" is taken'),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_line(call, message):
    with pytest.raises(rs.PlanError, match=message) as error:
        call(stream())
    assert HERE in error.value.where


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.key_by(COL("k")), "expressions do not read"),
        (lambda s: s.key_by(day=COL("k")), "expressions do not read"),
        (lambda s: s.key_by("k", "k"), "names a key twice"),
        (lambda s: s.key_by("k").aggregate(n=rs.sum(COL("v"))), "expressions do not read"),
        (lambda s: s.window_all(rs.Tumbling(1)).aggregate(n=rs.sum(COL("v"))), "do not read"),
        (lambda s: s.window_all(rs.Tumbling(1)).top_k(1, by=COL("v")), "carries objects"),
    ],
)
def test_expressions_do_not_read_objects(call, message):
    with pytest.raises(rs.PlanError, match=message) as error:
        call(objects())
    assert HERE in error.value.where


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.key_by("k").window(rs.Tumbling("1s")),
        lambda s: s.window_all(rs.Sliding("2s", "1s")),
    ],
)
def test_a_window_without_event_time_names_the_missing_strategy(call):
    with pytest.raises(rs.PlanError, match="no watermark strategy") as error:
        call(rs.Job("t").from_items(TABLE))
    assert "WatermarkStrategy" in error.value.hint
    assert HERE in error.value.where


def test_a_final_result_needs_an_end():
    endless = rs.Job("t").source(rs.DataGenSource(pa.schema({"k": pa.int64()})))
    with pytest.raises(rs.PlanError, match="waits for the end"):
        endless.key_by("k").aggregate(n=rs.count(), emit="final")


def test_a_keyed_stream_is_still_a_stream():
    s = stream(parallelism=2).key_by("k").filter(COL("v") > 1).select("v")
    assert sorted(row["v"] for row in s.collect()) == [2, 3]
