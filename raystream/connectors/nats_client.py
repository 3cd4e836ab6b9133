"""How NATS is reached: its client is asynchronous, so each user has a loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from raystream.contracts.secret import Secret, check_plain, resolve
from raystream.errors import ConfigError, ExternalError, PlanError

_CONNECT_S = 5
ANSWER_S = 30.0
_CLOSE_S = 5.0

Result = TypeVar("Result")


def driver() -> Any:
    """Give the module that speaks to NATS.

    Raises: ConfigError where it is not installed.
    """
    try:
        import nats
        import nats.errors
        import nats.js.errors
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the NATS connectors need the package nats-py, which is not installed",
            hint="pip install 'raystream[nats]', on every node",
        ) from error
    return nats


@dataclass(frozen=True, slots=True)
class Servers:
    """A cluster by its URLs, with commas between; passwords and tokens stand in secrets alone."""

    urls: str | Secret
    user: str | None
    password: Secret | None
    token: Secret | None
    credentials: str | None
    error: type[ExternalError]

    def __post_init__(self) -> None:
        """Refuse what would show a secret."""
        check_plain(self.urls, "servers=")
        if isinstance(self.urls, str) and "@" in self.urls:
            raise PlanError(
                "servers= has a user or a token in it, which plans and logs would show",
                hint='user=, password=rs.secret("NAME"), token=rs.secret("NAME")',
            )
        for name, given in (("password", self.password), ("token", self.token)):
            if given is not None and not isinstance(given, Secret):
                raise PlanError(f'{name}= takes a rs.secret("NAME"), so that nothing shows it')

    def __str__(self) -> str:
        return repr(self.urls) if isinstance(self.urls, Secret) else self.urls

    def connect(self) -> Connection:
        """Connect. Raises: ``error`` where nobody answers, or lets us in."""
        nats = driver()
        settings: dict[str, Any] = {
            "servers": [one.strip() for one in resolve(self.urls).split(",") if one.strip()],
            "connect_timeout": _CONNECT_S,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.2,
            "name": "raystream",
            "error_cb": _silent,
        }
        if self.user is not None:
            settings["user"] = self.user
        if self.password is not None:
            settings["password"] = self.password.reveal()
        if self.token is not None:
            settings["token"] = self.token.reveal()
        if self.credentials is not None:
            settings["user_credentials"] = self.credentials
        loop = Loop()
        problem = None
        try:
            return Connection(loop, loop.run(nats.connect(**settings)))
        except (nats.errors.Error, OSError, asyncio.TimeoutError, ValueError) as error:
            problem = self.told("cannot connect", error)
        loop.close()
        raise problem  # outside of the handler: the client's error may repeat a URL

    def told(self, doing: str, error: BaseException) -> ExternalError:
        """Say what the client said, without what nobody may see."""
        said = " ".join(str(error).split()) or type(error).__name__
        for secret in (self.urls, self.password, self.token):
            if isinstance(secret, Secret) and secret.is_there:
                said = said.replace(secret.reveal(), "***")
        # It may have repeated a part of the URL alone.
        if isinstance(error, ValueError):
            said = "the URL cannot be read: nats://host:4222"
        return self.error(f"NATS at {self}: {doing}: {said}")


def failures() -> tuple[type[BaseException], ...]:
    """Give what the client raises."""
    nats = driver()
    return (nats.errors.Error, nats.js.errors.Error, OSError, asyncio.TimeoutError)


class Loop:
    """An event loop in a thread, for whoever waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, what: Coroutine[Any, Any, Result], timeout_s: float = ANSWER_S) -> Result:
        """Run something, and wait for it. Raises: asyncio.TimeoutError."""

        async def bounded() -> Result:
            task = asyncio.ensure_future(what)
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
            if not done:
                task.cancel()  # and not waited for: it may take for ever to hear of it
                raise asyncio.TimeoutError
            return task.result()

        return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()

    def close(self) -> None:
        """End the thread, and what still runs in it."""

        async def cancel() -> None:
            others = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
            for one in others:
                one.cancel()
            if others:
                await asyncio.wait(others, timeout=_CLOSE_S)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection, and the loop in which it lives."""

    loop: Loop
    client: Any

    def run(self, what: Coroutine[Any, Any, Result], timeout_s: float = ANSWER_S) -> Result:
        """Run something, and wait for it."""
        return self.loop.run(what, timeout_s)

    def close(self) -> None:
        """Close it, also one that is broken."""
        try:
            self.run(self.client.close(), _CLOSE_S)
        except failures():
            pass
        self.loop.close()


async def _silent(error: Exception) -> None:
    """What fails is raised where it is asked for."""
