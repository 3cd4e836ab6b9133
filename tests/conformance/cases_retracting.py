"""Aggregates and the best rows of a table whose changes flow."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pyarrow as pa
from cases_keyed import MODELS, OWN, bind, columns_of, last_of_keys, values
from cases_per_key import best, kinds, ranked, sort_of, table
from conformance import Case, Row, Story, is_batch, plain
from models import key_id
from stories import ODD, odd_rows, rows_of

from raystream.contracts.aggregate import AggregateFunction
from raystream.flow.batch import wire_schema
from raystream.flow.changes import DELETE, INSERT, OP, UPDATE_AFTER, UPDATE_BEFORE
from raystream.operators.running_aggregate import RunningAggregateSpec
from raystream.operators.top_k import TopKSpec

CHANGES = wire_schema(ODD, timed=True, changes=True)
UNTIMED = wire_schema(ODD, timed=False, changes=True)


def changes(count: int, seed: int, *, timed: bool = True) -> Story:
    """Tell of a table whose rows come, change and go, and which is empty now and then."""
    rng = random.Random(seed)
    told: Story = []
    time, batch, held = -60, [], []

    def say(op: int, row: Any) -> None:
        batch.append((time - rng.randint(0, 9) if timed else None, {**row, OP: op}))

    for row in odd_rows(count, seed):
        time += rng.choice([0, 1, 3])
        what = rng.random()
        if what < 0.55 or not held:
            held.append(row)
            say(INSERT, row)
        elif what < 0.8:
            old = held.pop(rng.randrange(len(held)))
            held.append({**row, "k": old["k"]})
            say(UPDATE_BEFORE, old)
            say(UPDATE_AFTER, held[-1])
        elif what < 0.95:
            say(DELETE, held.pop(rng.randrange(len(held))))
        else:
            for old in held:
                say(DELETE, old)
            held = []
        if rng.random() < 0.25:
            told.append(batch)
            batch = []
            if timed and rng.random() < 0.5:
                told.append(time - 20)
    levels: list[int] = []
    kept: Story = []
    for item in [*told, batch]:
        if is_batch(item) or not levels or item > levels[-1]:
            kept.append(item)
            levels += [] if is_batch(item) else [item]
    return kept


def without(row: Any) -> Any:
    return {name: value for name, value in row.items() if name != OP}


def turn(held: list[Row], time: Any, row: Any) -> bool:
    """Let one change act on the rows of its key; tell whether it takes a row back."""
    removes = row[OP] in (UPDATE_BEFORE, DELETE)
    if removes:
        seen = plain(without(row))
        del held[next(at for at, (_, one) in enumerate(held) if plain(one) == seen)]
    else:
        held.append((time, without(row)))
    return removes


# aggregates --------------------------------------------------------------------------------------


class Longest(AggregateFunction):
    """The longest text of each key, of equals the least; texts can be taken back."""

    type = pa.string()

    def create(self) -> Any:
        return []

    def add(self, acc: Any, row: Any) -> Any:
        return [*acc, row["k"]]

    def retract(self, acc: Any, row: Any) -> Any:
        acc = list(acc)
        acc.remove(row["k"])
        return acc

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def result(self, acc: Any) -> Any:
        return max(sorted(text for text in acc if text is not None), key=len, default=None)


RETRACTING = {
    name: model for name, model in MODELS.items() if model.kind != "approx_count_distinct"
}
BOUNDS = (*bind(RETRACTING), replace(OWN, function=Longest()))
ZEROS = ("rows", "count_d", "kinds_f")


def shown_values(rows: list[Row]) -> dict[str, Any]:
    if not rows:
        return {name: 0 if name in ZEROS else None for name in (*RETRACTING, "own")}
    texts = sorted(row["k"] for _, row in rows if row["b"] and row["k"] is not None)
    return {**values(RETRACTING, rows), "own": max(texts, key=len, default=None)}


def aggregated(keys: tuple[str, ...], emit: str, told: Story, *, before: bool = False) -> Case:
    timed = told and any(is_batch(one) and one and one[0][0] is not None for one in told)
    output = columns_of(keys, BOUNDS, timed=timed)
    if emit == "changes":
        fields = [ODD.field(key) for key in keys] + [pa.field(b.name, b.output) for b in BOUNDS]
        output = wire_schema(pa.schema(fields), timed=timed, changes=True)

    def name_of(row: Any) -> dict[str, Any]:
        return {key: row[key] for key in keys}

    def expect(some: Story, ended: bool) -> list[Row]:
        held: dict[Any, list[Row]] = {}
        latest: dict[Any, Any] = {}
        touched: dict[Any, Row] = {}
        out: list[Row] = []
        for item in some:
            if not is_batch(item):
                continue
            touched.clear()
            for time, row in item:
                key = tuple(key_id(row[name]) for name in keys)
                mine = held.setdefault(key, [])
                old = list(mine)
                turn(mine, time, row)
                new = plain({**name_of(row), **shown_values(mine)})
                was = plain({**name_of(row), **shown_values(old)})
                fresh = not old or time is None
                latest[key] = time if fresh else max(time, latest[key])
                if emit == "row":
                    out.append((time, new))
                elif emit == "batch":
                    at = time if key not in touched else max_of(touched[key][0], time)
                    touched[key] = (at, new)
                elif emit == "changes" and not mine:
                    out.append((time, ("-D", was)))
                elif emit == "changes":
                    if old and before:
                        out.append((time, ("-U", was)))
                    out.append((time, ("+U" if old else "+I", new)))
            out += list(touched.values())
        if emit == "final" and ended:
            for key, rows in held.items():
                if rows:
                    named = name_of(rows[0][1])
                    out.append((latest[key], plain({**named, **shown_values(rows)})))
        return out

    return Case(
        f"of a table, by {', '.join(keys)}, {emit}{', before' if before else ''}"
        f"{'' if timed else ', without event time'}",
        lambda: RunningAggregateSpec(keys, BOUNDS, emit, output, before, signed=True),
        told,
        expect,
        input=CHANGES if timed else UNTIMED,
        output=output,
        keys=keys,
        ordered=emit in ("row", "changes"),
        forwards=emit != "final",
        view=last_of_keys(keys) if emit == "batch" else None,
        **({"shown": kinds} if emit == "changes" else {}),
    )


def max_of(a: Any, b: Any) -> Any:
    return None if a is None else max(a, b)


STORY = changes(45, seed=71)
AGGREGATES = [
    aggregated(("k",), "changes", STORY),
    aggregated(("k",), "changes", STORY, before=True),
    aggregated(("k", "b"), "changes", changes(45, seed=72, timed=False)),
    aggregated(("k",), "row", STORY),
    aggregated(("k",), "batch", STORY),
    aggregated(("k",), "final", changes(45, seed=73)),
]

# top_k -------------------------------------------------------------------------------------------


def topped(
    k: int,
    order: tuple[tuple[str, bool], ...],
    emit: str,
    *,
    ties: bool = False,
    rank: str | None = None,
    before: bool = False,
    told: Story = STORY,
) -> Case:
    schema = ODD if rank is None else ODD.append(pa.field(rank, pa.int64()))
    output = wire_schema(schema, timed=True, changes=emit == "changes")
    sort = sort_of(order)

    def final(some: Story) -> list[Row]:
        held: dict[Any, list[Row]] = {}
        for time, row in rows_of(some):
            turn(held.setdefault(key_id(row["k"]), []), time, row)
        return [
            (time, plain(ranked(row, at, rank)))
            for rows in held.values()
            for (time, row), at in best(rows, k, sort, ties)
        ]

    def expect(some: Story, ended: bool) -> list[Row]:
        if emit == "final":
            return final(some) if ended else []
        return [(None, one) for one in table(final(some))]

    def view(rows: list[Row]) -> Any:
        if rows and isinstance(rows[0][1], tuple) and rows[0][1][0] in ("+I", "-U", "+U", "-D"):
            return table(applied(rows, rank if not ties else None))
        return sorted(row for _, row in rows)

    ways = ", ".join(f"{name}{' down' if down else ''}" for name, down in order)
    return Case(
        f"of a table, {k} by {ways}, {emit}{', ties' if ties else ''}"
        f"{', ranked' if rank else ''}{', before' if before else ''}",
        lambda: TopKSpec(("k",), k, order, ties, rank, emit, CHANGES, output, before),
        told,
        expect,
        input=CHANGES,
        output=output,
        keys=("k",),
        ordered=False,
        forwards=emit != "final",
        **({"shown": kinds, "view": view, "exact": False} if emit == "changes" else {}),
    )


def applied(rows: list[Row], rank: str | None) -> list[Row]:
    """Apply changes: by key and rank, or row by row; an update may or may not be told whole."""
    held: dict[Any, list[Any]] = {}
    for _, (op, row) in rows:
        cells = dict(row[1])
        place = (cells["k"], cells[rank]) if rank else row
        if op in ("+I", "+U"):
            held[place] = [row] if rank else [*held.get(place, []), row]
        else:
            assert row in held[place]
            held[place].remove(row)
    return [(None, row) for some in held.values() for row in some]


BEST = [
    topped(2, (("i", True),), "changes"),
    topped(2, (("f", False), ("d", True)), "changes", rank="r"),
    topped(2, (("f", False), ("d", True)), "changes", rank="r", before=True),
    topped(2, (("d", True),), "changes", ties=True, rank="r"),
    topped(1, (("k", True), ("i", False)), "final", rank="r", told=changes(45, seed=74)),
]

CASES = {"running_aggregate": AGGREGATES, "top_k": BEST}
