"""What an operator is: batches in, batches out, by generators that can be stopped anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Batch
from raystream.flow.element import Watermark


class Operator(Protocol):
    """One operator of one subtask: synchronous, no Ray, no I/O, no clock but the context's.

    Each method that gives an iterator does its work as the iterator is pulled, so that the subtask
    stops pulling when credit runs out. ``on_watermark`` is resumable: what it yields has left the
    operator's state before, so that closing the iterator and calling it again with the same
    watermark yields exactly the rest. Batches have at most ``ctx.limits.batch_rows_max`` rows,
    unless the input batch had more.
    """

    def open(self, ctx: OpenContext) -> None:
        """Get ready; called once, before anything else."""

    def on_batch(self, port: int, batch: Batch) -> Iterator[Batch | Watermark]:
        """Take the rows of one input batch."""
        ...

    def on_watermark(self, time_us: int) -> Iterator[Batch]:
        """Give what is due: everything that the watermark causes, before it is forwarded."""
        return iter(())

    def output_watermark(self, time_us: int) -> int | None:
        """Give the watermark to forward; None to forward none."""
        return time_us

    def on_end(self) -> Iterator[Batch]:
        """Give what is left at the end of bounded input, after the MAX watermark."""
        return iter(())

    def close(self) -> None:
        """Let go of what is open; called once, also after a failure."""


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
