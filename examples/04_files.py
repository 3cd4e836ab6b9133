"""Lesson 4: from CSV files to Parquet, a folder a day, written exactly once."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq

import raystream as rs

col = rs.col

CLICKS = """user,at,page
1,2024-05-01T09:00:00Z,/home
2,2024-05-01T09:00:05Z,/buy
1,2024-05-02T10:30:00Z,/buy
"""


def main() -> None:
    """Write a CSV file, let a job rewrite it, look at what came out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clicks.csv").write_text(CLICKS)
        job = rs.Job("files", parallelism=2)
        clicks = job.source(rs.FileSource(str(folder / "*.csv")))
        by_day = clicks.with_columns(day=col("at").dt.to_string("%Y-%m-%d"))
        by_day.sink(rs.FileSink(str(folder / "out"), "parquet", partition_by=["day"]))
        print(job.explain())
        job.run()
        print(pq.read_table(folder / "out").to_pandas().sort_values("at").to_string(index=False))


if __name__ == "__main__":
    main()
