"""The newest row of each key, whatever the order in which rows come and go."""

from __future__ import annotations

import random
from typing import Any

from cases_changes import changes as changes_schema
from cases_per_key import kinds
from cases_retracting import CHANGES, UNTIMED, changes, turn
from conformance import Case, Row, Story, is_batch, plain
from models import key_id
from stories import ODD, rows_of

from raystream.flow.changes import OP
from raystream.operators.upserts import UpsertsSpec


def settled(keys: tuple[str, ...], told: Story, *, timed: bool = True) -> Case:
    def expect(some: Story, ended: bool) -> list[Row]:
        held: dict[Any, list[Row]] = {}
        for time, row in rows_of(some):
            turn(held.setdefault(tuple(key_id(row[key]) for key in keys), []), time, row)
        return [(None, ("+I", plain(rows[-1][1]))) for rows in held.values() if rows]

    def view(rows: list[Row]) -> Any:
        """Apply what a sink is told, by the key alone."""
        table: dict[Any, Any] = {}
        for _, (op, row) in rows:
            cells = dict(row[1])
            key = tuple(cells[name] for name in keys)
            if op == "-D":
                table.pop(key, None)
            else:
                assert op in ("+I", "+U")
                table[key] = row
        return table

    wire = CHANGES if timed else UNTIMED
    assert wire == changes_schema(ODD, timed=timed)
    return Case(
        f"by {', '.join(keys)}{'' if timed else ', without event time'}",
        lambda: UpsertsSpec(keys, wire),
        told,
        expect,
        input=wire,
        output=wire,
        keys=keys,
        ordered=False,
        shown=kinds,
        view=view,
        exact=False,
    )


def moved(told: Story, seed: int) -> Story:
    """Let what several subtasks say of a key come in another order: each keeps that of a row."""
    rng = random.Random(seed)
    out: Story = []
    for item in told:
        if not is_batch(item):
            out.append(item)
            continue
        lanes: list[list[Row]] = [[], [], []]
        for time, row in item:
            which = plain({name: value for name, value in row.items() if name != OP})
            lanes[len(str(which)) % 3].append((time, row))
        batch = []
        while any(lanes):
            batch.append(rng.choice([lane for lane in lanes if lane]).pop(0))
        out.append(batch)
    return out


CASES = {
    "upserts": [
        settled(("k",), changes(60, seed=91)),
        settled(("k", "b"), moved(changes(60, seed=92), seed=1)),
        settled(("i",), changes(45, seed=93, timed=False), timed=False),
    ]
}
