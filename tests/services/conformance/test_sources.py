"""Every source gives each row once, or at least once, whatever dies, in the order of its splits."""

from __future__ import annotations

import time
from collections import Counter

import cloudpickle
import lives
import pyarrow as pa
import pytest
from committed_changes import Ledger
from source_cases import CASES, REPLAYED, RESTARTED, Fed, Ranks

import raystream as rs
from raystream.contracts.source import END
from raystream.testing.simulated_clock import SimulatedClock

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

PATIENCE_S = 60.0


def rows_in(polled) -> list:
    """Give the rows of what a reader gave."""
    if isinstance(polled, pa.RecordBatch):
        return polled.to_pylist()
    return list(polled) if isinstance(polled, list | rs.Batch) else []


def taken(reader, count, at_a_time=7) -> list:
    """Poll until so many rows came, or the end."""
    rows, until = [], time.monotonic() + PATIENCE_S
    while len(rows) < count:
        assert time.monotonic() < until, f"only {len(rows)} of {count} rows come"
        polled = reader.poll(min(at_a_time, count - len(rows)))
        if polled is END:
            break
        rows += rows_in(polled)
    return rows


def ranks_of(fed: Fed) -> Ranks:
    if fed.ranks is not None:
        return fed.ranks()
    ranks: Ranks = {}
    for split in fed.source.splits():
        reader = fed.source.open(split, None)
        for place, row in enumerate(taken(reader, 10**9, fed.batch_rows)):
            ranks[fed.key(row)] = split.id, place
        reader.close()
    return ranks


def job_of(fed: Fed, ledger: Ledger, parallelism: int, **settings) -> rs.Job:
    """Write down what is read in the subtask that reads it: rows of a split stay in order."""
    config = {"batch_rows_max": fed.batch_rows, "row_batch_rows_max": fed.batch_rows}
    job = rs.Job("read", parallelism=parallelism, config=config, **settings)
    job.source(fed.source).named("read").sink(ledger).named("written")
    return job


def live(made, until, clock=None) -> None:
    """Let a job live until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not until() and not made.over:
        assert time.monotonic() < deadline, "it never is"
        made.advance()
        if clock is not None:
            clock.pass_time(1_000)


def check(fed: Fed, ledger: Ledger, ranks: Ranks) -> None:
    """See that all rows were committed, as often as they may be, and in order."""
    found = [fed.key(row) for row in ledger.rows]
    seen = Counter(found)
    assert seen.keys() == ranks.keys()
    if fed.once:
        assert set(seen.values()) == {1}, seen.most_common(3)
    last: dict = {}
    for key in dict.fromkeys(found):  # of rows that come again the first time counts
        split, place = ranks[key]
        assert place > last.get(split, -1), f"{key} comes behind its successors"
        last[split] = place


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_all_rows_come_in_order_and_are_counted(at, name, parallelism):
    fed, ledger = CASES[name](at), Ledger()
    ranks = ranks_of(fed)
    assert len({split for split, _ in ranks.values()}) >= fed.splits == len(fed.source.splits())
    kept = rs.Checkpointing(at.folder / "kept", every="10ms")
    made = lives.local(job_of(fed, ledger, parallelism, checkpoint=kept))
    if fed.more is not None:
        live(made, lambda: ledger.rows)
        fed.more()
    live(made, lambda: len(ledger.rows) >= len(ranks) and not fed.source.bounded)
    counted = {one.name: one for one in made.status().operators}
    if fed.source.bounded:
        made.result()
    made.close()
    check(fed, ledger, ranks)
    if fed.once:
        assert counted["read"].rows_out == counted["written"].rows_in == len(ranks)


@pytest.mark.parametrize("name", REPLAYED)
def test_each_split_goes_on_from_any_position(at, name):
    fed = CASES[name](at)
    if fed.more is not None:
        fed.more()
    ranks = ranks_of(fed)
    wholes = Counter(split for split, _ in ranks.values())
    splits = fed.source.splits()
    for split, dealt in zip(splits[:2], wholes.values(), strict=False):
        reader = fed.source.open(split, None)
        count = dealt if len(splits) > 1 else len(ranks)
        whole = taken(reader, count, fed.batch_rows)
        reader.close()
        for stop in (1, count // 2):
            first = fed.source.open(split, None)
            rows = taken(first, stop, fed.batch_rows)
            position = cloudpickle.loads(cloudpickle.dumps(first.position()))
            first.close()
            again = cloudpickle.loads(cloudpickle.dumps(fed.source)).open(split, position)
            rows += taken(again, count - stop, fed.batch_rows)
            polled = again.poll(fed.batch_rows)
            assert (polled is END) if fed.source.bounded else not rows_in(polled)
            again.close()
            assert rows == whole


@pytest.mark.parametrize("name", CASES)
def test_rows_come_though_the_job_dies_and_goes_on_with_more_and_with_fewer(at, name):
    """In each life a subtask dies; one life stops with a savepoint, the next begins there."""
    fed, ledger = CASES[name](at), Ledger()
    ranks = ranks_of(fed)
    start = None
    for life, parallelism in enumerate((1, 3, 2)):
        clock = SimulatedClock()
        kept = rs.Checkpointing(at.folder / f"kept-{life}", every="3ms")
        made = lives.local(job_of(fed, ledger, parallelism, checkpoint=kept), start, clock)
        before = len(ledger.rows)
        live(made, lambda before=before: len(ledger.rows) > before, clock)
        made.crash(made.alive[-1])
        if life == 0 and fed.more is not None:
            fed.more()
        aim = len(ranks) * (life + 1) // 3 - 5 if life < 2 else len(ranks)
        live(
            made,
            lambda made=made, aim=aim: (
                lives.restarts(made) and len(set(map(fed.key, ledger.rows))) >= aim
            ),
            clock,
        )
        if life < 2:
            assert not made.over, "it was over before its savepoint"
            start = lives.stop(made, at.folder / f"savepoint-{life}")
        elif fed.source.bounded:
            live(made, lambda: False, clock)
            made.result()
        made.close()
    check(fed, ledger, ranks)


@pytest.mark.parametrize("name", CASES)
def test_rows_come_whenever_the_job_crashes(at, name):
    """All of it dies, some times, a few steps after one checkpoint or another."""
    fed, ledger = CASES[name](at), Ledger()
    ranks = ranks_of(fed)
    if fed.more is not None:
        fed.more()
    clock = SimulatedClock()
    often = rs.Checkpointing(at.folder / "kept", every="2ms")
    settings = {"checkpoint": often, "restart": rs.Restart.fixed(10, "0s")}
    made = lives.local(job_of(fed, ledger, 2, **settings), None, clock)
    for later in (0, 2, 5):
        before = lives.completed(made)
        live(made, lambda before=before: lives.completed(made) != before, clock)
        for _ in range(later):
            if not made.over:
                made.advance()
        made.crash(*made.alive)
    whole = lambda: len(set(map(fed.key, ledger.rows))) == len(ranks)
    live(made, lambda: whole() and not fed.source.bounded, clock)
    if fed.source.bounded:
        made.result()
    made.close()
    check(fed, ledger, ranks)


@pytest.mark.parametrize("name", RESTARTED)
def test_rows_come_though_the_server_dies(at, name):
    fed, ledger = CASES[name](at), Ledger()
    if fed.restart is None:
        pytest.skip("a server that is not ours is not killed")
    ranks = ranks_of(fed)
    often = rs.Checkpointing(at.folder / "kept", every="10ms")
    settings = {"checkpoint": often, "restart": rs.Restart.fixed(50, "100ms")}
    made = lives.local(job_of(fed, ledger, 2, **settings))
    live(made, lambda: ledger.rows)
    fed.restart()
    if fed.more is not None:
        fed.more()
    live(made, lambda: len(ledger.rows) >= len(ranks) and not fed.source.bounded)
    if fed.source.bounded:
        made.result()
    made.close()
    check(fed, ledger, ranks)
