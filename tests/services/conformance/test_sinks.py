"""Every sink shows each row once, or at least once, whatever fails at which moment."""

from __future__ import annotations

import pickle

import lives
import pyarrow as pa
import pytest
from faulty_sinks import (
    IN_COMMIT,
    IN_WRITER,
    Faulty,
    assert_rows,
    at_once,
    crashing_job,
    failing_job,
)
from lake_rows import ROW, rows_of
from sink_cases import COMMITTING, RESTARTED, TO_DRIVER, WRITING

import raystream as rs

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
T = rs.testing

ALL = {**COMMITTING, **WRITING, **TO_DRIVER}
SLOW = {name for name in ALL if name.endswith("on S3")}
"""Their writers are those of files beside, which fail in all phases."""


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("parallelism", [1, 2])
def test_all_rows_arrive_and_are_counted(at, name, parallelism):
    kept = ALL[name](at)
    job = rs.Job("straight", parallelism=parallelism, config={"batch_rows_max": 16})
    rows = job.from_items(rows_of(200), schema=ROW).rebalance()
    rows.sink(kept.again()).named("written")
    made = lives.local(job)
    lives.steps(made, lambda: made.over)
    made.result()
    (counted,) = [one.rows_in for one in made.status().operators if one.name == "written"]
    made.close()
    assert counted == 200
    assert_rows(kept.numbers(), 200)


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        *(
            (name, phase)
            for phase in IN_WRITER
            for name in ALL
            if name not in SLOW | TO_DRIVER.keys()
        ),
        *((name, phase) for phase in IN_COMMIT for name in COMMITTING),
    ],
)
def test_rows_arrive_wherever_the_sink_fails(at, name, phase):
    """It fails in its second call: of another subtask than the first, or of a later checkpoint."""
    kept = ALL[name](at)
    times = 2 if phase == "commit of recovery" else 1
    midway = kept.steps[-1] if kept.steps else None
    faulty = Faulty(kept.again(), phase, 0 if phase == "open" else 1, times, midway)
    T.run(failing_job(faulty, parallelism=2, count=40))
    assert faulty.left == [0], "it has not failed"
    assert_rows(kept.numbers(), 40, once=kept.once and name in COMMITTING)


@pytest.mark.parametrize("name", [*COMMITTING, *WRITING])
def test_rows_arrive_whenever_the_job_crashes(at, name):
    kept = ALL[name](at)
    T.run(crashing_job(kept.again(), 1, parallelism=2), seed=1)
    assert_rows(kept.numbers(), 60, once=name in COMMITTING)


@pytest.mark.parametrize("name", [*COMMITTING, *WRITING])
def test_rows_arrive_though_the_job_dies_and_goes_on_with_more_and_with_fewer(at, name):
    """One subtask dies, three stop with a savepoint, two go on to the end."""
    kept = ALL[name](at)
    start = None
    for life, parallelism in enumerate((1, 3, 2)):
        job = rs.Job(
            "lives",
            parallelism=parallelism,
            checkpoint=str(at.folder / "kept"),
            config={"batch_rows_max": 8},
        )
        rows = job.from_items(rows_of(240), schema=ROW).named("read")
        rows.rebalance().sink(kept.again()).uid("written")
        if life < 2:
            place = at.folder / f"savepoint-{life}"
            start = lives.savepoint(job, place, rows=80, start=start)
            continue
        made = lives.local(job, start)
        lives.steps(made, lambda made=made: made.status().operators[0].rows_in > 30)
        made.crash(made.alive[-1])
        lives.steps(made, lambda made=made: made.over)
        made.result()
        made.close()
    assert_rows(kept.numbers(), 240, once=name in COMMITTING)


@pytest.mark.parametrize("name", RESTARTED)
def test_rows_arrive_though_the_server_dies(at, name):
    kept = ALL[name](at)
    if kept.restart is None:
        pytest.skip("a server that is not ours is not killed")
    deaths = [150]

    def look(row):
        if deaths and row["n"] == deaths[0]:
            deaths.clear()
            kept.restart()
        return row

    job = rs.Job(
        "survives",
        runtime="local",
        parallelism=2,
        checkpoint=rs.Checkpointing(at.folder / "kept", every="10ms"),
        restart=rs.Restart.fixed(50, "100ms"),
        config={"batch_rows_max": 10},
    )
    rows = job.from_items(rows_of(300), schema=ROW).rebalance()
    rows.map(look, schema=ROW).sink(kept.again())
    job.run(timeout="60s")
    assert not deaths
    assert_rows(kept.numbers(), 300, once=name in COMMITTING)


# What commit and abort promise -------------------------------------------------------------------


def bound(sink):
    return sink.bound(ROW, None)


def prepared(writer, checkpoint_id, rows):
    writer.write(rs.Batch(pa.RecordBatch.from_pylist(rows, ROW)))
    return pickle.loads(pickle.dumps(writer.prepare_commit(checkpoint_id)))


@pytest.mark.parametrize("name", COMMITTING)
def test_a_commit_that_is_repeated_changes_nothing(at, name):
    kept = COMMITTING[name](at)
    sink = bound(kept.again())
    writer = sink.open(rs.OpenContext())
    first = prepared(writer, 1, rows_of(3))
    second = prepared(writer, 2, rows_of(3, 3))
    sink.commit(1, first)
    assert_rows(kept.numbers(), 3)
    for checkpoint_id, committables in ((1, first), (2, second), (2, second), (1, first)):
        bound(kept.again()).commit(checkpoint_id, committables)
    writer.close()
    assert_rows(kept.numbers(), 6)


@pytest.mark.parametrize("name", COMMITTING)
def test_a_commit_that_runs_often_at_once_is_done_once(at, name):
    kept = COMMITTING[name](at)
    sink = bound(kept.again())
    writer = sink.open(rs.OpenContext())
    made = prepared(writer, 1, rows_of(5))
    others = iter([bound(kept.again()) for _ in range(3)])
    at_once(lambda: next(others).commit(1, made), 3)
    writer.close()
    assert_rows(kept.numbers(), 5)


@pytest.mark.parametrize("name", COMMITTING)
def test_what_is_given_up_is_not_shown_and_takes_nothing_with_it(at, name):
    kept = COMMITTING[name](at)
    sink = bound(kept.again())
    writer = sink.open(rs.OpenContext())
    made = prepared(writer, 1, rows_of(3))
    lost = prepared(writer, 2, rows_of(3, 3))
    writer.write(rs.Batch(pa.RecordBatch.from_pylist(rows_of(3, 6), ROW)))
    writer.close()
    sink.commit(1, made)
    for _ in range(2):
        sink.abort(lost)
        sink.abort(made)
    assert_rows(kept.numbers(), 3)
