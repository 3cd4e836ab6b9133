"""The sending side of channels: what waits for credit, and how it is cut into envelopes.

An envelope that is full goes as soon as it has credit. A partial one waits until the subtask has
nothing else to do, so that rows coalesce at high load and leave at once at low load. While there is
no credit rows coalesce too, until the channel is full and the subtask stops pulling.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from raystream.config import Limits
from raystream.errors import SubtaskLost
from raystream.flow.batch import Batch, Columns, Objects, concat
from raystream.flow.codec import Header, encode, overhead_bytes, row_bytes
from raystream.flow.element import MIN_TIME, Barrier, Element, EndOfInput, Marker, Status, Watermark
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import PhysicalPlan
from raystream.subtask.events import AskProgress, Send
from raystream.subtask.partition import Partitioner, partitioner
from raystream.subtask.wiring import Link, outputs_of

_CONTROL_BYTES = 128
"""A watermark, a status or an end on the wire: its head and its body, both padded."""

_MEASURED_EVERY = 8
"""Of so many objects one is pickled to learn how large they are: what is pending has a bound."""


class Outgoing:
    """One channel: pending elements, the bytes under way, the credit for more."""

    def __init__(self, link: Link, attempt: int, limits: Limits) -> None:
        self.link = link
        self._attempt = attempt
        self._limits = limits
        self._pending: list[tuple[Element, int]] = []  # each with its bytes; bounded by ``full``
        self.pending_bytes = 0
        self._overhead_bytes = overhead_bytes(link.schema)
        self._object_bytes = 0.0
        self._unmeasured = _MEASURED_EVERY
        self._run_rows = 0
        self._sequence = 0
        self.sent_bytes = 0
        self.consumed_bytes = 0
        self.window_bytes = limits.channel_bytes_min
        self.watermark_us = MIN_TIME
        self._ended = False
        self._asked_bytes = 0
        self._missed = False
        self.stalled_us: int | None = None
        self.held_us = 0  # for which this channel kept the subtask from working

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
        if not self.in_flight_bytes:
            return True
        limits = self._limits
        needed = min(self.pending_bytes, limits.envelope_bytes_inline)
        # Where envelopes are large credit for a whole one is worth waiting for: half a window is
        # still under way.
        if min(self._envelope_limit, self.pending_bytes) >= limits.envelope_bytes_large:
            needed = limits.envelope_bytes_large
        if self._pending:
            element, size = self._pending[0]
            if isinstance(element, Columns | Objects):
                needed = max(needed, size // element.num_rows)
        return self.window_bytes - self.in_flight_bytes >= needed

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
        size = self._size(batch)
        # Batches side by side leave as one, up to the rows that a batch may have; each other one
        # has a head of its own.
        follows = bool(self._pending) and isinstance(self._pending[-1][0], Columns | Objects)
        self._run_rows += batch.num_rows
        if not follows or self._run_rows > self._limits.batch_rows_max:
            self._run_rows = batch.num_rows
            size += self._overhead_bytes
        self._add(batch, size)

    def watermark(self, time_us: int) -> None:
        """Add a watermark; of several with no rows between them the last stays."""
        assert time_us > self.watermark_us, "a watermark rises"
        self.watermark_us = time_us
        if self._pending and isinstance(self._pending[-1][0], Watermark):
            self._pending[-1] = (Watermark(time_us), _CONTROL_BYTES)
        else:
            self._add(Watermark(time_us), _CONTROL_BYTES)

    def marker(self, marker: Marker) -> None:
        """Add a marker: it leaves with the rows before it."""
        self._add(marker, _CONTROL_BYTES)

    def urgent(self, element: Status | Barrier | EndOfInput) -> Iterator[Send]:
        """Send a control element with all that is pending, over the window by that one time.

        A barrier also goes behind the end of rows.
        """
        self._ended = self._ended or isinstance(element, EndOfInput)
        self._add(element, _CONTROL_BYTES)
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
            if (size < wanted and not flush) or not self._has_credit:
                return
            credit = self.window_bytes - self.in_flight_bytes
            room = min(limit, credit) if self.in_flight_bytes else limit
            if limits.envelope_bytes_inline < min(room, size) < limits.envelope_bytes_large:
                room = limits.envelope_bytes_inline
            yield self._envelope(room)

    def asks(self, now_us: int) -> Iterator[AskProgress]:
        """Ask the receiver what has arrived, when there has been no credit for long."""
        if not self._pending or self._has_credit:
            self.stalled_us = None
        elif self.stalled_us is None:
            self.stalled_us = now_us
        elif now_us - self.stalled_us >= self._limits.stalled_credit_us:
            self.stalled_us = now_us
            self._asked_bytes = self.sent_bytes
            yield AskProgress(self.link.peer, self.link.channel)

    def arrived(self, received_bytes: int) -> None:
        """Take the answer: slow is not dead, but what is missing twice is lost.

        Raises: SubtaskLost if something that was sent has not arrived at two answers.
        """
        # What was sent after the question need not be in the answer: credit may overtake it.
        missing_bytes = self._asked_bytes - received_bytes
        if missing_bytes > 0 and self._missed:
            raise SubtaskLost(
                f"{missing_bytes} bytes sent on {self.link.channel} to {self.link.peer} never came",
                hint="a message between two actors was lost; the job can only start again",
            )
        self._missed = missing_bytes > 0

    def credit(self, consumed_bytes: int, window_bytes: int) -> None:
        """Take a grant; grants are cumulative, so that a late one changes nothing."""
        if consumed_bytes >= self.consumed_bytes:
            assert consumed_bytes <= self.sent_bytes, "nothing is consumed before it is sent"
            self.consumed_bytes = consumed_bytes
            self.window_bytes = window_bytes

    def _add(self, element: Element, size_bytes: int) -> None:
        self._pending.append((element, size_bytes))
        self.pending_bytes += size_bytes

    def _size(self, batch: Batch) -> int:
        if isinstance(batch, Columns):
            return batch.nbytes
        self._unmeasured += batch.num_rows
        if self._unmeasured >= _MEASURED_EVERY:
            self._unmeasured = 0
            self._object_bytes = row_bytes(batch, _MEASURED_EVERY)
        return int(batch.num_rows * self._object_bytes)

    def _envelope(self, limit_bytes: int) -> Send:
        """Send the first elements, up to a size; one row or control element at least."""
        elements: list[Element] = []
        rows: list[Batch] = []
        taken, room = 0, limit_bytes
        while taken < len(self._pending) and (room > 0 or not taken):
            element, size = self._pending[taken]
            if isinstance(element, Columns | Objects):
                count = element.num_rows
                if size > room:
                    within = room - self._overhead_bytes
                    count = _rows_that_fit(element, size, within, at_least=0 if taken else 1)
                if count < element.num_rows:
                    if count:
                        rows.append(element.slice(0, count))
                        self._keep_rest(taken, element, count)
                    break
                rows.append(element)
            else:
                elements += _joined(rows, self._limits.batch_rows_max)
                rows = []
                elements.append(element)
            taken += 1
            room -= size
            self.pending_bytes -= size
        elements += _joined(rows, self._limits.batch_rows_max)
        del self._pending[:taken]
        assert self._pending or not self.pending_bytes, "nothing weighs nothing"
        return self._send(elements)

    def _keep_rest(self, place: int, batch: Batch, count: int) -> None:
        rest = batch.slice(count, batch.num_rows - count)
        before = self._pending[place][1]
        size = before * rest.num_rows // batch.num_rows
        if isinstance(rest, Columns):
            size = rest.nbytes + self._overhead_bytes
        self._pending[place] = (rest, size)
        self.pending_bytes += size - before

    def _send(self, elements: list[Element]) -> Send:
        last = elements[-1]
        barrier = last.checkpoint_id if isinstance(last, Barrier) else 0
        header = Header(self._attempt, self.link.channel, self._sequence, len(elements), barrier)
        frame = encode(header, elements)
        self._sequence += 1
        self.sent_bytes += len(frame)
        rows = sum(e.num_rows for e in elements if isinstance(e, Objects))
        if rows:
            self._object_bytes = len(frame) / rows
        return Send(self.link.peer, frame)


def _rows_that_fit(batch: Batch, size: int, room: int, *, at_least: int) -> int:
    """Count the first rows of a batch that make up at most about ``room`` bytes."""
    count = max(batch.num_rows * max(room, 0) // size, at_least)
    # Rows differ in width: some wide ones at the beginning must not leave all at once.
    while count > 1 and isinstance(batch, Columns) and batch.slice(0, count).nbytes > 2 * room:
        count //= 2
    return count


def _joined(batches: list[Batch], rows_max: int) -> list[Batch]:
    """Join batches to larger ones, of at most ``rows_max`` rows unless one has more itself."""
    groups: list[list[Batch]] = []
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if not groups or rows > rows_max:
            groups.append([])
            rows = batch.num_rows
        groups[-1].append(batch)
    return [concat(group) for group in groups]


class OutputEdge:
    """All channels of one subtask over one edge."""

    def __init__(self, edge: int, partitioner: Partitioner, channels: list[Outgoing]) -> None:
        self.edge = edge
        self._partitioner = partitioner
        self.channels = channels
        self._marked = 0
        self._by_index = {c.link.channel.downstream: c for c in channels}

    @property
    def full(self) -> bool:
        return any(channel.full for channel in self.channels)

    def put(self, element: Batch | Watermark | Status | Marker) -> list[Send]:
        """Divide rows among the channels; the rest is for all of them. A status leaves at once.

        Markers take turns: were each to go everywhere, they would be many behind a few shuffles.
        """
        if isinstance(element, Marker):
            self.channels[self._marked % len(self.channels)].marker(element)
            self._marked += 1
            return []
        if isinstance(element, Status):
            return [send for channel in self.channels for send in channel.urgent(element)]
        if isinstance(element, Watermark):
            for channel in self.channels:
                channel.watermark(element.time_us)
            return []
        for destination, rows in self._partitioner.divide(element):
            self._by_index[destination].put(rows)
        return []


def output_edges(plan: PhysicalPlan, subtask: SubtaskId, attempt: int) -> dict[int, OutputEdge]:
    """Make the sending side of every edge that leaves a subtask."""
    edges = {}
    for edge in plan.outputs(subtask.chain):
        divide = partitioner(
            edge.exchange,
            upstream=subtask.index,
            parallelism_up=subtask.parallelism,
            parallelism_down=plan.chain(edge.downstream).parallelism,
            max_parallelism=plan.max_parallelism,
        )
        links = outputs_of(plan, subtask, edge)
        channels = [Outgoing(link, attempt, plan.limits) for link in links]
        edges[edge.id] = OutputEdge(edge.id, divide, channels)
    return edges
