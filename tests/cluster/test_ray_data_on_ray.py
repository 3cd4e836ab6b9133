"""Rows from Ray Data and to it: all of them, in order, from any position."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raystream as rs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

ROWS = 50_000


@pytest.fixture
def files(tmp_path):
    for number in range(5):
        part = range(number * ROWS // 5, (number + 1) * ROWS // 5)
        table = pa.table({"i": list(part), "name": pa.array(["ab"] * len(part), pa.large_string())})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    return str(tmp_path)


def read(source, position) -> list[int]:
    reader, found = source.open(source.splits()[0], position), []
    while (rows := reader.poll(7_000)) is not rs.END:
        found += [] if rows is None else rows.column("i").to_pylist()
    assert reader.position() == ROWS
    reader.close()
    return found


@pytest.mark.timeout(300)
def test_a_dataset_is_read_in_order_and_from_any_position(files):
    import ray.data

    from raystream.connectors.ray_data import RayDataSource

    dataset = ray.data.read_parquet(files).map_batches(lambda t: t, batch_format="pyarrow")
    source = RayDataSource(dataset)
    assert source.schema == pa.schema({"i": pa.int64(), "name": pa.string()})
    assert read(source, None) == list(range(ROWS))
    assert read(source, 33_333) == list(range(33_333, ROWS))


@pytest.mark.timeout(300)
def test_a_stream_over_a_dataset_becomes_a_dataset(files):
    import ray.data

    from raystream.connectors.ray_data import RayDataSource, from_stream

    job = rs.Job("from ray data")
    rows = job.source(RayDataSource(lambda: ray.data.read_parquet(files)))
    counted = (
        rows.with_columns(kind=rs.col("i") % 3).key_by("kind").aggregate(n=rs.count(), emit="final")
    )
    found = from_stream(counted).take_all()
    assert sorted((row["kind"], row["n"]) for row in found) == [
        (kind, len(range(kind, ROWS, 3))) for kind in range(3)
    ]


@pytest.mark.timeout(120)
def test_rows_that_end_with_whoever_put_them_there_are_refused():
    import ray.data

    from raystream.connectors.ray_data import RayDataSource

    with pytest.raises(rs.PlanError, match="lambda: ray.data.from_items"):
        RayDataSource(ray.data.from_items([{"i": 1}]))
    with pytest.raises(rs.PlanError, match="functions that make them"):
        RayDataSource([{"i": 1}])
