"""State read, written and edited while no job runs."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import lives
import pyarrow as pa
import pytest

import raystream as rs

S = rs.micros("1s")
UTC = dt.timezone.utc
ROWS = [{"user": "abc"[i % 3], "page": "xy"[i % 2], "n": i} for i in range(60)]
SCHEMA = pa.schema([("user", pa.string()), ("page", pa.string()), ("n", pa.int64())])
POINT = pa.struct([("x", pa.int64()), ("label", pa.string())])


class Everything(rs.KeyedProcessFunction):
    """Has a state of every kind."""

    def open(self, ctx):
        self.total = ctx.state(rs.ValueState("total", type=pa.int64(), default=0))
        self.point = ctx.state(rs.ValueState("point", type=POINT, ttl="1h"))
        self.pages = ctx.state(rs.MapState("pages", key_type=pa.string(), type=pa.int64()))
        self.seen = ctx.state(rs.ListState("seen", type=pa.int64()))
        self.loose = ctx.state(rs.ValueState("loose"))
        self.words = ctx.state(rs.MapState("words"))
        self.items = ctx.state(rs.ListState("items"))
        self.highest = ctx.state(rs.ReducingState("highest", max, type=pa.int64()))
        self.mean = ctx.state(rs.AggregatingState("mean", rs.mean("n")))

    def process(self, row, ctx):
        self.total.update(self.total.value() + row["n"])
        self.point.update({"x": row["n"], "label": row["page"]})
        self.pages.put(row["page"], (self.pages.get(row["page"]) or 0) + 1)
        self.seen.add(row["n"])
        self.seen.update(self.seen.get()[-2:])
        self.loose.update({"last": row["n"]})
        self.words.put(row["page"], row["n"])
        self.items.add(row["page"])
        self.items.update(self.items.get()[-2:])
        self.highest.add(row["n"])
        self.mean.add(row)
        ctx.timers.register_event_time(10**15)
        yield {"user": row["user"], "total": self.total.value(), "loose": self.loose.value()}


def build(sink, *, parallelism=2, name="states", **settings):
    job = rs.Job(name, parallelism=parallelism, config={"batch_rows_max": 8}, **settings)
    times = [i * S for i in range(len(ROWS))]
    read = job.from_items(ROWS, schema=SCHEMA, timestamps=times).named("read")
    read.key_by("user").process(Everything()).uid("it").sink(sink)
    return job


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Stop a job behind some rows; give the savepoint and the rows that it had read."""
    url = lives.savepoint(build(rs.MemorySink()), tmp_path_factory.mktemp("s") / "kept", rows=20)
    count = sum(rs.state.read(url, "it", "pages").column("value").to_pylist())
    assert 20 <= count < 60
    return url, ROWS[:count]


def by_key(table, name="value"):
    return dict(zip(table.column("user").to_pylist(), table.column(name).to_pylist(), strict=True))


def last(rows, user, column="n", count=1):
    return [row[column] for row in rows if row["user"] == user][-count:]


def test_a_typed_value_is_read_in_its_type_in_order_of_keys(kept):
    url, rows = kept
    table = rs.state.read(url, "it", "total")
    assert table.schema == pa.schema([("user", pa.string()), ("value", pa.int64())])
    assert table.column("user").to_pylist() == ["a", "b", "c"]
    assert by_key(table) == {u: sum(last(rows, u, count=99)) for u in "abc"}


def test_a_ttl_shows_when_a_value_was_written(kept):
    url, rows = kept
    table = rs.state.read(url, "it", "point")
    assert table.schema.field("value").type == POINT
    assert by_key(table)["b"]["x"] == last(rows, "b")[0]
    written = table.column("written").to_pylist()
    assert all(
        dt.timedelta() <= dt.datetime.now(UTC) - at < dt.timedelta(minutes=5) for at in written
    )


def test_maps_and_lists_are_read(kept):
    url, rows = kept
    table = rs.state.read(url, "it", "pages")
    assert table.column_names == ["user", "map_key", "value"]
    entries = {(row["user"], row["map_key"]): row["value"] for row in table.to_pylist()}
    assert entries["c", "x"] == sum(r["user"] == "c" and r["page"] == "x" for r in rows)
    lists = rs.state.read(url, "it", "seen")
    assert lists.schema.field("value").type == pa.list_(pa.int64())
    assert by_key(lists)["a"] == last(rows, "a", count=2)


@pytest.mark.parametrize("name", ["loose", "words", "items", "mean"])
def test_state_of_no_type_is_read_only_on_trust(kept, name):
    with pytest.raises(rs.UserError, match=f'"{name}" of "it" has no type') as caught:
        rs.state.read(kept[0], "it", name)
    assert "allow_pickle=True" in str(caught.value)


def test_state_of_no_type_is_read_as_columns_where_arrow_has_some(kept):
    url, rows = kept
    loose = rs.state.read(url, "it", "loose", allow_pickle=True)
    assert by_key(loose) == {u: {"last": last(rows, u)[0]} for u in "abc"}
    words = rs.state.read(url, "it", "words", allow_pickle=True)
    assert words.column_names == ["user", "map_key", "value"]
    items = rs.state.read(url, "it", "items", allow_pickle=True)
    assert by_key(items)["a"] == last(rows, "a", "page", 2)


def test_sections_are_read_by_their_names(kept):
    url, _ = kept
    splits = rs.state.read(url, "read")
    assert splits.column("id").to_pylist() == ["items"]
    timers = rs.state.read(url, "it", "timers")
    assert timers.column("time").to_pylist() == [10**15] * 3
    assert "__group" not in timers.column_names


def test_what_there_is_is_listed(kept):
    url, _ = kept
    held = {(one.uid, one.name): one for one in rs.state.list(url)}
    total = held["it", "total"]
    assert (total.verb, total.type, total.keys, total.rows) == (
        "process",
        "int64",
        ("user: string",),
        3,
    )
    assert held["it", "loose"].type == "pickled"
    assert held["it", "pages"].type == "map<string, int64>"
    assert held["it", "items"].type == "list<pickled>"
    assert held["read", "splits"].rows == 1
    assert total.bytes > 0
    assert str(total).startswith('it (process) "total": int64 by user: string, 3 rows')


@pytest.mark.parametrize(
    ("uid", "name", "said"),
    [
        ("nobody", None, 'no operator with uid "nobody"'),
        ("it", "nothing", 'nothing called "nothing"'),
        ("it", None, "several things"),
        (None, "nothing", 'nothing called "nothing"'),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(kept, uid, name, said):
    with pytest.raises(rs.ConfigError, match=said) as caught:
        rs.state.read(kept[0], uid, name)
    assert "it" in str(caught.value.hint)


def test_a_path_without_a_snapshot_is_refused(tmp_path):
    with pytest.raises(rs.ConfigError, match="there is nothing at"):
        rs.state.list(str(tmp_path / "nowhere"))
    with pytest.raises(rs.ConfigError, match="no job says"):
        rs.state.list("latest")


# Writing -------------------------------------------------------------------------------------


def totals(rows):
    return {row["user"]: row["total"] for row in rows}


def test_a_job_begins_with_what_was_written(tmp_path):
    table = pa.table({"user": ["a", "z"], "value": [1_000, 5]})
    pages = pa.table({"user": ["a"], "map_key": ["x"], "value": [7]})
    loose = pa.table({"user": ["a"], "value": [{"last": 3}]})
    states = {
        "it": {
            "total": table,
            "pages": pages,
            "loose": loose,
            "items": {"user": ["b"], "value": [["p"]]},
        }
    }
    path = str(tmp_path / "begin")
    assert rs.state.write(path, states, job=build(rs.MemorySink())) == path
    assert rs.state.read(path, "it", "total").equals(table)
    assert rs.state.read(path, "it", "pages").equals(pages)
    assert rs.state.read(path, "it", "loose").equals(loose)
    sink = rs.MemorySink()
    build(sink, parallelism=3).run(runtime="local", from_snapshot=path)
    assert len(sink.rows) == len(ROWS)
    straight = rs.MemorySink()
    build(straight).run(runtime="local")
    expected = totals(straight.rows)
    assert totals(sink.rows) == {**expected, "a": expected["a"] + 1_000}


def test_a_copy_holds_what_was_changed_and_all_else_as_it_was(kept, tmp_path):
    url, rows = kept
    path = str(tmp_path / "copy")
    table = rs.state.read(url, "it", "total")
    more = table.set_column(1, "value", pa.array([v + 100 for v in by_key(table).values()]))
    rs.state.write(path, {"it": {"total": more}}, like=url)
    assert rs.state.read(path, "it", "total").equals(more)
    for one in rs.state.list(url):
        if one.name != "total":
            was = rs.state.read(url, one.uid, one.name, allow_pickle=True)
            assert rs.state.read(path, one.uid, one.name, allow_pickle=True).equals(was)
    sink, straight = rs.MemorySink(), rs.MemorySink()
    build(sink, parallelism=1).run(runtime="local", from_snapshot=path)
    build(straight).run(runtime="local")
    assert len(sink.rows) == len(ROWS) - len(rows)
    assert totals(sink.rows) == {u: t + 100 for u, t in totals(straight.rows).items()}


@pytest.mark.parametrize(
    "name", ["total", "point", "pages", "seen", "loose", "words", "items", "mean"]
)
def test_what_was_read_may_be_written_as_it_is(kept, tmp_path, name):
    url, _ = kept
    table = rs.state.read(url, "it", name, allow_pickle=True)
    path = rs.state.write(str(tmp_path / "copy"), {"it": {name: table}}, like=url)
    assert rs.state.read(path, "it", name, allow_pickle=True).equals(table)
    sink, straight = rs.MemorySink(), rs.MemorySink()
    build(sink).run(runtime="local", from_snapshot=path)
    build(straight).run(runtime="local", from_snapshot=url)
    assert sorted(map(repr, sink.rows)) == sorted(map(repr, straight.rows))


KEYS = {
    "number": [3, -1, 2**62],
    "text": ["a", "Zürich", ""],
    "float": [0.5, -2.0, float("inf")],
    "flag": [True, False],
    "bytes": [b"a", b""],
    "decimal": [Decimal("1.50"), Decimal(-3)],
    "moment": [dt.datetime(2024, 1, 1, tzinfo=UTC), dt.datetime(1969, 1, 1, tzinfo=UTC)],
    "date": [dt.date(2024, 1, 1)],
    "none": [None, "a"],
    "tuple": [("a", 1), ("b", 2)],
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("columnar", [True, False], ids=["columns", "objects"])
def test_keys_of_every_kind_find_what_was_written_for_them(tmp_path, keys, columnar):
    several = type(keys[0]) is tuple
    parts = [list(part) for part in zip(*keys, strict=True)] if several else [keys]
    names = [f"key_{i}" for i in range(len(parts))] if several else ["key"]
    table = pa.table(dict(zip(names, map(pa.array, parts), strict=True)))
    rows = [{"key": key} for key in keys]

    def job(sink):
        made = rs.Job("keys", parallelism=3)
        if columnar:
            keyed = made.from_items(table).key_by(*names)
        else:
            keyed = made.from_items(rows).key_by(lambda row: row["key"])
        keyed.map_with_state(lambda state, row: (state, {"got": state}), -1).uid("it").sink(sink)
        return made

    values = list(range(len(rows)))
    table = table.append_column("value", pa.array(values))
    path = rs.state.write(str(tmp_path / "s"), {"it": {"state": table}}, job=job(rs.MemorySink()))
    sink = rs.MemorySink()
    job(sink).run(runtime="local", from_snapshot=path)
    assert sorted(row["got"] for row in sink.rows) == values
    back = rs.state.read(path, "it", allow_pickle=True)
    assert back.sort_by("value").to_pylist() == table.to_pylist()


def test_a_table_that_does_not_fit_is_refused(kept, tmp_path):
    url, path = kept[0], str(tmp_path / "x")

    def said(states, **given):
        with pytest.raises(rs.UserError) as caught:
            rs.state.write(path, states, **given)
        return str(caught.value)

    job = build(rs.MemorySink())
    good = pa.table({"user": ["a"], "value": [1]})
    assert "no operator has the uid" in said({"nobody": {"total": good}}, job=job)
    assert "keeps no state that can be written" in said({"read": {"total": good}}, job=job)
    assert "the key is user" in said(
        {"it": {"total": good.rename_columns(["u", "value"])}}, job=job
    )
    assert "no column value" in said({"it": {"total": good.drop_columns("value")}}, job=job)
    assert "a key comes twice" in said({"it": {"total": pa.concat_tables([good, good])}}, job=job)
    assert "None is no value" in said({"it": {"total": {"user": ["a"], "value": [None]}}}, job=job)
    assert "is of type int64" in said({"it": {"total": {"user": ["a"], "value": ["x"]}}}, like=url)
    assert 'no state "other"' in said({"it": {"other": good}}, like=url)
    assert "takes tables" in said({"it": {"total": 5}}, job=job)
    assert "job=… or like=PATH" in said({"it": {"total": good}})
    assert not (tmp_path / "x").exists()


def test_a_snapshot_is_never_written_over(tmp_path):
    states = {"it": {"total": {"user": ["a"], "value": [1]}}}
    path = rs.state.write(str(tmp_path / "x"), states, job=build(rs.MemorySink()))
    with pytest.raises(rs.ConfigError, match="already"):
        rs.state.write(path, states, job=build(rs.MemorySink()))


# Types that change ---------------------------------------------------------------------------


class Points(rs.KeyedProcessFunction):
    def __init__(self, kind):
        self.kind = kind

    def open(self, ctx):
        self.value = ctx.state(rs.ValueState("value", type=self.kind))
        self.list = ctx.state(rs.ListState("list", type=self.kind))

    def process(self, row, ctx):
        yield self.value.value(), self.list.get()


def points(kind, kept, tmp_path):
    """Give what a function of a type finds of states that were kept in another."""

    def job(sink, kind):
        made = rs.Job("points", parallelism=2)
        made.from_items([{"k": 1}]).key_by("k").process(Points(kind)).uid("it").sink(sink)
        return made

    value = {"key": [1], "value": pa.array([kept[0]], kept[1])}
    listed = {"key": [1], "value": pa.array([[kept[0]]], pa.list_(kept[1]))}
    states = {"it": {"value": value, "list": listed}}
    path = rs.state.write(str(tmp_path / "s"), states, job=job(rs.MemorySink(), kept[1]))
    sink = rs.MemorySink()
    job(sink, kind).run(runtime="local", from_snapshot=path)
    return sink.rows


def test_a_struct_that_got_fields_has_nulls_in_them(tmp_path):
    new = pa.struct([("label", pa.string()), ("note", pa.string()), ("x", pa.int64())])
    point = {"label": "here", "note": None, "x": 5}
    assert points(new, ({"x": 5, "label": "here"}, POINT), tmp_path) == [(point, [point])]


@pytest.mark.parametrize(
    "now",
    [
        pa.struct([("x", pa.int64())]),
        pa.struct([("x", pa.string()), ("label", pa.string())]),
        pa.struct([*POINT, pa.field("must", pa.int64(), nullable=False)]),
        pa.int64(),
    ],
    ids=["a field is gone", "a field has another type", "a field that must be there", "no struct"],
)
def test_another_type_is_refused_naming_both(tmp_path, now):
    with pytest.raises(rs.JobFailed) as caught:
        points(now, ({"x": 5, "label": "here"}, POINT), tmp_path)
    assert isinstance(caught.value.__cause__, rs.RestoreRefused)
    for part in (str(POINT), str(now), '"value"'):
        assert part in str(caught.value)


def test_a_state_may_lose_its_type(tmp_path):
    point = {"x": 5, "label": "here"}
    assert points(None, (point, POINT), tmp_path) == [(point, [point])]
