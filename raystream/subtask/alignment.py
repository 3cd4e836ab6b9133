"""Which channels have brought the barrier of the checkpoint that is under way.

Exactly once: a channel that has brought it is held until all have, so that a snapshot has the
effects of exactly the rows before it. A channel that has ended counts as having it. A barrier of a
newer checkpoint gives the older one up; one of a checkpoint that is over is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable

from raystream.flow.element import Barrier
from raystream.flow.ids import ChannelId


class Alignment:
    """The channels of one subtask; ``holds`` says whether they are held back at all."""

    def __init__(self, channels: Iterable[ChannelId], *, holds: bool, done: int = 0) -> None:
        self._open = dict.fromkeys(channels)
        self._holds = holds
        self._brought: dict[ChannelId, None] = {}
        self._done = done
        self.pending: Barrier | None = None
        self.since_us = 0

    @property
    def held(self) -> list[ChannelId]:
        """The channels whose rows wait now."""
        return list(self._brought) if self._holds and self.pending is not None else []

    @property
    def missing(self) -> list[ChannelId]:
        """The channels that have yet to bring the barrier."""
        return [channel for channel in self._open if channel not in self._brought]

    def barrier(self, channel: ChannelId, barrier: Barrier, now_us: int) -> Barrier | None:
        """Take a barrier; give it back once it is complete."""
        under_way = self._done if self.pending is None else self.pending.checkpoint_id
        if barrier.checkpoint_id <= self._done or barrier.checkpoint_id < under_way:
            return None
        if barrier != self.pending:
            self.pending, self.since_us, self._brought = barrier, now_us, {}
        self._brought[channel] = None
        return self._complete()

    def finish(self, channel: ChannelId) -> Barrier | None:
        """Note that a channel has ended; that may complete a barrier."""
        self._open.pop(channel, None)
        return self._complete()

    def give_up(self, checkpoint_id: int) -> None:
        """Let go of a checkpoint, also of one whose barrier is still to come."""
        if self.pending is not None and self.pending.checkpoint_id <= checkpoint_id:
            self.pending, self._brought = None, {}
        self._done = max(self._done, checkpoint_id)

    def passed(self, checkpoint_id: int) -> None:
        """Note that a barrier was taken, before or behind the time when all had brought it."""
        self.give_up(checkpoint_id)

    def _complete(self) -> Barrier | None:
        return self.pending if self.pending is not None and not self.missing else None
