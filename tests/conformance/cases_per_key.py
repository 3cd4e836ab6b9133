"""Operators that keep rows of each key: deduplicate, top_k, aggregates over the rows before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from cases_keyed import MODELS, OWN, bind, own, values
from conformance import Case, Row, Story, is_batch, plain, plain_rows
from models import key_id
from stories import ODD, ODD_WIRE, each, rows_of, story

from raystream.flow.batch import Batch, Columns, wire_schema
from raystream.flow.changes import OP, OPS, op_names
from raystream.operators.deduplicate import DeduplicateSpec
from raystream.operators.object_deduplicate import ObjectDeduplicateSpec
from raystream.operators.object_top_k import ObjectTopKSpec
from raystream.operators.over_aggregate import OverAggregateSpec
from raystream.operators.to_rows import ToRowsSpec
from raystream.operators.top_k import TopKSpec

UNTIMED = story(50, seed=33, timed=False)
CHANGES = wire_schema(ODD, timed=True, changes=True)


def kinds(batch: Batch) -> list[Row]:
    """Show rows beside what they do."""
    assert isinstance(batch, Columns)
    assert batch.ops is not None
    ops = op_names(batch.ops)
    return [(time, (op, row)) for op, (time, row) in zip(ops, plain_rows(batch), strict=True)]


def by(keys: tuple[str, ...]) -> Callable[[Any], Any]:
    return lambda row: tuple(key_id(row[name]) for name in keys)


# deduplicate -------------------------------------------------------------------------------------


def deduplicated(
    keys: tuple[str, ...], keep: str, emit: str, told: Story, wire: pa.Schema = ODD_WIRE
) -> Case:
    key = by(keys)

    def expect(some: Story, ended: bool) -> list[Row]:
        newest: dict[Any, Row] = {}
        out = []
        for time, row in rows_of(some):
            held = newest.get(key(row))
            if held is not None and (keep == "first" or (time is not None and time <= held[0])):
                continue
            newest[key(row)] = (time, row)
            if emit == "row":
                out.append((time, plain(row)))
            elif emit == "changes":
                out.append((time, ("+I" if held is None else "+U", plain(row))))
        if emit == "final":
            return [(time, plain(row)) for time, row in newest.values()] if ended else []
        return out

    changes = emit == "changes"
    output = CHANGES if changes else wire
    return Case(
        f"{keep} of {', '.join(keys)}, {emit}",
        lambda: DeduplicateSpec(keys, keep, emit, None, wire, output),
        told,
        expect,
        input=wire,
        output=output,
        keys=keys,
        ordered=emit != "final",
        forwards=emit != "final",
        **({"shown": kinds} if changes else {}),
    )


DEDUPLICATE = [
    deduplicated(("k",), "first", "row", story(60, seed=31)),
    deduplicated(("f", "b"), "first", "changes", story(60, seed=32)),
    deduplicated(("k",), "first", "final", story(60, seed=31)),
    deduplicated(("k",), "last", "row", story(60, seed=31)),
    deduplicated(("k", "b"), "last", "changes", story(60, seed=32)),
    deduplicated(("d",), "last", "final", story(60, seed=34)),
    deduplicated(("k",), "last", "row", UNTIMED, ODD),
    deduplicated(("t",), "last", "final", UNTIMED, ODD),
]


def object_deduplicated(keep: str, emit: str, told: Story) -> Case:
    columns = deduplicated(("k",), keep, emit, told)
    return Case(
        f"{keep}, {emit}",
        lambda: ObjectDeduplicateSpec(keep, emit, None),
        told,
        columns.expect,
        key_of=lambda row: row["k"],
        keys=(),
        ordered=emit != "final",
        forwards=emit != "final",
    )


OBJECT_DEDUPLICATE = [
    object_deduplicated("first", "row", story(60, seed=35)),
    object_deduplicated("last", "row", story(60, seed=36)),
    object_deduplicated("last", "final", story(60, seed=37)),
    object_deduplicated("first", "final", UNTIMED),
]

# top_k -------------------------------------------------------------------------------------------


def sort_of(order: tuple[tuple[str, bool], ...]) -> Callable[[Any], Any]:
    """Compare rows as the rules say: nulls and NaN last whichever way."""

    def sort(row: Any) -> Any:
        parts = []
        for name, down in order:
            value = row[name]
            if value is None:
                parts.append((2, 0))
            elif isinstance(value, float) and math.isnan(value):
                parts.append((1, 0))
            elif isinstance(value, str):
                codes = [ord(c) for c in value]
                parts.append((0, [-c for c in codes] + [1] if down else [*codes, -1]))
            else:
                number = value.timestamp() if hasattr(value, "timestamp") else value
                parts.append((0, -number if down else number))
        return parts

    return sort


def best(rows: list[Row], k: int, sort: Callable[[Any], Any], ties: bool) -> list[tuple[Row, int]]:
    ordered = sorted(rows, key=lambda one: sort(one[1]))  # stable: of equals the first stays first
    ranks = []
    for place, (_, row) in enumerate(ordered):
        equal = ties and place and sort(ordered[place - 1][1]) == sort(row)
        ranks.append(ranks[-1] if equal else place + 1)
    return [(row, rank) for row, rank in zip(ordered, ranks, strict=True) if rank <= k]


def ranked(row: Any, rank: int, named: str | None) -> Any:
    return row if named is None else {**row, named: rank}


def topped(
    keys: tuple[str, ...],
    k: int,
    order: tuple[tuple[str, bool], ...],
    emit: str,
    *,
    ties: bool = False,
    rank: str | None = None,
    told: Story | None = None,
) -> Case:
    key, sort = by(keys), sort_of(order)
    schema = ODD if rank is None else ODD.append(pa.field(rank, pa.int64()))
    output = wire_schema(schema, timed=True, changes=emit == "changes")

    def final(some: Story) -> list[Row]:
        groups: dict[Any, list[Row]] = {}
        for time, row in rows_of(some):
            groups.setdefault(key(row), []).append((time, row))
        return [
            (time, plain(ranked(row, at, rank)))
            for rows in groups.values()
            for (time, row), at in best(rows, k, sort, ties)
        ]

    def entered(some: Story) -> list[Row]:
        groups: dict[Any, list[Row]] = {}
        out = []
        for time, row in rows_of(some):
            rows = groups.setdefault(key(row), [])
            rows.append((time, row))
            chosen = best(rows, k, sort, ties)
            if any(one is rows[-1] for one, _ in chosen):
                out.append((time, plain(row)))
        return out

    def expect(some: Story, ended: bool) -> list[Row]:
        if emit == "final":
            return final(some) if ended else []
        return entered(some) if emit == "row" else [(None, one) for one in table(final(some))]

    def view(rows: list[Row]) -> Any:
        # Of changes the table that they end in is the same, whatever the way to it.
        if rows and isinstance(rows[0][1], tuple) and rows[0][1][0] in ("+I", "-U", "+U", "-D"):
            return table(applied(rows, keys, rank if not ties else None))
        return sorted(row for _, row in rows)

    ways = ", ".join(f"{name}{' down' if down else ''}" for name, down in order)
    return Case(
        f"{k} of {', '.join(keys)} by {ways}, {emit}"
        f"{', ties' if ties else ''}{', ranked' if rank else ''}",
        lambda: TopKSpec(keys, k, order, ties, rank, emit, ODD_WIRE, output),
        told or story(70, seed=41),
        expect,
        input=ODD_WIRE,
        output=output,
        keys=keys,
        ordered=emit == "row",
        forwards=emit != "final",
        **({"shown": kinds, "view": view, "exact": False} if emit == "changes" else {}),
    )


def table(rows: list[Row]) -> list[str]:
    return sorted(repr(sorted(row[1], key=repr)) for _, row in rows)


def applied(rows: list[Row], keys: tuple[str, ...], rank: str | None) -> list[Row]:
    """Apply changes: by key and rank, or row by row."""
    held: dict[Any, list[Any]] = {}
    for _, (op, row) in rows:
        cells = dict(row[1])
        place = (*(cells[key] for key in keys), cells[rank]) if rank else row
        if op in ("+I", "+U"):
            held[place] = [row] if rank else [*held.get(place, []), row]
        else:
            held[place] = held[place][1:]
    return [(None, row) for some in held.values() for row in some]


TOP_K = [
    topped(("k",), 2, (("i", True),), "row"),
    topped(("k",), 3, (("f", False), ("d", True)), "row"),
    topped(("k", "b"), 1, (("k", True), ("i", False)), "final", rank="r"),
    topped(("k",), 2, (("f", True),), "final", ties=True, rank="r"),
    topped(("b",), 4, (("t", True), ("k", False)), "final"),
    topped(("k",), 2, (("i", True),), "changes"),
    topped(("k",), 3, (("f", True),), "changes", rank="r"),
    topped(("k",), 2, (("d", True),), "changes", ties=True, rank="r"),
    topped(("f",), 2, (("b", False),), "changes", ties=True),
]


def object_topped(columns: Case, spec: TopKSpec) -> Case:
    """Rank the same rows as objects."""
    return Case(
        columns.name,
        lambda: ObjectTopKSpec(spec.k, spec.by, spec.ties, spec.rank, spec.emit, "it", "case.py:1"),
        columns.story,
        columns.expect,
        key_of=lambda row: row["k"],
        keys=(),
        ordered=spec.emit == "row",
        forwards=spec.emit != "final",
    )


OBJECT_TOP_K = [
    object_topped(case, case.spec())
    for case in (
        topped(("k",), 2, (("i", True),), "row"),
        topped(("k",), 3, (("f", False), ("d", True)), "final", rank="r"),
        topped(("k",), 2, (("f", True),), "final", ties=True, rank="r"),
        topped(("k",), 2, (("t", True), ("i", False)), "row", ties=True),
    )
]

# over --------------------------------------------------------------------------------------------


def over(
    keys: tuple[str, ...],
    over_us: int | None,
    over_rows: int | None,
    told: Story,
    *,
    models: dict[str, Any] = MODELS,
    wire: pa.Schema = ODD_WIRE,
) -> Case:
    key = by(keys)
    made = (*bind(models), OWN)
    timed = wire is ODD_WIRE
    schema = pa.schema([*ODD, *(pa.field(b.name, b.output) for b in made)])
    output = wire_schema(schema, timed=timed)

    def live(some: Story) -> tuple[list[Row], int, int | None]:
        """Give the rows that were not late, in order of time, and what the watermark says."""
        kept, late, watermark = [], 0, None
        for item in some:
            if not is_batch(item):
                watermark = item
                continue
            for time, row in item:
                if watermark is not None and timed and time <= watermark:
                    late += 1
                else:
                    kept.append((time, row))
        return (sorted(kept, key=lambda one: one[0]) if timed else kept), late, watermark

    def expect(some: Story, ended: bool) -> list[Row]:
        rows, _, watermark = live(some)
        out = []
        for place, (time, row) in enumerate(rows):
            if timed and not ended and (watermark is None or time > watermark):
                continue
            mine = [(at, t, r) for at, (t, r) in enumerate(rows) if key(r) == key(row)]
            if over_us is None:
                inside = [(t, r) for at, t, r in mine if at <= place][-(over_rows or 0) :]
            else:
                inside = [(t, r) for _, t, r in mine if time - over_us < t <= time]
            out.append((time, plain({**row, **values(models, inside), "own": own(inside)})))
        return out

    return Case(
        f"{over_us or over_rows}{'us' if over_us else ' rows'} by {', '.join(keys)}",
        lambda: OverAggregateSpec(keys, made, over_us, over_rows, wire, output),
        told,
        expect,
        input=wire,
        output=output,
        keys=keys,
        ordered=False,
        late=live(told)[1],
        promises=timed,
    )


FEW = {name: MODELS[name] for name in ("rows", "sum_i", "max_f", "min_k", "mean_i", "sum_d")}
OVER = [
    over(("k",), 20, None, story(60, seed=51)),
    over(("k",), None, 3, story(60, seed=52)),
    over(("b", "f"), 7, None, story(50, seed=53), models=FEW),
    over(("k",), None, 2, UNTIMED, models=FEW, wire=ODD),
]

# to_rows -----------------------------------------------------------------------------------------


def with_kinds(told: Story) -> Story:
    return [
        [(time, {**row, OP: len(row["l"] or ()) % 4}) for time, row in item]
        if is_batch(item)
        else item
        for item in told
    ]


def named(row: Any) -> Any:
    """Give a row whose kind is a word in a column."""
    return {**{k: v for k, v in row.items() if k != OP}, "op": OPS[row[OP]]}


TO_ROWS = [
    Case(
        "kinds in a column",
        lambda: ToRowsSpec("op", wire_schema(ODD.append(pa.field("op", pa.string())), timed=True)),
        with_kinds(story(40, seed=61)),
        each(named),
        input=CHANGES,
        output=wire_schema(ODD.append(pa.field("op", pa.string())), timed=True),
    )
]

CASES = {
    "deduplicate": DEDUPLICATE,
    "object_deduplicate": OBJECT_DEDUPLICATE,
    "object_top_k": OBJECT_TOP_K,
    "over_aggregate": OVER,
    "to_rows": TO_ROWS,
    "top_k": TOP_K,
}
