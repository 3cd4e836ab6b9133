"""What jobs are at, once a second, for all who listen: jobs are asked once, however many do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from raystream.coordinator.report import JobReport
from raystream.errors import RaystreamError
from raystream.ops.http.answers import Refused, json_text, problem
from raystream.ops.http.reading import details

EVERY_S = 1.0
LISTENERS_MAX = 32
_BEHIND_MAX = 4
"""A listener that is further behind misses what it is too slow for: the newest counts."""

Listed = Sequence[tuple[str, "JobReport | None"]]


class Listener:
    """Somebody who listens, to all jobs or to one, by its name or id."""

    def __init__(self, job: str | None) -> None:
        self._job = job
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue(_BEHIND_MAX)

    def tell(self, listed: Listed) -> None:
        """Give it what it listens to."""
        for name, seen in listed:
            if self._job in (None, name) or (seen is not None and self._job == seen.job_id):
                self.put(_event("job", json_text(details(name, seen))))

    def put(self, text: str | None) -> None:
        """Let it have a text in its turn; None is the end."""
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(text)

    async def next(self) -> str | None:
        """Wait for what comes next."""
        return await self._waiting.get()


class Feed:
    """Asks for all jobs while anybody listens."""

    def __init__(self, ask: Callable[[], Awaitable[Listed]], every_s: float = EVERY_S) -> None:
        self._ask = ask
        self._every_s = every_s
        self._listeners: dict[Listener, None] = {}  # bounded by LISTENERS_MAX
        self._task: asyncio.Task[None] | None = None

    def listen(self, job: str | None) -> Listener:
        """Let somebody listen.

        Raises: Refused where too many do.
        """
        if len(self._listeners) >= LISTENERS_MAX:
            raise Refused(
                429, "too_many", f"{LISTENERS_MAX} listen already", hint="close one, and try again"
            )
        listener = Listener(job)
        self._listeners[listener] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._over)
        return listener

    def leave(self, listener: Listener) -> None:
        """Let go of somebody."""
        self._listeners.pop(listener, None)

    async def close(self) -> None:
        """Tell everybody that it is over."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _over(self, _: asyncio.Task[None]) -> None:
        """Let go of all who listen, also where a bug of ours has ended it."""
        for listener in self._listeners:
            listener.put(None)

    async def _run(self) -> None:
        while self._listeners:
            try:
                listed = await self._ask()
            except RaystreamError as error:
                said = _event("error", problem(error).text)
                for listener in self._listeners:
                    listener.put(said)
            else:
                for listener in self._listeners:
                    listener.tell(listed)
            await asyncio.sleep(self._every_s)


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"
