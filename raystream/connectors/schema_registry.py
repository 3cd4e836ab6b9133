"""Ask a schema registry (Confluent's protocol) what the number in a message means.

A message begins with a zero byte and the number of its schema, four bytes, the highest first.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from raystream.connectors.file_listing import refuse_password
from raystream.errors import PlanError, SourceError

_MAGIC = 0
_HEADER_BYTES = 5
_TIMEOUT_S = 10.0
_TRIES = 3
_NOT_FOUND = 404

_SCHEMAS_MAX = 1_000
"""Schemas that one reader knows; a stream of more numbers is no stream of data."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Registry:
    """Where schemas are registered; ``password`` is a text or a function that gives one.

    Nothing of it but the address is ever shown.
    """

    url: str
    user: str | None = None
    password: str | Callable[[], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse_password(self.url)
        if not self.url.startswith(("http://", "https://")):
            raise PlanError(f"a schema registry has an http address, got {self.url!r:.60}")

    def schema_of(self, number: int) -> dict[str, Any]:
        """Give what is registered under a number: ``schema``, and ``schemaType`` unless Avro.

        Raises: SourceError if there is nothing, which is a fault of the message; ConnectionError
        if the registry does not answer, which is no fault of any message.
        """
        return self._ask(f"/schemas/ids/{number}", None)

    def register(self, subject: str, schema: str, kind: str) -> int:
        """Give the number of a schema under a subject; registers it where it is new.

        Raises: ConnectionError if the registry refuses it, or does not answer.
        """
        path = f"/subjects/{urllib.parse.quote(subject, safe='')}/versions"
        body = {"schema": schema, **({} if kind == "AVRO" else {"schemaType": kind})}
        return int(self._ask(path, body)["id"])

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        kind = "application/vnd.schemaregistry.v1+json"
        request = urllib.request.Request(  # noqa: S310  the scheme was looked at
            self.url.rstrip("/") + path,
            None if body is None else json.dumps(body).encode(),
            {"Accept": kind, "Content-Type": kind, **self._login()},
        )
        last: BaseException | None = None
        for _ in range(_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                    found: dict[str, Any] = json.loads(answer.read())
                    return found
            except urllib.error.HTTPError as error:  # noqa: PERF203  a few rounds
                if error.code == _NOT_FOUND:
                    raise SourceError(f"the registry at {self.url} has no {path}") from None
                last = error
                if error.code < 500:
                    break
            except (OSError, ValueError) as error:
                last = error
        raise ConnectionError(
            f"the schema registry at {self.url} does not answer {path}: {last}"
        ) from None

    def _login(self) -> dict[str, str]:
        if self.user is None:
            return {}
        password = self.password() if callable(self.password) else self.password or ""
        login = base64.b64encode(f"{self.user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {login}"}


class Known(Generic[Made]):
    """What one reader has learned of numbers: what was made of each schema, and which are none.

    Those that are none are remembered as well: a schema is registered before it is written with.
    """

    def __init__(self, registry: Registry, make: Callable[[int, dict[str, Any]], Made]) -> None:
        self._registry = registry
        self._make = make
        self._made: dict[int, Made] = {}
        self._refused: dict[int, str] = {}

    def of(self, number: int) -> Made:
        """Give what was made of a schema.

        Raises: SourceError if there is none, or none of the kind; ConnectionError.
        """
        if number in self._made:
            return self._made[number]
        if number in self._refused:
            raise SourceError(self._refused[number])
        try:
            made = self._make(number, self._registry.schema_of(number))
        except SourceError as error:
            if len(self._refused) < _SCHEMAS_MAX:
                self._refused[number] = error.message
            raise
        if len(self._made) < _SCHEMAS_MAX:
            self._made[number] = made
        return made


def unwrapped(value: bytes) -> tuple[int, bytes]:
    """Give the number of the schema, and what follows it.

    Raises: SourceError where a message does not begin so.
    """
    if len(value) < _HEADER_BYTES or value[0] != _MAGIC:
        raise SourceError(
            f"the value of {len(value)} bytes does not begin with the number of a schema",
            hint="was it written with a schema registry? Without one leave registry= out",
        )
    return struct.unpack(">I", value[1:_HEADER_BYTES])[0], value[_HEADER_BYTES:]


def wrapped(number: int) -> bytes:
    """Give what a message of a schema begins with."""
    return struct.pack(">BI", _MAGIC, number)
