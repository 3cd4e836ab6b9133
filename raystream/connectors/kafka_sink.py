"""Write to a topic of Kafka: exactly once by transactions, or at least once and at once."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from typing_extensions import Self

from raystream.clock import SystemClock
from raystream.connectors import kafka_client
from raystream.connectors.json_texts import json_values
from raystream.connectors.kafka_client import REQUEST_S, told
from raystream.connectors.kafka_commits import Commits, Prepared, send
from raystream.connectors.kafka_formats import HEADERS, format_of
from raystream.connectors.record_formats import Encode, Format, Rows
from raystream.connectors.staged_records import MESSAGES, Folder, Staging, remove
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.errors import PlanError, SinkError
from raystream.flow.batch import NO_TIME, Int64s

_GUARANTEES = ("exactly_once", "at_least_once")
_MESSAGE_BYTES_MAX = 1_000_000
"""What a client sends at most unless ``message.max.bytes`` says otherwise; Kafka's own default."""

_OVERHEAD_BYTES = 512
"""What a message needs beside its key and value, generously."""

_FLUSH_S = 1.0


class KafkaSink(Sink):
    """Write each row as a message.

    Guarantee: exactly once, for consumers that read with ``isolation.level=read_committed``; the
    rows of a checkpoint appear together, per subtask, once it is durable. Until then they wait in
    files beside the checkpoints (or in ``staging``, a folder that every node reaches), and a
    repeated commit changes nothing: see ``kafka_commits``. A job may stand still between a
    checkpoint and its commit for as long as the broker keeps offsets, 7 days by default.
    ``guarantee="at_least_once"`` writes at once and waits for the cluster at each checkpoint: a
    recovery repeats what came behind it.

    ``format`` is ``"json"``, ``"csv"``, ``"raw"``, ``"text"``, ``"arrow"`` (a stream a row),
    ``kafka.Avro`` or ``kafka.Protobuf``. ``key`` names the columns of the key, which stay in the
    value unless ``key_in_value=False``: one of text or bytes as it is, anything else as JSON.
    ``headers``, ``timestamp`` and ``partition`` name columns that are taken out of the value; the
    time of a message is otherwise the row's event time, if it has one. Where no ``partition`` is
    given the key chooses it, as Java clients do.

    ``transactional_id`` begins the transactional ids and groups of this sink: no two sinks that run
    at once may share it. ``options`` go to librdkafka as in ``KafkaSource``.

    Raises: PlanError for arguments that do not fit.
    """

    def __new__(cls, *_: Any, guarantee: str = "exactly_once", **__: Any) -> Self:
        """Make the kind of sink that the guarantee asks for: only one of them has a commit."""
        if cls is not KafkaSink:
            return super().__new__(cls)
        kind = _Immediate if guarantee == "at_least_once" else _Transactions
        return cast("Self", super().__new__(kind))  # a KafkaSink as well

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        topic: str,
        *,
        format: str | Format = "json",
        key: str | Sequence[str] | None = None,
        key_in_value: bool = True,
        headers: str | None = None,
        timestamp: str | None = None,
        partition: str | None = None,
        guarantee: str = "exactly_once",
        transactional_id: str | None = None,
        staging: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if guarantee not in _GUARANTEES:
            raise PlanError(
                f"KafkaSink(): guarantee is one of {', '.join(_GUARANTEES)}, got {guarantee!r:.60}"
            )
        self._servers = kafka_client.check_servers(bootstrap_servers)
        self._topic = _topic_name(topic)
        self._options = kafka_client.check_options(options)
        keys = (key,) if isinstance(key, str) else tuple(key or ())
        self._columns = _Columns(keys, headers, timestamp, partition, key_in_value)
        self._format = format_of(format)
        # Every sink is another one; what a checkpoint has prepared brings the lane it belongs to.
        self._prefix = transactional_id or f"raystream-{topic}-{secrets.token_hex(4)}"
        self._staging = staging

    def open(self, ctx: OpenContext) -> Writer:
        raise AssertionError("a sink is one of the two kinds below")

    def describe(self) -> str:
        keys = f" by {', '.join(self._columns.keys)}" if self._columns.keys else ""
        return f"KafkaSink({self._topic} at {self._servers}, {self._format.name}){keys}"

    def _messages_of(self) -> _Messages:
        limit = int(kafka_client.opened(self._options).get("message.max.bytes", _MESSAGE_BYTES_MAX))
        return _Messages(self._columns, self._format.encoder(), limit)

    def _check_topic(self) -> None:
        """Look whether the topic is there, which a producer would find out late.

        Raises: SinkError.
        """
        from raystream.connectors.kafka_commits import of_consumers

        asking = kafka_client.consumer(
            self._servers, of_consumers(self._options), {"group.id": "raystream"}
        )
        try:
            what = f"cannot list the topics at {self._servers}"
            known = kafka_client.topics(asking, [self._topic], what, SinkError)
        finally:
            kafka_client.let_go(asking)
        if self._topic not in known.topics:
            raise SinkError(
                f'there is no topic "{self._topic}" at {self._servers}',
                hint="create it first: a sink creates none",
            )


class _Immediate(KafkaSink):
    """The kind that writes at once."""

    def open(self, ctx: OpenContext) -> Writer:
        self._check_topic()
        # Millions of good news a minute would cost more than they tell.
        settings = {"delivery.report.only.error": True}
        producer = kafka_client.producer(self._servers, self._options, settings)
        return _AtOnce(producer, self._topic, self._messages_of())


class _Transactions(KafkaSink):
    """The kind that commits."""

    _commits: Commits | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_commits": None}

    def open(self, ctx: OpenContext) -> Writer:
        self._check_topic()
        folder = self._staging or ctx.staging or tempfile.gettempdir()
        return _Staged(self._messages_of(), folder, f"{self._prefix}-{ctx.subtask_index}")

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        if self._commits is None:
            self._commits = Commits(self._servers, self._topic, self._options)
        self._commits.commit(committables)

    def abort(self, committables: Sequence[Any]) -> None:
        # What is not committed has never been in Kafka.
        for one in committables:
            for part in one.parts:
                remove(part)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns make what of a message."""

    keys: tuple[str, ...]
    headers: str | None
    timestamp: str | None
    partition: str | None
    key_in_value: bool

    @property
    def outside(self) -> set[str]:
        """The columns that are not in the value."""
        named = {self.headers, self.timestamp, self.partition}
        return {*(name for name in named if name), *(() if self.key_in_value else self.keys)}


@dataclass(frozen=True, slots=True)
class _Messages:
    """Makes messages of rows."""

    columns: _Columns
    encode: Encode
    bytes_max: int

    def of(self, batch: Batch) -> pa.RecordBatch:
        """Encode rows.

        Raises: SinkError for rows that cannot be written, or are too large for the cluster.
        """
        rows, wanted = batch.rows, self.columns
        count = len(batch)
        value = self.encode(_without(rows, wanted.outside))
        key = _key(rows, wanted.keys) if wanted.keys else pa.nulls(count, pa.binary())
        self._check_sizes(value, key)
        headers = (
            _column(rows, wanted.headers, HEADERS)
            if wanted.headers
            else pa.nulls(count, MESSAGES.field("headers").type)
        )
        partition = (
            _column(rows, wanted.partition, pa.int32())
            if wanted.partition
            else pa.nulls(count, pa.int32())
        )
        times = self._times(rows, batch.timestamps, count)
        return pa.RecordBatch.from_arrays([key, value, headers, times, partition], schema=MESSAGES)

    def _times(self, rows: Rows, event_times: Int64s | None, count: int) -> pa.Array:
        """Give the milliseconds of each message; null: the producer's clock."""
        if self.columns.timestamp:
            at = _column(rows, self.columns.timestamp, pa.timestamp("us", "UTC"))
            times = at.cast(pa.int64())
            mask = times.is_null().to_numpy(zero_copy_only=False)
            micros: Int64s = times.fill_null(0).to_numpy()
        elif event_times is not None:
            micros, mask = event_times, event_times == NO_TIME
        else:
            return pa.nulls(count, pa.int64())
        # Kafka has no time before 1970, and its client takes 0 for now.
        millis = np.floor_divide(micros, 1000)
        return pa.array(millis, pa.int64(), mask=mask | (millis <= 0))

    def _check_sizes(self, value: pa.Array, key: pa.Array) -> None:
        most = _longest(value) + _longest(key) + _OVERHEAD_BYTES
        if most > self.bytes_max:
            raise SinkError(
                f"a message of about {most} bytes is larger than {self.bytes_max}",
                hint='raise "message.max.bytes" in options=, and max.message.bytes of the topic',
            )


class _AtOnce(Writer):
    """Writes at once; at a checkpoint all of it has arrived."""

    def __init__(self, producer: Any, topic: str, messages: _Messages) -> None:
        self._producer = producer
        self._topic = topic
        self._messages = messages
        self._failure: Any = None

    def write(self, batch: Batch) -> None:
        if not len(batch):
            return
        messages = self._messages.of(batch)
        try:
            send(self._producer, self._topic, messages, self._note)
        except kafka_client.client().KafkaException as error:
            raise told(f'cannot write to topic "{self._topic}"', SinkError, error) from error
        self._check()

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        self._await_arrival()
        return []

    def close(self) -> None:
        # A bounded job without checkpoints ends here: what was written is to arrive.
        self._await_arrival()

    def _await_arrival(self) -> None:
        """Wait until all has arrived, for as long as messages do. Raises: SinkError."""
        since_s, least = time.monotonic(), len(self._producer)
        # In pieces: no signal reaches the client while it waits.
        while left := self._producer.flush(_FLUSH_S):
            self._check()
            if left < least:
                since_s, least = time.monotonic(), left
            elif time.monotonic() - since_s >= REQUEST_S:
                self._producer.purge()
                self._producer.flush(_FLUSH_S)
                self._failure = None  # what is told of each of them says less than this
                raise SinkError(
                    f'cannot write to topic "{self._topic}": {left} messages were sent, and none '
                    f"has arrived for {REQUEST_S:.0f} s",
                    hint="is the cluster up?",
                )
        self._check()

    def _note(self, error: Any, message: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = error

    def _check(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            error = kafka_client.client().KafkaException(failure)
            raise told(f'cannot write to topic "{self._topic}"', SinkError, error) from error


class _Staged(Writer):
    """Keeps encoded messages until they are committed."""

    def __init__(self, messages: _Messages, folder: str, lane: str) -> None:
        self._messages = messages
        self._lane = lane
        # What Kafka forgets hangs on the clock on the wall, also where a test has another one.
        self._clock = SystemClock()
        self._run = secrets.token_hex(8)
        self._staging = Staging(Folder(folder, f"raystream-{self._run}"))
        self._count = 0

    def write(self, batch: Batch) -> None:
        if len(batch):
            self._staging.add(self._messages.of(batch))

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        parts = self._staging.finish()
        if not parts:
            return []
        number, self._count = self._count, self._count + 1
        return [Prepared(self._lane, self._run, number, self._clock.now_us(), tuple(parts))]

    def close(self) -> None:
        self._staging.discard()


def _topic_name(topic: object) -> str:
    if not isinstance(topic, str) or not topic or topic.startswith("^"):
        raise PlanError(f"KafkaSink(): topic is the name of one topic, got {topic!r:.60}")
    return topic


def _without(rows: Rows, names: set[str]) -> Rows:
    if not names:
        return rows
    if isinstance(rows, list):
        return [{k: v for k, v in row.items() if k not in names} for row in rows]
    return rows.select([name for name in rows.schema.names if name not in names])


def _column(rows: Rows, name: str, kind: pa.DataType) -> pa.Array:
    """Give a column of the rows as a type.

    Raises: SinkError if there is none, or it cannot be brought there.
    """
    try:
        if isinstance(rows, list):
            return pa.array([row[name] for row in rows], kind)
        index = rows.schema.get_field_index(name)
        if index < 0:
            raise SinkError(
                f'the stream has no column "{name}"', hint=f"it has {', '.join(rows.schema.names)}"
            )
        return rows.column(index).cast(kind)
    except (pa.ArrowException, KeyError, TypeError) as error:
        raise SinkError(f'column "{name}" cannot be read as {kind}: {error}') from error


def _key(rows: Rows, names: tuple[str, ...]) -> pa.Array:
    """Encode keys: text and bytes as they are, null as null, several columns as a JSON object."""
    if isinstance(rows, list):
        try:
            rows = pa.RecordBatch.from_pylist([{n: row[n] for n in names} for row in rows])
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise SinkError(f"the key {', '.join(names)} cannot be read: {error}") from error
    missing = [name for name in names if name not in rows.schema.names]
    if missing:
        raise SinkError(
            f'the stream has no column "{missing[0]}" for the key',
            hint=f"it has {', '.join(rows.schema.names)}",
        )
    if len(names) > 1:
        from raystream.connectors.json_texts import json_texts

        return json_texts(rows.select(list(names)))
    column = rows.column(rows.schema.get_field_index(names[0]))
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        return column.cast(pa.binary())
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.binary())
    texts = json_values(column).cast(pa.binary())
    return texts if not column.null_count else _null_where(texts, column)


def _null_where(texts: pa.Array, column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.if_else(pc.is_valid(column), texts, pa.scalar(None, texts.type))


def _longest(column: pa.Array) -> int:
    import pyarrow.compute as pc

    return pc.max(pc.binary_length(column)).as_py() or 0
