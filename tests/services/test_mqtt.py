"""Topics that are subscribed to: acknowledged when kept, sent again when not."""

from __future__ import annotations

import json
import secrets

import pyarrow as pa
import pytest
from mqtt_broker import lasting_broker, mqtt_broker  # noqa: F401  fixtures

import raystream as rs
from raystream.connectors import mqtt

pytestmark = [pytest.mark.services, pytest.mark.slow]

SCHEMA = pa.schema({"n": pa.int64()})


def lines(numbers):
    return [json.dumps({"n": n}).encode() for n in numbers]


@pytest.fixture
def place(mqtt_broker):
    """A topic and a session that no other test has."""
    return f"t/{secrets.token_hex(6)}", secrets.token_hex(6)


def source_of(broker, place, client_id, **settings):
    return mqtt.MqttSource(
        broker.host, place, SCHEMA, client_id=client_id, port=broker.port, **settings
    )


def opened(source):
    """Open a reader, and see that it is subscribed."""
    reader = source.open(source.splits()[0], None)
    silent(reader)
    return reader


def silent(reader):
    """Poll for a second, in which nothing comes and what is to be sent goes out."""
    for _ in range(200):
        assert reader.poll(10) is None


def until(reader, count):
    """Poll until so many rows are there."""
    found = []
    for _ in range(4_000):
        polled = reader.poll(count - len(found))
        found += [] if polled is None else polled.column("n").to_pylist()
        if len(found) >= count:
            return found
    raise AssertionError(f"only {found} came")


def test_what_was_not_in_a_checkpoint_comes_again(mqtt_broker, place):
    source = source_of(mqtt_broker, *place)
    reader = opened(source)
    mqtt_broker.publish(place[0], lines(range(6)))
    assert until(reader, 3) == [0, 1, 2]
    position = reader.position()
    assert until(reader, 3) == [3, 4, 5]
    reader.checkpointed(("of another process", 99))
    reader.checkpointed(position)
    silent(reader)
    reader.close()
    again = source.open(source.splits()[0], position)
    assert until(again, 3) == [3, 4, 5]
    again.checkpointed(again.position())
    silent(again)
    again.close()
    mqtt_broker.publish(place[0], lines([6]))
    last = source.open(source.splits()[0], None)
    assert until(last, 1) == [6]
    last.close()


def test_what_is_acknowledged_when_it_comes_does_not_come_again(mqtt_broker, place):
    source = source_of(mqtt_broker, *place, acknowledge="receipt", topic="from")
    reader = opened(source)
    mqtt_broker.publish(place[0], lines(range(300)))
    rows = []
    while len(rows) < 300:
        polled = reader.poll(50)
        rows += [] if polled is None else polled.to_pylist()
    assert [row["n"] for row in rows] == list(range(300))
    assert {row["from"] for row in rows} == {place[0]}
    reader.close()
    again = opened(source)
    again.close()


def test_a_broker_that_dies_is_connected_to_again(mqtt_broker, place):
    if mqtt_broker.child is None:
        pytest.skip("a broker that is not ours is not killed")
    reader = opened(source_of(mqtt_broker, *place))
    mqtt_broker.child.kill()
    assert reader.poll(1) is None
    mqtt_broker.child.start()
    came = []
    for _ in range(60):
        # Until it is subscribed again nobody keeps messages for it.
        mqtt_broker.publish(place[0], lines([7]))
        polled = reader.poll(1)
        came += [] if polled is None else polled.column("n").to_pylist()
        if came:
            break
        for _ in range(40):
            came += [] if (polled := reader.poll(1)) is None else polled.column("n").to_pylist()
    assert set(came) == {7}
    reader.close()


@pytest.fixture
def restart(mqtt_broker, monkeypatch):
    """Let a broker of our own die and come back; waits until a reader has subscribed again."""
    if mqtt_broker.child is None:
        pytest.skip("a broker that is not ours is not killed")
    return mqtt_broker.restarting(monkeypatch)


def arrived(reader, count):
    """Wait until so many messages are here and not yet given."""
    inbox = reader._inbox
    with inbox._lock:
        assert inbox._lock.wait_for(lambda: len(inbox._queue) == count, 20)


@pytest.mark.parametrize("acknowledge", ["checkpoint", "receipt"])
def test_what_has_come_outlives_a_broker_that_forgets(mqtt_broker, place, restart, acknowledge):
    reader = opened(source_of(mqtt_broker, *place, acknowledge=acknowledge))
    mqtt_broker.publish(place[0], lines(range(7)))
    assert until(reader, 3) == [0, 1, 2]
    arrived(reader, 4)
    restart()
    mqtt_broker.publish(place[0], lines([7]))
    assert until(reader, 5) == [3, 4, 5, 6, 7]
    reader.close()


def test_what_is_acknowledged_late_takes_nothing_of_the_next_connection(
    mqtt_broker, place, restart
):
    """The ids of messages begin anew: an old one would take a message that nobody has kept."""
    source = source_of(mqtt_broker, *place)
    reader = opened(source)
    mqtt_broker.publish(place[0], lines(range(6)))
    assert until(reader, 3) == [0, 1, 2]
    arrived(reader, 3)
    restart()
    mqtt_broker.publish(place[0], lines(range(6, 12)))
    assert until(reader, 3) == [3, 4, 5]
    position = reader.position()
    assert until(reader, 3) == [6, 7, 8]
    reader.checkpointed(position)
    silent_but(reader, [9, 10, 11])
    reader.close()
    again = source.open(source.splits()[0], position)
    assert until(again, 6) == [6, 7, 8, 9, 10, 11]
    again.close()


def silent_but(reader, numbers):
    """Poll for these, and for a second, in which what is to be sent goes out."""
    assert until(reader, len(numbers)) == numbers
    silent(reader)


def test_a_session_on_disk_outlives_broker_and_reader(lasting_broker, place, monkeypatch):
    restart = lasting_broker.restarting(monkeypatch)
    source = source_of(lasting_broker, *place)
    reader = opened(source)
    lasting_broker.publish(place[0], lines(range(6)))
    assert until(reader, 3) == [0, 1, 2]
    reader.checkpointed(reader.position())
    silent_but(reader, [3, 4, 5])
    lasting_broker.save()
    restart()
    # What was not acknowledged comes again, and nobody has to publish it.
    assert until(reader, 3) == [3, 4, 5]
    reader.checkpointed(reader.position())
    silent(reader)
    reader.close()
    lasting_broker.publish(place[0], lines([6]))
    lasting_broker.save()
    lasting_broker.child.kill()
    lasting_broker.child.start()
    again = source.open(source.splits()[0], None)
    assert until(again, 1) == [6]
    again.close()


def test_messages_that_cannot_be_read_follow_the_policy(mqtt_broker, place):
    reader = opened(source_of(mqtt_broker, *place).tolerating())
    mqtt_broker.publish(place[0], [*lines([1]), b"\xff", b"", *lines([2])])
    rows, broken = [], []
    while len(rows) + len(broken) < 4:
        polled = reader.poll(10)
        if isinstance(polled, rs.Batch):
            broken += [raw for raw, _ in polled.unreadable]
            polled = polled.rows
        rows += [] if polled is None else polled.column("n").to_pylist()
    assert rows == [1, 2]
    assert broken == [b"\xff", b""]
    reader.close()


def test_a_broker_that_is_not_there_is_named(mqtt_broker):
    source = mqtt.MqttSource("127.0.0.1", "t", SCHEMA, client_id="c", port=1)
    with pytest.raises(rs.JobFailed, match="no broker answers at 127.0.0.1:1"):
        rs.Job("none", runtime="local").source(source).collect(limit=1)
