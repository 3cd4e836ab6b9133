"""The operators of one subtask as one generator: a tree, pulled from its head.

Each method yields what leaves the chain, and between any two batches at least once with no edges
at all: there the subtask may stop, look at its credit and its control messages, and go on later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from raystream.contracts.context import OpenContext
from raystream.contracts.rejects import DEAD_LETTERS
from raystream.errors import ProtocolError, UserError
from raystream.flow.batch import Batch, Objects
from raystream.flow.element import MAX_TIME, MIN_TIME, Marker, Side, Status, Watermark
from raystream.flow.figures import LATENCY
from raystream.graph.physical import Chain, ChainNode
from raystream.keyed.snapshot import Snapshot
from raystream.operators.operator import Operator, Output
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.sink import SinkOperator
from raystream.operators.source import SourceOperator
from raystream.subtask import kept_frames, kept_splits
from raystream.subtask.tap import Tap

_NOT_THEIRS = (kept_splits.NAME, kept_frames.NAME)
"""Sections that stand beside those of an operator, and are taken up by the machine."""

_OURS = -1

Emitted = tuple[tuple[int, ...], Batch | Watermark | Status | Marker]
"""Edges on which an element leaves; none is a place to pause."""


class RunningChain:
    """Built and opened operators, and what passed each of them."""

    def __init__(self, chain: Chain, context: Callable[[ChainNode], OpenContext]) -> None:
        self.nodes = chain.nodes
        self.contexts = [context(node) for node in chain.nodes]
        self.operators: list[Operator] = []
        self.rows_in = [0] * len(chain.nodes)
        self.rows_out = [0] * len(chain.nodes)
        self.tap: Tap | None = None
        self._watermarks = [MIN_TIME] * len(chain.nodes)
        self._children = [_main_children(chain, node) for node in chain.nodes]
        self._sides = [_side_children(chain, node) for node in chain.nodes]
        self._clock = self.contexts[0].clock
        self._inside, self._since_us = _OURS, self._clock.monotonic_us()
        self._spent_us = [0] * (len(chain.nodes) + 1)  # the last one is what is spent between them
        self._timed: list[int] = []
        self._opened = len(chain.nodes)
        self._closed = False
        self._ended = False
        self.touched = False  # since whoever asks has set it back
        self._idle = [False] * len(chain.nodes)
        self._idle_input = False
        self._seen_us = self._past_us = MIN_TIME

    def open(self) -> None:
        """Build and open the operators, sinks first: whoever is written to is there."""
        self.operators = [node.spec.build() for node in self.nodes]
        for index in reversed(range(len(self.operators))):
            self._opened = index
            self.operators[index].open(self.contexts[index])
        # Asked before every slice of work: only those that can answer.
        plain = Operator.timer_due_us
        own = enumerate(self.operators)
        self._timed = [i for i, one in own if type(one).timer_due_us is not plain]

    def go_on(self, chain: Chain) -> None:
        """Take the place of a chain of another plan that is the same, but for its edges."""
        self.nodes = chain.nodes
        self._past_us = self._seen_us
        self.rows_in, self.rows_out = [0] * len(self.nodes), [0] * len(self.nodes)
        self._spent_us = [0] * len(self._spent_us)
        self._inside, self._since_us = _OURS, self._clock.monotonic_us()

    def tell_again(self) -> Iterator[Emitted]:
        """Tell whoever reads from it now how far time has come, and who is idle.

        Its own input is active until it says otherwise.
        """
        if self._idle_input:
            yield from self.status(Status(idle=False))
        for node, watermark_us, idle in zip(self.nodes, self._watermarks, self._idle, strict=True):
            if node.outputs and watermark_us > MIN_TIME:
                yield node.outputs, Watermark(watermark_us)
            if node.outputs and idle:
                yield node.outputs, Status(idle=True)

    def snapshot(self) -> dict[str, Snapshot]:
        """Give what each operator keeps, by uid."""
        pairs = zip(self.nodes, self.operators, strict=True)
        return {node.uid: operator.snapshot() for node, operator in pairs}

    def changes(self) -> dict[str, Snapshot]:
        """Give what each operator keeps, or what changed of it since it was last asked, by uid."""
        pairs = zip(self.nodes, self.operators, strict=True)
        return {node.uid: operator.changes() for node, operator in pairs}

    def restore(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Let each operator take up what it had kept; called once, behind ``open``."""
        for node, operator in zip(self.nodes, self.operators, strict=True):
            kept = tuple(one for one in snapshots.get(node.uid, ()) if one.name not in _NOT_THEIRS)
            if kept:
                operator.restore(kept)

    def close(self) -> None:
        """Close every operator, also when closing one of them fails; the first error counts."""
        if not self._closed:
            self._closed = True
            self._close_from(self._opened)

    def _close_from(self, index: int) -> None:
        if index >= len(self.operators):  # above, where one of them could not even be built
            return
        try:
            self.operators[index].close()
        finally:
            self._close_from(index + 1)

    @property
    def source(self) -> SourceOperator | None:
        """The head, if it reads."""
        head: Any = self.operators[0]
        return head if isinstance(head, SourceOperator) else None

    @property
    def inside(self) -> str:
        """The operator that is at work just now, by name."""
        return "" if self._inside == _OURS else self.nodes[self._inside].name

    def busy_us(self) -> list[int]:
        """Tell what time each operator has taken itself, without those behind it."""
        spent = list(self._spent_us)
        spent[self._inside] += self._clock.monotonic_us() - self._since_us
        return spent[:-1]

    def sinks(self) -> Iterator[tuple[ChainNode, SinkOperator]]:
        """Give the operators that write."""
        for node, operator in zip(self.nodes, self.operators, strict=True):
            writer: Any = operator
            if isinstance(writer, SinkOperator):
                yield node, writer

    def read(self, batch: Batch) -> Iterator[Emitted]:
        """Let the rows that the source read leave its head."""
        self.touched = True
        self.rows_in[0] += batch.num_rows
        return self._pull(0, iter([batch]))

    def batch(self, port: int, batch: Batch) -> Iterator[Emitted]:
        """Give rows to the head."""
        self.touched = True
        return self._batch(0, port, batch)

    def watermark(self, time_us: int) -> Iterator[Emitted]:
        """Give a watermark to the head: all that it causes leaves before it does."""
        if time_us <= self._past_us:
            return iter(())  # it has seen it before its input was wired anew
        self.touched, self._seen_us = True, time_us
        if self.source is not None:
            return self._out(0, Watermark(time_us))
        return self._watermark(0, time_us)

    def marked(self, at_us: int | None) -> Iterator[Emitted]:
        """Let a marker go on behind rows of the source that were read at a time; None: not now."""
        if at_us is not None:
            yield from self.marker(Marker(self.nodes[0].name, at_us))

    def marker(self, marker: Marker) -> Iterator[Emitted]:
        """Note at each sink how old a marker is, and let it go on; it waits for no operator."""
        age_us = max(0, self._clock.now_us() - marker.at_us)
        for node, _ in self.sinks():
            metrics = self.contexts[self.nodes.index(node)].metrics
            metrics.histogram(f"{LATENCY}:{marker.source}").observe(age_us / 1_000)
        yield from ((node.outputs, marker) for node in self.nodes if node.outputs)

    def status(self, status: Status) -> Iterator[Emitted]:
        """Tell the head that the input is idle, or active again; it leaves behind the rows."""
        self.touched, self._idle_input = True, status.idle
        return self._out(0, status) if self.source is not None else self._status(0, status)

    def timer_due_us(self) -> int | None:
        """Tell the processing time at which some operator has something to do; None: never."""
        dues = [self.operators[index].timer_due_us() for index in self._timed]
        return min((due for due in dues if due is not None), default=None)

    def timers(self, now_us: int) -> Iterator[Emitted]:
        """Give what is due at a processing time, from the head on."""
        self.touched = True
        for index in self._timed:
            due_us = self.operators[index].timer_due_us()
            if due_us is not None and due_us <= now_us:
                self._enter(index)
                yield from self._pull(index, self.operators[index].on_timer(now_us))

    def end(self) -> Iterator[Emitted]:
        """End the input: each operator sees MAX, gives its rest, and then the next one ends."""
        if self._ended:
            return iter(())  # they had ended before their input was wired anew
        self.touched = self._ended = True
        return self._end(0)

    def _batch(self, index: int, port: int, batch: Batch) -> Iterator[Emitted]:
        if not batch.num_rows:
            return
        self.rows_in[index] += batch.num_rows
        self._enter(index)  # before it is called: a sink writes at once
        yield from self._pull(index, self.operators[index].on_batch(port, batch))

    def _watermark(self, index: int, time_us: int) -> Iterator[Emitted]:
        operator = self.operators[index]
        self._enter(index)
        yield from self._pull(index, operator.on_watermark(time_us))
        forwarded = operator.output_watermark(time_us)
        if forwarded is not None:
            yield from self._out(index, Watermark(forwarded))

    def _status(self, index: int, status: Status) -> Iterator[Emitted]:
        yield from self._pull(index, self.operators[index].on_status(status))

    def _end(self, index: int) -> Iterator[Emitted]:
        operator = self.operators[index]
        if not (index == 0 and self.source is not None):
            yield from self._pull(index, operator.on_watermark(MAX_TIME))
            yield from self._pull(index, operator.on_end())
        for child in self.nodes[index].children:
            yield from self._end(child)

    def _pull(self, index: int, outs: Iterator[Output]) -> Iterator[Emitted]:
        """Let out what an operator gives, and the rows that it has given up, as they come."""
        errors = self.contexts[index].errors
        for out in self._told(index, outs):
            if errors.letters:
                yield from self._dead(index)
            yield from self._out(index, out)
        if errors.letters:
            yield from self._dead(index)

    def _told(self, index: int, outs: Iterator[Output]) -> Iterator[Output]:
        """Let an error that was raised too deep to know name the operator and its line.

        What passes between two batches that it gives is not its own time.
        """
        try:
            self._enter(index)
            for out in outs:
                self._enter(_OURS)
                yield out
                self._enter(index)
            self._enter(_OURS)
        except UserError as error:
            node = self.nodes[index]
            if not error.where:
                error.where = node.where or None
                if node.name not in error.message:
                    error.message = f"{node.name}: {error.message}"
            raise

    def _enter(self, index: int) -> None:
        """Book the time until now, and go on inside an operator, or between them."""
        now_us = self._clock.monotonic_us()
        self._spent_us[self._inside] += now_us - self._since_us
        self._inside, self._since_us = index, now_us

    def _dead(self, index: int) -> Iterator[Emitted]:
        letters = self.contexts[index].errors.take()
        yield from self._out(index, Side(DEAD_LETTERS, Objects(list(letters))))

    def _out(self, index: int, element: Output) -> Iterator[Emitted]:
        node = self.nodes[index]
        if isinstance(element, Side):
            for child in self._sides[index].get(element.tag, ()):
                yield from self._batch(child, 0, element.batch)
            return
        if isinstance(element, Watermark):
            if element.time_us <= self._watermarks[index]:
                return
            self._watermarks[index] = element.time_us
            self._idle[index] = False
            yield node.outputs, element
            for child in node.children:
                yield from self._watermark(child, element.time_us)
            return
        if isinstance(element, Status):
            self._idle[index] = element.idle
            yield node.outputs, element
            for child in node.children:
                yield from self._status(child, element)
            return
        if not element.num_rows:  # an operator that waits for something: a place to pause
            yield (), element
            return
        self._check(node, element)
        self.rows_out[index] += element.num_rows
        self._idle[index] = False
        tap = self.tap  # another thread may take it off meanwhile
        if tap is not None:
            tap.take(index, element)
        yield node.outputs, element
        for child in self._children[index]:
            yield from self._batch(child, 0, element)

    def _check(self, node: ChainNode, batch: Batch) -> None:
        record = getattr(batch, "record", None)
        if (record is None) is not (node.schema is None):
            kind = "objects" if record is None else "columns"
            raise ProtocolError(f"{node.name} gave {kind}, the plan says otherwise")
        if record is not None and not record.schema.equals(cast("Any", node.schema)):
            raise ProtocolError(f"{node.name} gave {record.schema}, the plan says {node.schema}")


def _main_children(chain: Chain, node: ChainNode) -> tuple[int, ...]:
    """Give the operators that take a node's own output."""
    return tuple(
        child for child in node.children if not isinstance(chain.nodes[child].spec, SideOutputSpec)
    )


def _side_children(chain: Chain, node: ChainNode) -> dict[str, list[int]]:
    """Give, by tag, the operators that read a node's side outputs."""
    sides: dict[str, list[int]] = {}
    for child in node.children:
        spec: Any = chain.nodes[child].spec
        if isinstance(spec, SideOutputSpec):
            sides.setdefault(spec.tag, []).append(child)
    return sides
