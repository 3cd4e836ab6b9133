"""Who of the processes that a job has stays when its next attempt begins, and in whose place.

A node that holds nothing of a job any more can be taken away by whoever sizes the cluster. So a job
that shrinks stays on few nodes: those that hold most of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Resources


@dataclass(frozen=True, slots=True)
class Present:
    """A process that may go on: what it was given, on which node, and the subtask it was.

    ``node`` is empty where it is not known yet, ``was`` None where it had no subtask.
    """

    resources: Resources
    node: str = ""
    was: SubtaskId | None = None


def seat(wanted: Mapping[SubtaskId, Resources], present: Sequence[Present]) -> dict[SubtaskId, int]:
    """Give the subtasks of an attempt to processes by index; those without one need a new one.

    Whoever stays keeps its place where that is still one, so that what it has loaded is of use, and
    of those on one node they stay first: for some of them nothing changes at all.
    """
    places = {(one.chain, one.index) for one in wanted}
    crowd = Counter(one.node for one in present)
    by_kind: dict[Resources, list[int]] = {}
    for index in sorted(range(len(present)), key=lambda i: _rank(present[i], crowd, places)):
        by_kind.setdefault(present[index].resources, []).append(index)
    seats: dict[SubtaskId, int] = {}
    for kind, indices in by_kind.items():
        alike = [subtask for subtask, resources in wanted.items() if resources == kind]
        seats |= _places(alike, [(index, present[index]) for index in indices[: len(alike)]])
    return seats


def _rank(
    one: Present, crowd: Mapping[str, int], places: Collection[tuple[str, int]]
) -> tuple[bool, int, str, bool]:
    homeless = one.was is None or (one.was.chain, one.was.index) not in places
    return (not one.node, -crowd[one.node], one.node, homeless)


def _places(
    places: Sequence[SubtaskId], staying: Sequence[tuple[int, Present]]
) -> dict[SubtaskId, int]:
    free = {(place.chain, place.index): place for place in places}
    seats: dict[SubtaskId, int] = {}
    others: list[int] = []
    for index, one in staying:
        own = None if one.was is None else free.pop((one.was.chain, one.was.index), None)
        if own is None:
            others.append(index)
        else:
            seats[own] = index
    return seats | dict(zip(free.values(), others, strict=False))
