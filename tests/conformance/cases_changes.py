"""Operators that make changelogs or hand them on, with what leaves the table announced or not."""

from __future__ import annotations

import random
from typing import Any

import narwhals.stable.v2 as nw
import pyarrow as pa
from cases_keyed import gather, gathered
from cases_per_key import by, kinds
from conformance import Case, Row, Story, is_batch, plain
from stories import ODD, rows_of, story

from raystream.contracts.functions import Function
from raystream.contracts.process import ProcessContext, ProcessFunction, ProcessMaker
from raystream.flow.batch import Batch, wire_schema
from raystream.flow.changes import OP, OPS
from raystream.operators.columns import ColumnsSpec, Filter, Rename, Select, WithColumns
from raystream.operators.deduplicate import DeduplicateSpec
from raystream.operators.process import ProcessSpec
from raystream.operators.reduce import ReduceSpec
from raystream.operators.row_functions import FilterFunctionSpec, MapSpec
from raystream.operators.to_changelog import ToChangelogSpec

UNTIMED = story(50, seed=83, timed=False)


def changes(schema: pa.Schema, *, timed: bool = True) -> pa.Schema:
    return wire_schema(schema, timed=timed, changes=True)


def told_of(rows: list[tuple[Any, Any, Any]], *, before: bool) -> list[Row]:
    """Tell results as changes: (time, key, row) each, of which the next of a key replaces one."""
    held: dict[Any, Any] = {}
    out: list[Row] = []
    for time, key, row in rows:
        if key in held and before:
            out.append((time, ("-U", plain(held[key]))))
        out.append((time, ("+U" if key in held else "+I", plain(row))))
        held[key] = row
    return out


# makers ------------------------------------------------------------------------------------------


def deduplicated(keys: tuple[str, ...], told: Story) -> Case:
    key, timed = by(keys), told is not UNTIMED

    def expect(some: Story, ended: bool) -> list[Row]:
        newest: dict[Any, Any] = {}
        rows = []
        for time, row in rows_of(some):
            if time is None or key(row) not in newest or time > newest[key(row)]:
                newest[key(row)] = time
                rows.append((time, key(row), row))
        return told_of(rows, before=True)

    wire, output = wire_schema(ODD, timed=timed), changes(ODD, timed=timed)
    return Case(
        f"last of {', '.join(keys)}, changes with what they replace{'' if timed else ', untimed'}",
        lambda: DeduplicateSpec(keys, "last", "changes", None, wire, output, before=True),
        told,
        expect,
        input=wire,
        output=output,
        keys=keys,
        shown=kinds,
    )


def reduced(keys: tuple[str, ...], told: Story, *, before: bool) -> Case:
    key, timed = by(keys), told is not UNTIMED

    def expect(some: Story, ended: bool) -> list[Row]:
        seen: dict[Any, list[Row]] = {}
        rows = []
        for time, row in rows_of(some):
            mine = seen.setdefault(key(row), [])
            mine.append((time, row))
            rows.append((time, key(row), gathered(None, mine)))
        return told_of(rows, before=before)

    wire, output = wire_schema(ODD, timed=timed), changes(ODD, timed=timed)
    return Case(
        f"by {', '.join(keys)}, changes{' with what they replace' if before else ''}"
        f"{'' if timed else ', untimed'}",
        lambda: ReduceSpec(
            Function(gather), keys, output, "changes", "it", "case.py:1", before=before
        ),
        told,
        expect,
        input=wire,
        output=output,
        keys=keys,
        shown=kinds,
    )


KINDS = ODD.append(pa.field("op", pa.string()))


def with_words(told: Story, keys: tuple[str, ...], seed: int) -> Story:
    """Put a kind beside each row, at random; some rows hold nothing else but their key."""
    rng = random.Random(seed)

    def word(row: Any) -> Any:
        op = rng.choice(["+I", "+U", "+U", "-U", "-D"])
        if op in ("-U", "-D") and rng.random() < 0.6:
            row = {name: value if name in keys else None for name, value in row.items()}
        return {**row, "op": op}

    return [[(t, word(r)) for t, r in item] if is_batch(item) else item for item in told]


def tabled(keys: tuple[str, ...], told: Story, *, before: bool, timed: bool = True) -> Case:
    key = by(keys)

    def expect(some: Story, ended: bool) -> list[Row]:
        held: dict[Any, Any] = {}
        room: set[Any] = set()
        out: list[Row] = []
        for time, told_row in rows_of(some):
            op, at = told_row["op"], key(told_row)
            row = {name: value for name, value in told_row.items() if name != "op"}
            if not before:
                out.append((time, (op, plain(row))))
                continue
            if op == "+U" and at not in room:
                if at in held:
                    out.append((time, ("-U", plain(held[at]))))
                else:
                    op = "+I"
            if op in ("-U", "-D"):
                empty = all(value is None for name, value in row.items() if name not in keys)
                taken = held.pop(at, None)
                if not empty:
                    taken = row
            else:
                held[at] = taken = row
            if taken is not None:
                out.append((time, (op, plain(taken))))
            (room.add if op == "-U" else room.discard)(at)
        return out

    wire, output = wire_schema(KINDS, timed=timed), changes(ODD, timed=timed)
    return Case(
        f"by {', '.join(keys)}{', with what they replace' if before else ''}",
        lambda: ToChangelogSpec(keys, "op", wire, output, before=before),
        with_words(told, keys, seed=len(keys)),
        expect,
        input=wire,
        output=output,
        keys=keys,
        shown=kinds,
        keeps=before,
    )


# stateless ---------------------------------------------------------------------------------------


def signs(batch: Batch) -> list[Row]:
    """Show rows beside whether they come or go: of an update cut in two both are told alone."""
    return [(time, (op[0], row)) for time, (op, row) in kinds(batch)]


def updates(told: Story) -> Story:
    """Give rows kinds; of each two that are updates the first goes and the second comes."""
    rng = random.Random(91)
    out: Story = []
    for item in told:
        if not is_batch(item):
            out.append(item)
            continue
        rows: list[Row] = []
        for time, row in item:
            if rng.random() < 0.5:
                rows.append((time, {**row, OP: rng.choice([0, 3])}))
            else:
                rows += [(time, {**row, "i": 1 - (row["i"] or 0), OP: 1}), (time, {**row, OP: 2})]
        out.append(rows)
    return out


CHANGING = updates(story(60, seed=92))


def handed_on(name: str, spec: Any, made: Any, output: pa.Schema = ODD) -> Case:
    def expect(some: Story, ended: bool) -> list[Row]:
        out = []
        for time, row in rows_of(some):
            result = made({name: value for name, value in row.items() if name != OP})
            if result is not None:
                out.append((time, (OPS[row[OP]][0], plain(result))))
        return out

    return Case(
        f"{name}, of changes",
        spec,
        CHANGING,
        expect,
        input=changes(ODD),
        output=changes(output),
        shown=signs,
    )


def positive(row: Any) -> bool:
    return row["i"] is not None and row["i"] > 0


def as_float(row: Any) -> Any:
    return {"key": row["k"], "f": None if row["i"] is None else row["i"] / 1}


AS_FLOAT = pa.schema([("key", pa.string()), ("f", pa.float64())])

COLUMNS = [
    handed_on(
        "a filter",
        lambda: ColumnsSpec("filter", (Filter(nw.col("i") > 0),), changes(ODD)),
        lambda row: row if positive(row) else None,
    ),
    handed_on(
        "a run",
        lambda: ColumnsSpec(
            "filter",
            (
                Filter(nw.col("i") > 0),
                WithColumns((("f", nw.col("i") / 1),)),
                Select((("k", None), ("f", None))),
                Rename((("k", "key"),)),
            ),
            changes(AS_FLOAT),
        ),
        lambda row: as_float(row) if positive(row) else None,
        AS_FLOAT,
    ),
]

ROW_FUNCTIONS = [
    handed_on(
        "filter",
        lambda: FilterFunctionSpec(Function(positive), "it", "case.py:1"),
        lambda row: row if positive(row) else None,
    ),
    handed_on(
        "map",
        lambda: MapSpec(Function(as_float), changes(AS_FLOAT), "it", "case.py:1"),
        as_float,
        AS_FLOAT,
    ),
]

# process -----------------------------------------------------------------------------------------


class Told(ProcessFunction):
    """Say what each row does, more than once: a call may be held and gone on with."""

    def process(self, row: Any, ctx: ProcessContext) -> Any:
        for number in range(3):
            yield ctx.op, number, row["k"]


def told_kinds(some: Story, ended: bool) -> list[Row]:
    return [
        (time, plain((OPS[row[OP]], number, row["k"])))
        for time, row in rows_of(some)
        for number in range(3)
    ]


PROCESS = [
    Case(
        "a function of changes",
        lambda: ProcessSpec(ProcessMaker(Told), None, None, None, True, "it", "case.py:1"),
        CHANGING,
        told_kinds,
        input=changes(ODD),
    )
]

CASES = {
    "columns": COLUMNS,
    "deduplicate": [deduplicated(("k",), story(60, seed=81)), deduplicated(("k", "b"), UNTIMED)],
    "process": PROCESS,
    "reduce": [
        reduced(("k",), story(50, seed=84), before=False),
        reduced(("k", "f"), story(50, seed=85), before=True),
        reduced(("k",), UNTIMED, before=True),
    ],
    "row_functions": ROW_FUNCTIONS,
    "to_changelog": [
        tabled(("k",), story(60, seed=86), before=True),
        tabled(("k", "b"), story(60, seed=87, timed=False), before=True, timed=False),
        tabled(("f",), story(40, seed=88), before=False),
        tabled(tuple(n for n in ODD.names if n != "l"), story(40, seed=89), before=True),
    ],
}
