"""What a sink is: a writer a subtask, and a commit that makes what was written visible."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext


class Writer(abc.ABC):
    """Writes the rows of one subtask."""

    @abc.abstractmethod
    def write(self, batch: Batch) -> None:
        """Take a batch; return when it is safe to take the next."""

    def prepare_commit(self, checkpoint_id: int) -> list[Any]:
        """Finish what was written so far; give what ``Sink.commit`` needs to make it visible."""
        return []

    def close(self) -> None:
        """Let go of what is open, and of what was written but never prepared."""


class Sink(abc.ABC):
    """Where rows go. Without a ``commit`` of its own a sink is at-least-once.

    One whose ``upserts`` is set takes changelogs: each batch says in ``ops`` what its rows do.
    A sink whose ``to_driver`` is set runs in the process that started the job: its rows are brought
    there and given to ``receive``, which returns True once it has seen enough.
    """

    global_commit: ClassVar[bool] = False
    to_driver: ClassVar[bool] = False
    upserts: ClassVar[bool] = False

    @abc.abstractmethod
    def open(self, ctx: OpenContext) -> Writer:
        """Make the writer of one subtask."""

    def commit(self, checkpoint_id: int, committables: Sequence[Any]) -> None:
        """Make prepared rows visible; must bear being repeated, even at the same time."""

    def abort(self, committables: Sequence[Any]) -> None:
        """Throw prepared rows away; must bear being repeated."""

    def receive(self, batch: Batch) -> bool:
        """Take rows in the driver (``to_driver``); True when no more are wanted."""
        raise AssertionError(f"{type(self).__name__} is not a sink of the driver")

    def describe(self) -> str:
        """Say in a few words what is written, for ``explain``."""
        return type(self).__name__


def commits(sink: Sink) -> bool:
    """Tell whether a sink makes its rows visible by a commit of its own."""
    return type(sink).commit is not Sink.commit
