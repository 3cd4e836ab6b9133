"""Nexmark's questions about bids, answered by our jobs and by SQL: exactly the same rows.

The bids are made once by the generator's readers and lie in files; DuckDB counts them there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from auction_house import made, overlapping, side_by_side
from goldens import ROOT, TIME, assert_same_rows, load, micros, program

import raystream as rs
from raystream.connectors.memory import TableSink
from raystream.graph.planner import RULES, physical_plan
from raystream.runtime import local

QUERIES = load("jobs/nexmark.py").QUERIES
WATERMARK = load("jobs/nexmark.py").WATERMARK
SQL = {
    "q0": "SELECT auction, bidder, price, dateTime, extra FROM bids",
    "q1": """
        SELECT auction, bidder,
            CAST(CAST(price AS DECIMAL(19, 0)) * DECIMAL '0.908' AS DECIMAL(23, 3)) AS price,
            dateTime, extra
        FROM bids
    """,
    "q2": "SELECT auction, price FROM bids WHERE auction % 123 = 0",
    "q5": """
        WITH counts AS (
            SELECT auction, start, count(*) AS num
            FROM (
                SELECT auction, unnest(range(0, 5)) * -2000000 + dateTime // 2000000 * 2000000
                    AS start
                FROM bids
            ) GROUP BY auction, start
        )
        SELECT auction, num FROM counts
        WHERE (start, num) IN (SELECT (start, max(num)) FROM counts GROUP BY start)
    """,
    "q7": """
        SELECT auction, price, bidder, dateTime, extra FROM bids
        JOIN (
            SELECT dateTime // 10000000 AS ten, max(price) AS highest FROM bids GROUP BY ten
        ) ON dateTime // 10000000 = ten AND price = highest
    """,
    "q10": """
        SELECT auction, bidder, price, dateTime, extra,
            strftime(make_timestamp(dateTime), '%Y-%m-%d') AS dt,
            strftime(make_timestamp(dateTime), '%H:%M') AS hm
        FROM bids
    """,
    "q11": """
        SELECT bidder, min(dateTime) AS window_start, max(dateTime) + 10000000 AS window_end,
            count(*) AS bid_count
        FROM (
            SELECT bidder, dateTime, sum(opens) OVER (
                PARTITION BY bidder ORDER BY dateTime ROWS UNBOUNDED PRECEDING
            ) AS session
            FROM (
                SELECT bidder, dateTime, CAST(coalesce(dateTime - lag(dateTime) OVER (
                    PARTITION BY bidder ORDER BY dateTime
                ) > 10000000, true) AS INT) AS opens
                FROM bids
            )
        ) GROUP BY bidder, session
    """,
    "q12_event": """
        SELECT bidder, dateTime // 10000000 * 10000000 AS window_start,
            dateTime // 10000000 * 10000000 + 10000000 AS window_end, count(*) AS bid_count
        FROM bids GROUP BY ALL
    """,
    "q13": """
        SELECT auction, bidder, price, dateTime, 'value-' || auction % 10000 AS value FROM bids
    """,
    "q14": """
        SELECT auction, bidder, euros AS price, dateTime, extra,
            CASE WHEN hour BETWEEN 8 AND 18 THEN 'dayTime'
                WHEN hour <= 6 OR hour >= 20 THEN 'nightTime' ELSE 'otherTime' END AS bidTimeType,
            CAST(length(extra) - length(replace(extra, 'c', '')) AS INT) AS c_counts
        FROM (
            SELECT *, dateTime // 3600000000 % 24 AS hour,
                CAST(CAST(price AS DECIMAL(19, 0)) * DECIMAL '0.908' AS DECIMAL(23, 3)) AS euros
            FROM bids
        ) WHERE euros > 1000000 AND euros < 50000000
    """,
    "q18": "SELECT bidder, auction, max(dateTime) AS dateTime FROM bids GROUP BY ALL",
    "q19": """
        SELECT auction, price, rank_number FROM (
            SELECT auction, price,
                row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number
            FROM bids
        ) WHERE rank_number <= 10
    """,
    "q21": """
        SELECT * FROM (
            SELECT auction, bidder, price, channel,
                CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1'
                    WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                    ELSE nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '')
                    END AS channel_id
            FROM bids
        ) WHERE channel_id IS NOT NULL
    """,
    "q22": """
        SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1,
            split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3
        FROM bids
    """,
}
TOLD = {"q18": ["bidder", "auction", "dateTime"], "q19": ["auction", "price", "rank_number"]}
"""What the rows of a query have in common where ties leave several answers right."""


@dataclass(frozen=True)
class Bids:
    """The bids of a generator, where to read them from, and SQL's answers about them."""

    table: pa.Table
    sources: dict[str, rs.Source]
    answers: dict[str, pa.Table]


def bids(source: rs.NexmarkSource | None, table: pa.Table, folder: Path) -> Bids:
    plain = micros(table)
    with duckdb.connect() as db:
        db.register("bids", plain)
        answers = {name: db.sql(query).to_arrow_table() for name, query in SQL.items()}
    # In a quiet house no bid is dear.
    empty = [name for name, answer in answers.items() if not answer.num_rows]
    assert empty == ([] if source is not None else ["q14"])
    sources: dict[str, rs.Source] = {} if source is None else {"generator": source}
    sources["side_by_side"] = side_by_side(table, folder / "side_by_side")
    sources["overlapping"] = overlapping(table, folder / "overlapping")
    return Bids(table, sources, answers)


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> Bids:
    """140 seconds of a thousand events each."""
    source = rs.NexmarkSource(140_000, rate=1_000, seed=3, kind="bid")
    return bids(source, made(source), tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Bids:
    """200 seconds of 20 events each, at few prices and auctions: nearly every best is shared."""
    table = made(rs.NexmarkSource(4_000, rate=20, seed=5, kind="bid"))
    price = pc.min_element_wise(table["price"], 50_000)
    auction = pa.array(np.random.default_rng(8).integers(0, 20, table.num_rows) * 41)
    for name, column in {"price": price, "auction": auction}.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return bids(None, table, tmp_path_factory.mktemp("quiet"))


def stream(query: str, source: rs.Source, **settings) -> rs.Stream:
    job = rs.Job(f"nexmark-{query}", **settings)
    return QUERIES[query](job.source(source, watermark=WATERMARK).named("bid"))


def answer(query: str, source: rs.Source, runtime="local", **settings) -> pa.Table:
    return told(query, stream(query, source, **settings).to_arrow(runtime=runtime))


def told(query: str, rows: pa.Table) -> pa.Table:
    return rows.select(TOLD.get(query, rows.column_names))


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "batch_rows"), [(1, 32_768), (2, 4_096)])
@pytest.mark.parametrize("source", ["generator", "side_by_side", "overlapping"])
@pytest.mark.parametrize("query", SQL)
def test_a_busy_house_gives_the_rows_of_sql(busy, query, source, parallelism, batch_rows):
    config = {"batch_rows_max": batch_rows}
    ours = answer(query, busy.sources[source], parallelism=parallelism, config=config)
    assert_same_rows(ours, busy.answers[query])


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "batch_rows"), [(1, 100), (2, 7)])
@pytest.mark.parametrize("source", ["side_by_side", "overlapping"])
@pytest.mark.parametrize("query", SQL)
def test_a_quiet_house_full_of_ties_gives_the_rows_of_sql(
    quiet, query, source, parallelism, batch_rows
):
    config = {"batch_rows_max": batch_rows}
    ours = answer(query, quiet.sources[source], parallelism=parallelism, config=config)
    assert_same_rows(ours, quiet.answers[query])


@pytest.mark.slow
@pytest.mark.parametrize("query", ["q5", "q7", "q11", "q12_event", "q18", "q19"])
def test_batches_of_a_hundred_rows_change_nothing(busy, query):
    config = {"batch_rows_max": 100}
    ours = answer(query, busy.sources["generator"], parallelism=2, config=config)
    assert_same_rows(ours, busy.answers[query])


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("query", "source", "parallelism"),
    [
        ("q0", "generator", 1),
        ("q1", "side_by_side", 2),
        ("q2", "overlapping", 2),
        ("q5", "overlapping", 2),
        ("q7", "generator", 2),
        ("q11", "overlapping", 2),
        ("q12_event", "side_by_side", 2),
        ("q14", "side_by_side", 2),
        ("q18", "overlapping", 2),
        ("q19", "generator", 2),
        ("q21", "side_by_side", 2),
        ("q22", "generator", 2),
    ],
)
def test_ray_gives_the_rows_of_sql(busy, query, source, parallelism):
    ours = answer(query, busy.sources[source], "ray", parallelism=parallelism)
    assert_same_rows(ours, busy.answers[query])


RULE_SETS = [(), *((rule, "chain") for rule in RULES[:-1]), RULES[:-1], RULES]


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULE_SETS, ids=lambda rules: "+".join(rules) or "none")
@pytest.mark.parametrize("query", SQL)
def test_no_rule_of_the_planner_changes_a_row(quiet, query, rules):
    job = rs.Job(query, parallelism=2, config={"batch_rows_max": 500})
    asked = QUERIES[query](job.source(quiet.sources["overlapping"], watermark=WATERMARK))
    key = asked.changelog
    sink = rs.MemorySink() if key is None else TableSink(key)
    asked.sink(sink)
    local.run(physical_plan(job._draft.plan(), rules))
    assert_same_rows(told(query, sink.table(asked.schema)), quiet.answers[query])


def test_dollars_become_euros_to_the_tenth_of_a_cent(quiet):
    ours = answer("q1", quiet.sources["side_by_side"])
    assert ours.schema.field("price").type == pa.decimal128(23, 3)
    assert ours.schema.field("dateTime").type == TIME
    dollars = sorted(quiet.table["price"].to_pylist())
    euros = sorted(int(price.scaleb(3)) for price in ours["price"].to_pylist())
    assert euros == [price * 908 for price in dollars]


def test_the_quiet_house_is_full_of_ties(quiet):
    windows = quiet.answers["q12_event"]["window_start"].unique()
    assert quiet.answers["q7"].num_rows > 2 * len(windows)
    assert quiet.answers["q5"].num_rows > 1.2 * (200 / 2 + 4)


def test_the_busy_house_has_several_splits_of_each_kind(busy):
    splits = {name: len(source.splits()) for name, source in busy.sources.items()}
    assert min(splits.values()) > 1, splits
    assert busy.table.num_rows == 140_000 * 46 // 50


@pytest.mark.slow
def test_the_script_says_how_many_events_it_read_and_how_many_rows_came_out():
    command = ("-m", "raystream.ops.cli", "run", ROOT / "jobs" / "nexmark.py", "--runtime", "local")
    said = program(*command, "--", "q12_event", "--events", "20000", "--rate", "1000", "--json")
    figures = json.loads(said)
    source = rs.NexmarkSource(20_000, rate=1_000, seed=1, kind="bid")
    with duckdb.connect() as db:
        db.register("bids", micros(made(source)))
        rows = len(db.sql(SQL["q12_event"]).fetchall())
    assert (figures["query"], figures["events"], figures["rows"]) == ("q12_event", 18_400, rows)
