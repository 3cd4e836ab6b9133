"""Write to subjects of JetStream, by message ids that make a repeat change nothing."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raystream.connectors.kafka_formats import format_of
from raystream.connectors.key_template import KeyTemplate
from raystream.connectors.keyed_documents import columns_of, documents, no_columns
from raystream.connectors.nats_client import ANSWER_S, Connection, Servers, driver, failures
from raystream.connectors.record_formats import Format
from raystream.connectors.staged_changes import Prepared, Staged, changes_of, forget
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.secret import Secret
from raystream.contracts.sink import Sink, Writer
from raystream.errors import SinkError

LOG = logging.getLogger("raystream.nats")

_UNANSWERED_MAX = 500
_HEADER_BYTES = 256
"""What a message needs beside its value, generously."""


class NatsSink(Sink):
    """Publish each row to the subject that ``subject`` makes of its columns: ``"orders.{region}"``.

    Guarantee: exactly once, within the stream's duplicate window (2 minutes unless it says else):
    rows wait for their checkpoint and are published once it is durable, with ids
    (``Nats-Msg-Id``) that are the same when that is repeated; a repeat that comes later than the
    window, after a crash, writes rows of one checkpoint again.

    ``format`` says how rows are written, as for Kafka. Rows whose subject is null or none, or that
    are larger than the server takes, follow ``on_error``. The streams must be there.

    Raises: PlanError for a password in ``servers``, and for arguments or columns that do not fit.
    """

    def __init__(
        self,
        servers: str | Secret,
        subject: str,
        *,
        format: str | Format = "json",
        user: str | None = None,
        password: Secret | None = None,
        token: Secret | None = None,
        credentials: str | None = None,
    ) -> None:
        self._servers = Servers(servers, user, password, token, credentials, SinkError)
        self._subject = KeyTemplate.of(subject, "NatsSink(subject=)")
        self._format = format_of(format)
        # Every sink is another one; what a checkpoint has prepared brings its name.
        self._lane = f"nats-{secrets.token_hex(6)}"

    def bound(self, schema: pa.Schema | None, changelog: tuple[str, ...] | None) -> Sink:
        if schema is None:
            raise no_columns(self.describe())
        self._subject.check(schema.names, self.describe())
        return self

    def open(self, ctx: OpenContext) -> Writer:
        return _NatsWriter(self, ctx)

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        prepared: list[Prepared] = sorted(committables, key=lambda one: one.order)
        connection = self._servers.connect()
        try:
            for one in prepared:
                self._publish(connection, one)
        finally:
            connection.close()
        forget(self.__dict__.pop("_committed", []))
        # Files stay until the next commit: a repeat reads them.
        self.__dict__["_committed"] = prepared

    def abort(self, committables: Sequence[Any]) -> None:
        forget(committables)

    def describe(self) -> str:
        return f"NatsSink({self._subject.written} at {self._servers})"

    @property
    def servers(self) -> Servers:
        """Where it writes."""
        return self._servers

    @property
    def lane(self) -> str:
        """What the ids of its messages begin with."""
        return self._lane

    def encoded(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """Give the subject and the value of each row. Raises: SinkError."""
        subjects = self._subject.keys(rows)
        if not pc.all(pc.match_substring_regex(subjects, _SUBJECT)).as_py():
            raise SinkError(
                "a subject has an empty part, or a space, * or > in it",
                hint="parts of a subject stand between dots",
            )
        return subjects, self._format.encoder()(rows)

    def _publish(self, connection: Connection, one: Prepared) -> None:
        changes = changes_of([one])
        name = f"{one.lane}-{one.checkpoint_id}-{one.subtask}"
        subjects, values = changes.column("key"), changes.column("value")
        for start in range(0, changes.num_rows, _UNANSWERED_MAX):
            some = [
                (f"{name}-{start + n}", subject, value)
                for n, (subject, value) in enumerate(
                    zip(
                        subjects.slice(start, _UNANSWERED_MAX).to_pylist(),
                        values.slice(start, _UNANSWERED_MAX).to_pylist(),
                        strict=True,
                    )
                )
            ]
            problem: BaseException | None = None
            try:
                problem = connection.run(_sent(connection.client, some), 2 * ANSWER_S)
            except failures() as error:
                problem = error
                tolerant = False
            else:
                tolerant = one.tolerant
            if problem is not None:
                told = self._servers.told("cannot publish", problem)
                if not tolerant:
                    raise told
                LOG.error("a row is left out: %s", told.message)


_SUBJECT = r"^[^\s.*>]+(\.[^\s.*>]+)*$"


async def _sent(client: Any, messages: list[tuple[str, str, bytes]]) -> Exception | None:
    """Publish messages in their order; give why one was refused that no stream takes."""
    jetstream = client.jetstream(timeout=ANSWER_S)
    refused = driver().js.errors.NoStreamResponseError
    answers = await asyncio.gather(
        *(
            jetstream.publish(subject, value, headers={"Nats-Msg-Id": id})
            for id, subject, value in messages
        ),
        return_exceptions=True,
    )
    problem = None
    for answer in answers:
        if isinstance(answer, refused):
            problem = answer
        elif isinstance(answer, BaseException):
            raise answer
    return problem


class _NatsWriter(Writer):
    """Keeps rows for their commit."""

    def __init__(self, sink: NatsSink, ctx: OpenContext) -> None:
        self._sink, self._errors = sink, ctx.errors
        self._staged = Staged(ctx, sink.lane)
        connection = sink.servers.connect()
        self._bytes_max = connection.client.max_payload - _HEADER_BYTES
        connection.close()

    def write(self, batch: Batch) -> None:
        rows = columns_of(batch, self._sink.describe())
        made = documents(batch, rows, self._encoded, self._errors)
        if made.changes.num_rows:
            self._staged.add(made.changes)

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        return list(self._staged.prepared(checkpoint_id))

    def close(self) -> None:
        self._staged.discard()

    def _encoded(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        subjects, values = self._sink.encoded(rows)
        if pc.any(pc.greater(pc.binary_length(values), self._bytes_max)).as_py():
            raise SinkError(f"a message is larger than {self._bytes_max} bytes")
        return subjects, values
