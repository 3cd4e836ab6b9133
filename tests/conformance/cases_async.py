"""async_map: functions that give way to others a number of times that depends on the row."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pyarrow as pa
from conformance import Advance, Case, Story, is_batch
from stories import EMPTY, ODD_WIRE, each, many, story

from raystream.contracts.functions import Function
from raystream.flow.batch import wire_schema
from raystream.operators.async_map import AsyncMapSpec

SHOWN = pa.schema([("k", pa.string()), ("i", pa.int64())])
SHOWN_WIRE = wire_schema(SHOWN, timed=True)


async def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Take the longer, the smaller the number."""
    number = 3 if row["i"] is None else row["i"] % 7
    for _ in range(20 - 2 * number):
        await asyncio.sleep(0)
    return {"k": row["k"], "i": number}


def answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"k": row["k"], "i": 3 if row["i"] is None else row["i"] % 7}


class Shown:
    """Opened and closed in the loop that it is called in."""

    async def open(self, ctx: Any) -> None:
        self.loop = asyncio.get_running_loop()

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        assert asyncio.get_running_loop() is self.loop
        return await shown(row)

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop


def spec(function: Any, output: pa.Schema | None, keys: Any = None, **given: Any) -> Any:
    return lambda: AsyncMapSpec(Function(function), keys, output, "it", "", **given)


def with_time(told: Story) -> Story:
    """Let time pass before each watermark."""
    return [
        part for item in told for part in ([item] if is_batch(item) else [Advance(5_000), item])
    ]


ON_COLUMNS = partial(Case, input=ODD_WIRE, forwards=False)
ON_OBJECTS = partial(Case, forwards=False)
NO_LATE = story(jitter=0)

ASYNC_MAP = [
    ON_COLUMNS(
        "columns in order",
        spec(shown, SHOWN_WIRE, capacity=7),
        NO_LATE,
        each(answer),
        output=SHOWN_WIRE,
    ),
    ON_COLUMNS(
        "columns as they come",
        spec(Shown, SHOWN_WIRE, capacity=5, ordered=False),
        NO_LATE,
        each(answer),
        output=SHOWN_WIRE,
        ordered=False,
    ),
    ON_COLUMNS(
        "columns by key",
        spec(shown, SHOWN_WIRE, ("k",), capacity=5, ordered=False),
        [
            [(time, row | {"k": row["k"] or ""}) for time, row in item] if is_batch(item) else item
            for item in NO_LATE
        ],
        each(answer),
        output=SHOWN_WIRE,
        keys=("k",),
        ordered=False,
    ),
    ON_OBJECTS("objects in order", spec(shown, None), NO_LATE, each(answer)),
    ON_OBJECTS(
        "objects by key",
        spec(Shown, None, (), capacity=3, ordered=False),
        NO_LATE,
        each(answer),
        key_of=lambda row: row["k"],
        keys=(),
        ordered=False,
    ),
    ON_OBJECTS(
        "without event time", spec(shown, None, capacity=1), story(timed=False), each(answer)
    ),
    ON_OBJECTS("time passes", spec(shown, None, capacity=4), with_time(NO_LATE), each(answer)),
    ON_OBJECTS("nothing comes", spec(shown, None), EMPTY, many(lambda row: [])),
]

CASES = {"async_map": ASYNC_MAP}
