"""Operators of users' functions that go on without the rows, timers and windows that fail.

What must come out is what comes of functions that give nothing where those of the operator fail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cases_process as processes
import cases_window_rows as windows
from conformance import Case, Row, Story, is_batch

from raystream.contracts.aggregate import Aggregate, AggregateFunction
from raystream.contracts.functions import Function
from raystream.contracts.window import Tumbling
from raystream.contracts.window_unaligned import Session
from raystream.operators.window_lists import Applying
from raystream.operators.window_outcomes import Aggregating, Reducing


class Bad(Exception):
    """What the functions of these cases raise."""


def trips(row: Any) -> bool:
    return row["i"] is None or row["i"] % 3 == 1


def clean(told: Story) -> Story:
    """Leave out the rows that fail."""
    return [
        [(time, row) for time, row in item if not trips(row)] if is_batch(item) else item
        for item in told
    ]


# Process functions -------------------------------------------------------------------------------


class Careful(processes.Busy):
    def process(self, row: Any, ctx: Any) -> Any:
        return None if trips(row) else super().process(row, ctx)

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        return None if timestamp % 3 == 0 else super().on_timer(timestamp, ctx)


class Careless(processes.Busy):
    """Fails after it has given many rows, some of them aside."""

    def process(self, row: Any, ctx: Any) -> Any:
        return self._fails(ctx) if trips(row) else super().process(row, ctx)

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        return self._fails(ctx) if timestamp % 3 == 0 else super().on_timer(timestamp, ctx)

    def _fails(self, ctx: Any) -> Any:
        for number in range(20):
            ctx.output("third", {"k": "lost", "n": number})
            ctx.output("lost", number)
            yield {"what": "lost", "k": "lost", "n": number}
        raise Bad


class Misfit(Careless):
    """Gives, at the end of a call, a row that does not fit its column."""

    def _fails(self, ctx: Any) -> Any:
        yield {"what": "lost", "k": "lost", "n": 1}
        yield {"what": "lost", "k": "lost", "n": "no number"}


def process(name: str, fails: type, *more: Any, **choices: Any) -> Case:
    quiet = processes.case(name, Careful, processes.STORY, *more, **choices)
    loud = processes.case(name, fails, processes.STORY, *more, **choices)
    return replace(quiet, spec=loud.spec, on_error="dead_letter")


# Windows -----------------------------------------------------------------------------------------


class Longest(AggregateFunction):
    def create(self) -> Any:
        return ""

    def add(self, acc: Any, row: Any) -> Any:
        if trips(row):
            raise Bad
        return max(acc, row["k"] or "", key=len)

    def merge(self, a: Any, b: Any) -> Any:
        return max(a, b, key=len)

    def result(self, acc: Any) -> Any:
        return acc


def some_windows(key: Any, window: Any, rows: Any) -> Any:
    """Fail, for windows of an even number of rows, after many rows."""
    yield from windows.each_value(key, window, list(rows))
    if len(rows) % 2 == 0:
        raise Bad


def some_windows_of(bounds: Any, key: Any, rows: list[Row]) -> list[Any]:
    return windows.each_value_of(bounds, key, rows) if len(rows) % 2 else []


def gap_of(row: Any) -> int:
    if trips(row):
        raise Bad
    return 4


def window(
    name: str, outcome: Any, out: Any, length: Any, arguments: Any, *, gather: Any = clean,
    **choices: Any,
) -> Case:  # fmt: skip
    """Make a case of objects by k whose windows are those of the rows that ``gather`` leaves."""
    model = windows.Model(**arguments, lateness=100_000, key=windows.by_k)
    made = windows.case(
        name, outcome, out, window=length, model=model, told=gather(windows.STORY), keys=None,
        **choices,
    )  # fmt: skip
    return replace(
        made,
        story=windows.STORY,
        expect=lambda some, ended: made.expect(gather(some), ended),
        sides=None,
        on_error="dead_letter",
    )


def whole_of(bounds: Any, key: Any, rows: list[Row]) -> list[Any]:
    longest = ""
    for _, row in rows:
        longest = max(longest, row["k"] or "", key=len)
    return [{"key": key, **windows.stamps(bounds), "n": len(rows), "longest": longest}]


COUNTED = (("n", Aggregate("count")), ("longest", Aggregate("function", function=Longest())))
TEN = (Tumbling(10), {"windows": windows.grid(10, 10)})
GAP = (Session(gap_of), {"gap": lambda row: 4})

CASES: dict[str, list[Case]] = {
    "process": [
        process("rows and timers that fail", Careless, processes.by_k, ("k",)),
        process("objects and timers that fail", Careless, processes.by_f, columns=False),
        process("rows that do not fit", Misfit, processes.by_k, ("k",)),
    ],
    "window_rows": [
        window("rows that cannot be added", Aggregating(COUNTED), whole_of, *TEN),
        window("gaps that fail", Reducing(Function(windows.joined)), windows.joined_of, *GAP),
        window(
            "windows that fail", Applying(Function(some_windows)), some_windows_of, *TEN,
            gather=lambda told: told,
        ),
    ],
}  # fmt: skip
