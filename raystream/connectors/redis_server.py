"""How Redis is reached: an address that never shows a password, clients, and what errors mean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raystream.contracts.secret import Secret, check_plain, resolve
from raystream.errors import ConfigError, ExternalError, PlanError

_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 30.0
_RETRIES = 8
_RETRY_FIRST_S, _RETRY_LONGEST_S = 0.05, 2.0
"""Together about ten seconds: what a restart of the server takes."""

_GIVE_UP_S = 30.0
"""Behind this nothing is sent again: one that gives no answer is not waited for each time."""

_SCHEMES = ("redis://", "rediss://", "unix://")


def driver() -> Any:
    """Give the module that speaks to Redis.

    Raises: ConfigError where it is not installed.
    """
    try:
        import redis
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the Redis connectors need the package redis, which is not installed",
            hint="pip install 'raystream[redis]', on every node",
        ) from error
    return redis


@dataclass(frozen=True, slots=True)
class Server:
    """A server by its URL; a password stands in a secret alone."""

    url: str | Secret
    password: Secret | None
    error: type[ExternalError]

    def __post_init__(self) -> None:
        """Refuse what would show a password."""
        check_plain(self.url, "url=")
        if self.password is not None and not isinstance(self.password, Secret):
            raise PlanError('password= takes a rs.secret("NAME"), so that nothing shows it')
        if isinstance(self.url, str):
            _check_scheme(self.url, self)

    def __str__(self) -> str:
        return repr(self.url) if isinstance(self.url, Secret) else self.url

    @property
    def is_known(self) -> bool:
        """Whether this process has all that it takes to connect."""
        secrets = [one for one in (self.url, self.password) if isinstance(one, Secret)]
        return all(one.is_there for one in secrets)

    def connect(self, *, retries: bool = True) -> Any:
        """Open a client, and see that the server answers.

        ``retries``: requests that a broken connection ate are sent again.
        Raises: ConfigError for a URL that cannot be read, ``error`` where nobody answers.
        """
        redis = driver()
        url = resolve(self.url)
        _check_scheme(url, self)
        backoff = redis.backoff.ExponentialBackoff(_RETRY_LONGEST_S, _RETRY_FIRST_S)
        settings: dict[str, Any] = {
            "retry": _bounded(redis.retry.Retry(backoff, _RETRIES if retries else 0)),
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
            "socket_timeout": _ANSWER_TIMEOUT_S,
            "client_name": "raystream",
        }
        if retries:
            settings["retry_on_error"] = [redis.exceptions.BusyLoadingError]
        if url.startswith("unix://"):
            del settings["socket_connect_timeout"]
        if self.password is not None:
            settings["password"] = self.password.reveal()
        try:
            client = redis.Redis.from_url(url, **settings)
        except (ValueError, TypeError):
            client = None  # outside of the handler: its error would repeat what it could not read
        if client is None:
            raise ConfigError(
                f"the URL {self} cannot be read",
                hint="redis://user@host:6379/0; encode what is special in a password",
            )
        with self.translated("cannot be reached"):
            client.ping()
        return client

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into an error that says what was being done."""
        try:
            yield
        except driver().RedisError as error:
            raise self.told(doing, error) from None

    def told(self, doing: str, error: BaseException) -> ExternalError:
        """Say what the client said."""
        said = " ".join(str(error).split()) or type(error).__name__
        if self.password is not None and self.password.is_there:
            said = said.replace(self.password.reveal(), "***")
        return self.error(f"Redis at {self}: {doing}: {said}")


def _bounded(retry: Any) -> Any:
    """Let what is sent again be given up when its time is over, and not by its count alone."""
    call = retry.call_with_retry

    def bounded(do: Any, fail: Any, *more: Any, **named: Any) -> Any:
        until_s = time.monotonic() + _GIVE_UP_S

        def failed(error: Exception, *count: int) -> None:
            fail(error, *count)
            if time.monotonic() >= until_s:
                raise error

        return call(do, failed, *more, **named)

    retry.call_with_retry = bounded
    return retry


def concerns_server(error: BaseException) -> bool:
    """Tell whether an error is of the server, and not of the command that it answers."""
    kinds = driver().exceptions
    names = (
        "ConnectionError",
        "TimeoutError",
        "ReadOnlyError",
        "OutOfMemoryError",
        "NoPermissionError",
        "ClusterError",
        "ExecAbortError",
        "TryAgainError",
        "ClusterDownError",
        "MasterDownError",
    )
    found = tuple(getattr(kinds, name) for name in names if hasattr(kinds, name))
    words = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "CROSSSLOT")
    return isinstance(error, found) or str(error).startswith(words)


def _check_scheme(url: str, shown: Server) -> None:
    if not url.startswith(_SCHEMES):
        raise PlanError(f"{shown} is no URL of Redis", hint=f"they begin with {_SCHEMES}")
