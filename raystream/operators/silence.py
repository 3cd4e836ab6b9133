"""When a stream in the middle of a job has been silent for so long that it is idle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raystream.flow.element import Status

LOOKS: Final = 8
"""Looks at the clock until a stream is idle.

The time between two of them counts once, however late the second comes: while an output is full, or
other rows are worked on, nobody looks.
"""


class Silence:
    """Tells of idleness: that of the input, and that of ``idleness_us`` without a row; None: never.

    Only where both are over is the stream active again.
    """

    def __init__(self, idleness_us: int | None) -> None:
        self._look_us = None if idleness_us is None else max(1, -(-idleness_us // LOOKS))
        self._looks = 0
        self._idle_input = False
        self._said = False
        self.due_us: int | None = None

    def begin(self, now_us: int) -> None:
        """Begin to wait for a row."""
        self._looks = 0
        self.due_us = None if self._look_us is None else now_us + self._look_us

    def broken(self) -> Iterator[Status]:
        """Take that rows come."""
        self._looks, self.due_us = 0, None
        self._idle_input = False
        yield from self._changes()

    def told(self, status: Status) -> Iterator[Status]:
        """Take what the input says of itself."""
        self._idle_input = status.idle
        yield from self._changes()

    def look(self, now_us: int) -> Iterator[Status]:
        """Take that nothing has come until now."""
        if self.due_us is None or self._look_us is None or now_us < self.due_us:
            return
        self._looks += 1
        self.due_us = None if self._looks >= LOOKS else now_us + self._look_us
        yield from self._changes()

    def _changes(self) -> Iterator[Status]:
        idle = self._idle_input or self._looks >= LOOKS
        if idle is not self._said:
            self._said = idle
            yield Status(idle)
