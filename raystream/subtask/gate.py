"""Combine the watermarks and statuses of several inputs into one.

A channel is ACTIVE, IDLE or FINISHED. The output is the least watermark of the channels that are
active and aligned, and only if it rises. An idle channel leaves; turning active, it is aligned once
it has caught up with the last output. When every unfinished channel is idle, the greatest of
their watermarks goes out, then the idleness itself. A finished channel never holds anything back.
The same rule serves the channels of a subtask and the splits of a source.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from raystream.errors import ProtocolError
from raystream.flow.element import MIN_TIME, Status, Watermark


class ChannelState(enum.Enum):
    """What a channel says of itself."""

    ACTIVE = "active"
    IDLE = "idle"
    FINISHED = "finished"


@dataclass(slots=True)
class _Channel:
    watermark_us: int = MIN_TIME
    state: ChannelState = ChannelState.ACTIVE
    aligned: bool = True


class Gate:
    """The time of all inputs together; each call gives what goes on, in order."""

    def __init__(self) -> None:
        self._channels: dict[Hashable, _Channel] = {}
        self.output_us = MIN_TIME
        self.idle = False

    def add(self, channel: Hashable, watermark_us: int = MIN_TIME) -> list[Status]:
        """Let a channel take part; it holds the output at its own watermark from now on."""
        assert channel not in self._channels, "a channel is added once"
        self._channels[channel] = _Channel(
            watermark_us, aligned=watermark_us >= self.output_us or self.output_us == MIN_TIME
        )
        return list(self._awake())

    def watermark_of(self, channel: Hashable) -> int:
        """Give the last watermark of one channel."""
        return self._channels[channel].watermark_us

    def state_of(self, channel: Hashable) -> ChannelState:
        """Give the state of one channel."""
        return self._channels[channel].state

    def channels(self) -> list[tuple[Hashable, ChannelState, int]]:
        """Give every channel with its state and its last watermark."""
        return [(name, one.state, one.watermark_us) for name, one in list(self._channels.items())]

    def watermark(self, channel: Hashable, time_us: int) -> Iterator[Watermark | Status]:
        """Take a watermark; a regressing one is ignored, any makes an idle channel active."""
        yield from self.active(channel)
        entry = self._channels[channel]
        if time_us > entry.watermark_us:
            entry.watermark_us = time_us
            entry.aligned = entry.aligned or time_us >= self.output_us
            yield from self._advance()

    def active(self, channel: Hashable) -> Iterator[Watermark | Status]:
        """Take a sign of life; time may go on by it where all others were catching up."""
        entry = self._channels[channel]
        if entry.state is ChannelState.ACTIVE:
            return
        if entry.state is ChannelState.FINISHED:
            raise ProtocolError(f"an element on channel {channel} after its end")
        entry.state = ChannelState.ACTIVE
        entry.aligned = entry.watermark_us >= self.output_us
        yield from self._awake()
        yield from self._advance()

    def go_idle(self, channel: Hashable) -> Iterator[Watermark | Status]:
        """Take that a channel has nothing to say for now."""
        entry = self._channels[channel]
        if entry.state is not ChannelState.ACTIVE:
            return
        entry.state = ChannelState.IDLE
        yield from self._advance()

    def finish(self, channel: Hashable) -> Iterator[Watermark | Status]:
        """Take that a channel has ended."""
        self._channels[channel].state = ChannelState.FINISHED
        yield from self._advance()

    def rest(self) -> Iterator[Status]:
        """Take that others may come though no channel is left: until then there is no time."""
        if self.finished and not self.idle:
            self.idle = True
            yield Status(idle=True)

    @property
    def finished(self) -> bool:
        """Whether all channels have ended."""
        return all(c.state is ChannelState.FINISHED for c in self._channels.values())

    def _awake(self) -> Iterator[Status]:
        if self.idle:
            self.idle = False
            yield Status(idle=False)

    def _advance(self) -> Iterator[Watermark | Status]:
        remaining = [c for c in self._channels.values() if c.state is not ChannelState.FINISHED]
        if not remaining:
            return
        active = [c for c in remaining if c.state is ChannelState.ACTIVE]
        if active:
            aligned = [c.watermark_us for c in active if c.aligned]
            if aligned:
                yield from self._rise(min(aligned))
            return
        yield from self._rise(max(c.watermark_us for c in remaining))
        if not self.idle:
            self.idle = True
            yield Status(idle=True)

    def _rise(self, time_us: int) -> Iterator[Watermark]:
        if time_us > self.output_us:
            self.output_us = time_us
            yield Watermark(time_us)
