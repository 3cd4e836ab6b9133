"""A commit that dies between any two of its steps is ended by another, and shows each row once."""

from __future__ import annotations

import itertools
import pickle

import pyarrow as pa
import pytest
from faulty_sinks import assert_rows
from lake_rows import ROW, rows_of
from sink_cases import COMMITTING, Kept

import raystream as rs

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


class Killed(BaseException):
    """The process is gone: nobody catches this and cleans up, as nobody would."""


class Power:
    """Fails at one of the moments before and behind each step, and from then on always."""

    def __init__(self, moments: int) -> None:
        self.moments = moments

    def lasts(self) -> None:
        if not self.moments:
            raise Killed
        self.moments -= 1

    def over(self, step):
        def cut(*args, **more):
            self.lasts()
            result = step(*args, **more)
            self.lasts()
            return result

        return cut


def killed(kept: Kept, commit, moment: int) -> bool:
    """Commit until a moment; tell whether it came to that."""
    power = Power(moment)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in kept.steps:
            patch.setattr(owner, name, power.over(getattr(owner, name)))
        try:
            commit()
        except Killed:
            return True
    return False


def prepared(writer, checkpoint_id, rows):
    writer.write(rs.Batch(pa.RecordBatch.from_pylist(rows, ROW)))
    return writer.prepare_commit(checkpoint_id)


@pytest.mark.parametrize("name", COMMITTING)
def test_a_commit_is_ended_by_another_wherever_it_was_killed(at, name):
    """Two subtasks have prepared rows; who repeats their commit is killed at the same moment.

    Then it is done, and so is that of the checkpoint before once more: a recovery does not know
    which of the two was ended.
    """
    kept = COMMITTING[name](at)
    writers = [
        kept.again().bound(ROW, None).open(rs.OpenContext(subtask_index=index, parallelism=2))
        for index in range(2)
    ]
    done: list[tuple[int, bytes]] = []
    for moment in itertools.count():
        made = []
        for index, writer in enumerate(writers):
            made += prepared(writer, moment + 1, rows_of(5, 10 * moment + 5 * index))
        done.append((moment + 1, pickle.dumps(made)))
        came = [killed(kept, lambda: again(kept, *done[-1]), moment) for _ in range(2)]
        for one in done[-2:]:
            again(kept, *one)
        assert_rows(kept.numbers(), 10 * (moment + 1))
        if not any(came):
            break
    for writer in writers:
        writer.close()
    assert moment >= 2, "it was never killed both before and behind a step"


def again(kept: Kept, checkpoint_id: int, packed: bytes) -> None:
    """Commit in a process that knows no more than what a checkpoint has kept."""
    kept.again().bound(ROW, None).commit(checkpoint_id, pickle.loads(packed))
