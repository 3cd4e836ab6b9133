"""The receiving side of channels: frames in order of arrival, and the credit given for more."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from raystream.config import Limits
from raystream.errors import ProtocolError
from raystream.flow.codec import read_header
from raystream.flow.element import MAX_TIME
from raystream.flow.ids import ChannelId
from raystream.subtask.events import CreditCame, GrantCredit
from raystream.subtask.wiring import Link

_RATE_SPAN_US = 20_000
_LATE_GRANT_US = 10_000


@dataclass(slots=True)
class Incoming:
    """One channel: what has come and gone, and how fast it is consumed."""

    link: Link
    window_bytes: int
    sequence: int = 0
    consumed_bytes: int = 0
    granted_bytes: int = 0
    granted_us: int = 0
    queued_bytes: int = 0
    rate_from_us: int = 0
    rate_bytes: int = 0
    finished: bool = False
    aside: deque[bytes] | None = None  # frames behind a barrier that others have yet to bring

    @property
    def owed_bytes(self) -> int:
        """What is consumed and not yet granted again."""
        return self.consumed_bytes - self.granted_bytes


class Inbox:
    """Bounded by the credit that it grants: what it holds was allowed to come."""

    def __init__(self, links: list[Link], attempt: int, limits: Limits) -> None:
        self._attempt = attempt
        self._limits = limits
        self._share_bytes = limits.input_bytes_max // max(1, len(links))
        start = limits.channel_bytes_min
        self.channels = {link.channel: Incoming(link, start) for link in links}
        self._owed: dict[ChannelId, Incoming] = {}  # that have consumed what is not yet granted
        self._frames: deque[tuple[Incoming, bytes]] = deque(maxlen=None)  # bounded by credit

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def queued_bytes(self) -> int:
        """What waits here, on all channels."""
        return sum(channel.queued_bytes for channel in self.channels.values())

    def receive(self, frame: bytes) -> None:
        """Take a frame; one of an older attempt is dropped.

        Raises: ProtocolError if it is out of sequence, or of a later attempt than ours.
        """
        header = read_header(frame)
        if header.attempt < self._attempt:
            return
        if header.attempt > self._attempt:
            raise ProtocolError(f"a frame of attempt {header.attempt} in {self._attempt}")
        channel = self.channels.get(header.channel)
        if channel is None:
            raise ProtocolError(f"a frame on {header.channel}, which does not end here")
        if header.sequence != channel.sequence:
            raise ProtocolError(
                f"{header.channel} brought frame {header.sequence}, expected {channel.sequence}"
            )
        channel.sequence += 1
        channel.queued_bytes += len(frame)
        if channel.aside is None:
            self._frames.append((channel, frame))
        else:
            channel.aside.append(frame)

    def next(self) -> tuple[Incoming, bytes]:
        """Take the frame that came first."""
        return self._frames.popleft()

    def hold(self, channel: ChannelId) -> None:
        """Keep back what a channel has brought and will bring, until ``release``."""
        entry = self.channels[channel]
        if entry.aside is None:
            entry.aside = deque(
                (f for c, f in self._frames if c is entry), maxlen=None
            )  # by credit
            others = [(c, f) for c, f in self._frames if c is not entry]
            self._frames.clear()
            self._frames.extend(others)

    def release(self, but: Collection[ChannelId] = ()) -> None:
        """Give way to what was held back, ``but`` for some channels."""
        for channel, entry in self.channels.items():
            if entry.aside is not None and channel not in but:
                self._frames.extend((entry, frame) for frame in entry.aside)
                entry.aside = None

    def before(self, checkpoint_id: int, channels: Iterable[ChannelId]) -> list[bytes] | None:
        """Give the frames that wait up to a barrier on channels that have yet to bring it.

        None where a channel has not even received it.
        """
        waiting: dict[ChannelId, list[bytes]] = {channel: [] for channel in channels}
        received: set[ChannelId] = set()
        frames: list[bytes] = []
        for entry, frame in self._frames:
            channel = entry.link.channel
            if channel in waiting and channel not in received:
                frames.append(frame)
                if read_header(frame).barrier == checkpoint_id:
                    received.add(channel)
        return frames if len(received) == len(waiting) else None

    def consumed(self, channel: Incoming, size_bytes: int, now_us: int) -> None:
        """Note that a frame is done with, and learn how fast the channel is consumed."""
        channel.consumed_bytes += size_bytes
        if not channel.finished:
            self._owed[channel.link.channel] = channel
        channel.queued_bytes -= size_bytes
        channel.rate_bytes += size_bytes
        passed_us = now_us - channel.rate_from_us
        if passed_us >= _RATE_SPAN_US:
            horizon = channel.rate_bytes * self._limits.credit_horizon_us // passed_us
            least = min(self._limits.channel_bytes_min, self._share_bytes)
            wanted = max(least, min(horizon, self._share_bytes))
            # Growing at once and shrinking slowly: a pause is no reason to starve the channel.
            channel.window_bytes = max(wanted, channel.window_bytes * 7 // 8, least)
            channel.window_bytes = min(channel.window_bytes, max(self._share_bytes, least))
            channel.rate_from_us, channel.rate_bytes = now_us, 0

    def grants(self, now_us: int) -> list[GrantCredit]:
        """Give the credit that is due.

        That is once a quarter of a window is owed, or when there is nothing left to do, of all
        channels or, for a while, of this one.
        """
        due = []
        for channel in list(self._owed.values()):
            owed = channel.owed_bytes
            starved = not self._frames and owed >= channel.window_bytes // 16
            if owed >= channel.window_bytes // 4 or starved or self._late_us(channel) <= now_us:
                channel.granted_bytes, channel.granted_us = channel.consumed_bytes, now_us
                credit = CreditCame(
                    channel.link.channel, channel.consumed_bytes, channel.window_bytes
                )
                due.append(GrantCredit(channel.link.peer, credit))
                del self._owed[channel.link.channel]
        return due

    def next_grant_us(self) -> int | None:
        """Tell when credit that is owed will be due, if nothing happens before."""
        due_us = min(map(self._late_us, self._owed.values()), default=MAX_TIME)
        return None if due_us == MAX_TIME else due_us

    def _late_us(self, channel: Incoming) -> int:
        # What still waits here will bring credit when it is done with.
        return MAX_TIME if channel.queued_bytes else channel.granted_us + _LATE_GRANT_US

    def progress(self, channel: ChannelId) -> GrantCredit:
        """Answer a sender that asks what has arrived; the answer renews its credit."""
        entry = self.channels[channel]
        entry.granted_bytes = entry.consumed_bytes
        self._owed.pop(channel, None)
        received = entry.consumed_bytes + entry.queued_bytes
        credit = CreditCame(channel, entry.consumed_bytes, entry.window_bytes, received)
        return GrantCredit(entry.link.peer, credit)

    def finish(self, channel: ChannelId) -> None:
        """Note that nothing more will come on a channel."""
        self.channels[channel].finished = True
        self._owed.pop(channel, None)
