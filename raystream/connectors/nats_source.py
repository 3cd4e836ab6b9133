"""Read a stream of JetStream, from a sequence number on."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from raystream.connectors.extra_columns import ExtraColumns
from raystream.connectors.kafka_formats import format_of
from raystream.connectors.key_template import is_text
from raystream.connectors.nats_client import ANSWER_S, Connection, Servers, driver, failures
from raystream.connectors.patience import Patience
from raystream.connectors.record_formats import Decode, Format, Rows
from raystream.contracts.batch import Batch
from raystream.contracts.secret import Secret
from raystream.contracts.source import END, Polled, Reader, Source, Split
from raystream.errors import ExternalError, PlanError, SourceError

_WAIT_S = 0.01
_IDLE_S = 300.0
"""How long the server keeps the consumer of a reader that is gone."""

_STARTS = ("earliest", "latest")
_TYPES = {
    "subject": pa.string(),
    "sequence": pa.int64(),
    "timestamp": pa.timestamp("us", "UTC"),
}


class NatsSource(Source):
    """Read the messages of a stream of JetStream.

    Guarantee: exactly once into state; a reader's position is the sequence number of the next
    message, and the stream keeps messages for as long as its limits say; nothing is acknowledged.

    ``subjects`` reads only those (wildcards as NATS has them), each a split that is read apart; let
    none of them overlap. ``format`` and ``schema`` say what messages hold, as for Kafka;
    ``subject``, ``sequence`` and ``timestamp`` name columns for what else is known of them.
    ``start`` is ``"earliest"``, ``"latest"`` or a sequence number; ``bounded=True`` reads what is
    there when the job starts.

    Messages that the stream's limits removed before they were read fail the job, or are passed over
    with ``lost="skip"``. Messages that cannot be read follow ``on_error``. A server that is away is
    asked again for a minute, then the job fails and is restarted as it says.

    Raises: PlanError for a password in ``servers``, and for arguments that do not fit.
    """

    def __init__(
        self,
        servers: str | Secret,
        stream: str,
        schema: pa.Schema | None = None,
        *,
        subjects: str | Sequence[str] | None = None,
        format: str | Format = "json",
        subject: str | None = None,
        sequence: str | None = None,
        timestamp: str | None = None,
        start: str | int = "earliest",
        bounded: bool = False,
        lost: Literal["fail", "skip"] = "fail",
        user: str | None = None,
        password: Secret | None = None,
        token: Secret | None = None,
        credentials: str | None = None,
    ) -> None:
        self._servers = Servers(servers, user, password, token, credentials, SourceError)
        if not is_text(stream):
            raise PlanError(f"stream= takes the name of a stream, got {stream!r:.60}")
        if start not in _STARTS and not (isinstance(start, int) and start > 0):
            raise PlanError(
                f"start= is one of {', '.join(_STARTS)} or a sequence number, got {start!r:.60}"
            )
        if lost not in {"fail", "skip"}:
            raise PlanError(f'lost= is "fail" or "skip", got {lost!r:.60}')
        self._stream, self._start, self.bounded, self._lost = stream, start, bounded, lost
        given = (subjects,) if isinstance(subjects, str) else tuple(subjects or ())
        self._subjects: tuple[str | None, ...] = given or (None,)
        self._format = format_of(format)
        names = {"subject": subject, "sequence": sequence, "timestamp": timestamp}
        self._columns = ExtraColumns.of(self._format.columns(schema), _TYPES, names)
        self.schema = self._columns.schema
        self._tolerant = False

    def splits(self) -> Sequence[Split]:
        connection = self._servers.connect()
        try:
            state = self._state(connection)
        finally:
            connection.close()
        stop = state.last_seq if self.bounded else None
        first = {"earliest": 1, "latest": state.last_seq + 1}.get(str(self._start), self._start)
        return [Split(f"{self._stream}/{one or '>'}", (one, first, stop)) for one in self._subjects]

    def open(self, split: Split, position: Any) -> Reader:
        subject, first, stop = split.payload
        connection = self._servers.connect()
        try:
            state = self._state(connection)
        except ExternalError:
            connection.close()
            raise
        if position is not None and self._lost == "fail" and position < state.first_seq:
            connection.close()
            raise SourceError(
                f"messages {position} to {state.first_seq - 1} of stream {self._stream} were "
                "removed before they were read",
                hint='let the stream keep more; lost="skip" goes on without them',
            )
        stretch = _Stretch(self._stream, subject, first if position is None else position, stop)
        decode = self._format.decoder(self._columns.columns)
        return _NatsReader(
            connection, self._servers, stretch, self._columns, decode, tolerant=self._tolerant
        )

    def tolerating(self) -> Source:
        """Give a source that hands over what it cannot read."""
        tolerant = copy.copy(self)
        tolerant._tolerant = True  # noqa: SLF001  a copy of this
        return tolerant

    def describe(self) -> str:
        return f"NatsSource({self._stream} at {self._servers}, {self._format.name})"

    def _state(self, connection: Connection) -> Any:
        try:
            jetstream = connection.client.jetstream(timeout=ANSWER_S)
            return connection.run(jetstream.stream_info(self._stream)).state
        except driver().js.errors.NotFoundError:
            problem: ExternalError = SourceError(
                f"there is no stream {self._stream} at {self._servers}",
                hint="create it first: a source creates none",
            )
        except failures() as error:
            problem = self._servers.told(f"cannot look at stream {self._stream}", error)
        raise problem


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stream, or a subject of it, from one sequence number up to another or without end."""

    stream: str
    subject: str | None
    next: int
    stop: int | None


class _NatsReader(Reader):
    """Reads one split through a consumer of its own, which the server forgets by itself."""

    def __init__(
        self,
        connection: Connection,
        servers: Servers,
        stretch: _Stretch,
        columns: ExtraColumns,
        decode: Decode,
        *,
        tolerant: bool,
    ) -> None:
        self._connection: Connection | None = connection
        self._servers, self._stretch = servers, stretch
        self._columns, self._decode, self._tolerant = columns, decode, tolerant
        self._consumer: Any = None
        self._delivered = 0
        self._late = 0
        """How many the server had sent, and the client not given, when the server was asked."""
        self._left: int | None = None
        self._ended = False
        self._patience = Patience()

    def poll(self, max_rows: int) -> Polled:
        stretch = self._stretch
        if self._ended or (stretch.stop is not None and stretch.next > stretch.stop):
            return END
        try:
            messages = self._fetch(max_rows)
        except failures() as error:
            self._let_go()
            doing = f"cannot read stream {stretch.stream}"
            return self._patience.failed(self._servers.told(doing, error))
        except SourceError as error:
            return self._patience.failed(error)
        self._patience.reached()
        if stretch.stop is not None:
            kept = [one for one in messages if _sequence(one) <= stretch.stop]
            if len(kept) < len(messages):
                self._ended = True
            messages = kept
        if not messages:
            return END if self._ended else None
        self._stretch = replace(stretch, next=_sequence(messages[-1]) + 1)
        return self._made(messages)

    def position(self) -> int:
        return self._stretch.next

    def backlog(self) -> int | None:
        """Tell how many messages the server had to come when it was last heard of."""
        if self._ended:
            return 0
        stop = self._stretch.stop
        if self._left is None or stop is None:
            return self._left
        # Those behind the stop are not read.
        return max(0, min(self._left, stop + 1 - self._stretch.next))

    def close(self) -> None:
        self._let_go()

    def _fetch(self, max_rows: int) -> list[Any]:
        """Ask for messages; none come where there are none."""
        if self._connection is None:
            self._connection = self._servers.connect()
        if self._consumer is None:
            self._consumer = self._connection.run(self._consume(self._connection.client))
            self._delivered = self._late = 0
        try:
            messages = self._connection.run(self._consumer.fetch(max_rows, timeout=_WAIT_S))
        except (driver().errors.TimeoutError, asyncio.TimeoutError):
            if not self._connection.client.is_connected:
                raise
            messages = []
        kept = []
        for message in messages:
            self._delivered += 1
            if message.metadata.sequence.consumer != self._delivered:
                # What was sent did not arrive: it is asked for again.
                self._consumer = None
                break
            kept.append(message)
            self._left = message.metadata.num_pending
        if messages:
            self._late = 0
        elif self._stretch.stop is not None or self._left:
            self._look()
        return kept

    def _look(self) -> None:
        """Ask why none came of those that were to come: they are removed, late, or lost."""
        assert self._connection is not None
        info = self._connection.run(self._consumer.consumer_info())
        late = info.delivered.consumer_seq - self._delivered
        if late and late == self._late:
            # If they had come, the client would have given them since: ask the server anew.
            self._consumer = None
        self._late = late
        self._left = info.num_pending + late
        self._ended = self._stretch.stop is not None and self._left == 0

    async def _consume(self, client: Any) -> Any:
        from nats.js import api

        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._stretch.next,
            ack_policy=api.AckPolicy.NONE,
            inactive_threshold=_IDLE_S,
            mem_storage=True,
            filter_subject=self._stretch.subject,
        )
        jetstream = client.jetstream(timeout=ANSWER_S)
        made = await jetstream.add_consumer(self._stretch.stream, config)
        self._left = made.num_pending
        return await jetstream.pull_subscribe_bind(made.name, stream=self._stretch.stream)

    def _made(self, messages: list[Any]) -> Batch | Rows:
        found = self._columns.found(messages, lambda one: one.data, _READS, self._decode)
        if not found.broken:
            return found.rows
        unreadable = []
        for place, error in found.broken:
            at = SourceError(
                f"stream {self._stretch.stream}, message {_sequence(messages[place])}: "
                f"{error.message}",
                hint='.on_error("skip") or .on_error("dead_letter") of the source goes on '
                "without it",
            )
            if not self._tolerant:
                raise at from error
            unreadable.append((messages[place].data, at))
        return Batch(found.rows, unreadable=unreadable)

    def _let_go(self) -> None:
        self._consumer = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()


def _sequence(message: Any) -> int:
    return int(message.metadata.sequence.stream)


_READS = {
    "subject": lambda message: message.subject,
    "sequence": _sequence,
    "timestamp": lambda message: message.metadata.timestamp,
}
