"""Read topics of Kafka: a split is a partition, its position the offset of the next message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raystream.connectors import kafka_client
from raystream.connectors.kafka_client import REQUEST_S, asked, told
from raystream.connectors.kafka_formats import Metadata, format_of
from raystream.connectors.kafka_reader import BEGINNING, PartitionReader, Stretch
from raystream.connectors.record_formats import Format
from raystream.contracts.source import Reader, Source, Split
from raystream.errors import PlanError, SourceError
from raystream.flow.time import Duration, micros

if TYPE_CHECKING:
    import confluent_kafka as ck

_READING = {
    "queued.max.messages.kbytes": 32_768,  # a consumer a partition: each may hold so much
    # What is ahead of the reader is fetched; what is too far ahead only makes the client ask at the
    # end of a partition again and again, while its rows wait here.
    "queued.min.messages": 20_000,
    "fetch.queue.backoff.ms": 10,  # a full queue is drained at once: a second would be idle time
}
"""What the client is told of reading unless ``options`` say otherwise."""

_STARTS = ("earliest", "latest", "group")


@dataclass(frozen=True, slots=True)
class _Start:
    """Where to begin: a word, or milliseconds since the epoch."""

    word: str
    at_ms: int = 0


class KafkaSource(Source):
    """Read topics; each partition is a split with a watermark and an idleness of its own.

    Guarantee: exactly once; offsets live in the checkpoint, and only what is committed is read
    (``isolation.level`` ``read_committed``). Offsets that a checkpoint covers are committed to
    ``group`` as well, for tools that show a lag; they are never read again but by
    ``start="group"``.

    ``topics`` is a name, a list, or a pattern that begins with ``^``. ``format`` is ``"json"``,
    ``"csv"``, ``"raw"``, ``"text"``, ``"arrow"``, or one of ``kafka.Avro`` and ``kafka.Protobuf``;
    ``schema`` names the columns of the values. Without it JSON makes an object stream, and a
    format that knows its columns gives those. ``key``, ``headers``, ``timestamp``, ``topic``,
    ``partition`` and ``offset`` name columns to be added: the key as bytes (or as what a
    ``pa.field`` says, bytes or string), a list of (key, value) pairs, and the time of the message.

    ``start`` is ``"earliest"``, ``"latest"``, ``"group"`` (where ``group`` has committed, else
    earliest) or a point in time (the first message of that time or later); it is resolved once,
    when a job first starts. ``bounded`` ends each partition where it ends now; ``until`` at the
    first message of that time or later. New partitions and topics are looked for every
    ``discover`` and read from their beginning.

    Messages that cannot be decoded, tombstones among them, follow ``on_error`` of the source: the
    dead letter holds their bytes. ``options`` go to librdkafka; a value may be a ``rs.secret``, or
    a function that is called where a client is opened.

    Raises: PlanError for arguments that do not fit.
    """

    abreast = True

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topics: str | Sequence[str],
        *,
        schema: pa.Schema | None = None,
        format: str | Format = "json",
        start: str | datetime | int = "earliest",
        bounded: bool = False,
        until: datetime | int | None = None,
        group: str | None = None,
        key: str | pa.Field | None = None,
        headers: str | None = None,
        timestamp: str | None = None,
        topic: str | None = None,
        partition: str | None = None,
        offset: str | None = None,
        discover: Duration | None = "30s",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._servers = kafka_client.check_servers(bootstrap_servers)
        self._topics = _topic_names(topics)
        self._format = format_of(format)
        self._start = _start(start, group)
        self._until_ms = None if until is None else micros(until) // 1000
        self._group = group
        self._options = kafka_client.check_options(options)
        columns = self._format.columns(schema)
        self._metadata = Metadata.of(
            columns,
            key=key,
            headers=headers,
            timestamp=timestamp,
            topic=topic,
            partition=partition,
            offset=offset,
        )
        self._columns = columns
        self.schema = self._metadata.schema
        self.bounded = bounded or until is not None
        self.discover_every_us = None
        if discover is not None and not self.bounded:
            self.discover_every_us = micros(discover)
            if self.discover_every_us <= 0:
                raise PlanError(f"KafkaSource(): discover must be positive, got {discover!r}")
        self._tolerant = False
        self._client: ck.Consumer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def splits(self) -> Sequence[Split]:
        partitions = self._partitions()
        starts = self._offsets(partitions, self._start)
        stops: dict[tuple[str, int], int] = {}
        if self.bounded:
            word = "latest" if self._until_ms is None else "time"
            stops = self._offsets(partitions, _Start(word, self._until_ms or 0))
        return [
            _split(topic, partition, starts[topic, partition], stops.get((topic, partition)))
            for topic, partition in partitions
        ]

    def discover(self) -> Sequence[Split]:
        return [
            _split(topic, partition, BEGINNING, None) for topic, partition in self._partitions()
        ]

    def open(self, split: Split, position: Any) -> Reader:
        topic, partition, start, stop = split.payload
        settings = {"group.id": self._group or "raystream", "enable.partition.eof": True}
        options = {**_READING, **self._options}
        stretch = Stretch(topic, partition, start if position is None else position, stop)
        return PartitionReader(
            kafka_client.consumer(self._servers, options, settings),
            stretch,
            self._format.decoder(self._columns),
            self._metadata,
            self._columns,
            tolerant=self._tolerant,
            commits=self._group is not None,
        )

    def tolerating(self) -> Source:
        """Give a source that hands over messages that it cannot decode, and goes on."""
        import copy

        tolerant = copy.copy(self)
        tolerant._tolerant = True  # noqa: SLF001  a copy of this
        return tolerant

    def describe(self) -> str:
        names = ", ".join(self._topics)
        start = self._start.word if self._start.word != "time" else f"{self._start.at_ms} ms"
        end = ", bounded" if self.bounded else ""
        return f"KafkaSource({names} at {self._servers}, {self._format.name}, from {start}{end})"

    def _asking(self) -> ck.Consumer:
        if self._client is None:
            settings = {"group.id": self._group or "raystream"}
            self._client = kafka_client.consumer(self._servers, self._options, settings)
        return self._client

    def _partitions(self) -> list[tuple[str, int]]:
        """List the partitions of the topics.

        Raises: SourceError for a topic that is not there, unless a pattern may find it later.
        """
        what = f"cannot list the topics at {self._servers}"
        asking = self._asking()
        plain = [topic for topic in self._topics if not topic.startswith("^")]
        known = kafka_client.topics(asking, plain, what, SourceError)
        names: dict[str, None] = {}
        for topic in self._topics:
            if topic.startswith("^"):
                found = [name for name in sorted(known.topics) if re.match(topic, name)]
                names |= dict.fromkeys(found)
            elif topic in known.topics:
                names[topic] = None
            else:
                raise SourceError(
                    f'there is no topic "{topic}" at {self._servers}',
                    hint="create it first: a source creates none",
                )
        if self.bounded and not names:
            raise SourceError(f"no topic at {self._servers} matches {', '.join(self._topics)}")
        for name in names:
            if known.topics[name].error is not None:
                error = client_error(known.topics[name].error)
                raise told(f'cannot read the topic "{name}"', SourceError, error)
        return [
            (name, number) for name in names for number in sorted(known.topics[name].partitions)
        ]

    def _offsets(
        self, partitions: Iterable[tuple[str, int]], start: _Start
    ) -> dict[tuple[str, int], int]:
        """Give the offset of each partition that a start means."""
        wanted = list(partitions)
        if start.word == "earliest":
            return dict.fromkeys(wanted, BEGINNING)
        if start.word == "latest":
            return {place: self._end(*place) for place in wanted}
        library, asking = kafka_client.client(), self._asking()
        what = f"cannot find out where to start at {self._servers}"
        if start.word == "group":
            places = [library.TopicPartition(topic, number) for topic, number in wanted]
            found = asked(what, SourceError, lambda: asking.committed(places, timeout=REQUEST_S))
        else:
            places = [library.TopicPartition(*place, start.at_ms) for place in wanted]
            found = asked(
                what, SourceError, lambda: asking.offsets_for_times(places, timeout=REQUEST_S)
            )
        offsets: dict[tuple[str, int], int] = {}
        for one in found:
            if one.error is not None:
                raise told(what, SourceError, client_error(one.error))
            place = (one.topic, one.partition)
            if one.offset >= 0:
                offsets[place] = one.offset
            else:  # the group has none; or no message is as late as that
                offsets[place] = BEGINNING if start.word == "group" else self._end(*place)
        return offsets

    def _end(self, topic: str, partition: int) -> int:
        """Give the offset behind the last message that can be read now."""
        what = f"cannot find out where {topic} ends at {self._servers}"
        place = kafka_client.client().TopicPartition(topic, partition)
        ask = self._asking().get_watermark_offsets
        found = asked(what, SourceError, lambda: ask(place, timeout=REQUEST_S, cached=False))
        if found is None:
            raise SourceError(f"{what}: no answer in {REQUEST_S:.0f} s")
        return int(found[1])


def client_error(error: Any) -> BaseException:
    """Wrap an error that the client gave as a value."""
    raised: BaseException = kafka_client.client().KafkaException(error)
    return raised


def _split(topic: str, partition: int, start: int, stop: int | None) -> Split:
    return Split(f"{topic}-{partition}", (topic, partition, start, stop))


def _topic_names(topics: str | Sequence[str]) -> tuple[str, ...]:
    names: tuple[Any, ...] = (topics,) if isinstance(topics, str) else tuple(topics)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise PlanError(
            f"KafkaSource(): topics is a name, a list or a ^pattern, got {topics!r:.60}"
        )
    for name in names:
        if name.startswith("^"):
            try:
                re.compile(name)
            except re.error as error:
                raise PlanError(f"KafkaSource(): the pattern {name!r} is wrong: {error}") from error
    return names


def _start(start: str | datetime | int, group: str | None) -> _Start:
    if isinstance(start, str):
        if start not in _STARTS:
            raise PlanError(
                f"KafkaSource(): start is one of {', '.join(_STARTS)} or a point in time, "
                f"got {start!r:.60}"
            )
        if start == "group" and group is None:
            raise PlanError('KafkaSource(start="group") needs the name of the group: group=')
        return _Start(start)
    # The first message of that time or later: a millisecond is never cut off at its front.
    return _Start("time", -(-micros(start) // 1000))
