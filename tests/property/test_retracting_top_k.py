"""The best rows of a changelog are those of the table that its changes make, at every prefix."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.flow.batch import EVENT_TIME_FIELD, Columns, wire_schema
from raystream.flow.changes import OP, OPS, op_names
from raystream.flow.element import MAX_TIME
from raystream.operators.top_k import TopKSpec

ROW = pa.schema(
    [("k", pa.string()), ("i", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.float64()))]
)
WIRE = wire_schema(ROW, timed=True, changes=True)
NAMES = ROW.names
VALUES = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-2, 2),
        "s": st.sampled_from([None, "", "a", "b"]),
        "l": st.sampled_from([None, [], [1.0], [float("nan")]]),
    }
)


@st.composite
def stories(draw):
    """Changes of a table with few keys and many ties, and where batches are cut."""
    table, rows = [], []

    def say(op, row):
        rows.append({**row, "op": op, "ts": draw(st.integers(-9, 9))})

    for _ in range(draw(st.integers(0, 16))):
        what = draw(st.sampled_from(["add", "add", "add", "update", "delete", "clear"]))
        if what == "add" or not table:
            table.append({"k": draw(st.sampled_from(["a", "a", "b", None])), **draw(VALUES)})
            say(draw(st.sampled_from(["+I", "+U"])), table[-1])
        elif what == "clear":
            key = draw(st.sampled_from(table))["k"]
            for row in [row for row in table if row["k"] == key]:
                say("-D", row)
            table = [row for row in table if row["k"] != key]
        else:
            row = table.pop(draw(st.integers(0, len(table) - 1)))
            say("-U" if what == "update" else "-D", row)
            if what == "update":
                table.append({**row, **draw(VALUES)})
                say("+U", table[-1])
    return rows, draw(st.lists(st.integers(1, 5), min_size=len(rows), max_size=len(rows)))


def batches(rows, sizes, wire=WIRE):
    start = 0
    for size in sizes:
        part = rows[start : start + size]
        start += size
        if part:
            columns = [
                pa.array([row[name] for row in part], ROW.field(name).type) for name in NAMES
            ]
            ops = pa.array([OPS.index(row["op"]) for row in part], pa.int8())
            times = pa.array([row["ts"] for row in part], pa.int64())
            hidden = [times] if OP not in wire.names else [ops, times]
            yield Columns(pa.RecordBatch.from_arrays([*columns, *hidden], schema=wire))


def sort_of(row, order):
    """Nulls last whichever way."""
    parts = []
    for name, down in order:
        value = row[name]
        number = value if isinstance(value, int) else sum(map(ord, value or ""))
        parts.append((value is None, -number if down and value is not None else number or 0))
    return parts


def best(table, k, order, *, ties):
    """The best rows with their ranks; ``table`` is in order of arrival."""
    rows = sorted(table, key=lambda row: sort_of(row, order))
    ranks = []
    for place, row in enumerate(rows):
        equal = ties and place and sort_of(row, order) == sort_of(rows[place - 1], order)
        ranks.append(ranks[-1] if equal else place + 1)
    return [(row, rank) for row, rank in zip(rows, ranks, strict=True) if rank <= k]


def shown(row, rank=None):
    return repr([row[name] for name in NAMES] + ([] if rank is None else [rank]))


class Tables:
    """The table by key, row by row."""

    def __init__(self):
        self.rows = {}

    def turn(self, row):
        held = self.rows.setdefault(row["k"], [])
        if row["op"] in ("+I", "+U"):
            held.append(row)
        else:
            found = next((at for at, one in enumerate(held) if shown(one) == shown(row)), None)
            if found is None:
                return False
            del held[found]
        return True

    def best(self, k, order, *, ties, ranked):
        return sorted(
            shown(row, rank if ranked else None)
            for held in self.rows.values()
            for row, rank in best(held, k, order, ties=ties)
        )


def apply(table, changes, *, key, before):
    """Apply what came out: by key and rank, where ``key``, or row by row."""
    replaced = None
    for op, row, rank, named in changes:
        place = (row["k"], rank) if key else shown(row, rank if named else None)
        text = shown(row, rank if named else None)
        if op in ("+I", "+U"):
            held = table.setdefault(place, [])
            if key:
                assert (op == "+U") == (bool(held) or (before and replaced == place))
                table[place] = [text]
            else:
                held.append(text)
        else:
            table[place].remove(text)
            if not table[place]:
                del table[place]
        assert not before or replaced is None or (op == "+U" and row["k"] == replaced[0]) or not key
        replaced = place if op == "-U" else None


ORDERS = st.sampled_from(
    [(("i", True),), (("i", False),), (("s", True), ("i", False)), (("s", False),)]
)
MODES = st.fixed_dictionaries(
    {"k": st.integers(1, 3), "ties": st.booleans(), "rank": st.sampled_from([None, "r"])}
)


def opened(order, mode, emit, *, before=False, wire=WIRE):
    schema = ROW if mode["rank"] is None else ROW.append(pa.field("r", pa.int64()))
    output = wire_schema(schema, timed=True, changes=emit == "changes")
    spec = TopKSpec(
        ("k",), mode["k"], order, mode["ties"], mode["rank"], emit, wire, output, before
    )
    operator = spec.build()
    operator.open(OpenContext("it", "job.py:1", limits=Limits(batch_rows_max=4)))
    return operator


def told(batches):
    for batch in batches:
        ops = ["+I"] * batch.num_rows if batch.ops is None else op_names(batch.ops)
        for op, row in zip(ops, batch.visible.to_pylist(), strict=True):
            yield op, row, row.get("r"), "r" in row


@given(stories(), ORDERS, MODES, st.booleans(), st.booleans())
def test_applied_changes_are_the_best_of_the_table_after_every_batch(
    story, order, mode, before, reborn
):
    rows, sizes = story
    operator = opened(order, mode, "changes", before=before)
    table, tables, left = {}, Tables(), iter(rows)
    ranked = mode["rank"] is not None
    key = ranked and not mode["ties"]
    for batch in batches(rows, sizes):
        apply(table, told(operator.on_batch(0, batch)), key=key, before=before)
        for _ in range(batch.num_rows):
            tables.turn(next(left))
        got = sorted(text for held in table.values() for text in held)
        assert got == tables.best(mode["k"], order, ties=mode["ties"], ranked=ranked)
        if reborn:
            kept = operator.snapshot()
            operator = opened(order, mode, "changes", before=before)
            operator.restore(kept)


@given(stories(), ORDERS, MODES)
def test_at_the_end_the_best_of_what_is_left_go_out(story, order, mode):
    rows, sizes = story
    operator = opened(order, mode, "final")
    tables = Tables()
    for row in rows:
        tables.turn(row)
    for batch in batches(rows, sizes):
        assert not list(operator.on_batch(0, batch))
    out = told(operator.on_watermark(MAX_TIME))
    ranked = mode["rank"] is not None
    got = sorted(shown(row, rank if ranked else None) for _, row, rank, _ in out)
    assert got == tables.best(mode["k"], order, ties=mode["ties"], ranked=ranked)


@given(stories(), ORDERS, st.integers(1, 3), st.booleans())
def test_with_emit_row_each_row_that_enters_goes_out_at_that_time(story, order, k, ties):
    rows, sizes = story
    mode = {"k": k, "ties": ties, "rank": None}
    operator = opened(order, mode, "row")
    got = [
        (shown(row), time)
        for batch in batches(rows, sizes)
        for out in operator.on_batch(0, batch)
        for row, time in zip(out.visible.to_pylist(), out.timestamps.tolist(), strict=True)
    ]
    wanted, tables = [], Tables()
    for row in rows:
        earlier = [id(one) for one, _ in best(tables.rows.get(row["k"], []), k, order, ties=ties)]
        tables.turn(row)
        for one, _ in best(tables.rows[row["k"]], k, order, ties=ties):
            if id(one) not in earlier:
                wanted.append((shown(one), row["ts"]))
    assert got == wanted


PLAIN = ROW.append(EVENT_TIME_FIELD)


@given(st.lists(VALUES, max_size=16), ORDERS, st.integers(1, 3), st.lists(st.integers(1, 5)))
def test_of_plain_rows_what_is_replaced_goes_out_first(values, order, k, sizes):
    rows = [{"k": "a", **row, "op": "+I", "ts": 0} for row in values]
    operator = opened(
        order, {"k": k, "ties": False, "rank": "r"}, "changes", before=True, wire=PLAIN
    )
    table = {}
    sizes = [*sizes, 1, 2, *[5] * len(rows)]
    for batch in batches(rows, sizes, PLAIN):
        apply(table, told(operator.on_batch(0, batch)), key=True, before=True)
    tables = Tables()
    for row in rows:
        tables.turn(row)
    got = sorted(text for held in table.values() for text in held)
    assert got == tables.best(k, order, ties=False, ranked=True)


@given(stories(), st.lists(st.sampled_from(OPS), min_size=40, max_size=40))
def test_taking_back_what_was_never_there_is_counted_and_changes_nothing(story, ops):
    rows, sizes = story
    odd = [{**row, "op": op} for row, op in zip(rows, ops, strict=False)]
    operator = opened((("i", True),), {"k": 2, "ties": False, "rank": None}, "changes")
    tables, ignored = Tables(), 0
    for row in odd:
        ignored += not tables.turn(row)
    table = {}
    out = [one for batch in batches(odd, sizes) for one in operator.on_batch(0, batch)]
    apply(table, told(out), key=False, before=False)
    got = sorted(text for held in table.values() for text in held)
    assert got == tables.best(2, (("i", True),), ties=False, ranked=False)
    assert operator._ctx.metrics.counter("ignored_retractions").value == ignored
