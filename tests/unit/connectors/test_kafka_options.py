"""What is refused when a job is built, what a plan shows, and that no secret is in it."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pyarrow as pa
import pytest

import raystream as rs
from raystream.connectors import kafka, kafka_client
from raystream.contracts.sink import commits

SCHEMA = pa.schema({"n": pa.int64()})
SECRET = "s3cret-password"  # noqa: S105


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "xml"}, "unknown format 'xml'"),
        ({"format": 5}, "unknown format 5"),
        ({"format": "csv"}, "schema= gives them"),
        ({"format": "arrow"}, "need schema="),
        ({"format": "raw", "schema": SCHEMA}, "one binary column"),
        ({"start": "newest"}, "earliest, latest, group or a point in time"),
        ({"start": "group"}, "group="),
        ({"schema": SCHEMA, "key": "n"}, 'key="n"'),
        ({"schema": SCHEMA, "key": "k", "headers": "k"}, 'headers="k"'),
        ({"key": pa.field("k", pa.float64())}, "not as double"),
        ({"discover": "0s"}, "discover must be positive"),
        ({"options": {"group.id": "g"}}, "group="),
        ({"options": {"enable.auto.commit": True}}, "positions live in checkpoints"),
    ],
)
def test_settings_of_a_source_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(rs.PlanError, match=message):
        kafka.KafkaSource("b:9092", "t", **settings)


@pytest.mark.parametrize("topics", [[], "", ["a", ""], [1], "^("])
def test_topics_are_names_or_a_pattern(topics):
    with pytest.raises(rs.PlanError, match="topics|pattern"):
        kafka.KafkaSource("b:9092", topics)


@pytest.mark.parametrize("servers", ["", [], None, 9092, f"user:{SECRET}@b:9092"])
def test_addresses_are_hosts_without_passwords(servers):
    with pytest.raises(rs.PlanError) as refused:
        kafka.KafkaSource(servers, "t")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guarantee": "most_once"}, "exactly_once, at_least_once"),
        ({"topic": "^t"}, "one topic"),
        ({"format": "xml"}, "unknown format"),
        ({"options": {"transactional.id": "x"}}, "transactional_id="),
    ],
)
def test_settings_of_a_sink_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(rs.PlanError, match=message):
        kafka.KafkaSink(**{"bootstrap_servers": "b:9092", "topic": "t", **settings})


def test_a_sink_says_what_it_guarantees():
    once = kafka.KafkaSink("b:9092", "t")
    least = kafka.KafkaSink("b:9092", "t", guarantee="at_least_once")
    assert commits(once)
    assert not commits(least)
    assert all(isinstance(one, kafka.KafkaSink) for one in (once, least))
    for one in (once, least):
        again = pickle.loads(pickle.dumps(one))
        assert (type(again), again.describe()) == (type(one), one.describe())


def test_a_plan_shows_addresses_and_no_secret():
    options = {"sasl.username": "u", "sasl.password": SECRET}
    source = kafka.KafkaSource(["a:1", "b:2"], "^t", schema=SCHEMA, start=0, options=options)
    job = rs.Job("shown", checkpoint="memory://shown")
    job.source(source).sink(kafka.KafkaSink("a:1", "t", key="n", options=options))
    shown = "".join(job.explain(physical=p, format=f) for p in (0, 1) for f in ("text", "json"))
    assert "KafkaSource(^t at a:1,b:2, json, from 0 ms)" in shown
    assert "KafkaSink(t at a:1, json) by n, exactly once" in shown
    assert SECRET not in shown


def test_an_option_may_be_read_where_the_client_is_opened(monkeypatch):
    monkeypatch.setenv("KAFKA_PASSWORD", SECRET)

    class File:
        def read(self):
            return SECRET

    options = {"sasl.password": lambda: SECRET, "ssl.key.password": File(), "linger.ms": 5}
    options["ssl.keystore.password"] = rs.secret("KAFKA_PASSWORD")
    assert kafka_client.opened(options) == {
        "sasl.password": SECRET,
        "ssl.keystore.password": SECRET,
        "ssl.key.password": SECRET,
        "linger.ms": 5,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"sasl.password": SECRET, "no.such.setting": SECRET},
        {"sasl.password": SECRET, "linger.ms": SECRET},
        {"ssl.key.pem": SECRET, "security.protocol": "ssl"},
    ],
)
def test_what_the_client_refuses_is_told_without_secrets(options):
    pytest.importorskip("confluent_kafka")
    source = kafka.KafkaSource("127.0.0.1:1", "t", schema=SCHEMA, bounded=True, options=options)
    with pytest.raises(rs.RaystreamError) as refused:
        source.splits()
    story = f"{refused.value}{refused.value.__cause__!r}{refused.value.__context__!r}"
    assert SECRET not in story


def test_the_connector_is_there_without_the_client():
    code = (
        "import sys; sys.modules['confluent_kafka'] = None; import raystream as rs\n"
        "from raystream.connectors import kafka\n"
        "source = kafka.KafkaSource('a:1', 't')\n"
        "try: source.splits()\n"
        "except rs.ConfigError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "pip install 'raystream[kafka]'" in done.stdout, done.stderr
