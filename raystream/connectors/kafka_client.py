"""How Kafka is reached: options are checked, clients opened, and their errors told in our words.

Passwords come in options alone. An option may be a ``rs.secret``, a function without arguments, or
an object with a ``read()``: it is read where a client is opened, so that a plan holds no more than
its name. What
options hold is never shown, here or by the client, whose log lines go to the logger
``raystream.kafka``.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from raystream.contracts.secret import Secret
from raystream.errors import ConfigError, ExternalError, PlanError, SinkError, SourceError

if TYPE_CHECKING:
    import confluent_kafka as ck

LOG = logging.getLogger("raystream.kafka")

REQUEST_S = 30.0
"""How long one request may take before the cluster counts as unreachable."""

GRACE_S = 5.0
"""How long a call may take beyond its own timeout."""

CLOSE_S = 5.0
"""How long a consumer may take to say good-bye to a cluster that may not answer."""

_NEW_TOPIC_S = 1.0
"""How long a broker may not know of a topic that was created by another."""

_OURS = {
    "bootstrap.servers": "the first argument",
    "enable.auto.commit": "positions live in checkpoints",
    "enable.auto.offset.store": "positions live in checkpoints",
    "enable.partition.eof": "a bounded source ends by it",
    "group.id": "group=",
    "transactional.id": "transactional_id=",
    "enable.idempotence": "always on",
}
"""Settings of the client that the connector makes itself, and what to say instead."""

_SECRET = re.compile(r"password|secret|token|key|pem|oauthbearer|jaas", re.IGNORECASE)
"""Names of settings whose values nobody may see."""

Result = TypeVar("Result")
Failure = type[SourceError] | type[SinkError]


def client() -> Any:
    """Import the client library.

    Raises: ConfigError if it is not installed.
    """
    try:
        import confluent_kafka
    except ImportError as error:
        raise ConfigError(
            "the Kafka connector needs the package confluent-kafka",
            hint="pip install 'raystream[kafka]'",
        ) from error
    return confluent_kafka


def check_servers(servers: object) -> str:
    """Check the bootstrap addresses: ``host:port``, several with commas or as a list.

    Raises: PlanError for anything else, also for an address that carries a password.
    """
    if isinstance(servers, (list, tuple)) and all(isinstance(one, str) for one in servers):
        servers = ",".join(servers)
    if not isinstance(servers, str) or not servers.strip():
        kind = type(servers).__name__
        raise PlanError(f"bootstrap servers are given as host:port, got a {kind} without any")
    if "@" in servers:
        raise PlanError(
            "a bootstrap address holds a user or a password",
            hint='put them into options={"sasl.username": …, "sasl.password": …}',
        )
    return servers


def check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check settings that are passed on to the client.

    Raises: PlanError for one that is the connector's own.
    """
    given = dict(options or {})
    for name in given:
        if not isinstance(name, str):
            raise PlanError(f"names of options are texts, got a {type(name).__name__}")
        if name in _OURS:
            raise PlanError(f'the option "{name}" is set by the connector: {_OURS[name]}')
    return given


def opened(options: Mapping[str, Any]) -> dict[str, Any]:
    """Read the options whose values are read where a client is opened."""
    return {name: _read(value) for name, value in options.items()}


def consumer(servers: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> ck.Consumer:
    """Open a consumer that commits nothing by itself."""
    found: ck.Consumer = _opened(
        "Consumer",
        {
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            **opened(options),
            "bootstrap.servers": servers,
            **settings,
        },
        SourceError,
    )
    return found


def producer(servers: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> ck.Producer:
    """Open a producer that loses and repeats nothing while it lives."""
    found: ck.Producer = _opened(
        "Producer",
        {
            "linger.ms": 5,
            "partitioner": "murmur2_random",  # as the Java clients: keys meet in a partition
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "allow.auto.create.topics": False,
            **opened(options),
            "enable.idempotence": True,
            "bootstrap.servers": servers,
            **settings,
        },
        SinkError,
    )
    return found


def in_time(do: Callable[[], Result], seconds: float) -> Result:
    """Call the client, for so long at most.

    Some of its calls wait for brokers beyond the timeouts that they are given, and no signal
    reaches any of them. So they wait in a thread, which is left behind where they do: nothing is
    done when they return. Raises: KafkaException.
    Source: librdkafka's issues 3740 (closing) and 5456 (offsets of a transaction).
    """
    call = Call(do)
    call.start()
    call.join(seconds)
    library = client()
    if call.is_alive():
        code = library.KafkaError._TIMED_OUT  # noqa: SLF001  its constants are named so
        raise library.KafkaException(library.KafkaError(code, f"no answer in {seconds:g} s"))
    if call.error is not None:
        raise call.error
    return cast("Result", call.result)


class Call(threading.Thread):
    """A call that waits in a thread; what it raises is raised where its result is asked for."""

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__(name="kafka-call", daemon=True)
        self._do = do
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        with self:
            self.result = self._do()

    def __enter__(self) -> None:
        """Begin to keep what is raised."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True


def let_go(consumer: ck.Consumer) -> None:
    """Close a consumer, or leave it behind where its brokers do not answer."""
    try:
        in_time(consumer.close, CLOSE_S)
    except client().KafkaException:
        LOG.warning("a consumer is left behind: its cluster does not answer")


def asked(what: str, failure: Failure, ask: Callable[[], Result]) -> Result:
    """Ask the cluster for something, which takes ``REQUEST_S`` at most.

    Raises: ``failure`` saying what could not be done, and what the client said.
    """
    try:
        return in_time(ask, REQUEST_S + GRACE_S)
    except client().KafkaException as error:
        raise told(what, failure, error) from error


def topics(asking: ck.Consumer, wanted: Iterable[str], what: str, failure: Failure) -> Any:
    """List the topics there are; one that is missing may have been created just now.

    Raises: ``failure`` as ``asked`` does.
    """
    until_s = time.monotonic() + _NEW_TOPIC_S
    while True:
        known = asked(what, failure, lambda: asking.list_topics(timeout=REQUEST_S))
        if all(topic in known.topics for topic in wanted) or time.monotonic() >= until_s:
            return known
        time.sleep(_NEW_TOPIC_S / 10)


def told(what: str, failure: Failure, error: BaseException) -> ExternalError:
    """Say what the client said; its errors carry a code, a name and a sentence."""
    first: Any = error.args[0] if error.args else error
    name = getattr(first, "name", None)
    sentence = first.str() if name else str(first)
    code = name() if callable(name) else type(error).__name__
    return failure(f"{what}: {sentence} ({code})", hint=_HINTS.get(code))


_HINTS = {
    "_TRANSPORT": "is the cluster up, and are its advertised listeners reachable from here?",
    "_ALL_BROKERS_DOWN": "is the cluster up, and are its addresses right?",
    "_TIMED_OUT": "is the cluster up, and are its addresses right?",
    "_RESOLVE": "is the host name right?",
    "_AUTHENTICATION": "look at sasl.* and security.protocol in options=",
    "UNKNOWN_TOPIC_OR_PART": "create the topic first: the connector creates none",
    "_UNKNOWN_TOPIC": "create the topic first: the connector creates none",
    "TOPIC_AUTHORIZATION_FAILED": "this user may not use the topic",
    "GROUP_AUTHORIZATION_FAILED": "this user may not use the group",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "give a transactional_id= whose prefix is allowed",
    "MSG_SIZE_TOO_LARGE": 'raise "message.max.bytes" in options=, and "max.message.bytes" of the '
    "topic",
    "_AUTO_OFFSET_RESET": "records were deleted before they were read: retention is too short for "
    'this job. Whoever accepts that gives options={"auto.offset.reset": "earliest"}',
}


def _opened(kind: str, settings: dict[str, Any], failure: Failure) -> Any:
    library = client()
    try:
        return getattr(library, kind)(settings, logger=LOG)
    except library.KafkaException as error:
        failed = told("the Kafka client cannot be opened", failure, error)
        message = failed.message
        for name, value in settings.items():
            # The client repeats values that it does not like.
            if _SECRET.search(name) and str(value):
                message = message.replace(str(value), "…")
        raise failure(message, hint=failed.hint) from None
    except (TypeError, ValueError) as error:
        names = ", ".join(sorted(settings))
        raise PlanError(
            f"the Kafka client refuses its settings ({type(error).__name__}); they are {names}",
            hint="values are texts, numbers and booleans",
        ) from None


def _read(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    if callable(value):
        return value()
    read = getattr(value, "read", None)
    return read() if callable(read) else value
