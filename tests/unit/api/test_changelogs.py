"""Changelogs as users write them: which key they have, what takes them, and what refuses to."""

import pyarrow as pa
import pytest

import raystream as rs

COL = rs.col
SCHEMA = pa.schema({"k": pa.string(), "v": pa.int64(), "op": pa.string()})
KV = pa.schema({"k": pa.string(), "v": pa.int64()})


def rows(*changes):
    return [dict(zip(("k", "v", "op"), change, strict=True)) for change in changes]


def stream(*changes, job=None, **given):
    return (job or rs.Job("changes")).from_items(rows(*changes), schema=SCHEMA, **given)


def table(*changes, **given):
    return stream(*changes, **given).to_changelog(key="k")


def counts(keys="aba", job=None):
    items = [{"k": k, "v": v} for v, k in enumerate(keys)]
    return (job or rs.Job("counts")).from_items(items, schema=KV).key_by("k")


def told(changelog):
    return [tuple(row.values()) for row in changelog.to_rows().collect()]


def test_c44_a_count_tells_no_more_than_somebody_needs():
    n = counts().aggregate(n=rs.count(), emit="changes")
    assert told(n) == [("a", 1, "+I"), ("b", 1, "+I"), ("a", 2, "+U")]


def test_a_filter_has_what_leaves_the_table_taken_back():
    kept = counts("abaa").deduplicate("last", emit="changes").filter(COL("v") < 3)
    assert kept.collect() == [{"k": "b", "v": 1}]
    assert told(kept) == [
        ("a", 0, "+I"),
        ("b", 1, "+I"),
        ("a", 0, "-U"),
        ("a", 2, "+U"),
        ("a", 2, "-D"),
    ]
    late = counts("abaa").deduplicate("last", emit="changes").filter(lambda row: row["v"] >= 3)
    assert told(late) == [("a", 3, "+I")]


def test_one_consumer_that_needs_it_is_enough_and_the_others_see_it():
    job = rs.Job("two", runtime="local")
    latest = counts("aa", job).deduplicate("last", emit="changes")
    some, every = rs.MemorySink(), rs.MemorySink()
    latest.filter(COL("v") > 0).to_rows().sink(some)
    latest.to_rows().sink(every)
    job.run()
    assert [row["op"] for row in some.rows] == ["+I"]
    assert [row["op"] for row in every.rows] == ["+I", "-U", "+U"]


@pytest.mark.parametrize(
    ("verb", "key"),
    [
        (lambda s: s.filter(COL("v") > 0), ("k",)),
        (lambda s: s.filter(lambda row: row["v"] > 0), ("k",)),
        (lambda s: s.rename({"k": "id", "v": "k"}), ("id",)),
        (lambda s: s.select("v", "k"), ("k",)),
        (lambda s: s.select("k", w=COL("v") + 1), ("k",)),
        (lambda s: s.with_columns(v=COL("v") + 1), ("k",)),
        (lambda s: s.drop("v"), ("k",)),
        (lambda s: s.key_by("v").filter(COL("v") > 0), ("k",)),
        (lambda s: s.select("v"), ("v",)),
        (lambda s: s.drop("k"), ("v",)),
        (lambda s: s.select("v", k=COL("k")), ("v", "k")),
        (lambda s: s.with_columns(k=COL("k")), ("k", "v")),
        (lambda s: s.with_columns(k=COL("v")).with_columns(w=COL("v")), ("k", "v", "w")),
        (lambda s: s.union(s), ("k", "v")),
        (lambda s: s.map(lambda row: {"x": row["v"]}, schema=pa.schema({"x": "int64"})), ("x",)),
        (lambda s: s.to_rows(), None),
        (lambda s: s.process(Kinds()), None),
    ],
)
def test_the_key_of_the_table_behind_a_verb(verb, key):
    assert verb(table(("a", 1, "+I"))).changelog == key


class Kinds(rs.ProcessFunction):
    def process(self, row, ctx):
        yield ctx.op, row["v"]


class KeyedKinds(rs.KeyedProcessFunction):
    def open(self, ctx):
        self.sum = ctx.state(rs.ValueState("sum", default=0))

    def process(self, row, ctx):
        sign = 1 if ctx.op in ("+I", "+U") else -1
        self.sum.update(self.sum.value() + sign * row["v"])
        yield ctx.key, ctx.op, self.sum.value()
        ctx.timers.register_event_time(ctx.timestamp + 1)

    def on_timer(self, timestamp, ctx):
        yield ctx.op


class BothKinds(rs.CoProcessFunction):
    def process_left(self, row, ctx):
        yield "left", ctx.op

    def process_right(self, row, ctx):
        yield "right", ctx.op


class Rules(rs.BroadcastProcessFunction):
    def process(self, row, ctx):
        yield "row", ctx.op

    def process_broadcast(self, row, ctx):
        yield "rule", ctx.op


CHANGES = (("a", 1, "+I"), ("b", 5, "+I"), ("a", 2, "+U"), ("b", None, "-D"))


def test_a_process_function_is_told_what_each_row_does_and_gives_plain_rows():
    got = table(*CHANGES).process(Kinds()).collect()
    assert got == [("+I", 1), ("+I", 5), ("-U", 1), ("+U", 2), ("-D", 5)]
    got = table(*CHANGES, timestamps=[1, 2, 3, 4]).key_by("k").process(KeyedKinds()).collect()
    assert got[:5] == [
        ("a", "+I", 1),
        ("b", "+I", 5),
        ("a", "-U", 0),
        ("a", "+U", 2),
        ("b", "-D", 0),
    ]
    assert set(got[5:]) == {None}
    assert stream(*CHANGES).process(Kinds()).collect()[0] == (None, 1)


def test_of_two_streams_each_says_whether_it_is_one_of_changes():
    changes, plain = table(*CHANGES[:1]), counts("c")
    plain = changes.to_rows(op="kind")
    both = sorted(changes.connect(plain).process(BothKinds()).collect(), key=str)
    assert both == [("left", "+I"), ("right", None)]
    keyed = changes.key_by("k").connect(changes.key_by("k")).process(BothKinds()).collect()
    assert sorted(keyed) == [("left", "+I"), ("right", "+I")]
    rules = plain.connect(changes.broadcast()).process(Rules()).collect()
    assert sorted(rules, key=str) == [("row", None), ("rule", "+I")]


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_changelog_goes_by_its_key_where_the_number_of_subtasks_changes(parallelism):
    many = [(k, v, "+U") for v in range(20) for k in "abcdef"]
    s = (
        table(*many, job=rs.Job("wide", parallelism=parallelism))
        .select("k", "v")
        .with_parallelism(2)
    )
    assert sorted(row["v"] for row in s.collect()) == [19] * 6
    wide = s.key_by("v").with_columns(w=COL("v")).with_parallelism(3)
    assert sorted(row["w"] for row in wide.collect()) == [19] * 6


def test_the_subtasks_of_a_changelog_are_found_by_its_key():
    job = rs.Job("wide", parallelism=2)
    s = table(("a", 1, "+I"), job=job)
    s.filter(COL("v") > 0).with_parallelism(3).to_rows().print()
    s.drop("k").with_parallelism(1).key_by("v").to_rows().with_parallelism(2).print()
    text = job.explain(physical=True)
    assert "hash(k) from to_changelog#1" in text
    assert "hash(v) from drop#1" in text
    assert "rebalance" not in text.split("chain to_changelog#1")[1]


def test_explain_shows_the_key_and_whether_rows_that_leave_are_announced():
    job = rs.Job("counts")
    counts("aba", job).deduplicate("last", emit="changes").to_rows().print()
    text = job.explain(physical=True)
    assert "changelog by k" in text
    assert "upserting" in text
    assert "retracting" not in text
    job = rs.Job("latest")
    counts("aa", job).deduplicate("last", emit="changes").drop("k").to_rows().print()
    text = job.explain(physical=True)
    assert (text.count("retracting"), text.count("changelog by v")) == (2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.window_all(rs.Global()), "is a changelog"),
        (lambda s: s.key_by("k").deduplicate(), "deduplicate.. cannot take"),
        (lambda s: s.key_by("k").reduce(max), "reduce.. cannot take"),
        (lambda s: s.key_by("k").map_with_state(lambda state, row: row), "cannot take"),
        (lambda s: s.key_by("k").aggregate(n=rs.count(), over=3), "cannot take"),
        (lambda s: s.key_by(lambda row: row["k"]), "key_by.. cannot take"),
        (lambda s: s.flat_map(lambda row: [row]), "flat_map.. cannot take"),
        (lambda s: s.map(lambda row: row), r"without schema=(?s:.*)give schema="),
        (lambda s: s.map_batches(lambda batch: batch), "map_batches.. cannot take"),
        (lambda s: s.assign_timestamps(rs.WatermarkStrategy("v")), "cannot take"),
        (lambda s: s.sink(rs.MemorySink()), "sink.. cannot take"),
        (lambda s: s.print(), "print.. cannot take"),
        (lambda s: s.rebalance(), "dealt out by rebalance"),
        (lambda s: s.shuffle(), "dealt out by shuffle"),
        (lambda s: s.partition_by(len), "dealt out by custom"),
        (lambda s: s.union(s.to_rows().drop("op")), "carries plain rows"),
    ],
)
def test_what_takes_no_changes_says_so_and_names_the_way_out(call, message):
    with pytest.raises(rs.PlanError, match=message) as error:
        call(table(("a", 1, "+I")))
    assert "test_changelogs.py" in error.value.where
    assert "to_rows(op=" in str(error.value)


def test_a_changelog_is_broadcast_only_to_a_function_of_two_streams():
    s = table(("a", 1, "+I"))
    with pytest.raises(rs.PlanError, match="several times"):
        s.broadcast().to_rows()
    with pytest.raises(rs.PlanError, match="several times"):
        s.broadcast().process(Kinds())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.to_changelog(key=[]), "names the key columns"),
        (lambda s: s.to_changelog(key=3), "names the key columns of the table, got 3"),
        (lambda s: s.to_changelog(key="kk"), '"kk" not found'),
        (lambda s: s.to_changelog(key=["k", "k"]), "names a key twice"),
        (lambda s: s.to_changelog(key=["k", "op"]), "no part of the key"),
        (lambda s: s.to_changelog(key="k", op="kind"), '"kind" not found'),
        (lambda s: s.to_changelog(key="k", op="v"), '"v" is int64; kinds are texts'),
        (lambda s: s.to_changelog(key="k").to_changelog(key="k"), "is a changelog already"),
        (lambda s: s.map(dict).to_changelog(key="k"), r"(?s)carries objects.*with_schema"),
        (lambda s: s.broadcast().to_changelog(key="k"), "is broadcast"),
    ],
)
def test_what_is_no_table_is_refused(call, message):
    with pytest.raises(rs.PlanError, match=message):
        call(stream(("a", 1, "+I")))


@pytest.mark.parametrize("kind", ["insert", "", None])
def test_a_kind_that_there_is_not_is_named_with_those_there_are(kind):
    with pytest.raises(rs.JobFailed, match=r"(?s)holds .*no kind of change.*\+I, -U, \+U, -D"):
        table(("a", 1, "+I"), ("b", 2, kind)).collect()
    kept = table(("a", 1, "+I"), ("b", 2, kind), ("c", 3, "+I")).on_error("dead_letter")
    assert [row["k"] for row in kept.collect()] == ["a", "c"]
    (letter,) = kept.dead_letters.collect()
    assert letter["row"] == {"k": "b", "v": 2, "op": kind}


def test_rows_are_taken_at_their_word_and_completed_where_that_is_needed():
    changes = [("a", 1, "+I"), ("a", 2, "+U"), ("a", 2, "-U"), ("a", 3, "+U"), ("a", None, "-D")]
    assert told(table(*changes)) == changes
    assert told(table(*changes).filter(COL("v") > 0)) == [
        ("a", 1, "+I"),
        ("a", 1, "-U"),
        ("a", 2, "+U"),
        ("a", 2, "-U"),
        ("a", 3, "+U"),
        ("a", 3, "-D"),
    ]
    assert table(*changes[:2], ("b", 7, "-D")).collect() == [{"k": "a", "v": 2}]


def test_the_testing_kit_gives_the_table_of_a_changelog():
    assert rs.testing.run(table(*CHANGES)).rows == [{"k": "a", "v": 2}]


def test_reduce_gives_changes_of_columns():
    sums = counts("aba").reduce(lambda a, b: {**b, "v": a["v"] + b["v"]}, emit="changes")
    assert sums.changelog == ("k",)
    assert told(sums) == [("a", 0, "+I"), ("b", 1, "+I"), ("a", 2, "+U")]
    assert sums.select("v").collect() == [{"v": 1}, {"v": 2}]


def test_a_key_that_was_forgotten_has_one_row_still():
    kept = counts("aa").deduplicate(ttl="1us", emit="changes")
    assert kept.collect() in ([{"k": "a", "v": 0}], [{"k": "a", "v": 1}])
    assert [op for *_, op in told(kept)][:1] == ["+U"]


def endless_counts():
    numbers = rs.DataGenSource(pa.schema({"a": pa.int64()}))
    items = rs.Job("endless").source(numbers).with_columns(k=rs.lit(1))
    return items.key_by("k").aggregate(n=rs.count(), emit="changes")


def test_a_limit_counts_the_rows_of_a_table_that_ends_and_the_changes_of_others(capsys):
    n = counts("abaabc").aggregate(n=rs.count(), emit="changes")
    whole = [{"k": "a", "n": 3}, {"k": "b", "n": 2}, {"k": "c", "n": 1}]
    assert n.collect(limit=9) == whole
    assert n.collect(limit=2) == whole[:2]
    assert n.to_arrow(limit=1).to_pylist() == whole[:1]
    n.show(1)
    assert capsys.readouterr().out.split() == ["k", "n", "─", "─", "a", "3"]
    assert endless_counts().collect(limit=7) == [{"k": 1, "n": 7}]


TIME = rs.event_time()
COL_TIME = TIME.dt.truncate("1d")


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.with_columns(t=TIME),
        lambda s: s.select("k", TIME.alias("t")),
        lambda s: s.filter(TIME > COL_TIME),
        lambda s: s.key_by(t=TIME),
        lambda s: s.key_by("k").top_k(1, TIME),
        lambda s: s.key_by("k").aggregate(t=rs.max(TIME)),
        lambda s: s.key_by("k").aggregate(n=rs.count().where(TIME > COL_TIME)),
    ],
)
def test_the_time_of_a_change_is_no_column_of_its_row(call):
    # What takes a row back comes later than the row: as a column, no two would be equal.
    s = table(("a", 1, "+I"), timestamps=[1])
    with pytest.raises(rs.PlanError, match=r"event_time\(\) in .* is the time of each change"):
        call(s)
    rows = s.to_rows().with_columns(t=TIME.dt.timestamp("us")).collect()
    assert rows == [{"k": "a", "v": 1, "op": "+I", "t": 1}]


@pytest.mark.parametrize(
    ("call", "verb"),
    [
        (lambda s, rows: s.join(rows, on="k", within=("-1s", "1s")), "join(within=)"),
        (lambda s, rows: rows.join(s, on="k", within=("-1s", "1s")), "join(within=)"),
        (lambda s, rows: rows.join(s, on="k", window=rs.Tumbling("1s")), "join(window=)"),
        (lambda s, rows: rows.as_of_join(s, on="k"), "as_of_join()"),
    ],
)
def test_joins_by_event_time_name_the_join_that_takes_changes(call, verb):
    s = table(("a", 1, "+I"), timestamps=[1])
    with pytest.raises(rs.PlanError) as error:
        call(s, s.to_rows())
    assert str(error.value).startswith(f'{verb} cannot take "source#1" after "to_changelog#1"')
    assert 'join(ttl="forever")' in str(error.value.hint)
