"""A table that is read in ranges of its key: every type, every row once, from any position."""

from __future__ import annotations

import traceback

import pyarrow as pa
import pytest
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors.postgres import PostgresCdcSource, PostgresSink, PostgresSource
from raystream.connectors.postgres_changes import ChangeReader

pytestmark = [pytest.mark.services, pytest.mark.slow]

EVERY_TYPE = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TABLE every (
  id int, name text, b bool, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, n2 numeric(10, 2),
  t text, c char(4), v varchar(20), by bytea, d date, tm time, ts timestamp, tz timestamptz,
  j json, jb jsonb, u uuid, m mood, s small, ia int[], ta text[], ba bytea[], da date[],
  PRIMARY KEY (id, name));
INSERT INTO every SELECT g, 'k' || g, g % 2 = 0, -g, g * 10000000000, 0.1, 'NaN', 1.5, -2.25,
  E'a\\n"\\\\.,\\t''', 'ab', '', '\\x00ff0a', '2020-02-29', '12:00:01.5', '2020-01-01 00:00:00.5',
  '1969-12-31 23:59:59.999999+02', '{"a": "x,y"}', '[1, null]',
  '00000000-0000-0000-0000-0000000000ff', 'ok', 5, '{1,NULL,3}',
  ARRAY['a,"b', NULL, 'NULL', '', E'\\\\'], ARRAY['\\x01'::bytea], ARRAY['2020-01-01'::date]
  FROM generate_series(1, 100) AS g;
INSERT INTO every VALUES (0, ''), (-1, E'\\\\.\\n\\\\.');
"""


@pytest.fixture
def every(postgres):
    with postgres.connect() as connection:
        connection.execute(EVERY_TYPE)
        yield connection


def differing(connection, other):
    """Count rows of one table that the other has not; by value, json by its text."""
    (count,) = connection.execute(
        f"SELECT count(*) FROM (SELECT e.*, e.j::text AS jt FROM every e) e WHERE NOT EXISTS "
        f"(SELECT 1 FROM {other} o WHERE o.id = e.id AND (to_jsonb(o) - 'n') = "
        "((to_jsonb(e) - 'jt') - 'n') AND o.n IS NOT DISTINCT FROM e.n)"
    ).fetchone()
    return count


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_all_types_go_through_both_ways(postgres, every, parallelism, mode):
    every.execute("CREATE TABLE copied (LIKE every INCLUDING ALL)")
    job = rs.Job("types", runtime="local", parallelism=parallelism)
    key = {"key": ["id", "name"]} if mode == "upsert" else {}
    job.source(PostgresSource(postgres.dsn, "every", ranges=5)).sink(
        PostgresSink(postgres.dsn, "copied", mode=mode, **key)
    )
    job.run()
    assert every.execute("SELECT count(*) FROM copied").fetchone() == (102,)
    assert differing(every, "copied") == 0


def test_snapshot_and_log_write_values_alike(postgres, every):
    source = PostgresCdcSource(postgres.dsn, "every")
    reader = source.open(source.splits()[0], None)
    scanned = reader.poll(1000).rows
    assert reader.poll(10) is None
    every.execute("UPDATE every SET id = id + 1000")
    brought = []
    while len(brought) < scanned.num_rows:
        polled = reader.poll(1000)
        if polled is not None:
            pairs = zip(polled.ops, polled.rows.to_pylist(), strict=True)
            brought += [row for op, row in pairs if op == "+I"]
    reader.close()
    moved = pa.RecordBatch.from_pylist(
        [row | {"id": row["id"] - 1000} for row in brought], scanned.schema
    )
    order = [("id", "ascending")]
    assert str(moved.sort_by(order).to_pylist()) == str(scanned.sort_by(order).to_pylist())


def test_a_range_goes_on_behind_any_row(postgres, every):
    source = PostgresSource(postgres.dsn, "every", ranges=4)
    keys = []
    for split in source.splits():
        position = None
        while True:
            reader = source.open(split, position)
            polled = reader.poll(7)
            position = reader.position()
            reader.close()
            if polled is rs.END:
                break
            keys += [(row["id"], row["name"]) for row in polled]
    assert len(keys) == 102
    assert set(keys) == set(every.execute("SELECT id, name FROM every").fetchall())


def test_it_is_restored_in_the_middle_though_the_table_has_grown(postgres, every, tmp_path):
    every.execute("CREATE TABLE copied (LIKE every INCLUDING ALL)")
    seen = {"fails": True}

    def once(row):
        if seen["fails"] and row["id"] == 60:
            raise RuntimeError("power cut")
        return True

    def run(**how):
        job = rs.Job(
            "middle",
            runtime="local",
            parallelism=2,
            checkpoint=rs.Checkpointing(tmp_path, every="1ms"),
            restart=rs.Restart.none(),
            config={"batch_rows_max": 5},
        )
        rows = job.source(PostgresSource(postgres.dsn, "every", ranges=3)).uid("read")
        rows.filter(once).sink(PostgresSink(postgres.dsn, "copied", mode="append")).uid("write")
        return job.run(**how)

    with pytest.raises(rs.JobFailed, match="power cut"):
        run()
    every.execute("INSERT INTO every (id, name) SELECT g, 'new' FROM generate_series(-90, -50) g")
    seen["fails"] = False
    run(from_snapshot="latest")
    (count, ids) = every.execute(
        "SELECT count(*), count(DISTINCT (id, name)) FROM copied"
    ).fetchone()
    assert count == ids  # append to a primary key would have failed otherwise, too
    (missing,) = every.execute(
        "SELECT count(*) FROM every e WHERE id > -50 AND NOT EXISTS "
        "(SELECT 1 FROM copied c WHERE c.id = e.id AND c.name = e.name)"
    ).fetchone()
    assert missing == 0


def test_a_query_is_read_by_its_key(postgres, every):
    query = "SELECT id * 2 AS twice, sum(i8) AS total FROM every GROUP BY 1"
    source = PostgresSource(postgres.dsn, query=query, key="twice", ranges=3)
    rows = rs.Job("q").source(source).collect()
    assert sorted(row["twice"] for row in rows) == sorted([-2, *range(0, 202, 2)])
    with pytest.raises(rs.PlanError, match="has no key"):
        PostgresSource(postgres.dsn, query=query)


def test_a_type_that_nothing_stands_for_is_named_and_schema_helps(postgres, every):
    every.execute("CREATE TABLE spans (id int PRIMARY KEY, span interval)")
    every.execute("INSERT INTO spans VALUES (1, '1 day')")
    with pytest.raises(rs.PlanError, match='column "span" is of type interval'):
        PostgresSource(postgres.dsn, "spans")
    schema = pa.schema([("span", pa.string())])
    rows = rs.Job("s").source(PostgresSource(postgres.dsn, "spans", schema=schema)).collect()
    assert rows == [{"span": "1 day"}]


def test_a_value_without_a_place_fails_its_row_by_the_policy(postgres, every):
    every.execute("CREATE TABLE dates (id int PRIMARY KEY, d date)")
    every.execute(
        "INSERT INTO dates VALUES (1, '2020-01-01'), (2, 'infinity'), (3, '0044-03-15 BC')"
    )
    rows = (
        rs.Job("d").source(PostgresSource(postgres.dsn, "dates", ranges=1)).on_error("dead_letter")
    )
    assert [row["id"] for row in rows.collect()] == [1]
    letters = rows.dead_letters.collect()
    assert [letter["row"] for letter in letters] == [
        {"id": "2", "d": "infinity"},
        {"id": "3", "d": "0044-03-15 BC"},
    ]
    with pytest.raises(rs.JobFailed, match='column "d" is date32'):
        rs.Job("d").source(PostgresSource(postgres.dsn, "dates")).collect()


def test_a_table_that_is_not_there_is_told(postgres):
    with pytest.raises(rs.PlanError, match='no table "nothing"'):
        PostgresSource(postgres.dsn, "nothing")


@pytest.mark.parametrize("filtered", [False, True])
def test_changes_reach_a_table_through_a_job_that_fails(
    postgres, every, tmp_path, monkeypatch, filtered
):
    """A running job follows a table into another one; its reader fails once, amid the changes."""
    every.execute("CREATE TABLE things (id int PRIMARY KEY, v text)")
    every.execute("CREATE TABLE copied (LIKE things INCLUDING ALL)")
    every.execute("INSERT INTO things SELECT g, 'v' FROM generate_series(1, 50) AS g")
    polls = iter(range(1_000_000))
    whole = ChangeReader.poll

    def poll(self, max_rows):
        count = next(polls)
        if count == 9:
            every.execute("UPDATE things SET v = 'w' WHERE id % 2 = 0")
            every.execute("DELETE FROM things WHERE id < 9")
        if count == 12:
            raise RuntimeError("power cut")
        if count == 20:
            every.execute("UPDATE things SET id = id + 1000 WHERE id > 45")
            every.execute("INSERT INTO things VALUES (0, 'end')")
        return whole(self, max_rows)

    monkeypatch.setattr(ChangeReader, "poll", poll)
    job = rs.Job(
        "follow",
        runtime="local",
        parallelism=2,
        checkpoint=rs.Checkpointing(tmp_path, every="20ms"),
        config={"batch_rows_max": 10},
    )
    changes = job.source(PostgresCdcSource(postgres.dsn, "things"))
    if filtered:  # which asks for the rows that leave, whole
        changes = changes.filter(rs.col("v") != "v")
    changes.sink(PostgresSink(postgres.dsn, "copied"))
    with pytest.raises(rs.JobFailed, match="longer than"):
        job.run(timeout="6s")
    assert next(polls) > 20
    held, copied = (
        every.execute(f"SELECT id, v FROM {table} ORDER BY id").fetchall()
        for table in ("things", "copied")
    )
    assert len(held) == 43
    assert copied == [row for row in held if not filtered or row[1] != "v"]


def test_a_table_follows_orders_beside_their_customers(postgres, every, monkeypatch, tmp_path):
    """Two tables are joined as they change, through secrets, into a third: deletes, too."""
    every.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, amount numeric(8, 2));"
        "CREATE TABLE customers (id bigint PRIMARY KEY, name text);"
        "CREATE TABLE full_orders (id bigint PRIMARY KEY, customer bigint, amount numeric(8, 2), "
        "name text);"
        "INSERT INTO customers VALUES (1, 'ann'), (2, 'bob');"
        "INSERT INTO orders VALUES (10, 1, 5), (11, 2, 6), (12, 3, 7), (13, 1, 8)"
    )
    monkeypatch.setenv("PG_DSN", postgres.dsn)
    order = pa.schema(
        [("id", pa.int64()), ("customer", pa.int64()), ("amount", pa.decimal128(8, 2))]
    )
    customer = pa.schema([("id", pa.int64()), ("name", pa.string())])
    polls = iter(range(1_000_000))
    whole = ChangeReader.poll

    def poll(self, max_rows):
        match next(polls):
            case 20:
                every.execute("UPDATE orders SET customer = 2 WHERE id = 10")
                every.execute("UPDATE customers SET name = 'eve' WHERE id = 1")
            case 30:
                raise RuntimeError("power cut")
            case 40:
                every.execute("DELETE FROM orders WHERE id = 11")
                every.execute("INSERT INTO customers VALUES (3, 'joe')")
                every.execute("DELETE FROM customers WHERE id = 1")
        return whole(self, max_rows)

    monkeypatch.setattr(ChangeReader, "poll", poll)
    job = rs.Job(
        "sync", runtime="local", parallelism=2, checkpoint=rs.Checkpointing(tmp_path, every="50ms")
    )
    orders, customers = (
        job.source(
            PostgresCdcSource(rs.secret("PG_DSN"), table=table, schema=schema, key=["id"]),
            name=table,
        )
        for table, schema in (("orders", order), ("customers", customer))
    )
    joined = orders.join(customers, left_on="customer", right_on="id", how="left", ttl="forever")
    joined.sink(PostgresSink(rs.secret("PG_DSN"), table="full_orders"))
    with pytest.raises(rs.JobFailed, match="longer than"):
        job.run(timeout="10s")
    assert next(polls) > 40
    wanted = (
        "SELECT o.id, o.customer, o.amount, c.name FROM orders o "
        "LEFT JOIN customers c ON c.id = o.customer ORDER BY 1"
    )
    assert every.execute("SELECT * FROM full_orders ORDER BY 1").fetchall() == (
        every.execute(wanted).fetchall()
    )


def test_no_password_is_shown_anywhere(  # noqa: PLR0917
    postgres, every, tmp_path, monkeypatch, capfd, caplog
):
    """The plan, errors, logs and checkpoints hold the name of a secret, and nothing else."""
    every.execute("CREATE TABLE copied (LIKE every INCLUDING ALL)")
    every.execute(
        "DROP ROLE IF EXISTS keeper; CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'hush-hush'"
    )
    host = dict(part.split("=") for part in postgres.dsn.split())
    url = f"postgresql://keeper:hush-hush@{host['host']}:{host['port']}/{host['dbname']}"
    monkeypatch.setenv("PG_URL", url)
    texts = []

    def run(secret_url):
        monkeypatch.setenv("PG_URL", secret_url)
        job = rs.Job("hidden", runtime="local", checkpoint=rs.Checkpointing(tmp_path, every="20ms"))
        source = PostgresSource(
            rs.secret("PG_URL"),
            "every",
            key=["id", "name"],
            schema=pa.schema([("id", pa.int32()), ("name", pa.string())]),
        )
        job.source(source).sink(PostgresSink(rs.secret("PG_URL"), "copied", key=["id", "name"]))
        texts.append(job.explain(physical=True) + job.explain(format="json") + repr(source))
        try:
            job.run(timeout="20s")
        except rs.JobFailed as error:
            texts.append("".join(traceback.format_exception(error)))
            return error
        return None

    assert run(url) is None
    assert every.execute("SELECT count(*) FROM copied").fetchone() == (102,)
    for wrong in (
        url.replace("127.0.0.1", "no.such.host.invalid"),
        url.replace("keeper:", "nobody:"),
        url.replace("hush-hush", "hush-hush@more"),
        url.replace("hush-hush", "hush-hush/more"),
        url.replace("hush-hush", "hush-hush%zz"),
        "hush-hush",
    ):
        monkeypatch.setattr(rs.Restart, "exponential", rs.Restart.none)
        assert run(wrong) is not None
    captured = capfd.readouterr()
    everything = "".join([*texts, captured.out, captured.err, caplog.text])
    assert "PG_URL" in everything
    assert "hush" not in everything
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"hush" not in file.read_bytes(), file
