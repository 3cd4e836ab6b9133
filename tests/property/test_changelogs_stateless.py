"""Steps of one row at a time over changelogs: their table is that of the rows themselves."""

from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import raystream as rs

COL = rs.col
SCHEMA = pa.schema({"k": pa.string(), "v": pa.int64(), "w": pa.int64(), "op": pa.string()})
SMALL = st.integers(0, 4)
CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("sssd"), SMALL, SMALL))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("filter"), SMALL),
        st.tuples(st.just("filter_rows"), SMALL),
        st.tuples(st.just("add"), SMALL),
        st.tuples(st.just("lose_key")),
        st.tuples(st.just("new_key")),
        st.tuples(st.just("turn")),
        st.tuples(st.just("rename")),
        st.tuples(st.just("map"), SMALL),
        st.tuples(st.just("twice")),
        st.tuples(st.just("union"), SMALL),
        st.tuples(st.just("wide"), st.integers(1, 3)),
        st.tuples(st.just("key_by")),
    ),
    max_size=4,
)


def history(changes, way):
    """Tell changes of a table in one of three ways, and give the table after each of them."""
    table, rows, tables = {}, [], [[]]
    for k, what, v, w in changes:
        old = table.get(k)
        if what == "s":
            new = {"k": k, "v": v, "w": w}
            if old is not None and way == "retract":
                rows.append({**old, "op": "-U"})
                tables.append([row for key, row in table.items() if key != k])
            # To take each row for an update is what a source does that knows no more.
            first = old is None and way != "upsert"
            rows.append({**new, "op": "+I" if first else "+U"})
            table[k] = new
        elif old is None:
            continue
        else:
            dead = old if way == "retract" else {"k": k, "v": None, "w": None}
            rows.append({**dead, "op": "-D"})
            del table[k]
        tables.append(list(table.values()))
    return rows, tables


def step(s, rows, kind, argument=None):
    """Take a stream and the rows of its table one step on."""
    names = s.schema.names
    v = "v" if "v" in names else names[-1]
    if kind == "filter":
        return s.filter(COL(v) >= argument), [row for row in rows if row[v] >= argument]
    if kind == "filter_rows":
        kept = [row for row in rows if row[v] != argument]
        return s.filter(lambda row: row[v] != argument), kept
    if kind == "add":
        more = [{**row, "x": row[v] * 2 + argument} for row in rows]
        return s.with_columns(x=COL(v) * 2 + argument), more
    if kind == "lose_key":
        return s.select(v), [{v: row[v]} for row in rows]
    if kind == "new_key":
        first = names[0]
        return s.with_columns(**{first: COL(v) % 2}), [{**row, first: row[v] % 2} for row in rows]
    if kind == "turn":
        turned = names[::-1]
        return s.select(*turned), [{name: row[name] for name in turned} for row in rows]
    if kind == "rename":
        new = f"{names[0]}_"
        renamed = {names[0]: new}
        moved = [{renamed.get(name, name): row[name] for name in names} for row in rows]
        return s.rename(renamed), moved
    if kind == "map":

        def made(row):
            return {"u": row[v] // (argument + 1), "v": row[v]}

        mapped = s.map(made, schema=pa.schema({"u": pa.int64(), "v": pa.int64()}))
        return mapped, list(map(made, rows))
    if kind == "twice":
        return s.union(s), [*rows, *rows]
    if kind == "union":
        return s.union(s.filter(COL(v) < argument)), rows + [r for r in rows if r[v] < argument]
    if kind == "wide":
        return s.select(*names).with_parallelism(argument), rows
    return s.key_by(v), rows


def counted(rows):
    return Counter(tuple(row.items()) for row in rows)


class Balance(rs.ProcessFunction):
    """Count what comes and what goes."""

    def process(self, row, ctx):
        yield (1 if ctx.op in ("+I", "+U") else -1), row


class KeyedBalance(rs.KeyedProcessFunction):
    """The same behind key_by."""

    process = Balance.process


@settings(deadline=None)
@given(
    CHANGES,
    st.sampled_from(["retract", "update", "upsert"]),
    STEPS,
    st.tuples(st.integers(1, 5), st.booleans()),
    st.data(),
)
def test_at_every_prefix_the_changes_give_the_table_of_the_rows(changes, way, steps, how, data):
    batch_rows, timed = how
    told, tables = history(changes, way)
    upto = data.draw(st.integers(0, len(told)), label="prefix")
    job = rs.Job("table", parallelism=2, config={"batch_rows_max": batch_rows})
    times = range(upto) if timed else None
    rows, s = tables[upto], job.from_items(told[:upto], schema=SCHEMA, timestamps=times)
    s = s.to_changelog(key="k")
    for one in steps:
        s, rows = step(s, rows, *one)
    assert counted(s.collect()) == counted(rows)
    counts = KeyedBalance() if steps and steps[-1][0] == "key_by" else Balance()
    balance = Counter()
    for sign, row in s.process(counts).collect():
        balance[tuple(row.items())] += sign
    assert {row: count for row, count in balance.items() if count} == counted(rows)
