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
    result = job.run(timeout="60s")
    assert sorted(sink.rows)[-1] == -(-2_000 // 7)
    took_s = sum(one.duration_us for one in result.checkpoints[:-1]) / 1e6
    assert took_s <= 0.7 * result.running_s  # half, but for what the others took meanwhile
