"""Read one partition from an offset on, a batch of messages at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import repeat
from operator import is_not
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raystream.connectors import kafka_client
from raystream.connectors.kafka_client import GRACE_S, LOG, Call, told
from raystream.connectors.kafka_formats import Metadata, Taken
from raystream.connectors.record_formats import Decode, Found
from raystream.contracts.batch import Batch
from raystream.contracts.source import END, Polled, Reader
from raystream.errors import RaystreamError, SourceError
from raystream.flow.element import Status

if TYPE_CHECKING:
    import confluent_kafka as ck

_WAIT_S = 0.005
"""How long a poll waits for messages that are known to be there: other splits wait, too."""

_LOOK_FOR_S = 1.0
"""How long a reader looks where its partition begins, before it leaves that to the client."""

_WAIT_AT_END_S = 0.001
"""How long it waits for new ones: many partitions may be silent, and each is asked in turn."""

_PIECE_MESSAGES = 512
"""Messages that are taken at once: fewer than make the collector of garbage look at them."""

_SILENT_S = 60.0
"""How long the end of a bounded partition may stay out of reach."""

_LOOK_S = 1.0
"""What counts of it between two polls: a process that was asleep has not waited."""

_PASSING = frozenset(
    {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "_MSG_TIMED_OUT"}
)
"""What the client goes on trying by itself."""


BEGINNING = -2
"""The offset that Kafka takes for the oldest message there is."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A partition from one offset up to another, or without end."""

    topic: str
    partition: int
    start: int
    stop: int | None


class PartitionReader(Reader):
    """Gives the messages of one partition; its position is the offset of the next one."""

    def __init__(
        self,
        client: ck.Consumer,
        stretch: Stretch,
        decode: Decode,
        metadata: Metadata,
        columns: pa.Schema | None,
        *,
        tolerant: bool,
        commits: bool,
    ) -> None:
        self._client = client
        self._stretch = stretch
        self._decode = decode
        self._metadata = metadata
        self._columns = columns
        self._tolerant = tolerant
        self._commits = commits
        self._next = stretch.start
        self._end = -1  # up to where nothing is left to be read
        self._at_end = False
        self._silent_s = 0.0
        self._polled_s = time.monotonic()
        self._ended = stretch.stop is not None and 0 <= stretch.stop <= stretch.start
        self._looking = self._looked() if stretch.start == BEGINNING else None
        self._look_until_s = self._polled_s + _LOOK_FOR_S
        self._reads = self._looking is None
        if self._reads:
            client.assign([self._place(stretch.start)])

    def poll(self, max_rows: int) -> Polled:
        if self._ended:
            return END
        if not self._reads and not self._begun():
            return Status(idle=False)
        # Asked for many, the client waits for all: so for one first, then for what is there.
        asked, wait_s = 1, _WAIT_AT_END_S if self._at_end else _WAIT_S
        taken = self._metadata.taken()
        while asked > 0 and not self._ended:
            came = self._client.consume(asked, wait_s)
            taken.take(self._sorted_out(came))
            if len(came) < asked:
                break
            asked, wait_s = min(_PIECE_MESSAGES, max_rows - len(taken)), 0
        if not len(taken):
            if self._ended:
                return END
            if self._stretch.stop is not None:
                self._check_silence(self._stretch.stop)
            # Only who has read all there is can tell that nothing comes: others wait for brokers.
            return None if self._at_end else Status(idle=False)
        self._silent_s = 0.0
        self._next = taken.offsets[-1] + 1
        found = self._metadata.found(taken, self._decode, self._columns)
        if not found.broken:
            return found.rows
        return self._with_broken(taken, found)

    def position(self) -> int:
        return self._next

    def backlog(self) -> int | None:
        """Tell how many offsets lie between here and the end that the client was told of last.

        Nobody is asked. Marks of transactions are among them, and what was compacted away.
        """
        read, stop = max(self._next, self._end), self._stretch.stop
        if self._ended:
            return 0
        if read < 0:  # where the beginning is, the first message says
            return None
        end = self._known_end() if stop is None else stop
        return None if end is None else max(0, end - read)

    def checkpointed(self, position: Any) -> None:
        """Tell the group how far the job has come, for those who watch its lag."""
        if self._commits and position >= 0:
            self._client.commit(offsets=[self._place(position)], asynchronous=True)

    def close(self) -> None:
        if self._looking is not None:  # it must not outlive its client
            self._looking.join(_LOOK_FOR_S + GRACE_S)
        kafka_client.let_go(self._client)

    def _looked(self) -> Call:
        """Ask where the partition begins, without waiting for it.

        A client that is told to begin at the beginning asks before it has a connection, and asks
        again half a second later.
        """
        place = self._place(BEGINNING)
        looking = Call(lambda: self._client.get_watermark_offsets(place, timeout=_LOOK_FOR_S))
        looking.start()
        return looking

    def _begun(self) -> bool:
        """Begin to read where that is known, or nobody has said it for too long."""
        looking = self._looking
        assert looking is not None, "who reads not yet looks where to begin"
        looking.join(_WAIT_S)
        self._reads = not looking.is_alive() or time.monotonic() >= self._look_until_s
        if self._reads:
            first = BEGINNING if looking.result is None else int(looking.result[0])
            self._client.assign([self._place(first)])
        return self._reads

    def _check_silence(self, stop: int) -> None:
        """See that what is to come may still come. Raises: SourceError."""
        now_s = time.monotonic()
        self._silent_s += min(now_s - self._polled_s, _LOOK_S)
        self._polled_s = now_s
        if self._silent_s < _SILENT_S:
            return
        if self._at_end:
            raise SourceError(
                f"{self._named()} ends at offset {self._end}, before {stop}, where it ended when "
                "the job started",
                hint="have brokers lost messages? A job that starts anew looks again where it ends",
            )
        raise SourceError(
            f"{self._named()}: nothing has come for {_SILENT_S:.0f} s, and offset {stop} is not "
            "reached",
            hint="is the cluster up?",
        )

    def _known_end(self) -> int | None:
        """Give the offset behind the last message, as the last answer of a broker said it."""
        try:
            _, end = self._client.get_watermark_offsets(self._place(self._next), cached=True)
        except kafka_client.client().KafkaException:  # no broker has answered yet
            return None
        return None if end < 0 else int(end)

    def _place(self, offset: int) -> ck.TopicPartition:
        place: ck.TopicPartition = kafka_client.client().TopicPartition(
            self._stretch.topic, self._stretch.partition, offset
        )
        return place

    def _sorted_out(self, came: list[Any]) -> list[Any]:
        """Give the messages that are to be read; note an end, pass over what passes."""
        stop = self._stretch.stop
        # A loop over messages, in C. By identity: an error of the client bears no comparison.
        if not any(map(is_not, map(kafka_client.client().Message.error, came), repeat(None))):
            errors, messages = [], came
        else:
            errors = [message for message in came if message.error() is not None]
            messages = [message for message in came if message.error() is None]
        self._at_end = self._at_end and not messages
        for message in errors:
            error = message.error()
            if error.name() == "_PARTITION_EOF":
                # Behind the last message there may be marks of transactions, which have offsets.
                self._at_end = True
                # Nor can be read what a transaction has written that is still open.
                self._end = max(message.offset(), self._known_end() or 0)
                self._ended = self._ended or (stop is not None and message.offset() >= stop)
            elif error.name() in _PASSING and not error.fatal():
                LOG.warning("%s: %s", self._named(), error.str())
            else:
                failed = kafka_client.client().KafkaException(error)
                raise told(f"cannot read {self._named()}", SourceError, failed) from failed
        if stop is not None and messages and messages[-1].offset() >= stop - 1:
            self._ended = True
            messages = [message for message in messages if message.offset() < stop]
        return messages

    def _with_broken(self, taken: Taken, found: Found) -> Batch:
        told_of = [
            (taken.values[place], self._at(taken.offsets[place], error))
            for place, error in found.broken
        ]
        if not self._tolerant:
            raise told_of[0][1]
        return Batch(found.rows, unreadable=told_of)

    def _at(self, offset: int, error: RaystreamError) -> SourceError:
        at = SourceError(
            f"{self._named()}, offset {offset}: {error.message}",
            hint=error.hint
            or '.on_error("skip") or .on_error("dead_letter") of the source goes on without it',
        )
        at.__cause__ = error.__cause__
        return at

    def _named(self) -> str:
        return f"topic {self._stretch.topic}, partition {self._stretch.partition}"
