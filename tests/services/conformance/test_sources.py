"""Every source gives each row once, or at least once, whatever dies, in the order of its splits."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import cloudpickle
import lives
import pyarrow as pa
import pytest
from committed_changes import Ledger
from source_cases import CASES, REPLAYED, RESTARTED, Fed, Ranks

import raystream as rs
from raystream.contracts.source import END
from raystream.coordinator.events import SavepointAsked
from raystream.flow.ids import SubtaskId
from raystream.runtime.local_job import LocalJob

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

PATIENCE_S = 60.0
STEPS_EACH = 4
"""So many steps lie between two checkpoints: each is a poll of every subtask, about."""


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
    kept = f"memory://{uuid.uuid4().hex}"
    job = rs.Job("read", parallelism=parallelism, config=config, checkpoint=kept, **settings)
    job.source(fed.source).named("read").sink(ledger).named("written")
    return job


@dataclass
class Life:
    """A job that takes a checkpoint every few steps: where its rows are cut hangs on no clock."""

    made: LocalJob
    steps: int = 0

    def goes_on(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let it live until something is so, or it is over."""
        deadline = time.monotonic() + PATIENCE_S
        while not until() and not self.made.over:
            assert time.monotonic() < deadline, "it never is"
            self.step()

    def dies(self, *subtasks: SubtaskId) -> None:
        """Let subtasks die, and what they had open with them: their process is still there."""
        for subtask in subtasks:
            readers = self.made._processes[subtask].readers
            if readers is not None:
                readers.close()
        self.made.crash(*subtasks)

    def step(self) -> None:
        self.steps += 1
        if self.steps % STEPS_EACH == 0 and self.made.state == "running":
            self.made.ask(SavepointAsked(f"checkpoint {self.steps}", ""))
        self.made.advance()


def seen(fed: Fed, ledger: Ledger) -> int:
    """Count the rows that were committed, those that came again once."""
    return len(set(map(fed.key, ledger.rows)))


def feed(life: Life, fed: Fed, ledger: Ledger) -> None:
    """Make the rest of the rows once the first are committed, where the source waits for them."""
    if fed.more is not None:
        life.goes_on(lambda: seen(fed, ledger) >= fed.first)
        fed.more()


def finish(life: Life, fed: Fed, ledger: Ledger, ranks: Ranks) -> None:
    """Let a job live until all is committed, and look at it."""
    life.goes_on(lambda: not fed.source.bounded and seen(fed, ledger) >= len(ranks))
    if fed.source.bounded:
        life.made.result()
    life.made.close()
    check(fed, ledger, ranks)


def check(fed: Fed, ledger: Ledger, ranks: Ranks) -> None:
    """See that all rows were committed, as often as they may be, and in order."""
    found = [fed.key(row) for row in ledger.rows]
    counts = Counter(found)
    assert counts.keys() == ranks.keys()
    if fed.once:
        assert set(counts.values()) == {1}, counts.most_common(3)
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
    life = Life(lives.local(job_of(fed, ledger, parallelism)))
    feed(life, fed, ledger)
    finish(life, fed, ledger, ranks)
    counted = {one.name: one for one in life.made.status().operators}
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
    """In each life a subtask dies; two stop with a savepoint, where the next one begins."""
    fed, ledger = CASES[name](at), Ledger()
    ranks = ranks_of(fed)
    start = None
    for number, parallelism in enumerate((1, 3, 2)):
        life = Life(lives.local(job_of(fed, ledger, parallelism), start))
        begun = len(ledger.rows)
        if number == 1:
            feed(life, fed, ledger)
        life.goes_on(lambda begun=begun: len(ledger.rows) > begun)
        life.dies(life.made.alive[-1])
        if number < 2:
            aim = (number + 1) * min(fed.first, len(ranks) // 4)
            life.goes_on(lambda aim=aim: seen(fed, ledger) >= aim)
            assert seen(fed, ledger) < len(ranks), "it was over before its savepoint"
            start = lives.stop(life.made, at.folder / f"savepoint-{number}")
    finish(life, fed, ledger, ranks)


@pytest.mark.parametrize("name", CASES)
def test_rows_come_whenever_the_job_crashes(at, name):
    """All of it dies, some times, a few steps after one checkpoint or another."""
    fed, ledger = CASES[name](at), Ledger()
    ranks = ranks_of(fed)
    life = Life(lives.local(job_of(fed, ledger, 2, restart=rs.Restart.fixed(10, "0s"))))
    feed(life, fed, ledger)
    for later in (0, 1, 2, 3):
        before = lives.completed(life.made)
        life.goes_on(lambda before=before: lives.completed(life.made) != before)
        for _ in range(later):
            life.step()
        life.dies(*life.made.alive)
    finish(life, fed, ledger, ranks)


@pytest.mark.parametrize("name", RESTARTED)
def test_rows_come_though_the_server_dies(at, name):
    fed, ledger = CASES[name](at), Ledger()
    if fed.restart is None:
        pytest.skip("a server that is not ours is not killed")
    ranks = ranks_of(fed)
    life = Life(lives.local(job_of(fed, ledger, 2, restart=rs.Restart.fixed(50, "100ms"))))
    feed(life, fed, ledger)
    begun = len(ledger.rows)
    life.goes_on(lambda: len(ledger.rows) > begun)
    fed.restart()
    finish(life, fed, ledger, ranks)
