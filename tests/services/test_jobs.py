"""The jobs that people run, beside the real systems that they speak to."""

from __future__ import annotations

import json
import os
from operator import itemgetter

import pytest
from chaos import CHAOS_S, SETTLED_S, SYNC, Process, chaos, ended, settle, started
from goldens import load
from servers import Missing, servers
from synced import Stores

import raystream as rs
from raystream.connectors import kafka

FRAUD = load("jobs/fraud_alerts.py")


by_amount = itemgetter("card", "amount")
in_time = itemgetter("time")


# fraud_alerts ------------------------------------------------------------------------------------


def test_alerts_go_from_topic_to_topic_once(broker, tmp_path):
    source, target = broker.topic(1), broker.topic(2)
    charges = [FRAUD.charge(number) for number in range(600)]
    broker.write(source, [json.dumps(row).encode() for row in charges])
    words = ("--kafka", broker.servers, "--topics", source, target, "--bounded")
    words += ("--checkpoint", str(tmp_path / "kept"))
    job = started("jobs/fraud_alerts.py", *words, env={}, log=tmp_path / "log")
    assert ended(job, 100) == 0
    job = rs.Job("alone")
    times = rs.WatermarkStrategy("time", out_of_orderness="5s")
    wanted = FRAUD.fraud(job.from_items(charges, schema=FRAUD.CHARGE, watermark=times)).collect()
    found = [json.loads(message.value()) for message in broker.read(target)]
    assert len(found) > 5
    assert sorted(found, key=by_amount) == sorted(wanted, key=by_amount)


def test_made_up_charges_fill_a_topic(broker):
    topic = broker.topic(2)
    FRAUD.fill(broker.servers, topic, 100, {})
    charges = [json.loads(message.value()) for message in broker.read(topic)]
    assert sorted(charges, key=in_time) == sorted(map(FRAUD.charge, range(100)), key=in_time)
    source = kafka.KafkaSource(broker.servers, topic, schema=FRAUD.CHARGE, bounded=True)
    assert len(rs.Job("back").source(source).collect()) == 100


# sync_stores -------------------------------------------------------------------------------------


@pytest.fixture
def shop(monkeypatch):
    """PostgreSQL, Redis and a search index with nothing in them but the tables of the shop."""
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    try:
        with servers("postgres", "redis", "search") as (environment, running):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            SYNC.make_tables()
            yield environment, running
    except Missing as missing:
        pytest.skip(str(missing))


def test_stores_follow_the_shop_and_deletes_too(shop, tmp_path):
    environment, _ = shop
    import psycopg

    stores, job = Stores(environment), Process(environment, tmp_path)
    try:
        with psycopg.connect(environment["PG_DSN"], autocommit=True) as connection:
            for change in SYNC.changes(600, 3):
                SYNC.write(connection, change)
            assert settle(stores, job) == {}
            assert len(stores.source()) > 50
            connection.execute("DELETE FROM orders WHERE id % 2 = 0")
            connection.execute("UPDATE customers SET city = 'Ulm'")
            assert settle(stores, job) == {}
            assert {row[-1] for row in stores.index().values()} <= {"Ulm", None}
    finally:
        job.end()


@pytest.mark.skipif(
    "RAYSTREAM_CHAOS_S" not in os.environ,
    reason="minutes of kills: RAYSTREAM_CHAOS_S says how many seconds",
)
@pytest.mark.timeout(CHAOS_S + SETTLED_S + 120)
def test_stores_equal_the_shop_whoever_is_killed(shop, tmp_path):
    """``RAYSTREAM_CHAOS_S=300`` makes it five minutes."""
    environment, running = shop
    job = Process(environment, tmp_path)
    try:
        chaos(environment, running, job)
    finally:
        job.end()
