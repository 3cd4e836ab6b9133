"""Drive one process function by hand: rows, watermarks and time in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, TypeAlias

import numpy as np

from raystream.clock import ManualClock
from raystream.contracts.context import OpenContext
from raystream.contracts.process import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
    ProcessMaker,
    check_process_function,
)
from raystream.errors import UserError
from raystream.flow.batch import NO_TIME, Batch, Columns, Objects
from raystream.flow.element import MIN_TIME, Side, Status, Watermark
from raystream.flow.key import canonical
from raystream.flow.time import Duration, Instant, micros
from raystream.keyed.key_form import KeyForm
from raystream.keyed.snapshot import Snapshot
from raystream.operators.broadcast_process import BroadcastProcessSpec
from raystream.operators.co_process import CoProcessSpec
from raystream.operators.guard import call
from raystream.operators.operator import Output
from raystream.operators.process import ProcessSpec
from raystream.operators.process_rows import ProcessRows

KeyedBy: TypeAlias = str | Sequence[str] | Callable[[Any], Any]


def harness(
    fn: Any,
    keyed_by: KeyedBy | Mapping[str, KeyedBy] | None = None,
    *,
    fn_kwargs: Mapping[str, Any] | None = None,
) -> Harness:
    """Give what drives a process function as the engine would, one call at a time.

    ``keyed_by`` is a key of the row, several of them, or a function of the row;
    ``{"left": …, "right": …}`` where the two inputs of a function differ.
    Raises: PlanError if ``fn`` is no process function, or one that needs keys has none.

    >>> import raystream as rs
    >>> class Number(rs.KeyedProcessFunction):
    ...     def open(self, ctx):
    ...         self.seen = ctx.state(rs.ValueState("seen", default=0))
    ...     def process(self, row, ctx):
    ...         self.seen.update(self.seen.value() + 1)
    ...         yield self.seen.value()
    >>> counted = rs.testing.harness(Number(), keyed_by="user")
    >>> counted.push({"user": "ann"}), counted.push({"user": "ann"})
    ([1], [2])
    >>> counted.state("seen")
    {'ann': 2}
    """
    return Harness(ProcessMaker(fn, dict(fn_kwargs or {})), keyed_by)


class Harness:
    """A process function in one subtask, with a clock that stands at 0 until it is moved."""

    def __init__(
        self, maker: ProcessMaker, keyed_by: KeyedBy | Mapping[str, KeyedBy] | None
    ) -> None:
        self.rows: list[Any] = []
        """All rows that have come out."""
        self._maker = maker
        self._clock = ManualClock(0)
        self._sides: dict[str, list[Any]] = {}
        self._build, self._ports = _spec(maker, keyed_by)
        self._operator = self._opened()
        self._watermark_us = MIN_TIME

    def push(
        self,
        row: Any,
        ts: Instant | None = None,
        to: Literal["left", "right", "broadcast"] = "left",
    ) -> list[Any]:
        """Give one row, with an event time or without; give the rows that it causes.

        Raises: UserFunctionError where the function or its key fails, as in a job.
        """
        if to not in self._ports:
            known = ", ".join(f'"{one}"' for one in self._ports)
            raise UserError(f'{self._maker.name} has no input "{to}", it has {known}')
        port, key_of = self._ports[to]
        times = np.array([NO_TIME if ts is None else micros(ts)], np.int64)
        keys = None if key_of is None else [_key(key_of, row)]
        caused = self._caused(self._operator.on_batch(port, Objects([row], times, keys)))
        return caused + self._due()

    def watermark(self, ts: Instant) -> list[Any]:
        """Say that no row with event time up to ``ts`` will come; give the rows that it causes.

        One that is not above the last is ignored, as in a job.
        """
        time_us = micros(ts)
        if time_us <= self._watermark_us:
            return []
        self._watermark_us = time_us
        caused = self._caused(self._operator.on_watermark(time_us))
        return caused + self._due()

    def advance(self, d: Duration) -> list[Any]:
        """Let processing time pass; give the rows of timers that become due, each at its time."""
        if micros(d) < 0:
            raise UserError(f"advance() takes a time that passes, got {d!r}")
        until_us = self._clock.now_us() + micros(d)
        caused: list[Any] = []
        while (due_us := self._operator.timer_due_us()) is not None and due_us <= until_us:
            self._clock.advance(max(0, due_us - self._clock.now_us()))
            caused += self._caused(self._operator.on_timer(self._clock.now_us()))
        self._clock.advance(until_us - self._clock.now_us())
        return caused

    def side(self, tag: str) -> list[Any]:
        """Give all rows that were sent to a side output."""
        return list(self._sides.get(tag, ()))

    def state(self, name: str) -> Any:
        """Give the values that a state has now: by key, or, if it is of no key, as they are."""
        return self._operator.present(name)

    def snapshot(self) -> Snapshot:
        """Give what a checkpoint would keep."""
        return self._operator.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Start anew from what ``snapshot()`` of this or another harness gave."""
        self._operator.close()
        self._operator = self._opened()
        self._watermark_us = MIN_TIME
        if snapshot:
            self._operator.restore(snapshot)

    def close(self) -> None:
        """Close the function."""
        self._operator.close()

    def _due(self) -> list[Any]:
        """Fire timers of processing time that were set for a time that has come."""
        return self.advance(0)

    def _opened(self) -> ProcessRows:
        operator = self._build()
        operator.open(OpenContext(self._maker.name, clock=self._clock))
        return operator

    def _caused(self, outputs: Iterator[Output]) -> list[Any]:
        caused: list[Any] = []
        for out in outputs:
            if isinstance(out, Side):
                self._sides.setdefault(out.tag, []).extend(_values(out.batch))
            elif not isinstance(out, Watermark | Status):
                caused += _values(out)
        self.rows += caused
        return caused


def _values(batch: Batch) -> list[Any]:
    return batch.visible.to_pylist() if isinstance(batch, Columns) else batch.values


_Ports: TypeAlias = dict[str, tuple[int, Callable[[Any], Any] | None]]


def _spec(
    maker: ProcessMaker, keyed_by: KeyedBy | Mapping[str, KeyedBy] | None
) -> tuple[Callable[[], ProcessRows], _Ports]:
    """Give what builds the operator of a function, and its inputs: port and key of each."""
    by = keyed_by if isinstance(keyed_by, Mapping) else {"left": keyed_by, "right": keyed_by}
    left, right = _key_of(by.get("left")), _key_of(by.get("right"))
    keyed = left is not None
    form, keys = (KeyForm.objects(), ()) if keyed else (None, None)
    name = maker.name
    spec: ProcessSpec | CoProcessSpec | BroadcastProcessSpec
    if issubclass(maker.kind, CoProcessFunction):
        _check(maker, CoProcessFunction, "process_left", "process_right")
        spec = CoProcessSpec(maker, keys, keys, form, None, True, name, "")
        return spec.build, {"left": (0, left), "right": (1, right)}
    if issubclass(maker.kind, BroadcastProcessFunction):
        _check(maker, BroadcastProcessFunction, "process", "process_broadcast")
        spec = BroadcastProcessSpec(maker, keys, form, None, True, name, "")
        return spec.build, {"left": (0, left), "broadcast": (1, None), "right": (1, None)}
    _check(maker, KeyedProcessFunction if keyed else ProcessFunction, "process")
    spec = ProcessSpec(maker, keys, form, None, True, name, "")
    return spec.build, {"left": (0, left)}


def _check(maker: ProcessMaker, wanted: type, *methods: str) -> None:
    check_process_function(maker, wanted, methods, verb="harness()", where="")


def _key(key_of: Callable[[Any], Any], row: Any) -> Any:
    """Read a row's key; what is none, or fails, is told as ``key_by`` tells it."""
    key = call(key_of, row, operator="key_by", where="", row=row)
    call(canonical, key, operator="key_by", where="", row=row)
    return key


def _key_of(by: KeyedBy | None) -> Callable[[Any], Any] | None:
    if by is None or callable(by):
        return by
    names = (by,) if isinstance(by, str) else tuple(by)
    return itemgetter(*names)
