"""What aggregates and windows are, in plain Python: every row and every window looked at alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from conformance import Row, Story, is_batch, plain
from stories import rows_of

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Read = Callable[[Any], Any]


class Model(NamedTuple):
    """One aggregate: its kind, what it reads, what it compares, which rows it looks at."""

    kind: str
    value: str | None = None
    by: str | None = None
    q: float | None = None
    only: Read | None = None


def nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def order(value: Any) -> Any:
    """Order values; NaN has no place among them and is left to ``least``."""
    return value


def least(rows: list[Row], read: Callable[[Row], Any], *, greatest: bool = False) -> Row:
    """Give the row with the least (or greatest) value; ties to the first, NaN behind all others."""
    numbers = [row for row in rows if not nan(read(row))] or rows[:1]
    best = numbers[0]
    for row in numbers[1:]:
        if read(row) > read(best) if greatest else read(row) < read(best):
            best = row
    return best


def aggregate(model: Model, rows: list[Row]) -> Any:
    """Aggregate rows in order of arrival."""
    kind = model.kind
    if model.only is not None:
        rows = [row for row in rows if model.only(row[1])]
    if kind == "count" and model.value is None:
        return len(rows)

    def value(row: Row) -> Any:
        return row[1][model.value]

    rows = [row for row in rows if value(row) is not None]
    if model.by is not None:
        rows = [row for row in rows if row[1][model.by] is not None]
    values = [value(row) for row in rows]
    if kind == "count":
        return len(values)
    if kind in ("count_distinct", "approx_count_distinct"):
        return len({plain(one) for one in values})
    if kind == "collect":
        return values or None
    if not values:
        return None
    match kind:
        case "sum":
            return total(values)
        case "mean":
            return mean(values)
        case "variance" | "stddev":
            return spread(values, root=kind == "stddev")
        case "min" | "max":
            return value(least(rows, value, greatest=kind == "max"))
        case "first" | "last":
            if rows[0][0] is None:
                return values[0 if kind == "first" else -1]
            return value(least(rows, lambda row: row[0], greatest=kind == "last"))
        case "min_by" | "max_by":
            return value(least(rows, lambda row: row[1][model.by], greatest=kind == "max_by"))
        case "quantile":
            return quantile(sorted(values), model.q)
    raise AssertionError(kind)


def total(values: list[Any]) -> Any:
    if any(map(nan, values)):
        return math.nan
    return math.fsum(values) if isinstance(values[0], float) else sum(values)


def mean(values: list[Any]) -> float:
    if any(map(nan, values)):
        return math.nan
    return float(sum(map(Fraction, values)) / len(values))


def spread(values: list[Any], *, root: bool) -> float | None:
    if len(values) < 2:
        return None
    if any(map(nan, values)):
        return math.nan
    exact = [Fraction(value) for value in values]
    middle = sum(exact) / len(exact)
    variance = float(sum((value - middle) ** 2 for value in exact) / (len(exact) - 1))
    return math.sqrt(variance) if root else variance


def quantile(values: list[Any], q: float | None) -> float:
    assert q is not None
    place = q * (len(values) - 1)
    low = math.floor(place)
    if low == place:
        return float(values[low])
    return float(values[low] + (values[low + 1] - values[low]) * type_of(values)(place - low))


def type_of(values: list[Any]) -> Callable[[float], Any]:
    return Decimal if isinstance(values[0], Decimal) else float


# Per key -----------------------------------------------------------------------------------------


def key_id(key: Any) -> Hashable:
    """Give what a dict tells apart as keys are told apart."""
    return plain(key)


def running(
    told: Story, ended: bool, key: Read, out: Callable[[Any, list[Row]], Any], emit: str
) -> list[Row]:
    """Aggregate the rows of each key so far: after each row, each batch, or at the end."""
    seen: dict[Hashable, tuple[Any, list[Row]]] = {}
    given: list[Row] = []
    for item in told:
        if not is_batch(item):
            continue
        touched: dict[Hashable, list[Any]] = {}
        for time, row in item:
            first, rows = seen.setdefault(key_id(key(row)), (key(row), []))
            rows.append((time, row))
            touched.setdefault(key_id(key(row)), []).append(time)
            if emit == "row":
                given.append((time, plain(out(first, rows))))
        if emit == "batch":
            given += [(_latest(times), plain(out(*seen[k]))) for k, times in touched.items()]
    if emit == "final" and ended:
        for first, rows in seen.values():
            given.append((_latest([time for time, _ in rows]), plain(out(first, rows))))
    return given


def _latest(times: list[Any]) -> Any:
    return None if times[0] is None else max(times)


# Windows -----------------------------------------------------------------------------------------


class Window(NamedTuple):
    """Windows of a size every slide, from an offset."""

    size: int
    slide: int
    offset: int = 0

    def starts(self, time: int) -> list[int]:
        """Try every start there may be."""
        first = (time - self.size - self.slide) // self.slide * self.slide + self.offset
        first -= abs(self.offset) // self.slide * self.slide + self.slide
        found = []
        while first <= time:
            if first <= time < first + self.size:
                found.append(first)
            first += self.slide
        return found


def fired(told: Story, ended: bool, window: Window, key: Read) -> list[tuple[int, Any, list[Row]]]:
    """Give (start, key, rows in order of arrival) of each window that has fired."""
    gathered: dict[tuple[int, Hashable], tuple[Any, list[Row]]] = {}
    watermark = -math.inf
    for item in told:
        if not is_batch(item):
            watermark = max(watermark, item)
            continue
        for time, row in item:
            for start in window.starts(time):
                if start + window.size - 1 > watermark:
                    _, rows = gathered.setdefault((start, key_id(key(row))), (key(row), []))
                    rows.append((time, row))
    if ended:
        watermark = math.inf
    return [
        (start, first, rows)
        for (start, _), (first, rows) in gathered.items()
        if start + window.size - 1 <= watermark
    ]


def late_rows(told: Story, window: Window) -> int:
    """Count the rows all of whose windows had fired when they came."""
    late, watermark = 0, -math.inf
    for item in told:
        if not is_batch(item):
            watermark = max(watermark, item)
            continue
        for time, _ in item:
            starts = window.starts(time)
            late += bool(starts) and all(s + window.size - 1 <= watermark for s in starts)
    return late


def moment(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_us)


def bounds(window: Window, start: int) -> dict[str, datetime]:
    return {"window_start": moment(start), "window_end": moment(start + window.size)}


__all__ = ["Model", "Window", "aggregate", "bounds", "fired", "late_rows", "rows_of", "running"]
