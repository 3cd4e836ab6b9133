"""MQTT: messages that devices send to the topics of a broker.

>>> from raystream.connectors import mqtt
>>> mqtt.MqttSource("broker", ["sensors/#"], client_id="raystream").describe()
'MqttSource(sensors/# at broker:1883, json)'
"""

from __future__ import annotations

import copy
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from raystream.connectors.extra_columns import ExtraColumns
from raystream.connectors.kafka_formats import format_of
from raystream.connectors.key_template import is_text
from raystream.connectors.record_formats import Decode, Format, Rows
from raystream.contracts.batch import Batch
from raystream.contracts.secret import Secret
from raystream.contracts.source import Polled, Reader, Source, Split
from raystream.errors import ConfigError, PlanError, SourceError

__all__ = ["MqttSource"]

_QUEUE_MAX = 10_000
_UNANSWERED_MAX = 65_536
"""Messages whose ids tell them apart: there are no more of them."""

_CONNECT_S = 10.0
_KEEPALIVE_S = 30
_POLL_S = 0.005
_STARTING = "Server unavailable"
"""What a broker says that will let us in later: the client goes on asking."""

_TYPES = {"topic": pa.string(), "retained": pa.bool_()}
_READS = {"topic": lambda message: message.topic, "retained": lambda message: bool(message.retain)}


class MqttSource(Source):
    """Subscribe to topics with QoS 1, by a session that the broker keeps for ``client_id``.

    Guarantee: at least once; a message is acknowledged once it is in a checkpoint that is complete,
    and the broker sends again what was not. With ``acknowledge="receipt"`` it is acknowledged when
    it comes, and at most once: what is not in a checkpoint is lost with the process.

    A broker sends only so many messages ahead of their acknowledgement (``max_inflight_messages``
    of Mosquitto: 20): no more than these come between two checkpoints, so raise it, or checkpoint
    often. A job without checkpoints acknowledges none: it needs ``acknowledge="receipt"``. Messages
    that were published with QoS 0 may be lost anywhere.

    ``clients=n`` reads with n sessions, ``client_id-0`` and so on, each a split, that share the
    subscription (``$share/…``), where the broker can do that. ``format`` and ``schema`` say what
    messages hold, as for Kafka; ``topic`` and ``retained`` name columns for what else is known of
    them. Messages that cannot be read follow ``on_error``. A connection that breaks is opened anew,
    for as long as it takes.

    Raises: PlanError for arguments that do not fit.
    """

    bounded = False

    def __init__(
        self,
        host: str,
        topics: str | Sequence[str],
        schema: pa.Schema | None = None,
        *,
        client_id: str,
        port: int | None = None,
        clients: int = 1,
        format: str | Format = "json",
        topic: str | None = None,
        retained: str | None = None,
        acknowledge: Literal["checkpoint", "receipt"] = "checkpoint",
        username: str | None = None,
        password: Secret | None = None,
        tls: bool = False,
    ) -> None:
        if not is_text(host) or {"@", "/"} & set(host):
            raise PlanError("host= takes the name of a broker alone, as username= takes a user")
        self._topics = (topics,) if isinstance(topics, str) else tuple(topics)
        if not self._topics or not all(map(is_text, self._topics)):
            raise PlanError(f"topics= takes a topic or several, got {topics!r:.60}")
        if not is_text(client_id):
            raise PlanError("client_id= names the session that the broker keeps; no two share it")
        if clients < 1:
            raise PlanError(f"clients must be positive, got {clients!r}")
        if acknowledge not in {"checkpoint", "receipt"}:
            raise PlanError(f'acknowledge= is "checkpoint" or "receipt", got {acknowledge!r:.60}')
        if password is not None and not isinstance(password, Secret):
            raise PlanError('password= takes a rs.secret("NAME"), so that nothing shows it')
        self._host, self._port = host, port or (8883 if tls else 1883)
        self._client_id, self._clients = client_id, clients
        self._waits = acknowledge == "checkpoint"
        self._username, self._password, self._tls = username, password, tls
        self._format = format_of(format)
        names = {"topic": topic, "retained": retained}
        self._columns = ExtraColumns.of(self._format.columns(schema), _TYPES, names)
        self.schema = self._columns.schema
        self._tolerant = False

    def splits(self) -> Sequence[Split]:
        if self._clients == 1:
            return [Split(self._client_id, self._client_id)]
        names = [f"{self._client_id}-{number}" for number in range(self._clients)]
        return [Split(name, name) for name in names]

    def open(self, split: Split, position: Any) -> Reader:
        paho = _driver()
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            split.payload,
            clean_session=False,
            protocol=paho.MQTTv311,
            manual_ack=True,
        )
        if self._username is not None:
            password = None if self._password is None else self._password.reveal()
            client.username_pw_set(self._username, password)
        if self._tls:
            client.tls_set()
        client.reconnect_delay_set(1, 10)
        client.connect_timeout = _CONNECT_S
        shared = f"$share/{self._client_id}/" if self._clients > 1 else ""
        inbox = _Inbox(client, [f"{shared}{topic}" for topic in self._topics], waits=self._waits)
        decode = self._format.decoder(self._columns.columns)
        reader = _MqttReader(client, inbox, self._columns, decode, tolerant=self._tolerant)
        try:
            client.connect(self._host, self._port, _KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"no broker answers at {self._host}:{self._port}: {error}", hint="is it up?"
            ) from error
        client.loop_start()
        return reader

    def tolerating(self) -> Source:
        """Give a source that hands over what it cannot read."""
        tolerant = copy.copy(self)
        tolerant._tolerant = True  # noqa: SLF001  a copy of this
        return tolerant

    def describe(self) -> str:
        topics = ", ".join(self._topics)
        return f"MqttSource({topics} at {self._host}:{self._port}, {self._format.name})"


class _Inbox:
    """What came by one session; the client calls it in a thread of its own."""

    def __init__(self, client: Any, topics: list[str], *, waits: bool) -> None:
        self._client, self._topics, self._waits = client, topics, waits
        self._lock = threading.Condition()
        self._queue: deque[tuple[int, Any]] = deque(maxlen=_QUEUE_MAX)
        self._unanswered: deque[tuple[int, Any]] = deque(maxlen=_UNANSWERED_MAX)
        self._given = 0
        self._connection = 0
        self._closed = False
        self._refused: str | None = None
        client.on_connect = self._connected
        client.on_disconnect = client.on_pre_connect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._came

    @property
    def given(self) -> int:
        """How many messages have been given."""
        return self._given

    def take(self, count: int) -> list[Any]:
        """Give what has come; waits a moment for it. Raises: SourceError."""
        with self._lock:
            if not self._queue:
                self._lock.wait(_POLL_S)
            if self._refused is not None:
                raise SourceError(self._refused)
            taken = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
            for connection, message in taken:
                self._given += 1
                if self._waits and connection == self._connection:
                    self._unanswered.append((self._given, message))
            self._lock.notify()
            return [message for _, message in taken]

    def acknowledge(self, count: int) -> None:
        """Acknowledge the first so many messages."""
        with self._lock:
            while self._unanswered and self._unanswered[0][0] <= count:
                message = self._unanswered.popleft()[1]
                self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _connected(self, _client: Any, _own: Any, flags: Any, reason: Any, _more: Any) -> None:
        with self._lock:
            if reason == _STARTING:
                return
            if reason.is_failure:
                self._refused = f"the broker lets nobody in: {reason}"
                return
            # What was not acknowledged on the connection before comes again on this one, unless
            # the broker has lost the session: then what is here is all that there is.
            if self._waits and flags.session_present:
                self._queue.clear()
                self._lock.notify_all()
        self._client.subscribe([(topic, 1) for topic in self._topics])

    def _disconnected(self, *_: Any) -> None:
        with self._lock:
            # An id means another message on the next connection.
            self._connection += 1
            self._unanswered.clear()

    def _subscribed(self, _client: Any, _own: Any, _mid: Any, reasons: Any, _more: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            with self._lock:
                self._refused = f"the broker refuses a subscription: {refused[0]}"

    def _came(self, client: Any, _own: Any, message: Any) -> None:
        with self._lock:
            # Nothing more is read from the connection meanwhile, and the broker waits.
            while len(self._queue) >= _QUEUE_MAX and not self._closed:
                self._lock.wait(1)
            if self._closed:
                return
            self._queue.append((self._connection, message))
            self._lock.notify()
            if not self._waits:
                client.ack(message.mid, message.qos)


class _MqttReader(Reader):
    """Gives the messages of one session; its position is how many that were, of which reader."""

    def __init__(
        self, client: Any, inbox: _Inbox, columns: ExtraColumns, decode: Decode, *, tolerant: bool
    ) -> None:
        self._client, self._inbox = client, inbox
        self._columns, self._decode, self._tolerant = columns, decode, tolerant
        self._name = secrets.token_hex(8)

    def poll(self, max_rows: int) -> Polled:
        messages = self._inbox.take(max_rows)
        return self._made(messages) if messages else None

    def position(self) -> tuple[str, int]:
        return self._name, self._inbox.given

    def checkpointed(self, position: Any) -> None:
        reader, count = position
        if reader == self._name:
            self._inbox.acknowledge(count)

    def close(self) -> None:
        self._inbox.close()
        self._client.disconnect()
        self._client.loop_stop()

    def _made(self, messages: list[Any]) -> Batch | Rows:
        found = self._columns.found(messages, lambda one: one.payload, _READS, self._decode)
        if not found.broken:
            return found.rows
        unreadable = []
        for place, error in found.broken:
            at = SourceError(
                f"topic {messages[place].topic}: {error.message}",
                hint='.on_error("skip") or .on_error("dead_letter") of the source goes on '
                "without it",
            )
            if not self._tolerant:
                raise at from error
            unreadable.append((messages[place].payload, at))
        return Batch(found.rows, unreadable=unreadable)


def _driver() -> Any:
    """Give the module that speaks MQTT. Raises: ConfigError where it is not installed."""
    try:
        import paho.mqtt.client
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the MQTT connector needs the package paho-mqtt, which is not installed",
            hint="pip install 'raystream[mqtt]', on every node",
        ) from error
    return paho.mqtt.client
