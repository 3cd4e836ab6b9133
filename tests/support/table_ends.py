"""Where the changes of a table end: each tells in another way which rows are there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import raystream as rs
from raystream.connectors.driver import rows_of

Row = dict[str, Any]


class Upserts(rs.MemorySink):
    """Keep one row a key, and drop it whatever row is said to be gone, as databases do."""

    upserts = True

    def __init__(self, key: tuple[str, ...]) -> None:
        super().__init__()
        self._key = key

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_key": self._key}

    @property
    def rows(self) -> list[Row]:
        table: dict[Any, Row] = {}
        for batch in self._batches:
            for row, op in zip(rows_of(batch), batch.ops or (), strict=True):
                key = tuple(row[name] for name in self._key)
                table.pop(key, None)
                if op in ("+I", "+U"):
                    table[key] = row
        return list(table.values())


class Balance(rs.ProcessFunction):
    """Count what comes and what goes."""

    def process(self, row: Row, ctx: Any) -> Any:
        yield (1 if ctx.op in ("+I", "+U") else -1), row


def balanced(told: list[tuple[int, Row]]) -> list[Row]:
    """Give the rows that came more often than they went."""
    count: Counter[Any] = Counter()
    rows: dict[Any, Row] = {}
    for sign, row in told:
        key = tuple(row.items())
        count[key] += sign
        rows[key] = row
    wrong = [row for row, number in count.items() if number < 0]
    assert not wrong, f"taken back, and was never there: {wrong[:3]}"
    return [rows[key] for key, number in count.items() for _ in range(number)]
