"""Changes of a table, as the reader gives them: the table they make is always the server's."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from postgres_server import postgres, running_postgres  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors.postgres import PostgresCdcSource
from raystream.contracts.source import END, Later

pytestmark = [pytest.mark.services, pytest.mark.slow]

psycopg = pytest.importorskip("psycopg")

ROUNDS_MAX = 3_000


def read(reader, rows_max=7):
    """Poll once; give (op, row) pairs."""
    polled = reader.poll(rows_max)
    assert polled is not END
    if polled is None or isinstance(polled, Later):
        return []
    return list(zip(polled.ops or ["+I"] * len(polled), polled.to_pylist(), strict=True))


def until(reader, done, changes, rows_max=7):
    """Read on until what was read makes ``done`` true."""
    for _ in range(ROUNDS_MAX):
        if done(changes):
            return changes
        changes += read(reader, rows_max)
    raise AssertionError(f"not there after {len(changes)} changes: {changes[-3:]}")


def table_of(changes, key="id"):
    """Apply changes strictly: nothing is brought twice, nothing taken back that is not there."""
    table = {}
    for op, row in changes:
        if op == "+I":
            assert row[key] not in table, f"{row} came twice"
            table[row[key]] = row
        elif op == "+U":
            assert row[key] in table, f"{row} was not there"
            table[row[key]] = row
        elif op == "-D":
            assert row[key] in table, f"{row} was not there"
            del table[row[key]]
        else:
            assert table[row[key]] == row, "an update takes back what was there"
    return table


def rows_in(connection, table="things"):
    cursor = connection.execute(f"SELECT * FROM {table}")
    names = [column.name for column in cursor.description]
    return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}


def mutate(connection, chance, count, keys=40):
    """Change rows at random, in transactions of several; keys change, too."""
    for _ in range(count):
        with connection.transaction(force_rollback=chance.random() < 0.1):
            for _ in range(chance.randint(1, 5)):
                key, other = chance.randrange(keys), chance.randrange(keys)
                value = chance.choice([None, "", "x", 'a,\n"b'])
                match chance.randrange(4):
                    case 0 | 1:
                        connection.execute(
                            "INSERT INTO things VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE "
                            "SET v = EXCLUDED.v, n = EXCLUDED.n",
                            [key, value, chance.randrange(100)],
                        )
                    case 2:
                        connection.execute("DELETE FROM things WHERE id = %s", [key])
                    case _:
                        connection.execute(
                            "UPDATE things SET id = %s WHERE id = %s AND NOT EXISTS "
                            "(SELECT 1 FROM things WHERE id = %s)",
                            [other, key, other],
                        )


def finish(reader, connection, changes):
    """Write a last row and read up to it: then everything before it was read."""
    connection.execute("INSERT INTO things VALUES (1000000, 'end', 0)")
    return until(reader, lambda c: bool(c) and c[-1][1]["id"] == 1000000, changes)


@pytest.fixture
def things(postgres):
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE things (id int PRIMARY KEY, v text, n int)")
        connection.execute("CREATE TABLE others (id int PRIMARY KEY)")
        yield connection


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
@pytest.mark.parametrize("seed", range(4))
def test_snapshot_and_changes_make_the_table_whatever_happens_meanwhile(
    postgres,
    things,
    identity,
    seed,
):
    chance = random.Random(seed)
    things.execute(f"ALTER TABLE things REPLICA IDENTITY {identity}")
    mutate(things, chance, 30)
    source = PostgresCdcSource(postgres.dsn, "things")
    (split,) = source.splits()
    reader = source.open(split, None)
    changes, kept = [], (None, 0)
    for _ in range(40):
        mutate(things, chance, chance.randrange(3))
        changes += read(reader, chance.choice([1, 3, 10]))
        if chance.random() < 0.3:
            kept = (reader.position(), len(changes))
        if chance.random() < 0.2:
            reader.checkpointed(kept[0]) if kept[0] is not None else None
        if chance.random() < 0.25:  # a crash: what came since is read again
            reader.close()
            position, count = kept
            del changes[count:]
            reader = source.open(split, position)
    finish(reader, things, changes)
    reader.close()
    assert table_of(changes) == rows_in(things)
    if identity == "FULL":
        assert {op for op, _ in changes} >= {"-U", "+U"}


def test_it_knows_the_table_where_the_job_is_built(postgres, things):
    source = PostgresCdcSource(postgres.dsn, "things")
    assert source.schema == pa.schema([("id", pa.int32()), ("v", pa.string()), ("n", pa.int32())])
    stream = rs.Job("known").source(source)
    assert stream.changelog == ("id",)


def test_a_server_that_is_killed_is_read_on(postgres, things):
    if postgres.folder is None:
        pytest.skip("the server is not ours to kill")
    things.execute("INSERT INTO things SELECT g, 'v', g FROM generate_series(1, 20) AS g")
    source = PostgresCdcSource(postgres.dsn, "things")
    reader = source.open(source.splits()[0], None)
    changes = read(reader)
    postgres.kill()
    changes += read(reader)
    postgres.control("start")
    with postgres.connect() as again:
        until(reader, lambda c: len(c) >= 20, changes)
        again.execute("UPDATE things SET v = 'w' WHERE id = 3")
        until(reader, lambda c: len(c) >= 21, changes)
        postgres.kill()
        postgres.control("start")
    with postgres.connect() as again:
        finish(reader, again, changes)
        assert table_of(changes) == rows_in(again)
    reader.close()


def test_the_server_forgets_only_behind_a_checkpoint(postgres, things):
    def confirmed():
        return things.execute(
            "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots"
        ).fetchone()[0]

    source = PostgresCdcSource(postgres.dsn, "things")
    reader = source.open(source.splits()[0], None)
    read(reader)
    before = confirmed()
    changes = finish(reader, things, [])
    position = reader.position()
    read(reader)
    assert confirmed() == before
    reader.checkpointed(position)
    for _ in range(ROUNDS_MAX):
        read(reader)
        if confirmed() != before:
            break
    assert confirmed() == position[1]
    reader.close()
    assert [row["v"] for _, row in changes] == ["end"]


def test_a_truncate_and_a_lost_slot_are_told(postgres, things):
    source = PostgresCdcSource(postgres.dsn, "things")
    reader = source.open(source.splits()[0], None)
    read(reader)
    finish(reader, things, [])
    position = reader.position()
    things.execute("TRUNCATE things")
    with pytest.raises(rs.ConfigError, match="was truncated"):
        until(reader, lambda _: False, [])
    reader.close()
    for _ in range(ROUNDS_MAX):
        try:
            things.execute("SELECT pg_drop_replication_slot('raystream_things')")
            break
        except psycopg.Error:
            things.execute("SELECT pg_sleep(0.05)")
    with pytest.raises(rs.RestoreRefused, match=r"slot raystream_things is gone(.|\n)*anew|again"):
        source.open(source.splits()[0], position).poll(10)


def test_an_older_position_than_the_slot_has_is_refused(postgres, things):
    source = PostgresCdcSource(postgres.dsn, "things")
    reader = source.open(source.splits()[0], None)
    read(reader)
    old = reader.position()
    finish(reader, things, [])
    things.execute("INSERT INTO things VALUES (7)")  # behind it the first one is complete
    until(reader, bool, [])
    reader.checkpointed(reader.position())
    told = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots"
    for _ in range(ROUNDS_MAX):
        read(reader)
        if things.execute(told).fetchone()[0] > old[1]:
            break
    reader.close()
    with pytest.raises(rs.RestoreRefused, match="has moved on"):
        until(source.open(source.splits()[0], old), lambda _: False, [])


def test_values_out_of_line_are_told_or_the_row_fails(postgres, things):
    things.execute("ALTER TABLE things ALTER v SET STORAGE EXTERNAL")
    things.execute("INSERT INTO things VALUES (1, repeat('x', 9000), 0)")
    source = PostgresCdcSource(postgres.dsn, "things").tolerating()
    reader = source.open(source.splits()[0], None)
    changes = until(reader, lambda c: len(c) == 1, [])
    read(reader)
    things.execute("UPDATE things SET n = 1 WHERE id = 1")
    batch = None
    for _ in range(ROUNDS_MAX):
        batch = reader.poll(10)
        if batch is not None:
            break
    ((raw, error),) = batch.unreadable
    assert raw["id"] == "1"
    assert "REPLICA IDENTITY FULL" in str(error)
    things.execute("ALTER TABLE things REPLICA IDENTITY FULL")
    things.execute("UPDATE things SET n = 2 WHERE id = 1")
    until(reader, lambda c: len(c) == 3, changes)
    assert [(op, len(row["v"]), row["n"]) for op, row in changes[1:]] == [
        ("-U", 9000, 1),
        ("+U", 9000, 2),
    ]
    reader.close()


def test_a_key_that_deletes_do_not_tell_is_refused(postgres, things):
    with pytest.raises(rs.PlanError, match="REPLICA IDENTITY FULL"):
        PostgresCdcSource(postgres.dsn, "things", key="v")


def test_keys_of_several_columns_and_texts_are_in_order(postgres, things):
    things.execute(
        "CREATE TABLE texts (a text, b numeric, PRIMARY KEY (a, b));"
        "INSERT INTO texts SELECT chr(64 + g % 60), g FROM generate_series(1, 300) AS g"
    )
    source = PostgresCdcSource(postgres.dsn, "texts")
    (split,) = source.splits()
    changes, position = [], None
    for _ in range(60):
        reader = source.open(split, position)
        changes += read(reader)
        position = reader.position()
        reader.close()
        things.execute("UPDATE texts SET b = b + 1000 WHERE b = (SELECT min(b) FROM texts)")
    things.execute("INSERT INTO texts VALUES ('end', 0)")
    until(reader := source.open(split, position), lambda c: c[-1][1]["a"] == "end", changes)
    reader.close()
    left = set()
    for op, row in changes:
        key = (row["a"], row["b"])
        assert (key in left) == (op in {"-D", "+U"}), f"{op} {key}"
        (left.discard if op == "-D" else left.add)(key)
    assert left == set(things.execute("SELECT * FROM texts").fetchall())
    assert len(left) == 301
