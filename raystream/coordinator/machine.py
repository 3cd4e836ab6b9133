"""One job as a state machine: from deployment to the last commit; no threads, no I/O.

``starting``: subtasks are made and splits listed; when all are ready, all start. ``running``:
until every subtask has seen the end of its input. ``committing``: sinks make their rows visible.
``closing``: subtasks let go, whatever the outcome.
"""

from __future__ import annotations

from typing_extensions import assert_never

from raystream.contracts.source import Split, discovery_period_us
from raystream.coordinator.events import (
    AbortSinks,
    CloseSubtask,
    CommitSubtask,
    Committables,
    Deploy,
    Done,
    Effect,
    Event,
    Failed,
    GiveSplits,
    ListSplits,
    Ready,
    SourceTime,
    SplitsListed,
    StartSubtask,
    StopAsked,
    SubtaskClosed,
    SubtaskCommitted,
    SubtaskEnded,
)
from raystream.coordinator.pacing import AlignmentGroups
from raystream.errors import ProtocolError
from raystream.flow.ids import SubtaskId
from raystream.graph.physical import PhysicalPlan
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec

_NEXT = {
    "created": {"starting"},
    "starting": {"running", "closing"},
    "running": {"committing", "closing"},
    "committing": {"closing"},
    "closing": {"finished", "failed", "canceled"},
    "finished": set[str](),
    "failed": set[str](),
    "canceled": set[str](),
}

ENDED = ("finished", "failed", "canceled")
"""States from which nothing more happens."""


class CoordinatorMachine:
    """Decides what happens to a job; a shell does it and says how it went."""

    def __init__(self, plan: PhysicalPlan) -> None:
        self._plan = plan
        self.state = "created"
        self.error: BaseException | None = None
        self._outcome = "finished"
        self._waiting: set[SubtaskId] = set()
        self._sources = {
            chain.name: chain.nodes[0].spec.source
            for chain in plan.chains
            if isinstance(chain.nodes[0].spec, SourceSpec)
        }
        self._global_commits = [
            node.name
            for chain in plan.chains
            for node in chain.nodes
            if isinstance(node.spec, SinkSpec) and node.spec.sink.global_commit
        ]
        self._splits: dict[str, tuple[Split, ...]] = {}
        self._alignment = AlignmentGroups(plan)
        self._known: dict[str, set[str]] = {}
        self._prepared: dict[SubtaskId, Committables] = {}

    @property
    def over(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self.state in ENDED

    def begin(self) -> list[Effect]:
        """Start the job."""
        self._to("starting")
        self._waiting = set(self._plan.subtasks)
        return [Deploy(), *(ListSplits(chain) for chain in self._sources)]

    def step(self, event: Event) -> list[Effect]:
        """Take one event; give what is to be done about it."""
        if self.over:
            return []
        match event:
            case Failed(_, error):
                return self._close("failed", error)
            case StopAsked(finished):
                if finished and self.state == "committing":
                    return []  # all has been seen: it ends by itself, with its rows visible
                return self._close("finished" if finished else "canceled", None)
            case SubtaskClosed(subtask):
                return self._closed(subtask)
            case Ready(subtask):
                return self._ready(subtask)
            case SplitsListed(chain, splits):
                return self._listed(chain, splits)
            case SourceTime(subtask, least_us):
                return self._came(subtask, least_us)
            case SubtaskEnded(subtask, committables):
                return self._ended(subtask, committables)
            case SubtaskCommitted(subtask):
                return self._committed(subtask)
            case _:
                assert_never(event)

    # Starting --------------------------------------------------------------------------------

    def _ready(self, subtask: SubtaskId) -> list[Effect]:
        if self.state != "starting":
            return []
        self._waiting.discard(subtask)
        return self._start_when_ready()

    def _listed(self, chain: str, splits: tuple[Split, ...]) -> list[Effect]:
        if self.state == "starting":
            self._splits[chain] = splits
            return self._start_when_ready()
        if self.state != "running":
            return []
        return [*self._share_out(chain, splits), *self._discover(chain)]

    def _start_when_ready(self) -> list[Effect]:
        if self._waiting or len(self._splits) < len(self._sources):
            return []
        self._to("running")
        self._waiting = set(self._plan.subtasks)
        effects: list[Effect] = []
        for chain in self._plan.chains:
            source = self._sources.get(chain.name)
            more = source is not None and discovery_period_us(source) is not None
            splits = self._splits.get(chain.name, ())
            self._known[chain.name] = {split.id for split in splits}
            effects += [
                StartSubtask(
                    subtask,
                    splits[subtask.index :: chain.parallelism],
                    more,
                    self._alignment.others_us(subtask),
                )
                for subtask in chain.subtasks
            ]
            effects += self._discover(chain.name)
        return effects

    def _discover(self, chain: str) -> list[Effect]:
        source = self._sources.get(chain)
        every_us = None if source is None else discovery_period_us(source)
        return [] if every_us is None else [ListSplits(chain, every_us)]

    def _share_out(self, chain: str, splits: tuple[Split, ...]) -> list[Effect]:
        known = self._known[chain]
        subtasks = self._plan.chain(chain).subtasks
        shares: dict[SubtaskId, list[Split]] = {}
        for split in splits:
            if split.id not in known:
                shares.setdefault(subtasks[len(known) % len(subtasks)], []).append(split)
                known.add(split.id)
        return [GiveSplits(subtask, tuple(share)) for subtask, share in shares.items()]

    def _came(self, subtask: SubtaskId, least_us: int | None) -> list[Effect]:
        return [*self._alignment.take(subtask, least_us)] if self.state == "running" else []

    # Ending ----------------------------------------------------------------------------------

    def _ended(self, subtask: SubtaskId, committables: Committables) -> list[Effect]:
        self._prepared[subtask] = {name: some for name, some in committables.items() if some}
        if self.state != "running":
            return []
        self._waiting.discard(subtask)
        if self._waiting:
            return [*self._alignment.leave(subtask)]
        self._to("committing")
        self._gather_global()
        self._waiting = {subtask for subtask, some in self._prepared.items() if some}
        if not self._waiting:
            return self._close("finished", None)
        return [CommitSubtask(subtask, some) for subtask, some in self._prepared.items() if some]

    def _gather_global(self) -> None:
        """Bring what the subtasks of a sink prepared to one of them, if it commits as a whole."""
        for name in self._global_commits:
            prepared = [some for some in self._prepared.values() if name in some]
            for other in prepared[1:]:
                prepared[0][name] = [*prepared[0][name], *other.pop(name)]

    def _committed(self, subtask: SubtaskId) -> list[Effect]:
        self._prepared.pop(subtask, None)
        if self.state != "committing":
            return []
        self._waiting.discard(subtask)
        return [] if self._waiting else self._close("finished", None)

    def _close(self, outcome: str, error: BaseException | None) -> list[Effect]:
        if self.state == "closing":
            if error is not None and self.error is None:
                self._outcome, self.error = outcome, error
            return []
        self._outcome, self.error = outcome, error
        self._to("closing")
        self._waiting = set(self._plan.subtasks)
        return [CloseSubtask(subtask) for subtask in self._plan.subtasks]

    def _closed(self, subtask: SubtaskId) -> list[Effect]:
        if self.state != "closing":
            raise ProtocolError(f"{subtask} closed while the job is {self.state}")
        self._waiting.discard(subtask)
        if self._waiting:
            return []
        self._to(self._outcome)
        # What was prepared and never asked to commit stays invisible; a commit under way when the
        # job failed is repeated by nobody, and its sink's own commit is all or nothing.
        undone = [AbortSinks(some) for some in self._prepared.values() if some]
        return [*undone, Done(self._outcome, self.error)]

    def _to(self, state: str) -> None:
        if state not in _NEXT[self.state]:
            raise ProtocolError(f"a job cannot go from {self.state} to {state}")
        self.state = state
