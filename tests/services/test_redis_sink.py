"""Keys in Redis follow a stream: what is there is the table, whatever fails in between."""

from __future__ import annotations

import pyarrow as pa
import pytest
from redis_server import PASSWORD, redis_server, running_redis  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import redis

pytestmark = [pytest.mark.services, pytest.mark.slow]

URL = rs.secret("REDIS_URL")
CHANGES = pa.schema({"op": pa.string(), "id": pa.int64(), "v": pa.string()})


def run(rows, sink, schema=None, **settings):
    job = rs.Job("cached", runtime="local", **settings)
    job.from_items(rows, schema=schema).sink(sink)
    return job.run()


def table(client, pattern):
    return {key: client.hgetall(key) for key in client.keys(pattern)}


def test_a_row_is_a_hash_that_is_replaced_whole(redis_server):
    client = redis_server.connect()
    client.set("order:1", "of another kind")
    rows = [{"id": 1, "a": "x", "b": 1.5}, {"id": 1, "a": "y", "b": None}]
    schema = pa.schema({"id": pa.int64(), "a": pa.string(), "b": pa.float64()})
    run(rows, redis.RedisSink(URL, "order:{id}"), schema)
    assert table(client, "*") == {"order:1": {"id": "1", "a": "y"}}


def test_values_are_texts_that_people_read(redis_server):
    schema = pa.schema(
        {
            "id": pa.string(),
            "at": pa.timestamp("us", "UTC"),
            "on": pa.bool_(),
            "tags": pa.list_(pa.string()),
            "raw": pa.binary(),
        }
    )
    rows = [{"id": 'a"\n', "at": 5_000_000, "on": True, "tags": ["x", None], "raw": b"\xff"}]
    run(rows, redis.RedisSink(URL, "o:{id}", ttl="1h"), schema)
    client = redis_server.connect()
    assert table(client, "*") == {
        'o:a"\n': {
            "id": 'a"\n',
            "at": "1970-01-01T00:00:05.000000Z",
            "on": "true",
            "tags": '["x",null]',
            "raw": "/w==",
        }
    }
    assert 3_500 < client.ttl('o:a"\n') <= 3_600


def test_strings_are_a_column_or_the_row(redis_server):
    rows = [{"id": 1, "v": "x"}]
    schema = pa.schema({"id": pa.int64(), "v": pa.string()})
    run(rows, redis.RedisSink(URL, "a:{id}", "string", value="v"), schema)
    run(rows, redis.RedisSink(URL, "b:{id}", "string"), schema)
    client = redis_server.connect()
    assert client.get("a:1") == "x"
    assert client.get("b:1") == '{"id":1,"v":"x"}'


def changes(job, rows, key=("id",)):
    return job.from_items(rows, schema=CHANGES).to_changelog(key=list(key), op="op")


def test_deletes_delete_and_the_last_change_of_a_key_counts(redis_server):
    rows = [
        {"op": "+I", "id": 1, "v": "a"},
        {"op": "+I", "id": 2, "v": "b"},
        {"op": "+I", "id": 3, "v": "c"},
        {"op": "-U", "id": 1, "v": "a"},
        {"op": "+U", "id": 1, "v": "A"},
        {"op": "-D", "id": 2, "v": "b"},
        {"op": "-D", "id": 3, "v": "c"},
        {"op": "+I", "id": 3, "v": "C"},
    ]
    job = rs.Job("cached", runtime="local", config={"batch_rows_max": 3})
    changes(job, rows).sink(redis.RedisSink(URL, "o:{id}"))
    assert "at least once" in job.explain()
    job.run()
    assert table(redis_server.connect(), "*") == {
        "o:1": {"id": "1", "v": "A"},
        "o:3": {"id": "3", "v": "C"},
    }


def test_a_sorted_set_follows_a_table(redis_server):
    rows = [
        {"op": "+I", "id": 1, "v": "3"},
        {"op": "+I", "id": 2, "v": "4.5"},
        {"op": "-D", "id": 1, "v": "3"},
    ]
    job = rs.Job("ranked", runtime="local")
    ranked = changes(job, rows).with_columns(score=rs.col("v").cast(rs.Float64))
    ranked.sink(redis.RedisSink(URL, "top", "sorted_set", member="m{id}", score="score"))
    job.run()
    assert redis_server.connect().zrange("top", 0, -1, withscores=True) == [("m2", 4.5)]


def test_changes_that_come_in_any_order_end_in_the_table(redis_server, tmp_path):
    """A left join hands an order from one subtask to another when its customer changes."""
    orders = pa.schema({"op": pa.string(), "id": pa.int64(), "customer": pa.int64()})
    rows, expected, at = [], {}, {}
    for n in range(3_000):
        id, customer = n % 40, (n * 7) % 11
        if id in at:
            rows.append({"op": "-U", "id": id, "customer": at[id]})
        rows.append({"op": "+U" if id in at else "+I", "id": id, "customer": customer})
        at[id] = customer
        expected[f"order:{id}"] = {"id": str(id), "customer": str(customer)}
        if id % 3 == 0 and n > 2_900:
            rows.append({"op": "-D", "id": id, "customer": customer})
            del at[id], expected[f"order:{id}"]
    names = [{"op": "+I", "id": n, "name": f"c{n}"} for n in range(10)]
    job = rs.Job(
        "joined",
        runtime="local",
        parallelism=3,
        checkpoint=rs.Checkpointing(tmp_path, every="200ms"),
        config={"batch_rows_max": 50},
    )
    left = job.from_items(rows, schema=orders).to_changelog(key=["id"], op="op")
    right = job.from_items(
        names, schema=pa.schema({"op": pa.string(), "id": pa.int64(), "name": pa.string()})
    ).to_changelog(key=["id"], op="op")
    full = left.join(right, left_on="customer", right_on="id", how="left", ttl="forever")
    full.sink(redis.RedisSink(URL, "order:{id}"))
    assert "upserts by id" in job.explain(physical=True)
    job.run()
    for row in expected.values():
        if int(row["customer"]) < 10:
            row["name"] = f"c{row['customer']}"
    client = redis_server.connect()
    found = table(client, "order:*")
    for row in found.values():
        row.pop("id_right", None)
    assert found == expected


@pytest.mark.parametrize("policy", ["skip", "dead_letter"])
def test_bad_rows_follow_the_policy_and_their_neighbours_are_written(redis_server, policy):
    client = redis_server.connect()
    client.set("set:b", "no sorted set")
    schema = pa.schema({"s": pa.string(), "m": pa.string(), "n": pa.float64()})
    rows = [
        {"s": "a", "m": "x", "n": 1.0},
        {"s": None, "m": "x", "n": 1.0},
        {"s": "b", "m": "x", "n": 1.0},
        {"s": "a", "m": "y", "n": None},
        {"s": "a", "m": "z", "n": 2.0},
    ]
    sink = redis.RedisSink(URL, "set:{s}", "sorted_set", member="{m}", score="n")
    job = rs.Job("bad", runtime="local")
    letters = rs.MemorySink()
    written = job.from_items(rows, schema=schema).sink(sink).on_error(policy)
    if policy == "dead_letter":
        written.dead_letters.sink(letters)
    job.run()
    if policy == "dead_letter":
        assert sorted(letter["row"]["m"] for letter in letters.rows) == ["x", "x", "y"]
    assert client.zrange("set:a", 0, -1) == ["x", "z"]
    assert client.get("set:b") == "no sorted set"


def test_a_bad_row_fails_a_job_that_says_nothing_of_it(redis_server):
    rows = [{"id": None}]
    with pytest.raises(rs.JobFailed, match='key column "id" is null'):
        run(rows, redis.RedisSink(URL, "o:{id}"), pa.schema({"id": pa.int64()}))


def test_a_password_is_never_shown(redis_server, monkeypatch, tmp_path, caplog):
    if redis_server.child is None:
        pytest.skip("the password of a server that is not ours is not known")
    sink = redis.RedisSink(URL, "o:{id}")
    job = rs.Job("told", runtime="local", checkpoint=rs.Checkpointing(tmp_path, every="1ms"))
    schema = pa.schema({"id": pa.int64()})
    job.from_items([{"id": 1}], schema=schema).sink(sink)
    shown = [job.explain(), repr(sink), sink.describe()]
    job.run()
    for wrong in ("redis://:{}@127.0.0.1:1/0", "redis://:{}@127.0.0.1:port", "http://u:{}@h"):
        monkeypatch.setenv("REDIS_URL", wrong.format(PASSWORD))
        with pytest.raises((rs.JobFailed, rs.PlanError)) as failed:
            run([{"id": 1}], sink, schema)
        shown.append(str(failed.value))
    monkeypatch.setenv("REDIS_URL", redis_server.url.replace(PASSWORD, PASSWORD + "x"))
    with pytest.raises(rs.JobFailed) as failed:
        run([{"id": 1}], sink, schema)
    shown += [str(failed.value), caplog.text]
    shown += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert PASSWORD not in "\n".join(shown)
    with pytest.raises(rs.PlanError, match="password in it"):
        redis.RedisSink(redis_server.url, "o:{id}")
