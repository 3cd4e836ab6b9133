"""The thread that runs an actor's subtasks, one after the other, attempt after attempt.

It is one thread, because operators may stay open from one attempt to the next, and what a user's
function has opened may be of use in its own thread alone.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Protocol

from raystream.runtime.left_open import close
from raystream.subtask.handing_over import Resting

_LOG = logging.getLogger("raystream")


class Turn(Protocol):
    """One subtask in one attempt."""

    name: str
    stays: bool
    done: threading.Event

    def run(self, resting: Resting | None) -> Resting | None:
        """Live from deployment to the end, with the operators that the turn before has left open.

        They are the turn's now: it takes them up, or closes them. Gives what it leaves open itself.
        """

    def over(self) -> None:
        """Let whoever waits for its end know; nothing of what it has said is under way then."""


class Turns:
    """Runs what it is given in its thread."""

    def __init__(self) -> None:
        self._next: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()  # one at a time
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def give(self, turn: Turn) -> None:
        """Run a subtask, once the one before is over."""
        self._next.put(turn)

    def end(self, timeout_s: float = 0.0) -> None:
        """Close what rests, once the turn under way is over; no other follows."""
        self._next.put(None)
        self._ended.wait(timeout_s)

    def _run(self) -> None:
        resting: Resting | None = None
        try:
            while (turn := self._next.get()) is not None:
                threading.current_thread().name = turn.name
                if not turn.stays:
                    close(resting)
                    resting = None
                resting = _taken(turn, resting)
        finally:
            close(resting)
            self._ended.set()


def _taken(turn: Turn, given: Resting | None) -> Resting | None:
    left: Resting | None = None
    try:
        try:
            left = turn.run(given)
        finally:
            turn.over()
    except BaseException:  # noqa: BLE001  the next turn needs this thread
        _LOG.warning("%s has broken off", turn.name, exc_info=True)
    finally:
        turn.done.set()
    return left
