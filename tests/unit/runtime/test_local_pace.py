"""In one thread checkpoints leave rows their time, however often they are asked for."""

import pytest

import raystream as rs


@pytest.mark.slow
def test_a_job_ends_though_checkpoints_take_longer_than_the_time_between_them(tmp_path):
    checkpoint = rs.Checkpointing(str(tmp_path / "checkpoints"), every="1ms")
    job = rs.Job("hasty", runtime="local", parallelism=3, checkpoint=checkpoint)
    rows = job.source(rs.DataGenSource(lambda i: {"k": i % 7, "v": i}, rows=2_000))
    counts = rows.key_by(lambda row: row["k"]).map_with_state(
        lambda seen, row: ((seen or 0) + 1, (seen or 0) + 1)
    )
    sink = rs.MemorySink()
    counts.sink(sink)
    assert job.run(timeout="60s").status == "finished"
    assert max(sink.rows) == -(-2_000 // 7)
