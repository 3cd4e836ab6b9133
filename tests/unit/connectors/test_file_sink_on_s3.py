"""S3 has no rename: files are uploads of parts that a commit completes."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from raystream.connectors.file_sink import FileSink
from raystream.connectors.files import FileSource
from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.source import END
from raystream.errors import SinkError

pytest.importorskip("s3fs", reason="s3fs is not installed: raystream[s3]")
moto = pytest.importorskip("moto.server", reason="moto[server], a stand-in for S3, is not here")

pytestmark = pytest.mark.slow

ROWS = pa.record_batch({"n": [1, 2, 3], "day": ["a", "b", "a"]})


@pytest.fixture(scope="module")
def s3():
    """A bucket in this process, and the filesystem that speaks to it."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    asked = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    filesystem = fsspec.filesystem("s3")
    filesystem.call_s3("create_bucket", Bucket="bucket")
    yield filesystem
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def uploads(s3: Any, folder: str) -> list[str]:
    found = s3.call_s3("list_multipart_uploads", Bucket="bucket").get("Uploads", [])
    return [one["Key"] for one in found if one["Key"].startswith(f"{folder}/")]


def objects(s3: Any, folder: str) -> list[str]:
    s3.invalidate_cache()
    return sorted(s3.find(f"bucket/{folder}"))


def numbers(folder: str) -> list[int]:
    source = FileSource(f"s3://bucket/{folder}")
    given = []
    for split in source.splits():
        reader = source.open(split, None)
        while (rows := reader.poll(1_000)) is not END:
            given += rows.column("n").to_pylist()
    return sorted(given)


def test_files_appear_at_their_commit_and_not_before(s3):
    sink = pickle.loads(pickle.dumps(FileSink("s3://bucket/one", "parquet", "day")))
    writer = sink.open(OpenContext(subtask_index=2))
    writer.write(Batch(ROWS))
    first = pickle.loads(pickle.dumps(writer.prepare_commit(1)))
    writer.write(Batch(ROWS))
    second = writer.prepare_commit(2)
    assert objects(s3, "one") == []
    assert len(uploads(s3, "one")) == 4
    sink.commit(1, first)
    assert numbers("one") == [1, 2, 3]
    sink.commit(2, second)
    writer.close()
    assert numbers("one") == [1, 1, 2, 2, 3, 3]
    assert len(objects(s3, "one")) == 4
    assert uploads(s3, "one") == []
    assert all("/part-0002-" in path for path in objects(s3, "one"))


def test_a_commit_may_be_repeated_also_at_the_same_time(s3):
    sink = FileSink("s3://bucket/two", "csv", roll_rows=1)
    writer = sink.open(OpenContext())
    writer.write(Batch(ROWS))
    prepared = writer.prepare_commit(1)
    writer.close()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: sink.commit(1, prepared), range(6)))
    sink.commit(1, prepared)
    sink.abort(prepared)  # it has appeared: nothing takes it away again
    assert numbers("two") == [1, 2, 3]


def test_what_is_aborted_or_never_prepared_is_thrown_away(s3):
    sink = FileSink("s3://bucket/three", "json", roll_rows=2)
    writer = sink.open(OpenContext())
    writer.write(Batch(ROWS))
    prepared = writer.prepare_commit(1)
    writer.write(Batch(ROWS))
    writer.close()
    assert len(uploads(s3, "three")) == len(prepared) == 2
    sink.abort(prepared)
    sink.abort(prepared)
    assert uploads(s3, "three") == []
    with pytest.raises(SinkError, match="s3://bucket/three/part-.* was prepared and is gone"):
        sink.commit(1, prepared)
    assert objects(s3, "three") == []


def test_a_commit_whose_upload_is_gone_looks_for_the_object(s3):
    sink = FileSink("s3://bucket/six", "csv")
    writer = sink.open(OpenContext())
    writer.write(Batch(ROWS))
    ((bucket, key, *_, size),) = prepared = writer.prepare_commit(1)
    sink.abort(prepared)
    s3.pipe_file(f"{bucket}/{key}", b"x" * size)
    sink.commit(1, prepared)
    assert s3.size(f"{bucket}/{key}") == size


def test_an_object_of_another_size_is_not_taken_for_the_file(s3):
    sink = FileSink("s3://bucket/four", "csv")
    writer = sink.open(OpenContext())
    writer.write(Batch(ROWS))
    (one,) = prepared = writer.prepare_commit(1)
    sink.abort(prepared)
    s3.pipe_file(f"{one[0]}/{one[1]}", b"n,day\n")
    with pytest.raises(SinkError, match="was prepared and is gone"):
        sink.commit(1, prepared)


def test_large_files_leave_memory_in_parts(s3):
    sink = FileSink("s3://bucket/five", "text")
    writer = sink.open(OpenContext())
    line = "x" * (1 << 20)
    for _ in range(11):
        writer.write(Batch(pa.record_batch({"line": [line]})))
    ((_, _, _, parts, size),) = prepared = writer.prepare_commit(1)
    assert len(parts) == 3
    assert size == 11 * (len(line) + 1)
    sink.commit(1, prepared)
    (path,) = objects(s3, "five")
    assert s3.size(path) == size


def test_a_bucket_that_is_not_there_is_named(s3):
    writer = FileSink("s3://nowhere/out", "csv").open(OpenContext())
    writer.write(Batch(ROWS))
    with pytest.raises(SinkError, match="cannot write s3://nowhere/out/part-"):
        writer.prepare_commit(1)
    writer.close()
