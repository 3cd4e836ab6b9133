"""Process functions: operators that users write themselves, with state, timers and side outputs.

One instance serves all keys of a subtask, so what belongs to a key lives in state, never in
``self``. A function yields rows, returns them in a list, or returns None.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from raystream.clock import Clock
from raystream.contracts.context import OpenContext
from raystream.contracts.functions import OpenFunction, Run
from raystream.errors import PlanError
from raystream.flow.element import MIN_TIME
from raystream.flow.time import Instant

Rows: TypeAlias = Iterable[Any] | None
"""What a function gives for one call: rows to yield, a list of them, or none."""


class TimerService(Protocol):
    """Timers of the key in hand: one for each point in time, however often it is registered."""

    def register_event_time(self, time: Instant) -> None:
        """Call ``on_timer`` once the watermark has reached a point in time."""

    def register_processing_time(self, time: Instant) -> None:
        """Call ``on_timer`` once the clock has reached a point in time."""

    def delete_event_time(self, time: Instant) -> None:
        """Forget the event timer of exactly this point in time."""

    def delete_processing_time(self, time: Instant) -> None:
        """Forget the processing timer of exactly this point in time."""


class ProcessContext:
    """What a call of a process function is told; one object for all calls of a subtask.

    ``key`` is the value of one key column, a tuple of several; ``timestamp`` the event time of the
    row in hand or of the event timer, None where there is none; ``domain`` is ``"event"`` or
    ``"processing"`` in ``on_timer``, and None elsewhere; ``op`` says what the row in hand does to
    the table of a changelog (``+I``, ``-U``, ``+U``, ``-D``), and is None where rows are rows.
    Units: microseconds since the epoch, UTC.
    """

    __slots__ = ("_clock", "_send", "domain", "key", "op", "timers", "timestamp", "watermark")

    def __init__(
        self,
        clock: Clock,
        timers: TimerService,
        send: Callable[[str, Any, int | None], None],
    ) -> None:
        self._clock = clock
        self._send = send
        self.timers = timers
        self.key: Any = None
        self.timestamp: int | None = None
        self.watermark = MIN_TIME
        self.domain: Literal["event", "processing"] | None = None
        self.op: str | None = None

    @property
    def processing_time(self) -> int:
        """The time of day."""
        return self._clock.now_us()

    def output(self, tag: str, value: Any) -> None:
        """Send a row to whoever reads ``side_output(tag)``, with the event time in hand."""
        self._send(tag, value, self.timestamp)


class ProcessFunction:
    """Gives any number of rows for each row: ``stream.process(…)``.

    >>> import raystream as rs
    >>> class Halves(rs.ProcessFunction):
    ...     def process(self, row, ctx):
    ...         if row % 2:
    ...             ctx.output("odd", row)
    ...         else:
    ...             yield row // 2
    >>> rs.Job("halves").from_items([1, 2, 4]).process(Halves()).collect()
    [1, 2]
    """

    def open(self, ctx: OpenContext) -> None:
        """Get ready; called once in each subtask, before the first row."""

    def process(self, row: Any, ctx: ProcessContext) -> Rows:
        """Take one row."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open."""


class KeyedProcessFunction:
    """Gives rows for each row, with state and timers of its key: ``key_by(…).process(…)``.

    >>> import raystream as rs
    >>> class Number(rs.KeyedProcessFunction):
    ...     def open(self, ctx):
    ...         self.seen = ctx.state(rs.ValueState("seen", default=0))
    ...     def process(self, row, ctx):
    ...         self.seen.update(self.seen.value() + 1)
    ...         yield ctx.key, self.seen.value()
    >>> words = rs.Job("number").from_items(["a", "b", "a"])
    >>> words.key_by(lambda word: word).process(Number()).collect()
    [('a', 1), ('b', 1), ('a', 2)]
    """

    def open(self, ctx: OpenContext) -> None:
        """Get ready, ``ctx.state(descriptor)`` among it; called once in each subtask."""

    def process(self, row: Any, ctx: ProcessContext) -> Rows:
        """Take one row."""
        raise NotImplementedError

    def on_timer(self, timestamp: int, ctx: ProcessContext) -> Rows:
        """Take a timer that is due, with the key that had registered it."""
        return None

    def close(self) -> None:
        """Let go of what is open."""


class CoProcessFunction:
    """Takes the rows of two streams: ``left.connect(right).process(…)``.

    Where both streams are keyed, it has state and timers of the key that they share.

    >>> import raystream as rs
    >>> class Names(rs.CoProcessFunction):
    ...     def process_left(self, row, ctx):
    ...         yield "left", row
    ...     def process_right(self, row, ctx):
    ...         yield "right", row
    >>> job = rs.Job("names")
    >>> sorted(job.from_items([1]).connect(job.from_items([2])).process(Names()).collect())
    [('left', 1), ('right', 2)]
    """

    def open(self, ctx: OpenContext) -> None:
        """Get ready, ``ctx.state(descriptor)`` among it; called once in each subtask."""

    def process_left(self, row: Any, ctx: ProcessContext) -> Rows:
        """Take one row of the left stream."""
        raise NotImplementedError

    def process_right(self, row: Any, ctx: ProcessContext) -> Rows:
        """Take one row of the right stream."""
        raise NotImplementedError

    def on_timer(self, timestamp: int, ctx: ProcessContext) -> Rows:
        """Take a timer that is due, with the key that had registered it."""
        return None

    def close(self) -> None:
        """Let go of what is open."""


class BroadcastProcessFunction:
    """Takes rows, and those of a stream that all subtasks see: ``left.connect(right.broadcast())``.

    What it learns from the broadcast rows it keeps in ``rs.BroadcastState``, which is the same in
    all subtasks because it is written in ``process_broadcast`` alone. Where the left stream is
    keyed, ``process`` has state and timers of its key.

    >>> import raystream as rs
    >>> class Above(rs.BroadcastProcessFunction):
    ...     def open(self, ctx):
    ...         self.limits = ctx.state(rs.BroadcastState("limits"))
    ...     def process(self, row, ctx):
    ...         yield from (name for name, limit in self.limits.items() if row > limit)
    ...     def process_broadcast(self, limit, ctx):
    ...         self.limits.put(limit["name"], limit["value"])
    >>> it = rs.testing.harness(Above())
    >>> it.push({"name": "low", "value": 5}, to="broadcast")
    []
    >>> it.push(7)
    ['low']
    """

    def open(self, ctx: OpenContext) -> None:
        """Get ready, ``ctx.state(descriptor)`` among it; called once in each subtask."""

    def process(self, row: Any, ctx: ProcessContext) -> Rows:
        """Take one row of the left stream."""
        raise NotImplementedError

    def process_broadcast(self, row: Any, ctx: ProcessContext) -> Rows:
        """Take one row of the broadcast stream; every subtask takes it."""
        raise NotImplementedError

    def on_timer(self, timestamp: int, ctx: ProcessContext) -> Rows:
        """Take a timer that is due, with the key that had registered it."""
        return None

    def close(self) -> None:
        """Let go of what is open."""


@dataclass(frozen=True, slots=True, eq=False)
class ProcessMaker:
    """A process function as users hand it over: an instance, or a class and its ``fn_kwargs``."""

    target: Any
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> type:
        """The user's class."""
        return self.target if isinstance(self.target, type) else type(self.target)

    @property
    def name(self) -> str:
        """What ``explain`` and errors call it."""
        return self.kind.__name__

    def open(self, ctx: OpenContext, run: Run | None = None) -> OpenFunction:
        """Make the function of one subtask and open it, by ``run`` where it is given.

        An instance is copied: what ``open`` writes into it must not be another subtask's.
        """
        made = isinstance(self.target, type)
        instance = self.target(**self.kwargs) if made else copy.copy(self.target)
        opened = OpenFunction(instance, instance, run)
        opened.open(ctx)
        return opened

    def __str__(self) -> str:
        return self.name


def check_process_function(
    maker: ProcessMaker, wanted: type, methods: tuple[str, ...], *, verb: str, where: str
) -> None:
    """Refuse what is not the process function that is wanted here, while the job is built.

    Raises: PlanError naming what came instead, methods that are missing or async, or arguments
    that do not fit.
    """
    if not issubclass(maker.kind, wanted):
        raise PlanError(
            f"{verb} takes a rs.{wanted.__name__}, got {_what(maker)}",
            where=where,
            hint=_HINTS[wanted.__name__],
        )
    for name in methods:
        method = getattr(maker.kind, name)
        if method is getattr(wanted, name):
            raise PlanError(f"{verb}: {maker.name} has no {name}(row, ctx)", where=where)
    for name in (*methods, "on_timer"):
        method = getattr(maker.kind, name, None)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise PlanError(
                f"{verb} takes plain functions; {maker.name}.{name} is async",
                where=where,
                hint="async_map() awaits functions, many at a time",
            )
    if not isinstance(maker.target, type):
        if maker.kwargs:
            raise PlanError(
                f"{verb}: fn_kwargs= goes to a class, and {maker.name} is an instance already",
                where=where,
            )
        return
    try:
        inspect.signature(maker.target).bind(**maker.kwargs)
    except TypeError as error:
        raise PlanError(
            f"{verb} cannot make {maker.name}: {error}",
            where=where,
            hint="fn_kwargs= holds the arguments of its __init__",
        ) from error


_HINTS = {
    "ProcessFunction": "on a stream without key_by(…): class Mine(rs.ProcessFunction)",
    "KeyedProcessFunction": "behind key_by(…): class Mine(rs.KeyedProcessFunction)",
    "CoProcessFunction": "behind connect(other): class Mine(rs.CoProcessFunction)",
    "BroadcastProcessFunction": "behind connect(other.broadcast()): "
    "class Mine(rs.BroadcastProcessFunction)",
}


def _what(maker: ProcessMaker) -> str:
    owner = maker.kind
    for kind in owner.__mro__:
        if kind.__name__ in _HINTS and kind.__module__ == __name__:
            return f"{owner.__name__}, a rs.{kind.__name__}"
    article = "the class" if isinstance(maker.target, type) else "a"
    return f"{article} {owner.__name__}"
