"""Run a job in a test: rows, sinks, sides and states come back; other sources stand in."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pyarrow as pa
import pytest

import raystream as rs

T = rs.testing
COL = rs.col
S = rs.micros("1s")
SCHEMA = pa.schema({"k": pa.string(), "n": pa.int64()})


def rows(*pairs):
    return [{"k": k, "n": n} for k, n in pairs]


def counting(job, source):
    return job.source(source).key_by("k").aggregate(n=rs.count(), total=rs.sum("n"), emit="final")


class Odd(rs.KeyedProcessFunction):
    """Counts the rows of a key; odd numbers go aside; ten seconds after the last it says so."""

    def open(self, ctx):
        self.count = ctx.state(rs.ValueState("count", type=pa.int64(), default=0))
        self.due = ctx.state(rs.ValueState("due"))

    def process(self, row, ctx):
        self.count.update(self.count.value() + 1)
        if self.due.value() is not None:
            ctx.timers.delete_processing_time(self.due.value())
        self.due.update(ctx.processing_time + 10 * S)
        ctx.timers.register_processing_time(self.due.value())
        if row["n"] % 2:
            ctx.output("odd", row["n"])
        yield (ctx.key, row["n"])

    def on_timer(self, timestamp, ctx):
        yield (ctx.key, "silent at", timestamp // S)


def test_what_goes_in_comes_out_in_the_same_words():
    items = [
        T.At(1, "a"),
        T.Watermark(1),
        T.At(5, "b"),
        T.Idle(),
        T.Active(),
        T.Watermark(9),
        T.Idle(),
        T.At(12, "c"),
    ]
    for seed in range(5):
        run = T.run(rs.Job("t").source(T.Source(items)), seed=seed)
        # A row says that the split is active, and the end of input that no row will come.
        assert run.events == [*items[:7], T.Active(), items[7], T.Watermark(T.MAX)]
        assert run.rows == ["a", "b", "c"]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_the_end_is_said_once(parallelism):
    splits = [[T.At(1, "a")], [T.At(2, "b"), T.Watermark(T.MAX)]]
    for seed in range(5):
        ended = rs.Job("t").source(T.Source(splits=splits))
        events = T.run(ended, seed=seed, parallelism=parallelism).events
        assert (len(events), events[-1]) == (3, T.Watermark(T.MAX))


def test_rows_without_time_stand_alone():
    run = T.run(rs.Job("t").source(T.Source([1, T.Watermark(4), 2, T.Open()])))
    assert run.events == [1, T.Watermark(4), 2]


def test_a_window_fires_before_the_watermark_and_counts_no_late_row():
    at = lambda second, k: T.At(second * S, {"k": k, "n": 1})
    closing, later = T.Watermark(10 * S - 1), T.Watermark(20 * S - 1)
    source = T.Source(
        [at(1, "a"), at(2, "a"), closing, at(3, "a"), at(11, "a"), later, T.Open()], schema=SCHEMA
    )
    counts = rs.Job("t").source(source).key_by("k").window(rs.Tumbling("10s"))
    run = T.run(counts.aggregate(n=rs.count()).select("k", "n"))
    fired = lambda second, n: T.At(second * S - 1, {"k": "a", "n": n})
    assert run.events == [fired(10, 2), closing, fired(20, 1), later]


def test_a_row_within_lateness_fires_again_and_a_later_one_goes_aside():
    at = lambda second, value: T.At(second * S, {"sensor": "x", "value": value})
    start, end = (datetime.fromtimestamp(second, timezone.utc) for second in (0, 60))
    fired = lambda mean: T.At(
        60 * S - 1, {"sensor": "x", "window_start": start, "window_end": end, "mean": mean}
    )
    closing, gone = T.Watermark(60 * S - 1), T.Watermark(400 * S)
    source = T.Source(
        [at(1, 1.0), closing, at(2, 9.0), gone, at(3, 5.0), T.Open()],
        schema=pa.schema({"sensor": pa.string(), "value": pa.float64()}),
    )
    means = rs.Job("t").source(source).key_by("sensor").window(rs.Tumbling("1m"))
    means = means.allowed_lateness("5m").late_to("late").aggregate(mean=rs.mean("value"))
    for seed in range(5):
        run = T.run(means, seed=seed)
        assert run.events == [fired(1.0), closing, fired(5.0), gone]
        assert run.side("late") == [{"sensor": "x", "value": 5.0}]


def test_the_end_fires_what_an_open_source_leaves():
    items = [T.At(1, {"k": "a", "n": 1})]
    count = lambda items: (
        T.run(
            rs.Job("t")
            .source(T.Source(items, schema=SCHEMA))
            .key_by("k")
            .window(rs.Tumbling("10s"))
            .aggregate(n=rs.count())
        ).rows
    )
    assert [row["n"] for row in count(items)] == [1]
    assert count([*items, T.Open()]) == []


def test_timers_fire_in_order_while_time_passes_and_not_without():
    source = T.Source(
        [
            *rows(("a", 1)),
            T.Advance("4s"),
            *rows(("b", 2)),
            T.Advance("9999999us"),
            *rows(("b", 3)),
            T.Advance("20s"),
            T.Open(),
        ],
        schema=SCHEMA,
    )
    run = T.run(rs.Job("t").source(source).key_by("k").process(Odd()))
    assert run.rows == [
        ("a", 1),
        ("b", 2),
        ("a", "silent at", 10),
        ("b", 3),
        ("b", "silent at", 23),  # 13.999999 s and ten more
    ]


def test_an_hour_of_silence_is_no_hour():
    idleness = rs.WatermarkStrategy("n", idleness="1m")
    splits = [[{"k": "a", "n": 7}, T.Open()], [{"k": "b", "n": 9}, T.Advance("1h"), T.Open()]]
    run = T.run(rs.Job("t").source(T.Source(splits=splits, schema=SCHEMA), watermark=idleness))
    assert run.events[-2:] == [T.Watermark(8), T.Idle()]
    assert len(run.trace) < 100


@pytest.mark.parametrize("parallelism", [1, 2])
def test_late_rows_are_there_though_nobody_reads_them(parallelism):
    items = [T.At(1, {"k": "a", "n": 1}), T.Watermark(30), T.At(5, {"k": "b", "n": 7})]
    late = (
        rs.Job("t")
        .source(T.Source(items, schema=SCHEMA))
        .key_by("k")
        .window(rs.Tumbling(10))
        .late_to("late")
        .aggregate(n=rs.count())
    )
    run = T.run(late, parallelism=parallelism)
    assert run.side("late") == [{"k": "b", "n": 7}]  # with columns that no window reads
    with pytest.raises(rs.UserError, match='did you mean "late"'):
        run.side("latte")


def test_changes_end_in_a_table():
    source = T.Source(rows(("a", 1), ("b", 2), ("a", 3)), schema=SCHEMA)
    counts = rs.Job("t").source(source).key_by("k").aggregate(n=rs.count(), emit="changes")
    assert sorted(row["n"] for row in T.run(counts).rows) == [1, 2]
    shown = T.run(counts.to_rows(op="op")).rows
    assert {("a", 2), ("b", 1)} <= {(row["k"], row["n"]) for row in shown}
    assert all("op" in row for row in shown)


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_side_outputs_and_states_are_there_though_nobody_reads_them(parallelism):
    source = T.Source(splits=[rows(("a", 1), ("b", 2)), rows(("a", 3))], schema=SCHEMA)
    odd = rs.Job("t").source(source).key_by("k").process(Odd()).uid("odd")
    run = T.run(odd, parallelism=parallelism)
    assert sorted(run.side("odd")) == [1, 3]
    assert run.side("even") == []  # a function chooses its tags: any may come
    assert run.state("odd", "count") == {"a": 2, "b": 1}
    with pytest.raises(rs.UserError, match='no state of "odd" "cuont".*count, due'):
        run.state("odd", "cuont")
    with pytest.raises(rs.UserError, match="no operator with states"):
        run.state("even", "count")


def test_a_side_output_that_cannot_be_is_named():
    run = T.run(rs.Job("t").source(T.Source([1])))
    with pytest.raises(rs.UserError, match='no side output "late"'):
        run.side("late")


def job_to_test():
    """A job as its script writes it: no test has been thought of."""
    job = rs.Job("counts", parallelism=2)
    strategy = rs.WatermarkStrategy("n")
    clicks = job.from_items([], schema=SCHEMA, watermark=strategy).named("clicks")
    fine = clicks.filter(COL("n") >= 0)
    sums = fine.key_by("k").window(rs.Tumbling(10)).aggregate(total=rs.sum("n"))
    sums.select("k", "total").sink(rs.FileSink("/no/such/folder", "parquet")).named("sums")
    clicks.filter(COL("n") < 0).print().named("broken")
    return job, clicks


@pytest.mark.parametrize("seed", range(4))
def test_test_sources_stand_in_for_a_jobs_own_and_nothing_is_written(seed, capsys):
    job, clicks = job_to_test()
    source = T.Source(splits=[rows(("a", 1), ("b", 2), ("a", 11)), rows(("a", 3), ("a", -1))])
    run = T.run(job, sources={"clicks": source}, seed=seed)
    totals = sorted((row["k"], row["total"]) for row in run.sink("sums"))
    assert totals == [("a", 4), ("a", 11), ("b", 2)]
    assert run.sink("broken") == rows(("a", -1))
    assert capsys.readouterr().out == ""
    assert len(T.run(clicks, sources={"clicks": source}, seed=seed).rows) == 5


def test_the_job_is_as_it_was_after_a_run():
    job = rs.Job("t")
    kept = rs.MemorySink()
    job.from_items(rows(("a", 1)), schema=SCHEMA).named("items").sink(kept).named("kept")
    before = job.explain(physical=True)
    assert T.run(job, sources={"items": T.Source(rows(("b", 2)))}).rows == rows(("b", 2))
    assert (job.explain(physical=True), kept.rows) == (before, [])
    assert T.run(job).sink("kept") == rows(("a", 1)) == kept.rows  # its own sources, its own sinks


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda job, _: T.run(job, sources={"click": T.Source([])}), 'did you mean "clicks"'),
        (lambda job, _: T.run(job, sources={"clicks": [1]}), "is a rs.testing.Source"),
        (lambda job, _: T.run(job, sources=[T.Source([])]), "dict of test sources"),
        (lambda job, _: T.run(job, sources={"clicks": T.Source([1])}), "row"),
        (lambda job, _: T.run(job, parallelism=0), "positive int"),
        (lambda job, _: T.run(job, parallelism=129), "max_parallelism"),
        (lambda job, _: T.run(job, seed="x"), "seed is an int"),
        (lambda job, _: T.run(rs.Job("empty")), "no sink"),
        (lambda job, clicks: T.run([clicks]), "takes a stream or a job"),
        (
            lambda job, _: T.run(
                job, sources={"clicks": T.Source([], schema=pa.schema({"k": pa.string()}))}
            ),
            "the job reads k string, n int64",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(run, message):
    with pytest.raises(rs.PlanError, match=message):
        run(*job_to_test())


def test_a_test_source_has_event_time_where_the_jobs_own_has():
    timed = rs.Job("t").from_items(["x"], timestamps=[1]).named("x")
    with pytest.raises(rs.PlanError, match="write rs.testing.At"):
        T.run(timed, sources={"x": T.Source(["y"])})
    plain = rs.Job("t").from_items(["x"]).named("x")
    with pytest.raises(rs.PlanError, match="write the rows alone"):
        T.run(plain, sources={"x": T.Source([T.At(1, "y")])})
    assert T.run(timed, sources={"x": T.Source([T.At(3, "y"), T.Open()])}).events == [T.At(3, "y")]


def test_rows_of_several_sinks_are_asked_for_by_name():
    run = T.run(job_to_test()[0], sources={"clicks": T.Source([])})
    with pytest.raises(rs.UserError, match="several sinks: sums, broken"):
        run.rows  # noqa: B018  asked for on purpose
    with pytest.raises(rs.UserError, match='did you mean "sums"'):
        run.sink("sum")


def test_a_function_that_raises_fails_the_run_with_its_own_traceback():
    divided = rs.Job("t").source(T.Source([1, 0])).map(lambda n: 1 / n)
    with pytest.raises(rs.JobFailed, match="ZeroDivisionError"):
        T.run(divided)


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_repeats_its_run_line_by_line(seed):
    rng = random.Random(seed)
    splits = [[{"k": rng.choice("abc"), "n": rng.randrange(9)} for _ in range(6)] for _ in range(3)]
    totals = counting(rs.Job("t"), T.Source(splits=splits, schema=SCHEMA))
    once, again = (T.run(totals, seed=seed, parallelism=2) for _ in range(2))
    assert once.trace == again.trace
    assert once.events == again.events


def test_seeds_read_splits_in_different_orders_and_never_the_rows_of_one():
    source = T.Source(splits=[[("a", n) for n in range(4)], [("b", n) for n in range(4)]])
    orders = set()
    for seed in range(20):
        given = T.run(rs.Job("t").source(source), seed=seed).rows
        for split in "ab":
            assert [n for name, n in given if name == split] == [0, 1, 2, 3]
        orders.add(tuple(name for name, _ in given))
    assert len(orders) > 5


class Rules(rs.BroadcastProcessFunction):
    """Gives the rules whose limit a key's total is above."""

    def open(self, ctx):
        self.rules = ctx.state(rs.BroadcastState("rules"))
        self.total = ctx.state(rs.ValueState("total", default=0))

    def process_broadcast(self, rule, ctx):
        self.rules.put(rule["k"], rule["n"])

    def process(self, payment, ctx):
        self.total.update(self.total.value() + payment["n"])
        for rule, limit in self.rules.items():
            if self.total.value() > limit:
                yield (ctx.key, rule)


@pytest.mark.parametrize("parallelism", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_sources_wait_for_each_other_on_one_clock(seed, parallelism):
    job = rs.Job("t")
    payments = job.source(T.Source([T.Advance("1s"), *rows(("u", 5), ("v", 15))], schema=SCHEMA))
    rules = job.source(T.Source(rows(("large", 10)), schema=SCHEMA))
    watched = payments.key_by("k").connect(rules.broadcast()).process(Rules()).uid("rules")
    run = T.run(watched, seed=seed, parallelism=parallelism)
    assert run.rows == [("v", "large")]
    assert run.state("rules", "rules") == {"large": 10}
    assert run.state("rules", "total") == {"u": 5, "v": 15}


class Learning(rs.Sink):
    """Writes nothing until it was told what it writes."""

    def __init__(self, told=None, written=None):
        self.told, self.written = told, [] if written is None else written

    def bound(self, schema, changelog):
        return Learning(schema.names, self.written)

    def open(self, ctx):
        return self

    def write(self, batch):
        self.written.append((self.told, len(batch)))


def test_sinks_learn_what_stream_they_write():
    sink = Learning()
    job = rs.Job("told")
    job.source(T.Source([{"n": 1}], schema=pa.schema({"n": pa.int64()}))).sink(sink)
    T.run(job)
    assert sink.written == [(["n"], 1)]
