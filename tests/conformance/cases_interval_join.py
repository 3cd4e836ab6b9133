"""Interval joins of every kind: before, around and behind a row, and in one instant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from conformance import Case, Right, Story, is_batch, plain
from interval_model import IntervalModel
from stories import ONLY_TIME, story

from raystream.flow.batch import wire_schema
from raystream.operators.interval_join import IntervalJoinSpec
from raystream.operators.join_plan import JoinPlan

LEFT = pa.schema([("k", pa.string()), ("i", pa.int64()), ("l", pa.list_(pa.int64()))])
RIGHT = pa.schema([("k", pa.string()), ("f", pa.float64()), ("i", pa.int64())])
KEPT = (("f", "f"), ("i", "i_right"))


def plan(how: str, keys: tuple[str, ...] = ("k",)) -> JoinPlan:
    """Make the plan of a join of the streams of this file."""
    lone = how in ("semi", "anti")
    kept = () if lone else tuple(pair for pair in KEPT if pair[0] not in keys)
    fields = [*LEFT, *(RIGHT.field(name).with_name(output) for name, output in kept)]
    wires = wire_schema(LEFT, timed=True), wire_schema(RIGHT, timed=True)
    types = tuple(LEFT.field(key).type for key in keys)
    output = wire_schema(pa.schema(fields), timed=True)
    return JoinPlan(how, *wires, keys, keys, types, kept, output)


def two_sided(told: Story) -> Story:
    """Let every other batch come in at the second port."""
    out: Story = []
    for at, item in enumerate(told):
        if not is_batch(item):
            out.append(item)
            continue
        side, schema = (Right, RIGHT) if at % 2 else (list, LEFT)
        rows = [(time, {name: row[name] for name in schema.names}) for time, row in item]
        out.append(side(rows))
    return out


def model(how: str, lower: int, upper: int, keys: tuple[str, ...]) -> IntervalModel:
    """Make the model of a join of the streams of this file."""
    made = plan(how, keys)

    def key(row: Any) -> Any:
        values = tuple(row[name] for name in keys)
        return None if None in values else values

    def pair(left: Any, right: Any) -> Any:
        row = {name: None if left is None else left[name] for name in LEFT.names}
        if left is None:
            row |= {name: right[name] for name in keys}
        return plain(row | {out: None if right is None else right[name] for name, out in made.kept})

    return IntervalModel(how, lower, upper, key, pair)


def expect(how: str, lower: int, upper: int, keys: tuple[str, ...]) -> Callable[..., Any]:
    return lambda told, ended: model(how, lower, upper, keys).play(told, ended=ended).rows


def held(how: str, lower: int, upper: int) -> int:
    """Say by how much the watermark is held back."""
    left = upper if how in ("left", "full", "anti") else 0
    return max(0, left, -lower if how in ("right", "full") else 0)


def case(
    how: str,
    ends: tuple[int, int],
    told: Story,
    keys: tuple[str, ...] = ("k",),
    *,
    name: str = "",
) -> Case:
    """Make the case of one kind of join and one interval."""
    lower, upper = ends
    return Case(
        f"{name or how} {lower} to {upper}",
        lambda: IntervalJoinSpec(plan(how, keys), lower, upper),
        told,
        expect(how, lower, upper, keys),
        input=plan(how).left,
        right=plan(how).right,
        output=plan(how, keys).output,
        keys=keys,
        ordered=False,
        promises=True,
        holds=held(how, lower, upper),
        late=model(how, lower, upper, keys).play(told, ended=True).late,
    )


STORY = two_sided(story(50, seed=31))
KINDS = ("inner", "left", "right", "full", "semi", "anti")

CASES = {
    "interval_join": [
        *(case(how, (-5, 3), STORY) for how in KINDS),
        *(case(how, ends, STORY) for how in ("full", "semi") for ends in [(2, 9), (-9, -2)]),
        case("full", (0, 0), STORY),
        case("anti", (-1_000, 1_000), STORY),
        case("full", (-20, 20), STORY, ("k", "i"), name="two keys"),
        case("inner", (-1, 1), ONLY_TIME, name="only time"),
        case("left", (-1, 1), [], name="nothing"),
    ]
}
