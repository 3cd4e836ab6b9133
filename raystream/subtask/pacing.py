"""How far the splits of an aligned source may run ahead of the slowest of their group.

A subtask knows its own splits, and from the coordinator the least watermark of the others of the
group. What it knows of them may be old, and then too low: it waits a little longer than it must,
never for ever, because whoever is behind is read, and tells how far it has come.
"""

from __future__ import annotations

from collections.abc import Iterator

from raystream.contracts.watermark import Alignment
from raystream.flow.messages import SourceTime
from raystream.subtask.events import Tell

_TELL_US = 100_000
"""A subtask whose watermark moves tells it this often, and at once where it has to wait."""


class Pace:
    """The limit of one source subtask; without alignment there is none."""

    def __init__(self, alignment: Alignment | None) -> None:
        self._drift_us = None if alignment is None else alignment.max_drift_us
        self._told: tuple[int | None] | None = None  # what was told last, if anything
        self._told_us = 0
        self.others_us: int | None = None

    def limit_us(self, own_us: int | None) -> int | None:
        """Give the watermark that a split must not be ahead of; None: it may go on.

        ``own_us`` is the least watermark of this subtask's active splits, None without any.
        """
        known = [time_us for time_us in (own_us, self.others_us) if time_us is not None]
        if self._drift_us is None or not known:
            return None
        return min(known) + self._drift_us

    def tells(self, own_us: int | None, now_us: int, *, waits: bool) -> Iterator[Tell]:
        """Tell the coordinator what is new: seldom, or at once where all splits wait or none is."""
        at_once = waits or own_us is None
        if any(at_once or due_us <= now_us for due_us in self.dues(own_us)):
            self._told, self._told_us = (own_us,), now_us
            yield Tell(SourceTime(own_us))

    def dues(self, own_us: int | None) -> Iterator[int]:
        """Give when something new is to be told, if there is any."""
        if self._drift_us is not None and self._told != (own_us,):
            yield self._told_us + (_TELL_US if self._told else 0)
