"""Which subtask reads which split: what is listed, less what readers have restored, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raystream.contracts.source import discovery_period_us
from raystream.coordinator.events import Effect, ListSplits, Tell
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import SplitsFound, Start
from raystream.flow.split import Split
from raystream.graph.physical import PhysicalPlan
from raystream.operators.source import SourceSpec


class Assignment:
    """The splits of all sources in one attempt."""

    def __init__(self, plan: PhysicalPlan, listed: Mapping[str, tuple[Split, ...]]) -> None:
        self._plan = plan
        self._listed = listed
        self._known: dict[str, set[str]] = {chain: set() for chain in source_chains(plan)}

    def restored(self, subtask: SubtaskId, splits: tuple[str, ...]) -> None:
        """Note what a subtask has restored."""
        if splits:
            self._known[subtask.chain].update(splits)

    def start(self, others_us: Callable[[SubtaskId], int | None]) -> list[Effect]:
        """Let all subtasks begin, with what was listed before the attempt did."""
        orders: list[Effect] = []
        for chain in self._plan.chains:
            shares = self._share_out(chain.name, self._listed.get(chain.name, ()))
            more = self._period_us(chain.name) is not None
            orders += [
                Tell(s, Start(shares.get(s, ()), more, others_us(s))) for s in chain.subtasks
            ]
            orders += self.discover(chain.name)
        return orders

    def found(self, chain: str, splits: tuple[Split, ...]) -> list[Effect]:
        """Share out what discovery has found."""
        shares = self._share_out(chain, splits)
        return [Tell(subtask, SplitsFound(share)) for subtask, share in shares.items()]

    def _period_us(self, chain: str) -> int | None:
        """Tell how often a source is asked for new splits."""
        source = source_chains(self._plan).get(chain)
        return None if source is None else discovery_period_us(source.source)

    def discover(self, chain: str) -> list[Effect]:
        """Ask for new splits, if the source wants to be asked."""
        every_us = self._period_us(chain)
        return [] if every_us is None else [ListSplits(chain, every_us)]

    def _share_out(
        self, chain: str, splits: tuple[Split, ...]
    ) -> dict[SubtaskId, tuple[Split, ...]]:
        if chain not in self._known:
            return {}
        known, subtasks = self._known[chain], self._plan.chain(chain).subtasks
        shares: dict[SubtaskId, tuple[Split, ...]] = {}
        for split in splits:
            if split.id not in known:
                subtask = subtasks[len(known) % len(subtasks)]
                shares[subtask] = (*shares.get(subtask, ()), split)
                known.add(split.id)
        return shares


def source_chains(plan: PhysicalPlan) -> dict[str, SourceSpec]:
    """Give the sources of a plan by the chain that they head."""
    return {
        chain.name: chain.nodes[0].spec
        for chain in plan.chains
        if isinstance(chain.nodes[0].spec, SourceSpec)
    }
