"""Requests that arrive: one connection that is kept, retries, and errors without any secret."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from raystream.contracts.secret import Secret, check_plain, resolve
from raystream.errors import ConfigError, ExternalError, PlanError

_SECRET_HEADER = re.compile(r"auth|token|secret|password|cookie|key$", re.IGNORECASE)
_SPECIAL = ("idempotency-key",)
_TRIED_AGAIN = frozenset({408, 425, 429, 502, 503, 504})
_PAUSE_FIRST_S, _PAUSE_LONGEST_S = 0.1, 5.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to send requests to; passwords and tokens stand in secrets alone.

    ``headers`` go with each request. ``error`` is what is raised where nobody answers.
    """

    url: str | Secret
    headers: tuple[tuple[str, str | Secret], ...]
    error: type[ExternalError]
    timeout_s: float = 30.0

    @classmethod
    def of(
        cls,
        url: str | Secret,
        headers: Mapping[str, str | Secret] | None,
        error: type[ExternalError],
        timeout_s: float = 30.0,
    ) -> Endpoint:
        """Check what users say. Raises: PlanError for what would show a secret, or is no URL."""
        check_plain(url, "url=")
        for name, value in (headers or {}).items():
            known = name.lower() not in _SPECIAL and _SECRET_HEADER.search(name)
            if known and not isinstance(value, Secret):
                raise PlanError(
                    f'the header "{name}" holds what nobody may see',
                    hint='headers={"' + name + '": rs.secret("NAME")}',
                )
            if not isinstance(value, str | Secret):
                raise PlanError(f'the header "{name}" takes a text or a rs.secret(…)')
        made = cls(url, tuple((headers or {}).items()), error, timeout_s)
        if isinstance(url, str):
            made.read()
        return made

    def __str__(self) -> str:
        return repr(self.url) if isinstance(self.url, Secret) else self.url

    def read(self) -> tuple[bool, str, int, str, dict[str, str]]:
        """Read where requests go: whether by TLS, host, port, path, and headers.

        Raises: ConfigError for a URL that cannot be read.
        """
        try:
            parts = urlsplit(resolve(self.url))
            port, host = parts.port, parts.hostname
        except ValueError:
            parts, port, host = None, None, None  # its error would repeat what it could not read
        if parts is None or parts.scheme not in {"http", "https"} or not host:
            raise ConfigError(
                f"the URL {self} cannot be read",
                hint="http://host:port/path; encode what is special in a password",
            )
        headers = {name: resolve(value).strip() for name, value in self.headers}
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers.setdefault("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
        tls = parts.scheme == "https"
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return tls, host, port or (443 if tls else 80), path, headers


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes
    retry_after_s: float | None = None

    @property
    def shown(self) -> str:
        """Say it in a line."""
        text = " ".join(self.body[:400].decode("utf-8", "replace").split())
        return f"{self.status} {text}".rstrip()


class HttpClient:
    """Sends requests of one subtask, one after the other."""

    def __init__(
        self, endpoint: Endpoint, retries: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._endpoint, self._retries, self._sleep = endpoint, retries, sleep
        tls, self._host, self._port, self.path, self._headers = endpoint.read()
        self._tls = ssl.create_default_context() if tls else None
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request until it is answered by more than "later", at most ``retries`` times more.

        Raises: the endpoint's error where nobody answers.
        """
        pause_s, last = _PAUSE_FIRST_S, ""
        for left in range(self._retries, -1, -1):
            try:
                answer = self._once(method, path, body, {**self._headers, **(headers or {})})
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                last, wait_s = f"{type(error).__name__}: {self._safe(str(error))}", pause_s
            else:
                if answer.status not in _TRIED_AGAIN or not left:
                    return answer
                wait_s = answer.retry_after_s if answer.retry_after_s is not None else pause_s
            if left:
                self._sleep(min(wait_s, _PAUSE_LONGEST_S))
                pause_s = min(2 * pause_s, _PAUSE_LONGEST_S)
        raise self._endpoint.error(f"{self._endpoint} does not answer: {last}")

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            timeout = self._endpoint.timeout_s
            self._connection = (
                http.client.HTTPConnection(self._host, self._port, timeout=timeout)
                if self._tls is None
                else http.client.HTTPSConnection(
                    self._host, self._port, timeout=timeout, context=self._tls
                )
            )
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.read(_ANSWER_BYTES_MAX), _seconds(answer))

    def _safe(self, said: str) -> str:
        """Take out what nobody may see: errors repeat headers that cannot be sent."""
        for value in self._headers.values():
            said = said.replace(value, "***").replace(repr(value)[1:-1], "***")
        return said


def _seconds(answer: Any) -> float | None:
    given = answer.headers.get("Retry-After", "")
    return float(given) if re.fullmatch(r"\d{1,6}", given) else None
