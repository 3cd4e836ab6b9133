"""The sending side of channels: what waits for credit, and how it is cut into envelopes.

An envelope that is full goes as soon as it has credit. A partial one waits until the subtask has
nothing else to do, so that rows coalesce at high load and leave at once at low load. While there is
no credit rows coalesce too, until the channel is full and the subtask stops pulling.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from raystream.config import Limits
from raystream.flow.batch import Batch, Columns, Objects, concat
from raystream.flow.codec import Header, encode
from raystream.flow.element import MIN_TIME, Element, EndOfInput, Status, Watermark
from raystream.subtask.events import Send
from raystream.subtask.partition import Partitioner
from raystream.subtask.wiring import Link

_OBJECT_BYTES_GUESS = 64.0


class Outgoing:
    """One channel: pending elements, the bytes under way, the credit for more."""

    def __init__(self, link: Link, attempt: int, limits: Limits) -> None:
        self.link = link
        self._attempt = attempt
        self._limits = limits
        self._pending: list[Element] = []
        self.pending_bytes = 0
        self._object_bytes = _OBJECT_BYTES_GUESS
        self._sequence = 0
        self.sent_bytes = 0
        self.consumed_bytes = 0
        self.window_bytes = limits.channel_bytes_min
        self.watermark_us = MIN_TIME
        self._ended = False

    @property
    def _envelope_limit(self) -> int:
        half = max(self.window_bytes // 2, self._limits.envelope_bytes_inline)
        return min(half, self._limits.envelope_bytes_max)

    @property
    def sendable(self) -> bool:
        """Whether something waits to be sent, and may be."""
        return bool(self._pending) and self._has_credit

    @property
    def full(self) -> bool:
        """Whether more rows must wait: an envelope's worth is pending already."""
        return self.pending_bytes >= min(self._envelope_limit, self._limits.envelope_bytes_large)

    @property
    def in_flight_bytes(self) -> int:
        return self.sent_bytes - self.consumed_bytes

    @property
    def _has_credit(self) -> bool:
        # With nothing under way an envelope of any size may go: a wide row must not wait forever.
        needed = min(self.pending_bytes, self._limits.envelope_bytes_inline)
        return not self.in_flight_bytes or self.window_bytes - self.in_flight_bytes >= needed

    def put(self, batch: Batch) -> None:
        """Add rows."""
        assert not self._ended, "no rows after the end of input"
        schema: pa.Schema | None = self.link.schema
        if isinstance(batch, Columns):
            assert batch.record.schema.equals(schema), (
                f"{self.link.channel} carries {schema}, got {batch.record.schema}"
            )
        else:
            assert schema is None, f"objects on the columnar {self.link.channel}"
        self._pending.append(batch)
        self.pending_bytes += self._size(batch)

    def watermark(self, time_us: int) -> None:
        """Add a watermark; of several with no rows between them the last stays."""
        assert time_us > self.watermark_us, "a watermark rises"
        self.watermark_us = time_us
        if self._pending and isinstance(self._pending[-1], Watermark):
            self._pending.pop()
        self._pending.append(Watermark(time_us))

    def urgent(self, element: Status | EndOfInput) -> Iterator[Send]:
        """Send a control element with all that is pending, over the window by that one time."""
        self._ended = self._ended or isinstance(element, EndOfInput)
        self._pending.append(element)
        while self._pending:
            yield self._envelope(self._limits.envelope_bytes_max)

    def sends(self, *, flush: bool) -> Iterator[Send]:
        """Cut off what may go: full envelopes, and with ``flush`` the rest."""
        limits = self._limits
        while self._pending:
            size, limit = self.pending_bytes, self._envelope_limit
            wanted = limits.envelope_bytes_inline
            if not flush and limit >= limits.envelope_bytes_large and size > wanted:
                wanted = limits.envelope_bytes_large
            if size < wanted and not flush:
                return
            if size > limits.envelope_bytes_inline and size < limits.envelope_bytes_large:
                limit = limits.envelope_bytes_inline
            if not self._has_credit:
                return
            credit = self.window_bytes - self.in_flight_bytes
            yield self._envelope(min(limit, credit) if self.in_flight_bytes else limit)

    def credit(self, consumed_bytes: int, window_bytes: int) -> None:
        """Take a grant; grants are cumulative, so that a late one changes nothing."""
        if consumed_bytes >= self.consumed_bytes:
            assert consumed_bytes <= self.sent_bytes, "nothing is consumed before it is sent"
            self.consumed_bytes = consumed_bytes
            self.window_bytes = window_bytes

    def _size(self, batch: Batch) -> int:
        if isinstance(batch, Columns):
            return batch.nbytes
        return int(batch.num_rows * self._object_bytes)

    def _envelope(self, limit_bytes: int) -> Send:
        elements: list[Element] = []
        taken: list[Batch] = []
        room = limit_bytes
        index = 0
        while index < len(self._pending) and (room > 0 or not (elements or taken)):
            element = self._pending[index]
            if isinstance(element, Columns | Objects):
                size = self._size(element)
                if size > room and element.num_rows > 1:
                    rows = max(1, element.num_rows * room // size)
                    if rows < element.num_rows:
                        taken.append(element.slice(0, rows))
                        rest = element.slice(rows, element.num_rows - rows)
                        self._pending[index] = rest
                        self.pending_bytes -= size - self._size(rest)
                        break
                taken.append(element)
                self.pending_bytes -= size
                room -= size
            else:
                if taken:
                    elements.append(concat(taken))
                    taken = []
                elements.append(element)
            index += 1
        if taken:
            elements.append(concat(taken))
        del self._pending[:index]
        if not self._pending:
            self.pending_bytes = 0
        return self._send(elements)

    def _send(self, elements: list[Element]) -> Send:
        header = Header(self._attempt, self.link.channel, self._sequence, len(elements))
        frame = encode(header, elements)
        self._sequence += 1
        self.sent_bytes += len(frame)
        rows = sum(e.num_rows for e in elements if isinstance(e, Objects))
        if rows:
            self._object_bytes = len(frame) / rows
        return Send(self.link.peer, frame)


class OutputEdge:
    """All channels of one subtask over one edge."""

    def __init__(self, edge: int, partitioner: Partitioner, channels: list[Outgoing]) -> None:
        self.edge = edge
        self._partitioner = partitioner
        self.channels = channels
        self._by_index = {c.link.channel.downstream: c for c in channels}

    @property
    def full(self) -> bool:
        return any(channel.full for channel in self.channels)

    def put(self, batch: Batch) -> None:
        """Divide rows among the channels."""
        for destination, rows in self._partitioner.divide(batch):
            self._by_index[destination].put(rows)

    def watermark(self, time_us: int) -> None:
        for channel in self.channels:
            channel.watermark(time_us)
