"""Joins: with a table that every subtask has, and of two streams whose rows stay."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
from cases_per_key import kinds
from conformance import Advance, Case, Right, Row, Story, is_batch, plain, plain_rows
from join_model import JoinModel, columns_of, joined, regular_plan
from models import key_id
from stories import ODD, ODD_WIRE, odd_rows, rows_of, story

from raystream.api.join_checks import join_plan
from raystream.flow.batch import wire_schema
from raystream.flow.changes import DELETE, INSERT, OP, UPDATE_AFTER, UPDATE_BEFORE
from raystream.operators.join_plan import HOWS
from raystream.operators.regular_join import RegularJoinSpec
from raystream.operators.table_join import TableJoinSpec

CHANGES = wire_schema(ODD, timed=True, changes=True)
PLAIN = story(36, seed=71)
UNTIMED = story(24, seed=72, timed=False)


def with_changes(told: Story, seed: int) -> Story:
    """Take rows back now and then: some alone, some for another, some that never came."""
    rng = random.Random(seed)
    there: list[Row] = []
    out: Story = []
    for item in told:
        if not is_batch(item):
            out.append(item)
            continue
        batch = type(item)()
        for time, row in item:
            old = there.pop(rng.randrange(len(there))) if there and rng.random() < 0.5 else None
            update = rng.random() < 0.6
            if old is not None:
                batch.append((old[0], {**old[1], OP: UPDATE_BEFORE if update else DELETE}))
            elif rng.random() < 0.1 and row["k"] is not None:
                batch.append((time, {**row, OP: DELETE}))
            there.append((time, row))
            op = UPDATE_AFTER if old is not None and update else INSERT
            batch.append((time, {**row, OP: op}))
        out.append(batch)
    return out


def in_turn(left: Story, right: Story) -> Story:
    """Let items of two stories come in turn, those of the second at the second port."""
    out: Story = []
    lefts, rights = list(left), [item for item in right if is_batch(item)]
    while lefts or rights:
        out += [lefts.pop(0)] if lefts else []
        out += [Right(rights.pop(0))] if rights else []
    return out


# Tables ------------------------------------------------------------------------------------------

TABLE = pa.Table.from_pylist(odd_rows(24, seed=73), schema=ODD)
FEW = pa.Table.from_pylist(
    [{"id": "a", "name": "A"}, {"id": "", "name": None}, {"id": None, "name": "none"}],
    schema=pa.schema([("id", pa.string()), ("name", pa.string())]),
)


def with_table(
    how: str,
    table: pa.Table,
    told: Story = PLAIN,
    wire: pa.Schema = ODD_WIRE,
    keys: tuple[tuple[str, ...], tuple[str, ...]] = (("k",), ("k",)),
) -> Case:
    changes, timed = OP in wire.names, "__ts" in wire.names
    sides = columns_of("l", wire), columns_of("r", table.schema)
    plan = join_plan(*sides, keys, how, "_right", timed=timed, changes=changes)
    rights = table.to_pylist()

    def expect(some: Story, ended: bool) -> list[Row]:
        out: list[Row] = []
        for time, full in rows_of(some):
            row = dict(full)
            op = row.pop(OP, INSERT)
            key = [key_id(row[name]) for name in keys[0]]
            found = [
                right
                for right in rights
                if None not in [row[name] for name in keys[0]]
                and [key_id(right[name]) for name in keys[1]] == key
            ]
            if how in ("semi", "anti"):
                made = [joined(plan, row, None)] * (bool(found) == (how == "semi"))
            else:
                made = [joined(plan, row, right) for right in found]
                made += [joined(plan, row, None)] * (how == "left" and not found)
            does = "-D" if op in (UPDATE_BEFORE, DELETE) else "+I"
            out += [(time, (does, plain(one)) if changes else plain(one)) for one in made]
        return out

    return Case(
        f"{how} by {', '.join(keys[0])} with {table.num_rows} rows"
        f"{', of changes' if changes else ''}{'' if timed else ', without event time'}",
        lambda: TableJoinSpec(plan, table),
        told,
        expect,
        input=wire,
        output=plan.output,
        keys=keys[0],
        shown=kinds if changes else plain_rows,
    )


# Streams -----------------------------------------------------------------------------------------


def regular(
    how: str,
    left: pa.Schema = ODD_WIRE,
    right: pa.Schema = ODD_WIRE,
    *,
    keys: tuple[str, ...] = ("k",),
    told: Story | None = None,
    ttl_us: int | None = None,
    name: str = "",
) -> Case:
    plan = regular_plan(how, left, right, keys)
    changes = OP in plan.output.names
    if told is None:
        sides = [
            story(20, seed=74 + port, timed="__ts" in (left, right)[port].names) for port in (0, 1)
        ]
        sides = [
            with_changes(side, 76) if OP in wire.names else side
            for side, wire in zip(sides, (left, right), strict=True)
        ]
        told = in_turn(*sides)

    def expect(some: Story, ended: bool) -> list[Row]:
        model = JoinModel(plan, ttl_us, key_id)
        out: list[Any] = []
        for item in some:
            if isinstance(item, Advance):
                model.now_us += item.us
            elif is_batch(item):
                for time, row in item:
                    out += model.take(int(isinstance(item, Right)), time, row)
        return [(time, (op, plain(row)) if changes else plain(row)) for time, op, row in out]

    return Case(
        f"{how} by {', '.join(keys)}{name}",
        lambda: RegularJoinSpec(plan, ttl_us),
        told,
        expect,
        input=left,
        output=plan.output,
        right=right,
        keys=keys,
        shown=kinds if changes else plain_rows,
    )


def passing(told: Story) -> Story:
    """Let processing time pass between batches."""
    rng = random.Random(78)
    out: Story = []
    for item in told:
        out += [item, Advance(rng.choice([1, 2, 5]))]
    return out


AGING = passing(in_turn(story(20, seed=74), story(20, seed=75)))
AGING_CHANGES = passing(
    in_turn(with_changes(story(20, seed=74), 79), with_changes(story(20, seed=75), 80))
)

CASES: dict[str, list[Case]] = {
    "table_join": [
        *(with_table(how, TABLE) for how in ("inner", "left", "semi", "anti")),
        with_table("left", TABLE, keys=(("k", "f"), ("k", "f"))),
        with_table("inner", FEW, keys=(("k",), ("id",))),
        with_table("left", FEW, UNTIMED, ODD, (("k",), ("id",))),
        with_table("left", TABLE, with_changes(PLAIN, 81), CHANGES),
        with_table("anti", FEW, with_changes(PLAIN, 82), CHANGES, (("k",), ("id",))),
    ],
    "regular_join": [
        *(regular(how) for how in HOWS),
        *(regular(how, CHANGES, CHANGES, name=" of changes") for how in HOWS),
        regular("full", keys=("k", "f"), name=" together"),
        regular("left", ODD_WIRE, CHANGES, name=" with changes"),
        regular("inner", CHANGES, ODD, name=" of changes with rows without event time"),
        regular("full", ODD, ODD, name=" without event time"),
        regular("inner", told=AGING, ttl_us=7, name=" for some time"),
        regular("semi", told=AGING, ttl_us=7, name=" for some time"),
        regular(
            "full", CHANGES, CHANGES, told=AGING_CHANGES, ttl_us=9, name=" of changes for some time"
        ),
        regular("left", told=[], name=" of nothing"),
    ],
}
