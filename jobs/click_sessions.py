"""Gather clicks in visits: all of a user's clicks with less than half an hour between two.

``python jobs/click_sessions.py OUT`` makes up clicks, some of which arrive late, and writes a
Parquet file of visits a day; what came too late for its visit goes to ``OUT-late``.
"""

import argparse
import random
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


def main() -> None:
    """Gather made-up clicks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--clicks", type=int, default=20_000)
    args = parser.parse_args()
    # Made-up clicks come all at once; in small batches time passes between them as it would.
    job = rs.Job("click-sessions", config={"batch_rows_max": 256})
    made = job.source(rs.DataGenSource(click, rows=args.clicks)).with_schema(CLICK)
    clicks = made.assign_timestamps(rs.WatermarkStrategy("time", out_of_orderness="1m"))
    visits = sessions(clicks)
    by_day = visits.with_columns(day=col("window_start").dt.to_string("%Y-%m-%d"))
    by_day.sink(rs.FileSink(args.out, "parquet", partition_by=["day"])).named("visits")
    visits.side_output("late").sink(rs.FileSink(f"{args.out}-late", "parquet")).named("late")
    job.run()


if __name__ == "__main__":
    main()
