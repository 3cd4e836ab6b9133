"""Run the API: in this thread until a signal comes, or in a thread beside somebody's program."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from raystream.errors import ConfigError
from raystream.ops.http.security import door, new_token
from raystream.ops.http.server import Api
from raystream.ops.http.view import JobsView

if TYPE_CHECKING:
    from aiohttp import web

DEFAULT_PORT = 8900

PLAIN: dict[str, Any] = {"auto_decompress": False}
"""Nothing is unpacked that somebody sends: a few bytes may be gigabytes then."""

_SHUT_S = 2.0


async def listen(api: Api, host: str, port: int) -> tuple[web.AppRunner, str]:
    """Begin to serve; give what is to be cleaned up, and the address.

    Raises: ConfigError where the address cannot be had.
    """
    from aiohttp import web

    runner = web.AppRunner(api.app(), access_log=None, shutdown_timeout=_SHUT_S, **PLAIN)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="give another --port, or 0 for any that is free",
        ) from error
    bound: int = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return runner, f"http://{shown}:{bound}"


async def serve_until_told(
    api: Api, host: str, port: int, listening: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM comes; ``listening`` is told the address.

    Raises: ConfigError where the address cannot be had.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, told.set)
    runner, url = await listen(api, host, port)
    try:
        listening(url)
        await told.wait()
    finally:
        await runner.cleanup()


class Server:
    """The API in a thread of its own, between entering and leaving.

    ``url`` is where, ``token`` what is asked for. On loopback alone; another address is for
    ``raystream dashboard``.
    """

    def __init__(self, jobs: JobsView, *, port: int = 0, every_s: float = 1.0) -> None:
        self.token = new_token()
        self.url = ""
        self._api = Api(jobs, door("127.0.0.1", self.token), every_s=every_s)
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        listening = listen(self._api, "127.0.0.1", self._port)
        try:
            self._runner, self.url = asyncio.run_coroutine_threadsafe(
                listening, self._loop
            ).result()
        except ConfigError:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None, "left once, after it was entered"
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
