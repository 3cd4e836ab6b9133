"""Joins by event time: in windows of every kind, and with the newest row of the other side."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from cases_grids import DAYS
from conformance import Case, Right, Row, Story, is_batch, plain
from join_models import AsOfJoins, SessionJoins, Shape, WindowJoins
from stories import ODD, ODD_WIRE, ONLY_TIME, story
from window_models import cumulative, local_days, sliding

import raystream as rs
from raystream.contracts.window import Cumulative, Sliding, Tumbling
from raystream.contracts.window_unaligned import Session
from raystream.testing import At, Source

HOWS = ("inner", "left", "right", "full", "semi", "anti")


def both(told: Story, seed: int = 1) -> Story:
    """Let half of the batches come in at the second port."""
    rng = random.Random(seed)
    return [Right(item) if is_batch(item) and rng.random() < 0.5 else item for item in told]


STORY = both(story(70))
DENSE = both(story(70, seed=5, jitter=30), seed=2)
ONE_SIDE = story(30, seed=9)


def shape(how: str, keys: tuple[str, ...]) -> Shape:
    right = {name: name + "_right" for name in ODD.names if name not in keys}
    return Shape(how, keys, ODD.names, right)


@lru_cache
def spec(keys: tuple[str, ...], how: str, window: Any, tolerance: Any) -> Any:
    """Write a job down, and give what it has for the join."""
    job = rs.Job("cases")
    row = dict.fromkeys(ODD.names)
    left, right = (job.source(Source([At(1, row)], schema=ODD), name=name) for name in "lr")
    if window is None:
        made = left.as_of_join(right, on=list(keys), how=how, tolerance=tolerance)
    else:
        made = left.join(right, on=list(keys), how=how, window=window)
    return made._tip.node.spec


def case(
    name: str,
    model: Callable[[], Any],
    told: Story,
    window: Any = None,
    *,
    keys: tuple[str, ...] = ("k",),
    tolerance: Any = None,
) -> Case:
    how = model().shape.how
    made = spec(keys, how, window, tolerance)

    def expect(some: Story, ended: bool) -> list[Row]:
        return [(time, plain(row)) for time, row in model().tell(some, ended).out]

    return Case(
        f"{name}, {how} on {' and '.join(keys)}",
        lambda: made,
        told,
        expect,
        input=ODD_WIRE,
        output=made.plan.output,
        keys=keys,
        ordered=False,
        promises=True,
        late=model().tell(told, True).late,
        right=ODD_WIRE,
    )


def windowed(
    name: str,
    window: Any,
    assign: Any,
    how: str,
    told: Story = STORY,
    *,
    keys: tuple[str, ...] = ("k",),
) -> Case:
    return case(name, lambda: WindowJoins(shape(how, keys), assign), told, window, keys=keys)


def in_sessions(gap: int, how: str, told: Story = STORY, keys: Any = ("k",)) -> Case:
    made = lambda: SessionJoins(shape(how, keys), gap)
    return case(f"sessions of {gap}", made, told, Session(gap), keys=keys)


def newest(
    how: str, told: Story, tolerance: int | None = None, keys: tuple[str, ...] = ("k",)
) -> Case:
    most = math.inf if tolerance is None else tolerance
    name = f"the newest within {most}"
    made = lambda: AsOfJoins(shape(how, keys), most)
    return case(name, made, told, keys=keys, tolerance=tolerance)


TEN = ("tumbling", Tumbling(10, offset=3), sliding(10, 10, 3))
WINDOW_JOIN = [
    *(windowed(*TEN, how) for how in HOWS),
    *(windowed("sliding", Sliding(12, 4), sliding(12, 4), how, DENSE) for how in HOWS),
    windowed("sliding, uneven", Sliding(10, 3), sliding(10, 3), "full"),
    windowed("sliding with gaps", Sliding(4, 7), sliding(4, 7), "full", DENSE),
    windowed("sliding far", Sliding(50, 3), sliding(50, 3), "left"),
    windowed("cumulative", Cumulative(12, 3), cumulative(12, 3), "full"),
    windowed("cumulative, many", Cumulative(40, 2, offset=1), cumulative(40, 2, 1), "anti"),
    windowed(
        "local days",
        Tumbling("1d", tz="Europe/Berlin"),
        local_days("Europe/Berlin", 1),
        "full",
        both(DAYS),
    ),
    windowed(*TEN, "full", keys=("k", "f")),
    windowed(*TEN, "inner", DENSE, keys=("i",)),
    windowed(*TEN, "right", DENSE, keys=("f", "b")),
    windowed(*TEN, "full", ONE_SIDE),
    *(in_sessions(4, how) for how in HOWS),
    in_sessions(2, "full", DENSE),
    in_sessions(15, "full", DENSE, ("k", "f")),
    in_sessions(1, "inner", STORY, ("i",)),
    in_sessions(9, "left", ONE_SIDE),
    in_sessions(9, "right", ONLY_TIME),
    windowed(*TEN, "full", ONLY_TIME),
]
AS_OF = [
    newest("left", STORY),
    newest("inner", DENSE),
    newest("left", DENSE, 0),
    newest("left", DENSE, 5),
    newest("inner", STORY, 5, ("k", "f")),
    newest("left", DENSE, None, ("i",)),
    newest("left", ONE_SIDE),
    newest("left", ONLY_TIME),
]

CASES = {"as_of_join": AS_OF, "window_join": WINDOW_JOIN}
