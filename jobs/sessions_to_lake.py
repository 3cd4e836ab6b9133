"""Gather clicks in visits for the lake: a user's clicks with less than half an hour between two.

``python jobs/sessions_to_lake.py OUT`` makes up clicks, some of which arrive late, and writes
Parquet files of visits to ``OUT/visits``, a folder a day; what came too late for its visit goes to
``OUT/late``. No server is needed. ``--delta`` makes Delta tables of the two instead, ``--iceberg``
tables of a catalog in ``OUT/catalog.db``, or of another catalog that pyiceberg is configured for::

    python jobs/sessions_to_lake.py out/lake --delta
    python jobs/sessions_to_lake.py out/lake --iceberg
    python jobs/sessions_to_lake.py out/lake --iceberg --catalog prod

``OUT`` may be a bucket (``s3://lake``) for Parquet and Delta. ``--clicks FOLDER`` reads the clicks
from JSON lines.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import pyarrow as pa

import raystream as rs

col = rs.col

CLICK = pa.schema([("user", pa.string()), ("url", pa.string()), ("time", pa.int64())])
PAGES = ("/", "/search", "/item", "/basket", "/pay")
MONDAY = rs.micros("19723d")  # 2024-01-01


def click(number: int) -> dict[str, Any]:
    """Make up a click: half a minute apart on average; one in fifty arrives hours late."""
    rng = random.Random(number)  # noqa: S311  the same clicks every time
    late = rng.uniform(1, 6) * 3_600 if rng.random() < 0.02 else rng.uniform(0, 60)
    time = MONDAY + round((30 * number - late) * 1_000_000)
    return {"user": f"u{rng.randrange(300)}", "url": rng.choice(PAGES), "time": time}


def sessions(clicks: rs.Stream) -> rs.Stream:
    """Give each visit: how many pages, which way, where it began and ended.

    What came too late: ``sessions(clicks).side_output("late")``.
    """
    return (
        clicks.key_by("user")
        .window(rs.Session("30m"))
        .allowed_lateness("1h")
        .late_to("late")
        .aggregate(
            pages=rs.count(),
            path=rs.collect("url"),
            landing=rs.first("url"),
            leaving=rs.last("url"),
        )
    )


def by_day(visits: rs.Stream) -> rs.Stream:
    """Say of each visit on which day it began."""
    return visits.with_columns(day=col("window_start").dt.to_string("%Y-%m-%d"))


def lake(kind: str, out: str, catalog: str | None) -> tuple[rs.Sink, rs.Sink]:
    """Give where visits go, and where late clicks go: each row once, with a checkpoint."""
    if kind == "delta":
        from raystream.connectors import delta

        return delta.DeltaSink(f"{out}/visits", partition_by="day"), delta.DeltaSink(f"{out}/late")
    if kind == "iceberg":
        from raystream.connectors import iceberg

        held: Any = catalog or local_catalog(Path(out))
        visits = iceberg.IcebergSink("clicks.visits", held, partition_by="day")
        return visits, iceberg.IcebergSink("clicks.late", held)
    visits = rs.FileSink(f"{out}/visits", "parquet", partition_by=["day"], roll_rows=1_000_000)
    return visits, rs.FileSink(f"{out}/late", "parquet")


def local_catalog(out: Path) -> dict[str, str]:
    """Give a catalog that is a file, in the folder where its tables are."""
    out.mkdir(parents=True, exist_ok=True)
    folder = out.absolute()
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}"}


def main() -> None:
    """Gather clicks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out")
    parser.add_argument("--clicks", default="20000", help="how many are made up, or a folder")
    kind = parser.add_mutually_exclusive_group()
    for name in ("delta", "iceberg"):
        kind.add_argument(f"--{name}", action="store_const", dest="kind", const=name)
    parser.add_argument("--catalog", help="of Iceberg, as pyiceberg is configured")
    parser.add_argument("--checkpoint", metavar="URL")
    args = parser.parse_args()
    # Made-up clicks come all at once; in small batches time passes between them as it would.
    job = rs.Job("sessions-to-lake", checkpoint=args.checkpoint, config={"batch_rows_max": 256})
    if args.clicks.isdigit():
        made = job.source(rs.DataGenSource(click, rows=int(args.clicks))).with_schema(CLICK)
    else:
        made = job.source(rs.FileSource(args.clicks, "json", schema=CLICK))
    clicks = made.assign_timestamps(rs.WatermarkStrategy("time", out_of_orderness="1m"))
    visits = sessions(clicks)
    to_visits, to_late = lake(args.kind or "parquet", args.out, args.catalog)
    by_day(visits).sink(to_visits).named("visits")
    visits.side_output("late").sink(to_late).named("late")
    job.run(from_snapshot="latest" if args.checkpoint else None)


if __name__ == "__main__":
    main()
