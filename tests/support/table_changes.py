"""Random histories of a table, told in one of the ways in which sources tell them."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pyarrow as pa
from pipeline_sources import TableParts

import raystream as rs

COLUMNS = {"k": pl.Int64, "s": pl.String, "x": pl.Int64, "f": pl.Float64}
SCHEMA = pa.schema(
    {
        "k": pa.int64(),
        "s": pa.string(),
        "x": pa.int64(),
        "f": pa.float64(),
        "at": pa.timestamp("us", "UTC"),
        "op": pa.string(),
    }
)
WAYS = ("retract", "update", "upsert")
"""With -U and whole rows; +U alone and tombstones; the same, and each new row an update too."""


def changes_source(rng: random.Random) -> tuple[rs.Source, list[str], pl.DataFrame, str]:
    """Give a source, the key of its table, the rows that are in it in the end, and a few words."""
    keys = rng.choice([["k"], ["k"], ["k", "s"]])
    way = rng.choice(WAYS)
    number, range_of_keys = rng.choice([1, 1, 2, 3]), rng.choice([2, 5, 20])
    told: list[list[dict[str, Any]]] = [[] for _ in range(number)]
    table: dict[Any, dict[str, Any]] = {}
    for at in range(rng.choice([0, 3, 12, 30])):
        row: dict[str, Any] = {
            "k": rng.choice([None, *range(range_of_keys)]),
            "s": rng.choice([None, "a", "b", "cc", "ä"]),
            "x": rng.choice([None, rng.randint(-20, 20)]),
            "f": rng.choice([None, rng.randint(-200, 200) / 4]),
        }
        key = tuple(row[name] for name in keys)
        # All that is said of a key comes from one split, in order.
        part = told[sum(repr(key).encode()) % number]
        stamp = {"at": 1_000_000 * at}
        old = table.pop(key, None)
        if old is not None and rng.random() < 0.35:
            dead = (
                old
                if way == "retract"
                else dict.fromkeys(COLUMNS) | dict(zip(keys, key, strict=True))
            )
            part.append({**dead, **stamp, "op": "-D"})
            continue
        if old is not None and way == "retract":
            part.append({**old, **stamp, "op": "-U"})
        first = old is None and way != "upsert"
        part.append({**row, **stamp, "op": "+I" if first else "+U"})
        table[key] = row
    parts = [pa.RecordBatch.from_pylist(part, SCHEMA) for part in told]
    rows = pl.DataFrame(list(table.values()), schema=COLUMNS, orient="row")
    changes = sum(map(len, told))
    said = f"changes by {keys}, {way}: {changes} in {number} splits, {rows.height} rows"
    return TableParts(parts, rng.randrange(1_000)), keys, rows, said
