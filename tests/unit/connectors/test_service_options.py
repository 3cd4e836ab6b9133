"""What connectors of services refuse when a job is built, and what they show: never a secret."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pyarrow as pa
import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.connectors import elasticsearch, http, mqtt, nats, redis
from raystream.connectors.patience import Patience
from raystream.contracts.sink import commits

SECRET = "s3cret-word"  # noqa: S105
SCHEMA = pa.schema({"id": pa.int64(), "v": pa.string()})
URL = rs.secret("SOME_URL")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: redis.RedisSink(f"redis://:{SECRET}@h", "k"), "password in it"),
        (lambda: redis.RedisSink("http://h", "k"), "no URL of Redis"),
        (lambda: redis.RedisSink(URL, "k", password=SECRET), "rs.secret"),
        (lambda: redis.RedisSink(URL, "k{"), "names no column"),
        (lambda: redis.RedisSink(URL, "k", "list"), "hash, string, sorted_set, stream"),
        (lambda: redis.RedisSink(URL, "k", "hash", score="v"), "no use for score"),
        (lambda: redis.RedisSink(URL, "k", "sorted_set", score="v"), "member= and score="),
        (lambda: redis.RedisSink(URL, "k", "stream", length_max=0), "positive"),
        (lambda: redis.RedisSink(URL, "k", ttl="0s"), "longer than nothing"),
        (lambda: redis.RedisSink(URL, "k", guarantee="never"), "at_least_once, exactly_once"),
        (lambda: redis.RedisStreamSource(URL, []), "streams="),
        (lambda: redis.RedisStreamSource(URL, "s", start="newest"), "earliest, latest or the id"),
        (lambda: redis.RedisStreamSource(URL, "s", SCHEMA, id="v"), "another column"),
        (lambda: redis.RedisStreamSource(URL, "s", lost="pass"), "fail"),
        (lambda: elasticsearch.ElasticsearchSink(f"http://u:{SECRET}@h", "i"), "password in it"),
        (lambda: elasticsearch.ElasticsearchSink(URL, "i", api_key=SECRET), "rs.secret"),
        (lambda: elasticsearch.ElasticsearchSink(URL, ""), "index="),
        (
            lambda: elasticsearch.ElasticsearchSink(URL, "i", guarantee="once").bound(SCHEMA, None),
            "at_least_once, exactly_once",
        ),
        (
            lambda: elasticsearch.ElasticsearchSink(URL, "i", guarantee="exactly_once").bound(
                SCHEMA, None
            ),
            "without ids",
        ),
        (lambda: nats.NatsSink(f"nats://u:{SECRET}@h", "s"), "password in it"),
        (lambda: nats.NatsSink(f"nats://{SECRET}@h", "s"), "user or a token"),
        (lambda: nats.NatsSource(URL, "s", token=SECRET), "rs.secret"),
        (lambda: nats.NatsSource(URL, "s", start=0), "sequence number"),
        (lambda: nats.NatsSource(URL, ""), "stream="),
        (lambda: nats.NatsSource(URL, "s", SCHEMA, subject="v"), "another column"),
        (lambda: mqtt.MqttSource(f"u:{SECRET}@h", "t", client_id="c"), "alone"),
        (lambda: mqtt.MqttSource("h", [], client_id="c"), "topics="),
        (lambda: mqtt.MqttSource("h", "t", client_id=""), "client_id="),
        (lambda: mqtt.MqttSource("h", "t", client_id="c", password=SECRET), "rs.secret"),
        (lambda: http.WebhookSource(0), "1 to 65535"),
        (lambda: http.WebhookSource(80, token=SECRET), "rs.secret"),
        (lambda: http.WebhookSource(80, acknowledge="never"), "checkpoint"),
    ],
)
def test_what_does_not_fit_is_refused_and_no_secret_repeated(make, message):
    with pytest.raises(rs.RaystreamError, match=message) as refused:
        make()
    assert SECRET not in str(refused.value)


def made():
    return [
        redis.RedisSink(URL, "k:{id}", password=rs.secret("OTHER")),
        elasticsearch.ElasticsearchSink(URL, "i", "{id}", api_key=rs.secret("OTHER")),
        http.HttpSink(URL, headers={"Authorization": rs.secret("OTHER")}),
        nats.NatsSink(URL, "s.{id}", password=rs.secret("OTHER")),
    ]


@pytest.mark.parametrize("number", range(4))
def test_plans_hold_names_of_secrets_alone(monkeypatch, number):
    monkeypatch.setenv("SOME_URL", f"redis://u:{SECRET}@h")
    monkeypatch.setenv("OTHER", SECRET)
    sink = made()[number]
    job = rs.Job("plain")
    job.from_items([], schema=SCHEMA).sink(sink)
    shown = job.explain(physical=True) + job.explain(format="json") + repr(sink)
    bound = sink.bound(SCHEMA, None)
    assert "SOME_URL" in shown
    assert SECRET not in shown
    assert SECRET.encode() not in pickle.dumps(sink) + pickle.dumps(bound)
    assert pickle.loads(pickle.dumps(bound)).describe() == bound.describe()


@pytest.mark.parametrize(
    ("sink", "key", "waits"),
    [
        (redis.RedisSink(URL, "k:{id}"), None, False),
        (redis.RedisSink(URL, "k:{id}"), ("id",), False),
        (redis.RedisSink(URL, "k:{v}"), ("id",), True),
        (redis.RedisSink(URL, "k:{id}:{v}"), ("id", "v"), True),
        (redis.RedisSink(URL, "log", "stream"), None, True),
        (elasticsearch.ElasticsearchSink(URL, "i"), None, False),
        (elasticsearch.ElasticsearchSink(URL, "i"), ("id",), False),
        (elasticsearch.ElasticsearchSink(URL, "i", "{v}"), ("id",), True),
        (elasticsearch.ElasticsearchSink(URL, "i-{v}"), ("id",), True),
    ],
)
def test_rows_wait_for_checkpoints_where_their_order_is_not_known(sink, key, waits):
    bound = sink.bound(SCHEMA, key)
    assert commits(bound) == waits
    assert commits(bound.bound(SCHEMA, key)) == waits
    assert bound.retracting == (waits and sink.upserts)


@pytest.mark.parametrize(
    ("sink", "schema", "key", "message"),
    [
        (redis.RedisSink(URL, "k:{no}"), SCHEMA, None, "no column no"),
        (redis.RedisSink(URL, "k"), None, None, "with_schema"),
        (redis.RedisSink(URL, "k", "string", value="no"), SCHEMA, None, "no column no"),
        (elasticsearch.ElasticsearchSink(URL, "i"), SCHEMA, ("id", "v"), "what tells documents"),
        (elasticsearch.ElasticsearchSink(URL, "i", version="v"), SCHEMA, ("id",), "integers"),
        (elasticsearch.ElasticsearchSink(URL, "i", version="id"), SCHEMA, None, "no id for them"),
        (elasticsearch.ElasticsearchSink(URL, "{no}"), SCHEMA, None, "no column no"),
        (nats.NatsSink(URL, "{no}"), SCHEMA, None, "no column no"),
    ],
)
def test_streams_that_do_not_fit_are_refused(sink, schema, key, message):
    with pytest.raises(rs.PlanError, match=message):
        sink.bound(schema, key)


def test_no_library_is_loaded_before_it_is_used():
    code = (
        "import sys; from raystream.connectors import elasticsearch, http, mqtt, nats, redis; "
        "print([m for m in ('redis', 'nats', 'paho', 'elasticsearch') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_server_that_is_away_for_long_fails_the_reader():
    clock = ManualClock()
    patience, error = Patience(clock, 1_000_000), rs.SourceError("away")
    first = patience.failed(error).not_before_us
    assert first == 100_000
    clock.advance(500_000)
    assert patience.failed(error).not_before_us == 700_000
    patience.reached()
    clock.advance(600_000)
    assert patience.failed(error).not_before_us == 1_200_000
    clock.advance(1_000_000)
    with pytest.raises(rs.SourceError, match="away"):
        patience.failed(error)
