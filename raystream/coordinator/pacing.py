"""Which source subtasks advance together, and how far those of a group have come."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import TypeAlias

from raystream.coordinator.events import Tell
from raystream.flow.element import MIN_TIME
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import AlignTo
from raystream.graph.physical import PhysicalPlan
from raystream.operators.source import SourceSpec


class AlignmentGroups:
    """The least watermark of each subtask of each group, and what each was told of the others.

    A subtask that has told nothing yet stands at the beginning of time, so that nobody runs ahead
    of it; one without active splits, or that has ended, holds nobody back.
    """

    def __init__(self, plan: PhysicalPlan) -> None:
        self._group_of: dict[SubtaskId, str] = {}
        self._least: dict[str, dict[SubtaskId, int | None]] = {}
        for chain in plan.chains:
            spec = chain.nodes[0].spec
            if not isinstance(spec, SourceSpec) or spec.watermark is None:
                continue
            alignment = spec.watermark.alignment
            if alignment is not None:
                self._group_of |= dict.fromkeys(chain.subtasks, alignment.group)
                members = dict.fromkeys(chain.subtasks, MIN_TIME)
                self._least.setdefault(alignment.group, {}).update(members)
        self._told = {subtask: self.others_us(subtask) for subtask in self._group_of}

    def others_us(self, subtask: SubtaskId) -> int | None:
        """Give the least watermark of the others of a subtask's group; None: of none."""
        members = self._least.get(self._group_of.get(subtask, ""), {})
        return _of_others(subtask, _two_least(members))

    def take(self, subtask: SubtaskId, least_us: int | None) -> list[Tell]:
        """Note how far a subtask has come; tell the others of its group what that changes."""
        members = self._least.get(self._group_of.get(subtask, ""), {})
        if subtask not in members:
            return []
        members[subtask] = least_us
        return self._news(members)

    def leave(self, subtask: SubtaskId) -> list[Tell]:
        """Note that a subtask has ended: it neither holds anybody nor wants to hear more."""
        members = self._least.get(self._group_of.get(subtask, ""), {})
        members.pop(subtask, None)
        return self._news(members)

    def _news(self, members: dict[SubtaskId, int | None]) -> list[Tell]:
        least = _two_least(members)
        others = {subtask: _of_others(subtask, least) for subtask in members}
        changed = [subtask for subtask, us in others.items() if us != self._told[subtask]]
        self._told |= others
        return [Tell(subtask, AlignTo(others[subtask])) for subtask in changed]


_Least: TypeAlias = list[tuple[int, SubtaskId]]


def _two_least(members: Mapping[SubtaskId, int | None]) -> _Least:
    """Give the least watermark and the next, with whose they are: all that others need to know."""
    active = ((us, subtask) for subtask, us in members.items() if us is not None)
    return heapq.nsmallest(2, active)


def _of_others(subtask: SubtaskId, least: _Least) -> int | None:
    return next((us for us, whose in least if whose != subtask), None)
