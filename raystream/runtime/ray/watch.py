"""Tell of a subtask from beside it while its own thread is in a function that does not return."""

from __future__ import annotations

import threading
from collections.abc import Callable

from raystream.runtime.user_line import user_line


class Watch:
    """Looks once in a while whether a thread still comes round; ``beats`` counts that it does.

    ``tell`` is given the user's line that the thread is at.
    """

    def __init__(
        self,
        thread: int,
        beats: Callable[[], int],
        tell: Callable[[str], None],
        over: threading.Event,
    ) -> None:
        self._thread = thread
        self._beats = beats
        self._tell = tell
        self._over = over

    def run(self, every_s: float) -> None:
        """Watch until it is over; twice in a row without a beat is worth telling."""
        before, missed = self._beats(), 0
        while not self._over.wait(every_s):
            now = self._beats()
            missed = missed + 1 if now == before else 0
            before = now
            if missed >= 2:
                self._tell(user_line(self._thread))
