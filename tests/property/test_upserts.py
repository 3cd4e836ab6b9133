"""Whatever the order in which subtasks are heard, a sink that goes by the key ends in the table.

Rows of a table lie in lanes, as a join spreads them by another column than its key. Each lane tells
its own rows in order; a row that moves from one to another is taken back by the one and brought by
the other, and nobody says which of the two comes first.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import Columns, wire_schema
from raystream.flow.changes import DELETE, INSERT, OP, UPDATE_AFTER, UPDATE_BEFORE, op_names
from raystream.keyed.snapshot import Section, merged, share
from raystream.operators.upserts import UpsertsSpec

ORDER = pa.schema([("id", pa.int64()), ("customer", pa.int64()), ("name", pa.string())])
WIRE = wire_schema(ORDER, timed=False, changes=True)
LANES = 3

# What happens to an order: it comes, changes or moves (a customer), or goes (None). Names are
# those of lanes too, and some are the same: a row may look as one did in another lane.
ACTS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, 0, 1, 2, 3, 4])), max_size=40)


def lanes_of(acts: list[Any], *, shown: bool) -> tuple[list[list[Any]], dict[int, Any]]:
    """Write acts down as what each lane tells, and give the table that they end in.

    Without ``shown`` nobody sees the customer: rows of two lanes may be equal.
    """
    table: dict[int, Any] = {}
    lanes: list[list[Any]] = [[] for _ in range(LANES)]
    for id, customer in acts:
        old, new = table.pop(id, None), None
        if customer is not None:
            cells = (id, customer if shown else 0, f"n{customer % 2}")
            new = table[id] = (customer, dict(zip(ORDER.names, cells, strict=True)))
        stays = old is not None and new is not None and old[0] == new[0]
        if old is not None:
            kind = UPDATE_BEFORE if stays else DELETE
            lanes[old[0] % LANES].append({**old[1], OP: kind})
        if new is not None:
            kind = UPDATE_AFTER if stays else INSERT
            lanes[new[0] % LANES].append({**new[1], OP: kind})
    return lanes, {id: row for id, (_, row) in table.items()}


def opened(spec: UpsertsSpec) -> Any:
    operator = spec.build()
    operator.open(OpenContext("upserts", limits=Limits(batch_rows_max=4)))
    return operator


def restored(spec: UpsertsSpec, snapshots: list[Any]) -> Any:
    """Take an operator up from what was kept: its last whole section, and the deltas behind it."""
    sections = [snapshot[0] for snapshot in snapshots]
    whole = max(place for place, one in enumerate(sections) if not one.delta)
    table = merged([one.table for one in sections[whole:]], sections[whole].key)
    operator = opened(spec)
    operator.restore(share([(Section("rows", table, key=sections[whole].key),)], 0, 1, 128))
    return operator


@given(acts=ACTS, shown=st.booleans(), data=st.data())
def test_any_interleaving_ends_in_the_table(acts, shown, data):
    lanes, table = lanes_of(acts, shown=shown)
    spec = UpsertsSpec(("id",), WIRE)
    operator = opened(spec)
    kept = [operator.changes()]
    stored: dict[int, Any] = {}
    epoch: list[Any] = []
    committed: dict[int, Any] = {}
    while any(lanes):
        batch = []
        for _ in range(data.draw(st.integers(1, 6))):
            if some := [lane for lane in lanes if lane]:
                batch.append(data.draw(st.sampled_from(some)).pop(0))
        record = pa.RecordBatch.from_pylist(batch, schema=WIRE)
        for out in operator.on_batch(0, Columns(record)):
            assert out.num_rows <= 4
            for row, op in zip(out.visible.to_pylist(), op_names(out.ops), strict=True):
                epoch.append((op, row))
                if op == "-D":
                    stored.pop(row["id"], None)
                else:
                    assert op == "+U" or row["id"] not in stored
                    stored[row["id"]] = row
        kept.append(operator.changes())
        if data.draw(st.booleans()):
            operator = restored(spec, kept)
            kept = [operator.changes()]
        if data.draw(st.booleans()):
            netted(epoch, committed)
    netted(epoch, committed)
    assert stored == table
    assert committed == table


def netted(epoch: list[Any], table: dict[int, Any]) -> None:
    """Write what an epoch has told at once, as a sink does that lets rows cancel each other.

    Behind the last +U of a key its rows are counted; one that is left is there, else none is.
    """
    for id in {row["id"] for _, row in epoch}:
        mine = [(op, row) for op, row in epoch if row["id"] == id]
        resets = [place for place, (op, _) in enumerate(mine) if op == "+U"]
        mine = mine[resets[-1] :] if resets else mine
        counts: Counter[str] = Counter()
        for op, row in mine:
            counts[str(row)] += -1 if op == "-D" else 1
        left = [row for _, row in mine if counts[str(row)] > 0]
        if left:
            table[id] = left[0]
        elif resets or any(counts.values()):
            table.pop(id, None)
    epoch.clear()


def test_what_a_sink_may_have_seen_before_a_failure_is_told_again():
    """A row that came and went in one batch may have come alone before the failure."""
    operator = opened(UpsertsSpec(("id",), WIRE))
    row = {"id": 1, "customer": 1, "name": "a"}
    record = pa.RecordBatch.from_pylist([{**row, OP: INSERT}, {**row, OP: DELETE}], schema=WIRE)
    (out,) = operator.on_batch(0, Columns(record))
    assert (op_names(out.ops), out.visible.to_pylist()) == (["+U", "-D"], [row, row])
