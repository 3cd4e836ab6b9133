"""An event loop in a thread of its own, where async functions of users run for one operator.

The operator stays synchronous: it starts calls, looks now and then which of them are over, and
waits for some only as long as it is told.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from raystream.errors import InternalError
from raystream.operators.guard import Failed, attempts

_STOPPING_S = 5.0
"""How long calls that were canceled may take to end: one that does not is left to its thread."""


class Call:
    """One call: ``result`` is what came of it, or ``Failed``, once it is ``done``."""

    __slots__ = ("done", "result", "row")

    def __init__(self, row: Any) -> None:
        self.row = row
        self.result: Any = None
        self.done = False


class EventLoop:
    """A loop that runs from ``start`` to ``stop``; no thread is left behind whatever happens."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._progress = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        # A daemon: a function that never gives way must not keep the process.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"{self._name} event loop", daemon=True
        )
        self._thread.start()

    def run(self, call: Callable[[], Any]) -> Any:
        """Call something in the loop, await what it gives, and wait for that."""
        assert self._loop is not None, "a loop is started before it is used"
        return asyncio.run_coroutine_threadsafe(_called(call), self._loop).result()

    def begin(
        self,
        function: Callable[[Any], Awaitable[Any]],
        calls: Sequence[Call],
        *,
        times: int,
        timeout_s: float | None,
    ) -> None:
        """Start calls of a user's function; each attempt may take ``timeout_s``."""
        assert self._loop is not None, "a loop is started before it is used"

        def start() -> None:
            # A task for each row: the function is the user's, and waits for each on its own.
            for call in calls:
                coroutine = attempts(function, call.row, times=times, timeout_s=timeout_s)
                task = asyncio.ensure_future(coroutine)
                self._tasks.add(task)
                task.add_done_callback(lambda task, call=call: self._over(task, call))  # type: ignore[misc]

        self._loop.call_soon_threadsafe(start)

    def wait(self, over: Callable[[], bool], seconds: float | None) -> None:
        """Wait until something is so, which is asked whenever a call is over; at most so long."""
        while True:
            self._progress.clear()
            if over():
                return
            alive = self._thread is not None and self._thread.is_alive()
            if not alive:
                raise InternalError(f"the event loop of {self._name} is gone")
            if not self._progress.wait(seconds):
                return

    def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._cancel(), loop)
        thread.join(2 * _STOPPING_S)
        if not thread.is_alive():
            loop.close()

    async def _cancel(self) -> None:
        loop = asyncio.get_running_loop()
        # What the user's functions have started beside our calls, too.
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOPPING_S)
        await loop.shutdown_asyncgens()
        loop.stop()

    def _over(self, task: asyncio.Task[Any], call: Call) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # by the function itself, or because we stop
            call.result = Failed(asyncio.CancelledError("the call was canceled"))
        elif error := task.exception():
            call.result = Failed(error)
        else:
            call.result = task.result()
        call.done = True
        self._progress.set()


async def _called(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if inspect.isawaitable(result) else result
