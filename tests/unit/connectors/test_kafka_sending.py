import pyarrow as pa
import pytest

from raystream.connectors.kafka_commits import send
from raystream.connectors.staged_records import MESSAGES


class Narrow:
    """A producer whose queue holds three messages, and empties while it is waited for."""

    def __init__(self):
        self.sent = []
        self._queue = []

    def produce(self, topic, value, key=None, partition=-1, on_delivery=None, **more):
        if len(self._queue) == 3:
            raise BufferError("the queue is full")
        self._queue.append((topic, value, key, partition, on_delivery, more))

    def poll(self, seconds):
        self.sent += self._queue
        self._queue = []


def messages(count, *, more=False):
    columns = [
        [b"k%d" % n if n % 2 else None for n in range(count)],
        [b"v%d" % n if n % 5 else None for n in range(count)],
        [[{"key": "h", "value": b"x"}] if more and n % 2 else None for n in range(count)],
        [n + 1 if more else None for n in range(count)],
        [n % 3 if n % 4 else None for n in range(count)],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, MESSAGES, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=MESSAGES)


@pytest.mark.parametrize("more", [False, True])
def test_a_full_queue_loses_and_repeats_nothing(more):
    narrow, told = Narrow(), []
    rows = messages(1_300, more=more)
    send(narrow, "t", rows, told.append)
    given = rows.to_pylist()
    wanted = [
        (r["value"], r["key"], -1 if r["partition"] is None else r["partition"]) for r in given
    ]
    assert [(value, key, place) for _, value, key, place, _, _ in narrow.sent] == wanted
    assert all(note == told.append for *_, note, _ in narrow.sent)
    if more:
        assert [said["timestamp"] for *_, said in narrow.sent] == [r["time_ms"] for r in given]
        heads = [said.get("headers", []) for *_, said in narrow.sent]
        assert heads == [[("h", b"x")] if n % 2 else [] for n in range(len(given))]


def test_what_the_client_refuses_is_raised():
    from confluent_kafka import KafkaException, Producer

    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": 1000})
    large = messages(1).set_column(1, "value", pa.array([b"x" * 2000], pa.binary()))
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        send(producer, "t", large)
    producer.purge()
