"""A job that keeps itself and its files on S3, fails in the middle, and shows each row once."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_servers

import raystream as rs

s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")

KEYS, ROWS = 50, 20_000
COUNTED = pa.schema({"k": pa.int64(), "n": pa.int64()})


@pytest.fixture(params=s3_servers.KINDS)
def bucket(request, tmp_path):
    with (
        s3_servers.s3_server(request.param, tmp_path) as endpoint,
        s3_servers.s3_bucket(endpoint) as address,
    ):
        yield address


@pytest.mark.slow
def test_each_row_is_visible_once_though_the_job_failed_in_the_middle(bucket):
    failures = [ROWS // 2]

    def numbered(state, row):
        if failures and row["v"] > failures[0]:
            failures.clear()
            raise RuntimeError("once")
        seen = (state or 0) + 1
        return seen, {"k": row["k"], "n": seen}

    checkpoint = rs.Checkpointing(f"{bucket}/checkpoints", every="200ms")
    job = rs.Job("on-s3", runtime="local", checkpoint=checkpoint)
    rows = job.source(
        rs.DataGenSource(lambda i: {"k": i % KEYS, "v": i}, rows=ROWS, rows_per_second=10_000)
    )
    counts = rows.key_by(lambda row: row["k"]).map_with_state(numbered, schema=COUNTED)
    counts.sink(rs.FileSink(f"{bucket}/out", "parquet"))
    result = job.run()
    assert (result.status, result.restarts) == ("finished", 1)
    files = s3fs.S3FileSystem()
    seen: Counter[tuple[int, int]] = Counter()
    for path in files.glob(f"{bucket}/out/*.parquet"):
        with files.open(path) as file:
            table = pq.read_table(file)
        seen.update(zip(table["k"].to_pylist(), table["n"].to_pylist(), strict=True))
    assert seen == Counter((k, n + 1) for k in range(KEYS) for n in range(ROWS // KEYS))
