"""Every job goes through a crash and a change of parallelism, and gives the rows that it must."""

from __future__ import annotations

import lives
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from goldens import assert_same_rows, load

import raystream as rs
from raystream.testing.simulated_clock import SimulatedClock

NEXMARK = load("jobs/nexmark.py")
FRAUD = load("jobs/card_fraud.py")
CLICKS = load("jobs/click_sessions.py")
FLIGHTS = load("jobs/flight_delays.py")
TEXT = "to be or not to be\nthat is the question\n" * 300
col = rs.col

pytestmark = pytest.mark.slow


def nexmark(query):
    def build(job, folder):
        source = rs.NexmarkSource(3_000, kind="bid", seed=7)
        return query(job.source(source, watermark=NEXMARK.WATERMARK).named("read"))

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


JOBS = {
    # q18 and q19 are changelogs, whose changes hang on the order in which splits are read.
    **{n: nexmark(query) for n, query in NEXMARK.QUERIES.items() if n not in ("q18", "q19")},
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


def made(name, folder, out, parallelism, **settings):
    job = rs.Job(name, parallelism=parallelism, config={"batch_rows_max": 64}, **settings)
    JOBS[name](job, folder).sink(rs.FileSink(out, "parquet"))
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


@pytest.mark.parametrize("name", JOBS)
def test_a_job_gives_its_rows_whatever_happens_to_it(name, folder, tmp_path):
    made(name, folder, tmp_path / "straight", 1).run(runtime="local")
    clock = SimulatedClock()
    often = rs.Checkpointing(tmp_path / "kept", every="2ms")
    first = lives.local(made(name, folder, tmp_path / "out", 2, checkpoint=often), clock=clock)
    pace(first, clock, lambda: lives.completed(first) >= 3)
    first.crash(first.alive[-1])
    pace(first, clock, lambda: lives.restarts(first) and lives.completed(first) >= 3)
    assert not first.over, "it was over before anything could happen to it"
    first.close()
    second = made(name, folder, tmp_path / "out", 3, checkpoint=str(tmp_path / "kept"))
    result = second.run(runtime="local", from_snapshot="latest")
    assert result.status == "finished"
    assert_same_rows(rows_of(tmp_path / "out"), rows_of(tmp_path / "straight"))


def pace(job, clock, until):
    """Let a job live, a millisecond each step."""

    def waited():
        clock.pass_time(1_000)
        return until()

    lives.steps(job, waited)
