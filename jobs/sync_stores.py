"""Keep a table, a cache and a search index in step with the orders of a shop, deletes too.

``python jobs/sync_stores.py`` makes up the changes of orders and customers, keeps three tables in
memory in step, and shows what is in them; it needs no server. With ``--postgres`` the changes are
those of the tables ``orders`` and ``customers`` of a PostgreSQL (``PG_DSN``), followed in its log;
they go to ``full_orders`` of another (``DW_DSN``), with ``--redis`` to hashes ``order:{id}``
(``REDIS_URL``) and with ``--search`` to the index ``orders`` (``ES_URL``). ``--all`` are these
three. This starts all servers, makes the tables, lets a shop change them, and keeps everything in
step until it is interrupted::

    python tests/services/servers.py -- python jobs/sync_stores.py --all --shop

An order that goes to another customer leaves one subtask of the join and enters another: see
``upserts`` in ``raystream explain jobs/sync_stores.py``.
"""

import argparse
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

import raystream as rs

ORDERS = pa.schema(
    {"id": pa.int64(), "customer": pa.int64(), "item": pa.string(), "cents": pa.int64()}
)
CUSTOMERS = pa.schema({"id": pa.int64(), "name": pa.string(), "city": pa.string()})
STORES = ("postgres", "redis", "search")
ITEMS = ("tea", "pot", "cup", "tray", "spoon")
CITIES = ("Bern", "Oslo", "Rome", "Riga")

SHOP = """
CREATE TABLE IF NOT EXISTS customers (id bigint PRIMARY KEY, name text, city text);
CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, customer bigint, item text, cents bigint)
"""
WAREHOUSE = """
CREATE TABLE IF NOT EXISTS full_orders (
    id bigint PRIMARY KEY, customer bigint, item text, cents bigint, name text, city text)
"""

Change = tuple[str, str, dict[str, Any]]
"""A table, a kind, and the row; of one that goes its key counts."""


def changes(count: int, seed: int) -> Iterator[Change]:
    """Make up what happens in a shop: customers move, orders change hands, some are canceled."""
    rng = random.Random(seed)  # noqa: S311  the same changes every time
    known: dict[str, set[int]] = {"orders": set(), "customers": set()}
    for _ in range(count):
        table = rng.choices(("orders", "customers"), (5, 1))[0]
        id = rng.randrange(count // 5 + 5 if table == "orders" else 40)
        there = known[table]
        if id in there and rng.random() < 0.2:
            there.remove(id)
            yield table, "-D", {"id": id}
            continue
        row: dict[str, Any] = {"id": id}
        if table == "orders":  # some are of customers who are not there, or not yet
            item, cents = rng.choice(ITEMS), rng.randrange(100, 9_999)
            row |= {"customer": rng.randrange(45), "item": item, "cents": cents}
        else:
            row |= {"name": f"c{rng.randrange(1_000)}", "city": rng.choice(CITIES)}
        yield table, "+U" if id in there else "+I", row
        there.add(id)


def full_orders(orders: rs.Stream, customers: rs.Stream) -> rs.Stream:
    """Give each order with its customer, a changelog by the id of the order."""
    full = orders.join(customers, left_on="customer", right_on="id", how="left", ttl="forever")
    return full.named("full-orders").uid("full-orders")


class Store(rs.MemorySink):
    """A table in memory, in the process that started the job.

    Guarantee: at least once, and idempotent: a change that comes again changes nothing.
    """

    upserts = True

    def __init__(self) -> None:
        super().__init__()
        self.table: dict[int, dict[str, Any]] = {}

    def receive(self, batch: rs.Batch) -> bool:
        """Take changes of the table."""
        for row, op in zip(batch.rows.to_pylist(), batch.ops, strict=True):
            if op in ("-U", "-D"):
                self.table.pop(row["id"], None)
            else:
                self.table[row["id"]] = row
        return False


def made_up(job: rs.Job, told: list[Change]) -> list[rs.Stream]:
    """Give the changes of both tables."""
    streams = []
    for table, schema in (("orders", ORDERS), ("customers", CUSTOMERS)):
        nothing = dict.fromkeys(schema.names)
        rows = [{**nothing, **row, "op": op} for name, op, row in told if name == table]
        with_op = schema.append(pa.field("op", pa.string()))
        stream = job.from_items(rows, schema=with_op).named(table)
        streams.append(stream.to_changelog(key="id").uid(f"changes-of-{table}"))
    return streams


def followed(job: rs.Job) -> list[rs.Stream]:
    """Follow both tables of the shop; each has one log, so one subtask reads it."""
    from raystream.connectors import postgres

    streams = []
    for table, schema in (("orders", ORDERS), ("customers", CUSTOMERS)):
        source = postgres.PostgresCdcSource(
            rs.secret("PG_DSN"), table=table, schema=schema, key=["id"], slot=f"sync_{table}"
        )
        stream = job.source(source).named(table).uid(f"changes-of-{table}")
        streams.append(stream.with_parallelism(1))
    return streams


def stores(names: list[str]) -> dict[str, rs.Sink]:
    """Give the sinks of the stores of these names.

    None shows a row before it is in a checkpoint: a job that dies before its first one begins anew,
    and never hears of an order that was canceled in between.
    """
    from raystream.connectors import elasticsearch, postgres, redis

    once: Any = {"guarantee": "exactly_once"}
    made = {
        "postgres": lambda: postgres.PostgresSink(rs.secret("DW_DSN"), table="full_orders"),
        "redis": lambda: redis.RedisSink(rs.secret("REDIS_URL"), key="order:{id}", **once),
        "search": lambda: elasticsearch.ElasticsearchSink(
            rs.secret("ES_URL"), index="orders", **once
        ),
    }
    return {name: made[name]() for name in names}


def sync(streams: list[rs.Stream], sinks: dict[str, rs.Sink]) -> None:
    """Keep all stores in step with the orders beside their customers."""
    full = full_orders(*streams)
    for name, sink in sinks.items():
        full.sink(sink).named(name)


def make_tables() -> None:
    """Make the tables that are not there."""
    import psycopg

    for secret, statements in (("PG_DSN", SHOP), ("DW_DSN", WAREHOUSE)):
        with psycopg.connect(rs.secret(secret).reveal(), autocommit=True) as connection:
            connection.execute(statements)


def write(connection: Any, change: Change) -> None:
    """Let one change happen in the tables of the shop, whatever is there."""
    table, op, row = change
    if op == "-D":
        connection.execute(f"DELETE FROM {table} WHERE id = %s", [row["id"]])  # noqa: S608
        return
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    sets = ", ".join(f"{name} = excluded.{name}" for name in row)
    connection.execute(
        f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {sets}",  # noqa: S608
        list(row.values()),
    )


def keep_shop() -> None:
    """Change the tables of the shop, some thousand times a second, until the process ends."""
    import psycopg

    with psycopg.connect(rs.secret("PG_DSN").reveal(), autocommit=True) as connection:
        for seed in itertools.count():
            for change in changes(2_000, seed):
                write(connection, change)


def show(tables: dict[str, Store]) -> None:
    """Print the first rows of the first table, and whether the others are equal."""
    (_, first), *others = tables.items()
    names = [*ORDERS.names, *CUSTOMERS.names[1:]]
    shown = Table(*names, title=f"{len(first.table)} orders with their customers")
    for _, row in sorted(first.table.items())[:10]:
        shown.add_row(*(str(row[name]) for name in names))
    console = Console(width=100)
    console.print(shown)
    for name, other in others:
        console.print(name, "is equal" if other.table == first.table else "is NOT equal")


def main() -> None:
    """Keep stores in step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in STORES:
        parser.add_argument(f"--{name}", action="append_const", dest="stores", const=name)
    parser.add_argument("--all", action="store_const", dest="stores", const=list(STORES))
    parser.add_argument("--changes", type=int, default=5_000, help="how many are made up")
    parser.add_argument("--shop", action="store_true", help="make the tables, and change them")
    parser.add_argument("--checkpoint", default="out/sync-stores", metavar="URL")
    args = parser.parse_args()
    names = args.stores or []
    if "postgres" not in names:
        job = rs.Job("sync-stores", parallelism=2)
        tables = {name: Store() for name in ("table", "cache", "index")}
        sync(made_up(job, list(changes(args.changes, 1))), stores(names) or dict(tables))
        job.run()
        if not names:
            show(tables)
        return
    if args.shop:
        make_tables()
    every = rs.Checkpointing(args.checkpoint, every="2s")
    job = rs.Job("sync-stores", parallelism=2, checkpoint=every)
    sync(followed(job), stores(names))
    if args.shop:
        import multiprocessing

        multiprocessing.get_context("spawn").Process(target=keep_shop, daemon=True).start()
    job.run(from_snapshot="latest")


if __name__ == "__main__":
    main()
