"""Operators that stay open from one attempt to the next: when they may, and what they go on with.

A subtask leaves them to its successor if they are what the checkpoint says: its snapshot of exactly
this checkpoint was the last thing that happened to them. No row, no time, no timer since, and no
other snapshot; nothing under way. Whoever takes them up restores nothing. For sinks, functions and
state the checkpoint was then an ordinary one. Only wiring is new, and what counts an attempt.

Readers of a source stay open beside its operators. They may stand beyond the checkpoint by what
they were asked for before the barrier came: that is handed over with them. It must be all of it, or
rows would be lost; where an answer is missing they are opened anew where the splits stood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol

from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.metrics import Metrics
from raystream.errors import ProtocolError
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Chain, ChainNode, PhysicalPlan
from raystream.keyed.snapshot import Snapshot
from raystream.subtask.chain import RunningChain
from raystream.subtask.events import Polled


class Way:
    """Where an operator hands rows for the driver to: another place in each attempt."""

    def __init__(self, to: Callable[[Batch], None]) -> None:
        self.to = to

    def __call__(self, batch: Batch) -> None:
        self.to(batch)


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """This subtask's part of the snapshot that an attempt starts from.

    With ``open`` the operators hold it already; what is here stands beside theirs. ``ahead`` is
    what readers that are open have given beyond it.
    """

    checkpoint_id: int
    operators: Mapping[str, Snapshot] = field(default_factory=dict)
    open: bool = False
    ahead: tuple[Polled, ...] = ()


class OpenReaders(Protocol):
    """What a shell reads the splits of a subtask with."""

    def close(self) -> None:
        """Close every reader that is open; once more does nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Resting:
    """The open operators of a subtask as they were at a checkpoint.

    Whoever has them lets a machine take them up, or closes them. ``beside`` is where the splits of
    a source stood, ``ahead`` what readers have given beyond that, ``awaited`` how many polls have
    no answer yet.
    """

    subtask: SubtaskId
    checkpoint_id: int
    chain: RunningChain
    beside: Snapshot = ()
    ahead: tuple[Polled, ...] = ()
    awaited: int = 0
    readers: OpenReaders | None = None

    def answered(self, polled: Polled) -> Resting:
        """Note what a reader gave late."""
        return replace(self, ahead=(*self.ahead, polled), awaited=self.awaited - 1)

    def reading(self, readers: OpenReaders) -> Resting:
        """Leave the readers open, too: all that they have given is here."""
        assert not self.awaited, "what a reader gave and nobody has would be lost"
        return replace(self, readers=readers)

    def restored(self) -> Restored:
        """Give what the next machine starts from."""
        head = self.chain.nodes[0].uid
        # Readers that are opened anew read it again.
        ahead = () if self.readers is None else self.ahead
        return Restored(self.checkpoint_id, {head: self.beside}, open=True, ahead=ahead)

    def close(self) -> None:
        """Close readers and operators: nobody takes them up."""
        try:
            if self.readers is not None:
                self.readers.close()
        finally:
            self.chain.close()


def begin(
    plan: PhysicalPlan,
    subtask: SubtaskId,
    context: Callable[[ChainNode], OpenContext],
    starts_from: Restored | Resting | None,
    undo: ExitStack,
) -> tuple[RunningChain, Restored | None]:
    """Give the open operators of a subtask, and what they start from; ``undo`` closes them."""
    chain = plan.chain(subtask.chain)
    if isinstance(starts_from, Resting):
        undo.callback(starts_from.close)
        return starts_from.chain, take_up(starts_from, subtask, chain, context)
    running = RunningChain(chain, context)
    undo.callback(running.close)
    running.open()
    return running, starts_from


def take_up(
    resting: Resting,
    subtask: SubtaskId,
    chain: Chain,
    context: Callable[[ChainNode], OpenContext],
) -> Restored:
    """Let operators go on in another attempt, in whose plan their chain is the same.

    Raises: ProtocolError where they are not this subtask's.
    """
    known = [(node.uid, node.name) for node in resting.chain.nodes]
    if resting.subtask != subtask or known != [(node.uid, node.name) for node in chain.nodes]:
        raise ProtocolError(f"{subtask} cannot go on with the operators of {resting.subtask}")
    resting.chain.go_on(chain)
    for known_as, node in zip(resting.chain.contexts, chain.nodes, strict=True):
        _count_anew(known_as.metrics)
        if isinstance(known_as.deliver, Way):
            known_as.deliver.to = context(node).deliver
    return resting.restored()


def _count_anew(metrics: Metrics) -> None:
    """Set back what is counted an attempt; a gauge tells how things are, and they are as before."""
    for counter in metrics.counters.values():
        counter.value = 0
    for histogram in metrics.histograms.values():
        histogram.counts, histogram.total = [0] * len(histogram.counts), 0.0
