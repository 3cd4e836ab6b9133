"""Programs that join: amounts in euros by the rate of their time, orders beside their customers."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

import raystream as rs

T, S = rs.testing, rs.micros("1s")
col = rs.col

ORDER = pa.schema([("id", pa.int64()), ("currency", pa.string()), ("amount", pa.float64())])
RATE = pa.schema([("currency", pa.string()), ("rate", pa.float64())])
DAY = rs.micros("1d")


def in_euros(orders, rates):  # by the rate of the order's time; none within a day: null
    return orders.as_of_join(rates, on="currency", tolerance="1d").with_columns(
        eur=col("amount") * col("rate")
    )


def full_orders(orders, customers):
    full = orders.join(customers, left_on="customer", right_on="id", how="left", ttl="forever")
    return full.uid("full-orders")


def money(rng: random.Random, rows: int, schema: pa.Schema) -> list[Any]:
    """Make rows of a currency each over three weeks, four by four out of order."""
    made = []
    for number in range(rows):
        at = rng.randrange(20 * DAY // rows * number, 20 * DAY // rows * (number + 1)) + DAY
        value = rng.randrange(1, 900) / 8
        row = dict(zip(schema.names[-2:], (rng.choice("ABCD"), value), strict=True))
        made.append(T.At(at, ({"id": number} if "id" in schema.names else {}) | row))
    for place in range(0, rows - 4, 4):
        some = made[place : place + 4]
        rng.shuffle(some)
        made[place : place + 4] = some
    return made


def with_watermarks(items: list[Any], rng: random.Random) -> list[Any]:
    """Say now and then how far time has come."""
    out: list[Any] = []
    for place, item in enumerate(items):
        out.append(item)
        if rng.random() < 0.2 and place + 1 < len(items):
            out.append(T.Watermark(min(one.ts for one in items[place + 1 :]) - 1))
    return out


def euros_by_hand(orders: list[Any], rates: list[Any]) -> list[tuple[Any, ...]]:
    told = []
    for order in orders:
        known = [
            rate
            for rate in rates
            if rate.row["currency"] == order.row["currency"]
            and order.ts - DAY <= rate.ts <= order.ts
        ]
        rate = max(known, key=lambda one: one.ts).row["rate"] if known else None
        eur = None if rate is None else order.row["amount"] * rate
        told.append((*order.row.values(), rate, eur))
    return sorted(told)


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "seed"), [(1, 1), (2, 2), (2, 3), (3, 4)])
def test_an_order_is_counted_by_the_rate_of_its_time(parallelism, seed):
    rng = random.Random(seed)
    orders, rates = money(rng, 120, ORDER), money(rng, 60, RATE)
    assert len({one.ts for one in rates}) == len(rates), "one rate at a time"
    job = rs.Job("euros", parallelism=parallelism)
    streams = [
        job.source(T.Source(with_watermarks(items, rng), schema=schema))
        for items, schema in ((orders, ORDER), (rates, RATE))
    ]
    expected = euros_by_hand(orders, rates)
    nulls = [row[-1] is None for row in expected]
    assert any(nulls)
    assert not all(nulls)
    stream = in_euros(*streams)
    assert stream.schema.names == ["id", "currency", "amount", "rate", "eur"]
    for crashes in (0, 2):
        rows = T.run(stream, seed=seed, crashes=crashes).rows
        assert sorted(tuple(row.values()) for row in rows) == expected


CUSTOMER_CHANGE = pa.schema([("id", pa.int64()), ("city", pa.string()), ("op", pa.string())])
ORDER_CHANGE = pa.schema(
    [("id", pa.int64()), ("customer", pa.int64()), ("total", pa.int64()), ("op", pa.string())]
)


def changes(rng: random.Random, count: int, make: Any) -> tuple[list[Any], dict[int, Any]]:
    """Make changes of a table as a database tells them, and the table that they end in."""
    table: dict[int, Any] = {}
    told = []
    for _ in range(count):
        id, row = rng.randrange(12), make(rng)
        if id in table and rng.random() < 0.3:
            told.append({"id": id, **table.pop(id), "op": "-D"})
            continue
        if id in table:
            told.append({"id": id, **table[id], "op": "-U"})
        told.append({"id": id, **row, "op": "+U" if id in table else "+I"})
        table[id] = row
    return told, table


def an_order(rng: random.Random) -> dict[str, Any]:
    # Some orders have no customer, and some one that is not known.
    return {"customer": rng.choice([*range(14), None]), "total": rng.randrange(5)}


def a_customer(rng: random.Random) -> dict[str, Any]:
    return {"city": rng.choice(["Rom", "Bonn", "Pisa"])}


def orders_by_hand(orders: dict[int, Any], customers: dict[int, Any]) -> list[tuple[Any, ...]]:
    return [
        (id, order["customer"], order["total"], customers.get(order["customer"], {}).get("city"))
        for id, order in sorted(orders.items())
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "seed"), [(1, 1), (2, 2), (2, 3), (3, 4)])
@pytest.mark.parametrize("upserting", [False, True], ids=["retracting", "upserting"])
def test_orders_stand_beside_their_customers_whatever_changes(parallelism, seed, upserting):
    rng = random.Random(seed)
    orders, all_orders = changes(rng, 150, an_order)
    customers, all_customers = changes(rng, 60, a_customer)
    if upserting:  # a source that tells the new row of an update alone
        orders, customers = (
            [change for change in some if change["op"] != "-U"] for some in (orders, customers)
        )
    job = rs.Job("sync", parallelism=parallelism, config={"batch_rows_max": 7})
    streams = [
        job.from_items(some, schema=schema).to_changelog(key=["id"])
        for some, schema in ((orders, ORDER_CHANGE), (customers, CUSTOMER_CHANGE))
    ]
    full = full_orders(*streams)
    assert full.changelog is not None
    assert full.schema.names == ["id", "customer", "total", "city"]
    expected = orders_by_hand(all_orders, all_customers)
    assert None in [row[-1] for row in expected]
    assert sorted(tuple(row.values()) for row in full.collect(runtime="local")) == expected
    told = T.run(full, seed=seed, crashes=1).rows
    assert sorted(tuple(row.values()) for row in told) == expected


@pytest.mark.slow
def test_what_is_computed_from_joined_tables_follows_their_changes():
    rng = random.Random(5)
    orders, all_orders = changes(rng, 80, an_order)
    customers, all_customers = changes(rng, 40, a_customer)
    job = rs.Job("sync", parallelism=2)
    full = full_orders(
        job.from_items(orders, schema=ORDER_CHANGE).to_changelog(key=["id"]),
        job.from_items(customers, schema=CUSTOMER_CHANGE).to_changelog(key=["id"]),
    )
    cities = full.key_by("city").aggregate(total=rs.sum("total"), n=rs.count(), emit="changes")
    expected: dict[str | None, tuple[int, int]] = {}
    for _, _, total, city in orders_by_hand(all_orders, all_customers):
        before = expected.get(city, (0, 0))
        expected[city] = before[0] + total, before[1] + 1
    assert {
        row["city"]: (row["total"], row["n"]) for row in cities.collect(runtime="local")
    } == expected
