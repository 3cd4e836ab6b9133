"""One subtask as a state machine: events in, effects out; no threads, no I/O, no clock of its own.

``step`` takes an event and never works; ``work`` does one slice of work: it pulls rows through the
chain until a slice of time is over, the input is used up, or an output is full. A shell calls both:
``step`` for everything that came, ``work`` while ``runnable``; else it sleeps until ``wake_us``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

from typing_extensions import assert_never

from raystream.clock import Clock
from raystream.contracts.context import OpenContext
from raystream.contracts.source import End, Later
from raystream.errors import ProtocolError
from raystream.flow import messages
from raystream.flow.batch import Columns, Objects
from raystream.flow.codec import decode, read_header
from raystream.flow.control import SubtaskFigures
from raystream.flow.element import (
    MAX_TIME,
    Barrier,
    Element,
    EndOfInput,
    Marker,
    Status,
    Watermark,
)
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.subtask.account import Account
from raystream.subtask.chain import Emitted
from raystream.subtask.events import (
    CreditCame,
    Effect,
    Event,
    Polled,
    ProgressAsked,
    Received,
    Tell,
)
from raystream.subtask.gate import Gate
from raystream.subtask.handing_over import Resting, Restored, begin
from raystream.subtask.inbox import Inbox, Incoming
from raystream.subtask.keeping import Keeping
from raystream.subtask.outputs import Outputs
from raystream.subtask.splits import Splits
from raystream.subtask.states import NEXT, State
from raystream.subtask.wiring import inputs_of

_SLICE_US = 2_000


class SubtaskMachine:
    """Runs one chain over its channels; when it is made the operators are open, and restored."""

    def __init__(
        self,
        plan: PhysicalPlan,
        subtask: SubtaskId,
        attempt: int,
        clock: Clock,
        context: Callable[[ChainNode], OpenContext],
        *,
        restored: Restored | Resting | None = None,
    ) -> None:
        self.subtask = subtask
        self.state = State.READY
        self._clock = clock
        links = inputs_of(plan, subtask)
        self._inbox = Inbox(links, attempt, plan.limits)
        self._gate = Gate()
        for link in links:
            self._gate.add(link.channel)
        self._outputs = Outputs(plan, subtask, attempt, clock)
        self.resting: Resting | None = None  # what it has left open
        with contextlib.ExitStack() as undo:
            self.chain, restored = begin(plan, subtask, context, restored, undo)
            self._chain = chain = self.chain
            source = chain.source
            self._splits = None if source is None else Splits(source, clock, plan.limits)
            self._keeping = Keeping(plan, chain, self._splits, self._inbox, restored, clock=clock)
            undo.pop_all()
        self._changes: list[Watermark | Status] = []  # bounded by the splits that come
        self._draining = False  # once the rows in hand have left the input ends
        self._triggers: list[messages.Trigger] = []  # one is under way at a time
        self._replayed = list(self._keeping.frames)
        stayed = restored is not None and restored.open
        self._task = self._emit(chain.tell_again()) if stayed else None
        self._timers_ran = False
        self._effects: list[Effect] = []
        self._account = Account(clock, self._inbox, self._outputs, self._keeping)

    # What the shell asks ---------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether an output is full: nothing is pulled until credit comes."""
        return self._outputs.full

    @property
    def runnable(self) -> bool:
        """Whether ``work`` would do something now."""
        if self.state not in (State.RUNNING, State.ENDED):
            return False
        if self._has_work and not self.blocked:
            return True
        if self._triggers and self._task is None:
            return True  # a barrier goes over the window: it waits for no credit
        return min(self._dues(), default=MAX_TIME) <= self._clock.monotonic_us()

    @property
    def wake_us(self) -> int | None:
        """Monotonic time at which there will be something to do, if nothing comes before."""
        if self.state not in (State.RUNNING, State.ENDED) or self.runnable:
            return None
        return min(self._dues(), default=None)

    @property
    def errand_us(self) -> int | None:
        """Of ``wake_us``, what is not said by a timer or a split: credit, flushes, polls."""
        return min(self._errands(), default=None) if self.state is State.RUNNING else None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read here, or have been, by name."""
        return () if self._splits is None else self._splits.names

    def figures(self) -> SubtaskFigures:
        """Tell what has been done so far."""
        told = self._account.figures(self.subtask, self._chain, self._splits, self._gate)
        return told if self._splits is None else self._splits.figures(told)

    # Events ----------------------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Take one event; give what is to be done about it."""
        if self.state is State.CLOSED:
            if self.resting is not None and isinstance(event, Polled):
                self.resting = self.resting.answered(event)
            return []
        match event:
            case Received(frame):
                self._inbox.receive(frame)
            case CreditCame():
                self._account.waited()
                self._effects += self._outputs.credit(event)
            case ProgressAsked(channel):
                self._effects.append(self._inbox.progress(channel))
            case Polled():
                assert self._splits is not None, "only a source polls"
                self._splits.answer(event)
            case _:
                self._obey(event)
        return self._given()

    def _obey(self, order: messages.Order) -> None:
        match order:
            case messages.Start():
                if self.state is State.READY:  # else it was said twice
                    self._to(State.RUNNING)
                    self._learn(order)
            case messages.SplitsFound() | messages.AlignTo():
                self._learn(order)
            case messages.Trigger():
                self._triggers.append(order)
            case messages.GiveUp(checkpoint_id):
                self._keeping.give_up(checkpoint_id)
            case messages.Completed(checkpoint_id):
                self._effects += self._keeping.completed(checkpoint_id)
            case messages.Drain():
                self._drain()
            case messages.Commit():
                self._effects.append(self._keeping.commit(order))
            case messages.Settled(checkpoint_id):
                self._keeping.settled(checkpoint_id)
            case messages.Finish(rests_at):
                self._close(rests_at)
            case messages.Cancel():
                self._close()
            case _:
                assert_never(order)

    def work(self) -> list[Effect]:
        """Do one slice of work."""
        self._account.begin()
        started_us = self._clock.monotonic_us()
        if self._task is None and self._triggers:
            self._trigger(self._triggers.pop(0))
        if self._task is None:
            self._task = self._next_task()
        while self._task is not None and not self.blocked:
            if next(self._task, self) is self:
                self._task = None
                break
            if self._clock.monotonic_us() - started_us >= _SLICE_US:
                break
        now_us = self._clock.monotonic_us()
        if self._task is None:
            self._effects += self._keeping.without_waiting(now_us, self._outputs)
        self._effects += self._inbox.grants(now_us)
        self._ask()
        self._effects += self._outputs.flush(now_us, resting=self._resting)
        if self.blocked and self._splits is not None:
            self._splits.held_up()
        self._effects += self._outputs.asks(now_us)
        self._account.end()
        return self._given()

    def sending_cost(self, cost_us: int) -> None:
        """Learn what it cost the shell to send what was flushed last."""
        self._outputs.cost(cost_us)

    # Work ------------------------------------------------------------------------------------

    @property
    def _has_input(self) -> bool:
        some = self._changes or self._replayed or self._draining or self._answered
        return bool(some) or len(self._inbox) > 0

    @property
    def _answered(self) -> bool:
        return self._splits is not None and self._splits.answered

    @property
    def _has_work(self) -> bool:
        if self._task is not None or self._has_input:
            return True
        return self.state is State.RUNNING and (self._input_finished or self._timers_due)

    @property
    def _resting(self) -> bool:
        # While one output is full the rest need not wait: nothing will be added to them.
        return self.blocked or not self._has_work

    @property
    def _input_finished(self) -> bool:
        if self._splits is not None:
            return self._splits.finished
        return self._gate.finished and not self._replayed and not len(self._inbox)

    @property
    def _timers_due(self) -> bool:
        due_us = self._chain.timer_due_us()
        return due_us is not None and due_us <= self._clock.now_us()

    def _next_task(self) -> Generator[None] | None:
        running = self.state is State.RUNNING
        # A timer that sets itself anew in the past must not keep input, or its end, out.
        waiting = self._has_input or self._input_finished
        if running and self._timers_due and not (self._timers_ran and waiting):
            self._timers_ran = True
            return self._emit(self._chain.timers(self._clock.now_us()))
        self._timers_ran = False
        if self._replayed:
            return self._replay(self._replayed.pop(0))
        if self._changes:
            return self._times(iter([self._changes.pop(0)]))
        if self._draining and self._splits is not None:
            self._draining = False
            return self._times(self._splits.drain())
        if self._splits is not None and self._splits.answered:
            return self._read(self._splits, self._splits.next_answer())
        if len(self._inbox):
            return self._frame(*self._inbox.next())
        return self._end() if running and self._input_finished else None

    def _frame(self, incoming: Incoming, frame: bytes) -> Generator[None]:
        for element in decode(frame, incoming.link.schema):
            yield from self._element(incoming, element)
        self._inbox.consumed(incoming, len(frame), self._clock.monotonic_us())

    def _replay(self, frame: bytes) -> Generator[None]:
        """Take what waited before the barrier of the checkpoint that was restored."""
        incoming = self._inbox.channels[read_header(frame).channel]
        for element in decode(frame, incoming.link.schema):
            # The end of input comes again from the subtask upstream, which was restored too.
            if not isinstance(element, Barrier | EndOfInput | Marker):
                yield from self._element(incoming, element)

    def _element(self, incoming: Incoming, element: Element) -> Iterator[None]:
        channel = incoming.link.channel
        match element:
            case Columns() | Objects():
                yield from self._times(self._gate.active(channel))
                yield from self._emit(self._chain.batch(incoming.link.port, element))
            case Watermark(time_us):
                yield from self._times(self._gate.watermark(channel, time_us))
            case Status(idle):
                changes = self._gate.go_idle if idle else self._gate.active
                yield from self._times(changes(channel))
            case Marker():
                yield from self._emit(self._chain.marker(element))
            case Barrier():
                now_us = self._clock.monotonic_us()
                self._effects += self._keeping.barrier(channel, element, now_us, self._outputs)
            case EndOfInput():
                self._inbox.finish(channel)
                yield from self._times(self._gate.finish(channel))
                self._effects += self._keeping.finish(channel, self._outputs)
            case _:
                assert_never(element)

    def _trigger(self, trigger: messages.Trigger) -> None:
        assert self._splits is not None, "a checkpoint begins at sources"
        if trigger.stop:
            self._splits.stopped = True
        barrier = Barrier(trigger.checkpoint_id, trigger.target, trigger.stop)
        self._effects += self._keeping.take(barrier, self._outputs)

    def _read(self, splits: Splits, polled: Polled) -> Generator[None]:
        split, rows = polled.split, polled.rows
        if rows is None or isinstance(rows, Watermark | Status | Later | End):
            yield from self._times(splits.without_rows(split, rows))
            return
        at_us = splits.marks()
        yield from self._times(splits.came(split))
        for batch, watermark_us in splits.convert(split, rows):
            yield from self._emit(self._chain.read(batch))
            yield from self._times(splits.gave(split, watermark_us))
        yield from self._emit(self._chain.marked(at_us))

    def _times(self, changes: Iterator[Any]) -> Generator[None]:
        for change in changes:
            if isinstance(change, Watermark):
                yield from self._emit(self._chain.watermark(change.time_us))
            else:
                yield from self._emit(self._chain.status(change))

    def _emit(self, emitted: Iterator[Emitted]) -> Generator[None]:
        for edges, element in emitted:
            if edges:
                self._effects += self._outputs.put(edges, element)
            yield

    def _end(self) -> Generator[None]:
        yield from self._emit(self._chain.end())
        self._effects += self._outputs.urgent(EndOfInput())
        self._to(State.ENDED)
        self._effects += [*self._inbox.grants(self._clock.monotonic_us()), Tell(messages.Ended())]

    def _dues(self) -> Iterator[int]:
        yield from self._errands()
        timer_us = self._chain.timer_due_us() if self.state is State.RUNNING else None
        if timer_us is not None and not self.blocked:
            # Timers are set in the time of day, waiting is done by a clock that does not jump.
            yield self._clock.monotonic_us() + max(0, timer_us - self._clock.now_us())
        if self._splits is not None:
            yield from self._splits.moments(polls=not self.blocked)

    def _errands(self) -> Iterator[int]:
        yield from self._outputs.dues(resting=self._resting)
        yield from self._keeping.dues(begun=self._task is not None)
        grant_us = self._inbox.next_grant_us()
        if grant_us is not None:
            yield grant_us
        if self._splits is not None:
            yield from self._splits.dues(polls=not self.blocked)

    def _learn(self, event: messages.Start | messages.SplitsFound | messages.AlignTo) -> None:
        if self._splits is not None:
            # Told in turn: an operator may be in the middle of giving rows.
            self._changes += self._splits.learn(event)
            self._ask()

    def _ask(self) -> None:
        if self._splits is not None and self.state is State.RUNNING:
            self._effects += self._splits.asks(polls=self._task is None and not self.blocked)

    def _drain(self) -> None:
        if self._splits is not None and self.state is State.RUNNING:
            self._splits.stopped = self._draining = True

    def _close(self, rests_at: int = 0) -> None:
        task, self._task = self._task, None
        # A source that has ended gets no more splits; others, wired anew, may get more input.
        rests = State.ENDED if self._splits is not None else State.RUNNING
        if rests_at and task is None and self.state in (State.RUNNING, rests):
            self.resting = self._keeping.resting(self.subtask, rests_at)
        self._to(State.CLOSED)
        if self.resting is None:
            with contextlib.closing(self._chain):
                if task is not None:
                    task.close()
        closed = messages.Closed(self._keeping.prepared, self.resting is not None)
        self._effects.append(Tell(closed))

    def _to(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise ProtocolError(f"{self.subtask} cannot go from {self.state} to {state}")
        self.state = state

    def _given(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
