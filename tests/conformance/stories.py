"""Rows that are odd on purpose, and stories of them: what the cases are made of."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
from conformance import Row, Story, is_batch, plain

from raystream.flow.batch import wire_schema

NAN = float("nan")
ODD = pa.schema(
    [
        ("k", pa.string()),
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("d", pa.decimal128(12, 2)),
        ("t", pa.timestamp("us", "Europe/Berlin")),
        ("b", pa.bool_()),
        ("l", pa.list_(pa.int64())),
    ]
)
ODD_WIRE = wire_schema(ODD, timed=True)
UTC = pa.timestamp("us", "UTC")

VALUES: dict[str, list[Any]] = {
    "k": [None, "", "a", "ß漢字🙂", "b"],
    "i": [None, 0, -1, 7, 2**53 + 1, -(2**40)],
    "f": [None, NAN, 0.5, -2.25, -0.0, 0.0, 1024.0],
    "d": [None, Decimal("0.00"), Decimal("-12.34"), Decimal("99999999.99")],
    "t": [
        None,
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(2024, 3, 31, 1, 30, tzinfo=timezone.utc),
        datetime(2024, 10, 27, 0, 30, tzinfo=timezone.utc),
    ],
    "b": [None, True, False],
    "l": [None, [], [1], [None, 2, -3], [5] * 11],
}


def odd_rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Give rows of every odd value."""
    rng = random.Random(seed)
    return [{name: rng.choice(some) for name, some in VALUES.items()} for _ in range(count)]


def story(
    count: int = 60, seed: int = 1, *, timed: bool = True, jitter: int = 12, start: int = -60
) -> Story:
    """Tell rows with times that begin before 1970, go up by jumps and lag by up to ``jitter``.

    Watermarks come in between; some rows come behind them.
    """
    rng = random.Random(seed)
    told: Story = []
    time, watermark, batch = start, None, []
    for row in odd_rows(count, seed):
        time += rng.choice([0, 1, 3])
        batch.append((time - rng.randint(0, jitter), row) if timed else (None, row))
        if rng.random() < 0.2:
            told.append(batch)
            batch = []
            level = time - jitter // 2
            if timed and rng.random() < 0.6 and (watermark is None or level > watermark):
                told.append(level)
                watermark = level
    return [*told, batch] if batch else told


EMPTY: Story = []
ONLY_TIME: Story = [-5, 3, 100]


def rows_of(told: Story) -> list[Row]:
    """Give all rows of a story, in order of arrival."""
    return [row for item in told if is_batch(item) for row in item]


def each(function: Callable[[Any], Any]) -> Callable[[Story, bool], list[Row]]:
    """Expect one row of each, at its time."""
    return many(lambda row: [function(row)])


def many(function: Callable[[Any], list[Any]]) -> Callable[[Story, bool], list[Row]]:
    """Expect any number of rows of each, at its time."""

    def expect(told: Story, ended: bool) -> list[Row]:
        return [(time, plain(out)) for time, row in rows_of(told) for out in function(row)]

    return expect
