"""Every job goes through a crash and a change of parallelism, and gives the rows that it must."""

from __future__ import annotations

import lives
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from committed_changes import Ledger
from goldens import assert_same_rows, load

import raystream as rs
from raystream.testing.simulated_clock import SimulatedClock

NEXMARK = load("jobs/nexmark.py")
FRAUD = load("jobs/fraud_alerts.py")
CLICKS = load("jobs/sessions_to_lake.py")
FLIGHTS = load("jobs/flight_delays.py")
TEXT = "to be or not to be\nthat is the question\n" * 300
col = rs.col

pytestmark = pytest.mark.slow


def nexmark(query):
    """Ask a question; a bid is read by one source, an auction or a person by another."""
    rate, events = (10_000, 3_000) if NEXMARK.kinds(query) == ["bid"] else (20, 2_000)

    def build(job, folder):
        def read(kind):
            source = rs.NexmarkSource(events, rate=rate, kind=kind, seed=7)
            return job.source(source, watermark=NEXMARK.WATERMARK).named(f"read {kind}")

        return NEXMARK.ask(query, read)

    return build


def fraud(job, folder):
    times = rs.WatermarkStrategy("time", out_of_orderness="5s")
    rows = [FRAUD.charge(number) for number in range(1_500)]
    return FRAUD.fraud(job.from_items(rows, schema=FRAUD.CHARGE, watermark=times).named("read"))


def clicks(job, folder):
    times = rs.WatermarkStrategy("time", out_of_orderness="7h")
    rows = [CLICKS.click(number) for number in range(2_000)]
    given = job.from_items(rows, schema=CLICKS.CLICK, watermark=times).named("read")
    return CLICKS.sessions(given).uid("sessions")


def flights(job, folder):
    source = rs.FileSource(str(folder / "flights"))
    times = rs.WatermarkStrategy("time_hour", out_of_orderness="1d")
    return FLIGHTS.carrier_delays(job.source(source, watermark=times).named("read"))


def words(job, folder):
    source = rs.FileSource(str(folder / "words.txt"), format="text")
    lines = job.source(source).named("read")
    words = lines.select(word=col("line").str.split(" ")).explode("word").filter(col("word") != "")
    return words.key_by("word").aggregate(n=rs.count(), emit="final")


UNORDERED = {"q6", "q12"}
"""They give rows in order of arrival, or by the clock on the wall: any that may be."""
TABLES = {"q4", "q9", "q15", "q16", "q17", "q18", "q19"}
"""They give changes, which hang on the order in which splits are read: the table is what counts."""
TOLD = {
    "q9": ["id", "price", "dateTime_right"],
    "q18": ["bidder", "auction", "dateTime"],
    "q19": ["auction", "price", "rank_number"],
}
"""What the rows of a query have in common where ties leave several answers right."""
JOBS = {
    **{query: nexmark(query) for query in NEXMARK.QUERIES if query not in UNORDERED | TABLES},
    "fraud": fraud,
    "clicks": clicks,
    "flights": flights,
    "words": words,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    (folder / "words.txt").write_text(TEXT)
    (folder / "flights").mkdir()
    table = FLIGHTS.flights_table().slice(0, 6_000)
    for number in range(3):
        pq.write_table(table.slice(number * 2_000, 2_000), folder / "flights" / f"{number}.parquet")
    return folder


def made(name, folder, sink, parallelism, **settings):
    job = rs.Job(name, parallelism=parallelism, config={"batch_rows_max": 64}, **settings)
    (JOBS.get(name) or nexmark(name))(job, folder).sink(sink)
    return job


def rows_of(out) -> pa.Table:
    """Read what became visible; lists as texts, for Arrow knows no order of lists."""
    table = ds.dataset(out).to_table()
    for place, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            table = table.set_column(place, field.name, pc.binary_join(table[field.name], " "))
    return table


def test_every_job_is_here():
    assert len(JOBS) >= 14
    assert set(JOBS) | TABLES | UNORDERED > set(NEXMARK.QUERIES)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_gives_its_rows_whatever_happens_to_it(name, folder, tmp_path):
    made(name, folder, rs.FileSink(tmp_path / "straight", "parquet"), 1).run(runtime="local")
    live(name, folder, tmp_path / "kept", rs.FileSink(tmp_path / "out", "parquet"))
    assert_same_rows(rows_of(tmp_path / "out"), rows_of(tmp_path / "straight"))


@pytest.mark.parametrize("query", sorted(TABLES))
def test_changes_end_in_their_table_whatever_happens_to_the_job(query, folder, tmp_path):
    asked = nexmark(query)(rs.Job(query), folder)
    ledger = Ledger()
    live(query, folder, tmp_path / "kept", ledger)
    told = TOLD.get(query, asked.schema.names)
    table = ledger.table(asked.changelog)
    assert_same_rows(table.select(told), asked.to_arrow(runtime="local").select(told))


def live(name, folder, kept, sink) -> None:
    """Let a job live: a crash of a subtask, then of all, then on with more subtasks to the end."""
    clock = SimulatedClock()
    often = rs.Checkpointing(kept, every="2ms")
    first = lives.local(made(name, folder, sink, 2, checkpoint=often), clock=clock)
    pace(first, clock, lambda: lives.completed(first) >= 3)
    first.crash(first.alive[-1])
    pace(first, clock, lambda: lives.restarts(first) and lives.completed(first) >= 3)
    assert not first.over, "it was over before anything could happen to it"
    first.close()
    second = made(name, folder, sink, 3, checkpoint=str(kept))
    result = second.run(runtime="local", from_snapshot="latest")
    assert result.status == "finished"


def pace(job, clock, until):
    """Let a job live, a millisecond each step."""

    def waited():
        clock.pass_time(1_000)
        return until()

    lives.steps(job, waited)
