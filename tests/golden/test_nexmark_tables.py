"""Nexmark's questions about persons, auctions and their bids, and those that keep tables.

SQL over the same events gives the same rows; of a changelog, the table that its changes end in.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from auction_house import made, overlapping, side_by_side
from goldens import ROOT, assert_same_rows, load, micros, program

import raystream as rs
from raystream.connectors.memory import TableSink
from raystream.graph.planner import RULES, physical_plan
from raystream.runtime import local

NEXMARK = load("jobs/nexmark.py")
KINDS = ("person", "auction", "bid")

VIEWS = {
    "valid": """
        SELECT auctions.*, bidder, price, bids.dateTime AS dateTime_right
        FROM auctions JOIN bids ON auctions.id = auction
        WHERE bids.dateTime BETWEEN auctions.dateTime AND expires
    """,
    "final": """
        SELECT id, seller, category, expires, max(price) AS final FROM valid GROUP BY ALL
    """,
    "dated": """
        SELECT *, strftime(make_timestamp(dateTime), '%Y-%m-%d') AS day,
            strftime(make_timestamp(dateTime), '%H:%M') AS minute
        FROM bids
    """,
}
RANKS = {
    "total": "true",
    "rank1": "price < 10000",
    "rank2": "price >= 10000 AND price < 1000000",
    "rank3": "price >= 1000000",
}


def by_rank(name: str, counted: str) -> str:
    return ", ".join(
        f"count({counted}) FILTER (WHERE {rank}) AS {prefix}_{name}"
        for prefix, rank in RANKS.items()
    )


def dated(columns: str, keys: str) -> str:
    return f"SELECT {columns} FROM dated GROUP BY {keys}"  # noqa: S608  it is our own


BIDS = by_rank("bids", "*")
DISTINCT = f"{by_rank('bidders', 'DISTINCT bidder')}, {by_rank('auctions', 'DISTINCT auction')}"
PRICES = """
    min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price,
    CAST(sum(price) AS BIGINT) AS sum_price
"""
SQL = {
    "q3": """
        SELECT name, city, state, auctions.id FROM auctions JOIN persons ON seller = persons.id
        WHERE category = 10 AND state IN ('OR', 'ID', 'CA')
    """,
    "q4": "SELECT category, avg(final) AS avg FROM final GROUP BY category",
    "q6_ordered": """
        SELECT seller, final, avg(final) OVER (
            PARTITION BY seller ORDER BY expires ROWS BETWEEN 9 PRECEDING AND CURRENT ROW
        ) AS avg FROM final
    """,
    "q8": """
        SELECT id, name, dateTime // 10000000 * 10000000 AS starttime FROM persons
        WHERE EXISTS (
            FROM auctions
            WHERE seller = persons.id
                AND auctions.dateTime // 10000000 = persons.dateTime // 10000000
        )
    """,
    "q9": """
        SELECT id, price, dateTime_right FROM (
            SELECT *, row_number() OVER (
                PARTITION BY id ORDER BY price DESC, dateTime_right
            ) AS place FROM valid
        ) WHERE place = 1
    """,
    "q15": dated(f"day, {BIDS}, {DISTINCT}", "day"),
    "q16": dated(f"channel, day, max(minute) AS minute, {BIDS}, {DISTINCT}", "channel, day"),
    "q17": dated(f"auction, day, {BIDS}, {PRICES}", "auction, day"),
    "q20": """
        SELECT bids.*, itemName, description, initialBid, reserve, auctions.dateTime AS AdateTime,
            expires, seller, category, auctions.extra AS Aextra
        FROM bids JOIN auctions ON auction = auctions.id WHERE category = 10
    """,
}
TOLD = {"q9": ["id", "price", "dateTime_right"]}
"""What the rows of a query have in common where ties leave several answers right."""
TABLES = {"q4", "q9", "q15", "q16", "q17"}


@dataclass(frozen=True)
class House:
    """The events of a house by kind, where to read them from, and SQL's answers about them."""

    tables: dict[str, pa.Table]
    sources: dict[str, dict[str, rs.Source]]
    answers: dict[str, pa.Table]


def house(tables: dict[str, pa.Table], sources: dict[str, rs.Source], folder: Path) -> House:
    with duckdb.connect() as db:
        for kind, table in tables.items():
            db.register(f"{kind}s", micros(table))
        for view, query in VIEWS.items():
            db.sql(query).create_view(view)
        answers = {name: db.sql(query).to_arrow_table() for name, query in SQL.items()}
    assert all(answer.num_rows for answer in answers.values())
    files = {
        layout.__name__: {
            kind: layout(table, folder / layout.__name__ / kind) for kind, table in tables.items()
        }
        for layout in (side_by_side, overlapping)
    }
    return House(tables, ({"generator": sources} if sources else {}) | files, answers)


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> House:
    """100 seconds of a hundred events each."""
    sources = {kind: rs.NexmarkSource(10_000, rate=100, seed=3, kind=kind) for kind in KINDS}
    tables = {kind: made(source) for kind, source in sources.items()}
    return house(tables, sources, tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> House:
    """150 seconds of 20 events each, at few prices and auctions: nearly every best is shared."""
    tables = {kind: made(rs.NexmarkSource(3_000, rate=20, seed=5, kind=kind)) for kind in KINDS}
    bids, auctions = tables["bid"], tables["auction"]
    few = auctions["id"].to_numpy()[:: auctions.num_rows // 20]
    auction = pa.array(np.random.default_rng(8).choice(few, bids.num_rows))
    price = pc.min_element_wise(bids["price"], 50_000)
    for name, column in {"price": price, "auction": auction}.items():
        bids = bids.set_column(bids.schema.get_field_index(name), name, column)
    # Each stays open for 40 seconds, and as all begin at different times, they end at such.
    ends = pc.add(auctions["dateTime"], pa.scalar(40_000_000, pa.duration("us")))
    place = auctions.schema.get_field_index("expires")
    auctions = auctions.set_column(place, auctions.schema.field("expires"), ends)
    return house(tables | {"bid": bids, "auction": auctions}, {}, tmp_path_factory.mktemp("quiet"))


def stream(query: str, sources: dict[str, rs.Source], **settings: Any) -> rs.Stream:
    job = rs.Job(f"nexmark-{query}", **settings)
    return NEXMARK.ask(
        query,
        lambda kind: job.source(sources[kind], watermark=NEXMARK.WATERMARK).named(kind),
    )


def answer(query: str, sources: dict[str, rs.Source], runtime="local", **settings) -> pa.Table:
    return told(query, stream(query, sources, **settings).to_arrow(runtime=runtime))


def told(query: str, rows: pa.Table) -> pa.Table:
    return rows.select(TOLD.get(query, rows.column_names))


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "batch_rows"), [(1, 32_768), (2, 700)])
@pytest.mark.parametrize("source", ["generator", "side_by_side", "overlapping"])
@pytest.mark.parametrize("query", SQL)
def test_a_busy_house_gives_the_rows_of_sql(busy, query, source, parallelism, batch_rows):
    config = {"batch_rows_max": batch_rows}
    ours = answer(query, busy.sources[source], parallelism=parallelism, config=config)
    assert_same_rows(ours, busy.answers[query])


@pytest.mark.slow
@pytest.mark.parametrize(("parallelism", "batch_rows"), [(1, 100), (2, 23)])
@pytest.mark.parametrize("query", SQL)
def test_a_quiet_house_full_of_ties_gives_the_rows_of_sql(quiet, query, parallelism, batch_rows):
    config = {"batch_rows_max": batch_rows}
    sources = quiet.sources["overlapping"]
    ours = answer(query, sources, parallelism=parallelism, config=config)
    assert_same_rows(ours, quiet.answers[query])


RULE_SETS = [(), RULES[:-1], RULES]


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULE_SETS, ids=lambda rules: "+".join(rules) or "none")
@pytest.mark.parametrize("query", SQL)
def test_no_rule_of_the_planner_changes_a_row(quiet, query, rules):
    asked = stream(query, quiet.sources["overlapping"], parallelism=2)
    key = asked.changelog
    sink = rs.MemorySink() if key is None else TableSink(key)
    asked.sink(sink)
    local.run(physical_plan(asked._tip.draft.plan(), rules))
    assert_same_rows(told(query, sink.table(asked.schema)), quiet.answers[query])


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("query", "source", "parallelism"),
    [
        ("q3", "overlapping", 2),
        ("q4", "generator", 1),
        ("q8", "overlapping", 1),
        ("q9", "side_by_side", 1),
    ],
)
def test_ray_gives_the_rows_of_sql(busy, query, source, parallelism):
    ours = answer(query, busy.sources[source], "ray", parallelism=parallelism)
    assert_same_rows(ours, busy.answers[query])


def test_the_queries_that_keep_tables_are_changelogs(quiet):
    streams = {query: stream(query, quiet.sources["overlapping"]) for query in NEXMARK.QUERIES}
    changelogs = {name: asked.changelog for name, asked in streams.items() if asked.changelog}
    assert set(changelogs) == TABLES | {"q18", "q19"}
    assert changelogs["q4"] == ("category",)
    assert changelogs["q17"] == ("auction", "day")
    assert changelogs["q19"] == ("auction", "rank_number")


def test_each_query_reads_the_kinds_that_it_names():
    assert NEXMARK.kinds("q3") == ["person", "auction"]
    assert NEXMARK.kinds("q9") == ["auction", "bid"]
    assert NEXMARK.kinds("q20") == ["bid", "auction"]
    numbers = {int(name.partition("_")[0][1:]) for name in NEXMARK.QUERIES}
    assert numbers == set(range(23))


@pytest.mark.slow
def test_the_last_ten_auctions_of_a_seller_in_order_of_arrival(busy):
    sources = busy.sources["generator"]
    ordered = busy.answers["q6_ordered"].select(["seller", "avg"])
    # One subtask closes auctions in order of time; several do in an order of their own.
    assert_same_rows(answer("q6", sources), ordered)
    sellers = answer("q6", sources, parallelism=2)["seller"]
    assert Counter(sellers.to_pylist()) == Counter(ordered["seller"].to_pylist())


@pytest.mark.slow
def test_bids_of_ten_seconds_of_the_clock_on_the_wall_are_counted(busy):
    ten, second = rs.micros("10s"), rs.micros("1s")
    rows = busy.tables["bid"].slice(0, 300).to_pylist()
    T = rs.testing
    items: list[object] = [*rows[:100], T.Advance(ten), *rows[100:200], T.Advance(second)]
    bids = rs.Job("q12").source(T.Source([*items, *rows[200:], T.Advance(ten)]))
    counted: dict[object, Counter[int]] = {}
    for row in T.run(NEXMARK.q12(bids)).rows:
        counted.setdefault(row["window_start"], Counter())[row["bidder"]] += row["bid_count"]
    bidders = [row["bidder"] for row in rows]
    assert list(counted.values()) == [Counter(bidders[:100]), Counter(bidders[100:])]


@pytest.mark.slow
def test_the_script_reads_files_and_writes_a_folder_a_minute(quiet, tmp_path):
    pq.write_table(quiet.tables["bid"], tmp_path / "bids.parquet")
    command = ("-m", "raystream.ops.cli", "run", ROOT / "jobs" / "nexmark.py", "--runtime", "local")
    program(*command, "--", "q10", "--files", str(tmp_path), "--out", str(tmp_path / "out"))
    with duckdb.connect() as db:
        db.register("bids", micros(quiet.tables["bid"]))
        expected = db.sql("""
            SELECT strftime(make_timestamp(dateTime), '%Y-%m-%d/%H:%M') AS folder, count(*)
            FROM bids GROUP BY ALL ORDER BY ALL
        """).fetchall()
    found = Counter()
    for file in (tmp_path / "out").glob("dt=*/hm=*/*.csv"):
        day, minute = (part.name.partition("=")[2] for part in (file.parents[1], file.parent))
        found[f"{day}/{minute.replace('%3A', ':')}"] += file.read_text().count("\n") - 1
    assert sorted(found.items()) == expected
    assert len(expected) > 2


@pytest.mark.slow
def test_the_quiet_house_is_full_of_ties(quiet):
    first = quiet.tables["bid"]["price"].to_numpy() == 50_000
    assert first.mean() > 0.5
    with duckdb.connect() as db:
        db.register("auctions", micros(quiet.tables["auction"]))
        same = "SELECT count(*) FROM auctions GROUP BY seller, expires HAVING count(*) > 1"
        assert not db.sql(same).fetchall(), "sellers would have no order of auctions"
