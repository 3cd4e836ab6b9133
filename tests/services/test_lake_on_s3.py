"""Tables and files on a real S3 server: a job that is killed and resumed shows each row once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_servers
from lake_rows import ROW, once, rows_of

import raystream as rs

s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.services,
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]
T = rs.testing


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_servers.s3_server("seaweedfs", tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server):
    with s3_servers.s3_bucket(server) as address:
        yield address


def delta_rows(url):
    deltalake = pytest.importorskip("deltalake", reason="the extra delta is not installed")
    table = deltalake.DeltaTable(url, storage_options={"allow_http": "true"})
    return pa.table(table.to_pyarrow_table()).to_pylist()


def once_any(rows):
    seen = [row["n"] for row in rows]
    assert len(seen) == len(set(seen))
    return len(seen)


JOB = """
    import sys
    import raystream as rs

    bucket, start = sys.argv[1], sys.argv[2]
    checkpoint = rs.Checkpointing(f"{bucket}/kept", every="100ms")
    job = rs.Job("killed", runtime="local", checkpoint=checkpoint, config={"batch_rows_max": 50})
    rows = job.source(rs.FileSource(f"{bucket}/in"))
    if start == "fresh":
        import time
        rows = rows.map_batches(lambda batch: (time.sleep(0.02), batch)[1], schema=rows.schema)
    else:
        rows = rows.map_batches(lambda batch: batch, schema=rows.schema)
    rows = rows.uid("slow")
    rows.sink(rs.FileSink(f"{bucket}/out", "parquet")).uid("files")
    from raystream.connectors.delta import DeltaSink
    rows.sink(DeltaSink(f"{bucket}/table")).uid("table")
    job.run(from_snapshot=None if start == "fresh" else "latest")
"""


def test_a_job_that_is_killed_and_resumed_shows_each_row_once(bucket, tmp_path):
    files = s3fs.S3FileSystem()
    for number in range(4):
        with files.open(f"{bucket}/in/{number}.parquet", "wb") as out:
            pq.write_table(pa.Table.from_pylist(rows_of(2_500, number * 2_500), ROW), out)
    (tmp_path / "job.py").write_text(textwrap.dedent(JOB))
    command = [sys.executable, str(tmp_path / "job.py"), bucket]
    first = subprocess.Popen([*command, "fresh"], env=os.environ)
    try:
        deadline = time.monotonic() + 60
        while len(visible(files, bucket)) < 1_000:
            assert first.poll() is None, "it was over before it was killed"
            assert time.monotonic() < deadline, "nothing becomes visible"
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert once_any(visible(files, bucket)) < 10_000
    subprocess.run([*command, "again"], env=os.environ, check=True, timeout=90)
    assert once(visible(files, bucket)) == 10_000
    assert once(delta_rows(f"{bucket}/table")) == 10_000


def visible(files, bucket):
    files.invalidate_cache()
    rows = []
    for path in files.glob(f"{bucket}/out/*.parquet"):
        with files.open(path) as file:
            rows += pq.read_table(file).to_pylist()
    return rows
