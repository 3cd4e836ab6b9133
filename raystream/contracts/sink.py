"""What a sink is: a writer a subtask, and a commit that makes what was written visible."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa

from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext


class Writer(abc.ABC):
    """Writes the rows of one subtask. One that is not derived from this needs only ``write``."""

    @abc.abstractmethod
    def write(self, batch: Batch) -> None:
        """Take a batch; return when it is safe to take the next."""

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        """Finish all that was written since the last time; give what makes it visible.

        What is given, the *committables*, is pickled into the checkpoint: names of what was
        written, or few rows. It must outlive this process, and stay until it is committed or
        aborted, which may be in another process and much later. Writing goes on afterwards, before
        any commit. A checkpoint may be given up: its committables are then committed with the next.
        """
        return []

    def close(self) -> None:
        """Let go of what is open, and of what was written but never prepared; all else stays."""


class Sink(abc.ABC):
    """Where rows go, exactly once where it has a ``commit`` of its own, at least once otherwise.

    Rows are written in two phases. A writer takes rows so that nobody sees them, and at checkpoint
    n gives committables. ``commit(n, …)`` makes those visible. The engine promises of ``commit``:

    - it is called only when checkpoint n is durable: the rows will not come again;
    - it is called for every checkpoint that had committables, the older first;
    - it may be repeated, after a crash that left open whether it had been done, from any process,
      also while a process that is given up for dead is at it: it must then change nothing.

    Each subtask commits what its writer prepared; where ``global_commit`` is set, one call takes
    what all of them did. A bounded job takes a last checkpoint when all rows have come. ``abort``
    is called for what was prepared and will never be committed, and may be repeated too.

    One whose ``upserts`` is set takes changelogs: each batch says in ``ops`` what its rows do, and
    what they do to one row of the table comes in order. Rows are found by ``table_key``, or where
    that is None by the key of the changelog. Where their changes were made by several subtasks, an
    operator is put before the sink which tells each key once a batch: its newest row (+I, +U), or
    that it has none (-D). Rows come as they are where no key is known, and to a sink that takes
    them back by all that they hold: ``any_order``, or ``retracting``, which has each row told that
    leaves the table.
    A sink whose ``to_driver`` is set runs in the process that started the job: its rows are brought
    there and given to ``receive``, which returns True once it has seen enough.
    """

    global_commit: bool = False
    to_driver: ClassVar[bool] = False
    upserts: bool = False
    table_key: tuple[str, ...] | None = None
    any_order: ClassVar[bool] = False
    retracting: bool = False

    @abc.abstractmethod
    def open(self, ctx: OpenContext) -> Writer:
        """Make the writer of one subtask."""

    def bound(self, schema: pa.Schema | None, changelog: tuple[str, ...] | None) -> Sink:
        """Give the sink as it writes a stream of these columns; called before a job starts.

        ``changelog`` names the key columns of the table whose changes come: ``table_key`` where
        the sink has one. Raises: PlanError where the two do not go together.
        """
        return self

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        """Make visible what writers prepared for a checkpoint, which is durable now.

        Must bear being repeated, also at the same time. What cannot be found, and has not become
        visible either, is lost: raise, never pass over it.
        """

    def abort(self, committables: Sequence[Any]) -> None:
        """Throw prepared rows away, but none that are visible; must bear being repeated."""

    def receive(self, batch: Batch) -> bool:
        """Take rows in the driver (``to_driver``); True when no more are wanted."""
        raise AssertionError(f"{type(self).__name__} is not a sink of the driver")

    def describe(self) -> str:
        """Say in a few words what is written, for ``explain``."""
        return type(self).__name__


def commits(sink: Sink) -> bool:
    """Tell whether a sink makes its rows visible by a commit of its own."""
    return type(sink).commit is not Sink.commit
