"""Make prepared messages visible in one Kafka transaction, exactly once, whoever does it.

Decision: messages wait outside of Kafka. A transaction of Kafka belongs to the producer that began
it, and librdkafka cannot take up one that another process has prepared: what was flushed into it is
aborted when that process dies. Four ways out were looked at.

1. Finish the transaction of a dead producer by hand, with its producer id and epoch, as Flink does.
   Needs a second client for the protocol (and its TLS and SASL), blocks readers of the topic while
   the job is down, and loses the rows if that is longer than the broker's limit of 15 minutes.
2. Write into a topic of our own first, copy at the commit: twice the traffic, and topics to clean.
3. Commit at once, and take back what came too early: nothing can be taken back.
4. Keep the encoded messages beside the checkpoint, and produce them when it is durable. Chosen: any
   process can do it, as often and as late as it must.

What makes a repeated commit change nothing is a *mark* in the same transaction: the offset of a
group that is named after the writer that prepared the messages (its *run*), which is how many of
its committables are done. It is read before anything is produced, behind ``init_transactions``,
which has ended every other transaction of this ``transactional.id``: so of two processes that
commit at once, one is fenced, looks again, and finds the mark. Marks live as long as the broker
keeps offsets of groups without members (``offsets.retention.minutes``, 7 days by default). A commit
that finds no mark that late is refused: nobody could tell whether it was done.

What would change our mind: a librdkafka that takes up prepared transactions (KIP-939).
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raystream.clock import Clock, SystemClock
from raystream.connectors import kafka_client
from raystream.connectors.kafka_client import GRACE_S, LOG, REQUEST_S, in_time, told
from raystream.connectors.staged_records import Part, messages_of, remove
from raystream.errors import SinkError

if TYPE_CHECKING:
    import confluent_kafka as ck

_TRIES = 4
"""Fenced by another that commits the same, or told by the broker to try again."""

_TRANSACTION_S = 600
"""How long one commit may take; a broker allows 15 minutes unless told otherwise."""

_SILENT_S = 60.0
"""How long a commit goes on where no message arrives; it is tried anew within this time, too."""

_PIECE_S = 5.0

_MARKS_LIVE_US = 6 * 24 * 3600 * 1_000_000
"""Marks live 7 days on the broker by default; the rest is for clocks that differ."""

_PIECE_MESSAGES = 512

_ANY = -1
"""What the client takes for a partition where it is to choose."""

_NO_OFFSET = -1001
"""What the client says where a group has none."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A committable: what a writer has prepared since the one before.

    ``lane`` is the transactional id, ``run`` the writer, ``number`` counts its committables.
    """

    lane: str
    run: str
    number: int
    made_us: int
    parts: tuple[Part, ...]


class Commits:
    """The transactions of one process; each lane has a producer, which is fenced by any other."""

    def __init__(
        self,
        servers: str,
        topic: str,
        options: Mapping[str, Any],
        clock: Clock | None = None,
    ) -> None:
        self._servers = servers
        self._topic = topic
        self._options = options
        self._clock = clock or SystemClock()
        self._lanes: dict[str, _Lane] = {}

    def commit(self, committables: Sequence[Prepared]) -> None:
        """Produce what has not been; remove what was kept for it.

        Raises: SinkError if the cluster does not take it, or if nobody can tell whether it has.
        """
        runs: dict[tuple[str, str], list[Prepared]] = {}
        for one in committables:
            runs.setdefault((one.lane, one.run), []).append(one)
        for (lane, run), some in runs.items():
            self._commit_run(lane, run, sorted(some, key=lambda one: one.number))
            for one in some:
                for part in one.parts:
                    remove(part)

    def close(self) -> None:
        """Let go of the producers."""
        for lane in list(self._lanes):
            self._let_go(lane)

    def _commit_run(self, lane: str, run: str, prepared: list[Prepared]) -> None:
        failure: BaseException | None = None
        library = kafka_client.client()
        until_s = time.monotonic() + _SILENT_S
        for _ in range(_TRIES):
            try:
                found = self._lane(lane, run)
                done = found.done
                left = [one for one in prepared if one.number >= done]
                if not left:
                    return
                if not done:
                    self._check_marked(left[0])
                found.produce(left)
            except library.KafkaException as error:  # noqa: PERF203  a few rounds
                failure = error
                self._let_go(lane)
                LOG.info("commit of %s is tried again: %s", lane, error.args[0].name())
                if not _passing(error.args[0]) or time.monotonic() >= until_s:
                    break
            else:
                return
        assert failure is not None, "a round ends well or with a failure"
        raise told(f'cannot commit to topic "{self._topic}"', SinkError, failure) from failure

    def _lane(self, lane: str, run: str) -> _Lane:
        found = self._lanes.get(lane)
        if found is None or found.run != run:
            self._let_go(lane)
            found = self._lanes[lane] = _Lane(self._servers, self._topic, self._options, lane, run)
        return found

    def _let_go(self, lane: str) -> None:
        found = self._lanes.pop(lane, None)
        if found is not None:
            found.close()

    def _check_marked(self, first: Prepared) -> None:
        """Refuse to commit where a mark should be there, or would have been forgotten.

        Raises: SinkError.
        """
        age_us = self._clock.now_us() - first.made_us
        if first.number or age_us > _MARKS_LIVE_US:
            raise SinkError(
                f'nobody can tell whether rows for topic "{self._topic}", prepared '
                f"{age_us / 86_400e6:.1f} days ago, were committed: Kafka has forgotten",
                hint="look into the topic. To go on without them give the sink another uid, and "
                "allow_dropped_state=True",
            )


class _Lane:
    """One transactional id in this process, and the mark of the run that it commits."""

    def __init__(
        self, servers: str, topic: str, options: Mapping[str, Any], lane: str, run: str
    ) -> None:
        self.run = run
        self._topic = topic
        library = kafka_client.client()
        limits = {"transaction.timeout.ms": _TRANSACTION_S * 1000}
        settings = {"transactional.id": lane}
        self._producer = kafka_client.producer(servers, {**limits, **options}, settings)
        in_time(lambda: self._producer.init_transactions(REQUEST_S), REQUEST_S + GRACE_S)
        group = {"group.id": f"{lane}.{run}"}
        self._marks: ck.Consumer = kafka_client.consumer(servers, of_consumers(options), group)
        try:
            self.done = self._marked()
        except library.KafkaException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of its clients."""
        kafka_client.let_go(self._marks)

    def _marked(self) -> int:
        """Ask how many committables of the run are done. Raises: KafkaException."""
        asked = [self._mark(_NO_OFFSET)]
        (mark,) = in_time(
            lambda: self._marks.committed(asked, timeout=REQUEST_S), REQUEST_S + GRACE_S
        )
        if mark.error is not None:
            raise kafka_client.client().KafkaException(mark.error)
        return max(0, int(mark.offset))

    def _mark(self, offset: int) -> Any:
        # Any partition that is there will do: an offset is kept beside it, none is read by it.
        return kafka_client.client().TopicPartition(self._topic, 0, offset)

    def produce(self, prepared: list[Prepared]) -> None:
        """Produce messages and their mark in one transaction."""
        producer = self._producer
        producer.begin_transaction()
        try:
            for one in prepared:
                for part in one.parts:
                    for messages in messages_of(part):
                        send(producer, self._topic, messages)
            done = prepared[-1].number + 1
            group = self._marks.consumer_group_metadata()
            marks = [self._mark(done)]
            in_time(
                lambda: producer.send_offsets_to_transaction(marks, group, REQUEST_S),
                REQUEST_S + GRACE_S,
            )
            _end_of(producer)
        except (SinkError, kafka_client.client().KafkaException):
            # Readers of the topic wait for a transaction until it ends.
            with contextlib.suppress(kafka_client.client().KafkaException):
                producer.purge()
                in_time(lambda: producer.abort_transaction(REQUEST_S), REQUEST_S + GRACE_S)
            raise
        self.done = done


def _end_of(producer: ck.Producer) -> None:
    """Commit a transaction, for as long as its messages arrive. Raises: KafkaException."""
    start_s = since_s = time.monotonic()
    least = len(producer)
    while True:
        try:
            # In pieces, so that it is seen whether messages arrive. It goes on where it was.
            in_time(lambda: producer.commit_transaction(_PIECE_S), _PIECE_S + GRACE_S)
        except kafka_client.client().KafkaException as error:  # noqa: PERF203  a piece is seconds
            now_s, left = time.monotonic(), len(producer)
            if left < least:
                since_s, least = now_s, left
            late = now_s - since_s >= _SILENT_S or now_s - start_s >= _TRANSACTION_S
            if late or error.args[0].name() != "_TIMED_OUT" or not error.args[0].retriable():
                raise
        else:
            return


def send(
    producer: ck.Producer,
    topic: str,
    messages: pa.RecordBatch,
    note: Callable[[Any, Any], None] | None = None,
) -> None:
    """Hand messages to a producer; waits where it has too many.

    Raises: KafkaException of the client.
    """
    rare = any(messages.column(name).null_count < len(messages) for name in ("headers", "time_ms"))
    hand_over = _each_with_more if rare else _each
    # In pieces whose values are still near when the client copies them.
    for start in range(0, len(messages), _PIECE_MESSAGES):
        piece = messages.slice(start, _PIECE_MESSAGES)
        done = 0
        while done < len(piece):
            done += hand_over(producer, topic, piece.slice(done), note)
            # A full queue empties while we wait.
            producer.poll(0 if done == len(piece) else 0.1)


def _each(producer: ck.Producer, topic: str, messages: pa.RecordBatch, note: Any) -> int:
    """Hand over messages until the queue is full; give how many."""
    left = iter(messages.column("value").to_pylist())
    keys, partitions = messages.column("key"), messages.column("partition")
    given = repeat(None) if keys.null_count == len(keys) else keys.to_pylist()
    places = (
        repeat(_ANY)
        if partitions.null_count == len(partitions)
        else partitions.fill_null(_ANY).to_pylist()
    )
    try:
        # A loop over messages, in C: faster than the client's own batches, which look up each word
        # of a dict a message.
        deque(map(producer.produce, repeat(topic), left, given, places, repeat(note)), maxlen=0)
    except BufferError:
        return len(messages) - length_hint(left) - 1
    return len(messages)


def _each_with_more(producer: ck.Producer, topic: str, messages: pa.RecordBatch, note: Any) -> int:
    """Hand over messages until the queue is full, with times and headers; give how many."""
    produce = producer.produce
    columns = (messages.column(name).to_pylist() for name in messages.schema.names)
    # A loop over messages: what is not there must not be said.
    for done, (key, value, headers, time_ms, partition) in enumerate(zip(*columns, strict=True)):
        more: dict[str, Any] = {"key": key, "on_delivery": note}
        if time_ms is not None:
            more["timestamp"] = time_ms
        if partition is not None:
            more["partition"] = partition
        if headers:
            more["headers"] = [(pair["key"], pair["value"]) for pair in headers]
        try:
            produce(topic, value, **more)
        except BufferError:
            return done
    return len(messages)


def _passing(error: Any) -> bool:
    """Tell whether a new producer may succeed where one has failed."""
    return bool(
        error.fatal() or error.retriable() or error.txn_requires_abort()
    ) or error.name() in {
        "_FENCED",
        "_STATE",
        "_TIMED_OUT",
        "_TRANSPORT",
    }


_OF_PRODUCERS = (
    "transaction.",
    "message.",
    "queue.buffering.",
    "linger",
    "batch.",
    "partitioner",
    "compression",
    "acks",
    "request.required",
    "delivery.",
    "sticky.",
)


def of_consumers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is a producer's: the client warns of it."""
    return {name: v for name, v in options.items() if not name.startswith(_OF_PRODUCERS)}
