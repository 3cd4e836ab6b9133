"""Joins as they are written: columns and keys of the output, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs

HERE = "test_joins.py:"
ORDERS = pa.table({"id": [1, 2, 3], "customer": [7, 8, None], "at": [10, 20, 30]})
CUSTOMERS = pa.table({"id": [7, 7, 9], "name": ["a", "b", "c"], "at": [1, 2, 3]})


def job():
    return rs.Job("t", runtime="local")


def sides(one=None):
    one = one or job()
    return one.from_items(ORDERS), one.from_items(CUSTOMERS)


def rows(stream):
    return sorted((tuple(row.values()) for row in stream.collect()), key=repr)


def test_columns_come_out_under_names_of_their_own():
    orders, customers = sides()
    joined = orders.join(customers, left_on="customer", right_on="id", suffix="_c", ttl="forever")
    assert joined.schema.names == ["id", "customer", "at", "name", "at_c"]
    assert joined.changelog is None
    assert rows(joined) == [(1, 7, 10, "a", 1), (1, 7, 10, "b", 2)]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("left", [(1, 7, "a"), (1, 7, "b"), (2, 8, None), (3, None, None)]),
        ("right", [(1, 7, "a"), (1, 7, "b"), (None, 9, "c")]),
        ("full", [(1, 7, "a"), (1, 7, "b"), (2, 8, None), (3, None, None), (None, 9, "c")]),
        ("semi", [(1, 7)]),
        ("anti", [(2, 8), (3, None)]),
    ],
)
@pytest.mark.parametrize("ttl", ["forever", "1h"])
def test_each_kind_of_two_streams(how, wanted, ttl):
    orders, customers = sides()
    joined = orders.drop("at").join(
        customers.drop("at"), left_on="customer", right_on="id", how=how, ttl=ttl
    )
    assert rows(joined) == sorted(wanted, key=repr)


def test_changes_can_be_seen():
    orders, customers = sides()
    joined = orders.drop("at").join(
        customers.drop("at"), left_on="customer", right_on="id", how="left", ttl="forever"
    )
    assert joined.changelog == ("id", "customer", "name")
    ops = {row["op"] for row in joined.to_rows(op="op").collect()}
    assert ops <= {"+I", "-D"}


def test_a_join_has_event_time_where_a_side_has():
    one = job()
    timed = one.from_items(ORDERS, watermark=rs.WatermarkStrategy("at"))
    joined = timed.join(one.from_items(CUSTOMERS), on="id", ttl="forever")
    assert joined._tip.node.type.timed
    orders, customers = sides()
    assert not orders.join(customers, on="id", ttl="forever")._tip.node.type.timed


def counted(one, key):
    return (
        one.from_items(ORDERS).key_by(key).aggregate(n=rs.count(), m=rs.max("at"), emit="changes")
    )


@pytest.mark.parametrize(
    ("how", "on", "key"),
    [
        # The right's key is its join key: a row of the left has one partner at most.
        ("inner", ("m", "id"), ("customer",)),
        ("left", ("m", "id"), ("customer",)),
        ("right", ("m", "id"), ("customer", "m")),
        ("full", ("m", "id"), ("customer", "m")),
        ("inner", ("customer", "n"), ("id",)),
        ("right", ("customer", "n"), ("id",)),
        ("left", ("customer", "n"), ("customer", "id")),
        ("inner", ("m", "n"), ("customer", "id")),
        ("semi", ("m", "n"), ("customer",)),
        ("anti", ("m", "n"), ("customer",)),
    ],
)
def test_the_key_of_the_table_that_changes_describe(how, on, key):
    one = job()
    joined = counted(one, "customer").join(
        counted(one, "id"), left_on=on[0], right_on=on[1], how=how, ttl="forever"
    )
    assert joined.changelog == key


def test_no_key_is_known_beside_a_plain_side():
    one = job()
    joined = one.from_items(ORDERS).join(counted(one, "id"), on="id", ttl="forever")
    assert joined.changelog == tuple(joined.schema.names)


@pytest.mark.parametrize("ttl", ["for ever", "10 parsecs", 0, -5, "-1h", 1.5, True, object()])
def test_a_time_to_live_is_a_duration_or_forever(ttl):
    orders, customers = sides()
    with pytest.raises(rs.PlanError, match=r'join\(ttl=\).*duration.*"forever"') as told:
        orders.join(customers, on="id", ttl=ttl)
    assert HERE in str(told.value)


def test_a_time_to_live_has_an_end():
    orders, customers = sides()
    with pytest.raises(rs.PlanError, match="70,000 years"):
        orders.join(customers, on="id", ttl=2**62)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "one of window=, within= and ttl=, got none"),
        ({"ttl": "1h", "within": ("0s", "1h")}, "one of window=, within= and ttl="),
        ({"ttl": "1h", "how": "outer"}, "how is one of inner, left, right, full, semi, anti"),
        ({"ttl": "1h", "on": None}, "has no key"),
        ({"ttl": "1h", "on": "name"}, "name"),
        ({"ttl": "1h", "on": ["id", "id"]}, "twice"),
        ({"ttl": "1h", "on": 5}, "a key is the name of a column"),
        ({"ttl": "1h", "left_on": "id"}, "not both"),
        ({"ttl": "1h", "on": None, "left_on": "id"}, "has no key"),
        ({"ttl": "1h", "on": None, "left_on": ["id", "at"], "right_on": "id"}, "2 columns"),
        ({"ttl": "1h", "on": None, "left_on": "id", "right_on": "name"}, "is int64.*is string"),
        ({"ttl": "1h", "suffix": 5}, "suffix is a text"),
        ({"ttl": "1h", "suffix": ""}, 'both streams have a column "at"'),
    ],
)
def test_what_is_no_join_is_refused_where_it_is_written(given, told):
    orders, customers = sides()
    with pytest.raises(rs.PlanError, match=told) as error:
        orders.join(customers, **{"on": "id", **given})
    assert HERE in str(error.value)


def test_a_name_that_the_suffix_makes_may_be_taken():
    one = job()
    left = one.from_items(pa.table({"k": [1], "v": [1], "v_right": [2]}))
    right = one.from_items(pa.table({"k": [1], "v": [3]}))
    with pytest.raises(rs.PlanError, match='"v_right" is taken too'):
        left.join(right, on="k", ttl="forever")


def test_keys_of_one_kind_meet_whatever_their_widths():
    one = job()
    left = one.from_items(pa.table({"k": pa.array([1, 2], pa.int8())}))
    right = one.from_items(pa.table({"k": pa.array([2, 300], pa.int32()), "v": [1, 2]}))
    joined = left.join(right, on="k", how="full", ttl="forever")
    assert rows(joined) == [(1, None), (2, 1), (300, 2)]


def test_streams_of_two_jobs_do_not_meet():
    with pytest.raises(rs.PlanError, match="belongs to job"):
        job().from_items(ORDERS).join(rs.Job("u").from_items(CUSTOMERS), on="id", ttl="1h")


def test_a_list_is_no_key():
    one = job()
    left = one.from_items(pa.table({"k": [[1]]}))
    with pytest.raises(rs.PlanError, match='key "k"'):
        left.join(one.from_items(pa.table({"k": [[1]]})), on="k", ttl="1h")
