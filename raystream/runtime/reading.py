"""The thread in which the readers of one subtask live, attempt after attempt.

It is one thread, as long as they are open: what a reader has opened may be of use in its own thread
alone. Between two attempts it rests, and has answered all that it was asked.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

from raystream.graph.physical import Chain
from raystream.runtime.shell import Readers, source_spec
from raystream.subtask.events import Acknowledge, Poll, Polled
from raystream.subtask.handing_over import Resting

_LOG = logging.getLogger("raystream")

_LET_GO_S = 2.0
"""A reader whose poll takes longer is left to itself: it is closed once it comes back."""


class ReadingThread:
    """Asks readers, in order; whoever has it says who hears the answers."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        # Bounded by the polls under way, and the checkpoints that complete meanwhile.
        self._asked: queue.SimpleQueue[Poll | Acknowledge | threading.Event | None]
        self._asked = queue.SimpleQueue()
        self._answer: Callable[[Polled], None] = lambda _: None
        self._failed: Callable[[BaseException], None] = _nobody_hears
        self._still: threading.Event | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def serve(
        self, answer: Callable[[Polled], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Answer to somebody else from now on; nothing is under way."""
        self._answer, self._failed = answer, failed
        if self._thread.ident is None:
            self._thread.start()

    def ask(self, what: Poll | Acknowledge) -> None:
        """Ask for rows, or tell what is durable."""
        self._asked.put(what)

    def rest(self, timeout_s: float = _LET_GO_S) -> bool:
        """Wait until all is answered; tell whether it is, and the readers are open still."""
        still = self._still = threading.Event()
        self._asked.put(still)
        if self._over.is_set() or not still.wait(timeout_s) or self._over.is_set():
            return False
        self._answer, self._failed = lambda _: None, _nobody_hears
        return True

    def close(self, timeout_s: float = _LET_GO_S) -> None:
        """Close the readers in their thread, once what they were asked is answered."""
        self._asked.put(None)
        waited = self._still is not None and not self._still.is_set()
        if self._thread.ident is not None and not waited:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            with contextlib.closing(self._readers):
                while (asked := self._asked.get()) is not None:
                    match asked:
                        case Poll():
                            self._answer(self._readers.poll(asked))
                        case Acknowledge():
                            self._readers.acknowledge(asked)
                        case _:
                            asked.set()
        except BaseException as error:  # noqa: BLE001  a user's reader may call sys.exit
            self._failed(error)
        finally:
            self._over.set()
            if self._still is not None:
                self._still.set()


def reading_of(chain: Chain, resting: Resting | None) -> ReadingThread | None:
    """Give what reads the splits of a subtask, if it is a source's: its readers may be open."""
    spec = source_spec(chain)
    if spec is None:
        return None
    left = None if resting is None else resting.readers
    assert left is None or isinstance(left, ReadingThread), "they are this shell's"
    return left or ReadingThread(Readers(spec))


def _nobody_hears(error: BaseException) -> None:
    _LOG.warning("readers that were left open cannot be closed: %s", error)
