"""What an operator is: batches in, batches out, by generators that can be stopped anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias, runtime_checkable

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch
from raystream.flow.element import Side, Status, Watermark
from raystream.keyed.snapshot import Snapshot

Output: TypeAlias = Batch | Watermark | Status | Side
"""What an operator gives: rows, time or idleness of its own making, rows for a side output."""


class Operator(Protocol):
    """One operator of one subtask: synchronous, no Ray, no I/O, no clock but the context's.

    Each method that gives an iterator does its work as the iterator is pulled, so that the subtask
    stops pulling when credit runs out. ``on_watermark`` and ``on_timer`` are resumable: what they
    yield has left the operator's state before, so that closing the iterator and calling again
    yields exactly the rest. Batches have at most ``ctx.limits.batch_rows_max`` rows, unless the
    input batch had more. An operator that works for long and has nothing to give yet yields a batch
    without rows: there the subtask may pause.
    """

    def open(self, ctx: OpenContext) -> None:
        """Get ready; called once, before anything else."""
        return

    def restore(self, snapshot: Snapshot) -> None:
        """Take up what was kept: called once, behind ``open``, with this subtask's part of it."""
        assert not snapshot, f"{type(self).__name__} keeps nothing"

    def on_batch(self, port: int, batch: Batch) -> Iterator[Output]:
        """Take the rows of one input batch."""
        ...

    def on_watermark(self, time_us: int) -> Iterator[Output]:
        """Give what is due: everything that the watermark causes, before it is forwarded."""
        return iter(())

    def output_watermark(self, time_us: int) -> int | None:
        """Give the watermark to forward; None to forward none."""
        return time_us

    def on_status(self, status: Status) -> Iterator[Output]:
        """Take that the input is idle or active again; forwarded, unless rows are still to leave.

        Not called again where the iterator is closed.
        """
        return iter((status,))

    def timer_due_us(self) -> int | None:
        """Tell the processing time at which ``on_timer`` has something to do; None: never."""
        return None

    def on_timer(self, now_us: int) -> Iterator[Output]:
        """Give what is due at a processing time (epoch microseconds)."""
        return iter(())

    def on_end(self) -> Iterator[Output]:
        """Give what is left at the end of bounded input, after the MAX watermark."""
        return iter(())

    def snapshot(self) -> Snapshot:
        """Give what must be kept: nothing in it changes with what the operator does next.

        May be asked between any two elements, and between two yields of ``on_watermark``.
        """
        return ()

    def changes(self) -> Snapshot:
        """Give what must be kept, and where that is less, only what changed since the last call.

        What is not a ``delta`` takes the place of all that was given before under its name; a
        section that is not named any more is no more. The first call gives everything; ``snapshot``
        changes nothing of what this gives next.
        """
        return self.snapshot()

    def close(self) -> None:
        """Let go of what is open; called once, also after a failure."""
        return


@runtime_checkable
class Spec(Protocol):
    """An operator as the plan knows it: frozen, picklable, prints itself."""

    @property
    def verb(self) -> str:
        """The word that the user wrote: ``filter``."""

    def describe(self) -> str:
        """One line for ``explain``, without the verb: ``col(price) > 100``."""

    def build(self) -> Operator:
        """Make the operator of one subtask."""
