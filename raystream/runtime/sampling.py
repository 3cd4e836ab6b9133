"""Rows of a running job as JSON: a few, cut short, whatever they are made of."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from raystream.flow.batch import Batch, Columns
from raystream.flow.changes import op_names
from raystream.subtask.chain import RunningChain
from raystream.subtask.tap import Tap

ROWS_MAX = 500
SECONDS_MAX = 10.0
_TEXT_MAX = 500
_ITEMS_MAX = 50
_DEPTH_MAX = 6
_BYTES_MAX = 256 * 1024
"""What a sample of one subtask may take as JSON, about: who looks at a job does not load it."""

_LOOK_S = 0.02
_SAFE_INT = 2**53 - 1


def sample(
    chain: RunningChain,
    operator: str,
    rows: int,
    seconds: float,
    *,
    over: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Watch what leaves an operator until there are enough rows, or the time is over."""
    tap = Tap([node.name for node in chain.nodes].index(operator), min(rows, ROWS_MAX))
    give_up_s = time.monotonic() + min(seconds, SECONDS_MAX)
    chain.tap = tap
    try:
        while not tap.full and not over() and time.monotonic() < give_up_s:
            time.sleep(_LOOK_S)
    finally:
        chain.tap = None
    return shown([*tap.kept])


def shown(batches: list[Batch]) -> list[dict[str, Any]]:
    """Give rows as JSON has them, each with its event time, and its kind in a changelog.

    Units: ``timestamp_us`` is microseconds since the epoch, None where rows have no event time.
    """
    rows: list[dict[str, Any]] = []
    left = _BYTES_MAX
    for batch in batches:
        for value, time_us, op in zip(*_columns(batch), strict=True):  # a few, for people
            row = {"value": _row(value), "timestamp_us": time_us, "op": op}
            left -= _size(row)
            if left < 0:
                return rows
            rows.append(row)
    return rows


def _columns(batch: Batch) -> tuple[list[Any], list[Any], list[Any]]:
    nothing = [None] * batch.num_rows
    times = batch.timestamps
    stamps = nothing if times is None else times.tolist()
    if not isinstance(batch, Columns):
        return batch.values, stamps, nothing
    visible, ops = batch.visible, batch.ops
    return records(visible), stamps, nothing if ops is None else op_names(ops)


def records(rows: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """Give rows as dicts; times that Python's calendar does not have as text."""
    names = rows.schema.names
    columns = [_values(column) for column in rows.columns]
    if not columns:
        return [{} for _ in range(rows.num_rows)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        values = column.cast(pa.string()).to_pylist()
    return values


def _row(value: Any) -> Any:
    try:
        return plain(value)
    except RuntimeError:  # the job goes on: a function changes the row that is looked at
        return "changed while it was shown"


def plain(value: Any, depth: int = 0) -> Any:
    """Give a value as JSON has it: long ones cut, those that JSON does not know as text.

    Integers beyond 2**53 are text, because readers in JavaScript would round them.
    """
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) <= _SAFE_INT else _text(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _cut(value)
        case bytes():
            return {"base64": base64.b64encode(value[:_TEXT_MAX]).decode("ascii")}
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case Mapping() if depth < _DEPTH_MAX:
            items = list(value.items())[:_ITEMS_MAX]
            return {_name(key): plain(one, depth + 1) for key, one in items}
        case list() | tuple() if depth < _DEPTH_MAX:
            return [plain(one, depth + 1) for one in value[:_ITEMS_MAX]]
        case _:
            return _text(value)


def _name(key: Any) -> str:
    return _cut(key) if isinstance(key, str) else _text(key)


def _text(value: Any) -> str:
    try:
        return _cut(repr(value))
    except Exception as error:  # noqa: BLE001  what users' classes do when they are shown
        return f"{type(value).__name__} that cannot be shown: {type(error).__name__}"


def _cut(text: str) -> str:
    """Shorten a text, and leave out halves of characters, which no JSON reader takes."""
    short = text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"
    return short.encode("utf-8", "replace").decode("utf-8")


def _size(value: Any) -> int:
    """Tell about how long a plain value is as JSON."""
    match value:
        case str():
            return len(value) + 3
        case Mapping():
            return 2 + sum(_size(key) + _size(one) for key, one in value.items())
        case list():
            return 2 + sum(_size(one) + 1 for one in value)
        case _:
            return 20
