"""How many subtasks each chain may have where the job itself chooses, and why not more.

At one subtask operators share a chain that would part at more: such a chain is made of pieces, each
with bounds of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raystream.contracts.autoscale import Autoscale
from raystream.flow.exchange import Forward
from raystream.graph.logical import LogicalNode, origins
from raystream.graph.physical import PhysicalPlan
from raystream.graph.rescaling import Replan, parts
from raystream.operators.source import SourceSpec


@dataclass(frozen=True, slots=True)
class Piece:
    """Operators that run in the same subtasks at any size.

    ``uids`` name them; ``fixed``: somebody has chosen; ``reads``: a source is among them.
    """

    uids: tuple[str, ...]
    least: int
    most: int
    why: str
    fixed: bool = False
    reads: bool = False

    def size(self, count: int, splits: int | None) -> int:
        """Give what it takes of a number that its chain is to have: more than splits are no use."""
        useful = self.most if not self.reads or not splits else min(self.most, splits)
        return max(self.least, min(count, useful))


@dataclass(frozen=True, slots=True)
class Freedom:
    """What one chain may have; ``together`` are the chains that ``forward()`` joins to it."""

    pieces: tuple[Piece, ...]
    together: frozenset[str] = frozenset()

    @property
    def free(self) -> tuple[Piece, ...]:
        return tuple(piece for piece in self.pieces if not piece.fixed)

    @property
    def fixed(self) -> bool:
        """Whether nobody in it may have another number of subtasks."""
        return not self.free

    @property
    def least(self) -> int:
        return max(piece.least for piece in self.free or self.pieces)

    @property
    def most(self) -> int:
        return max(piece.most for piece in self.free or self.pieces)

    @property
    def why(self) -> str:
        """Why it may not have more."""
        return max(self.free or self.pieces, key=lambda piece: piece.most).why

    @property
    def only_reads(self) -> bool:
        """Whether more subtasks than splits would be of no use to any of it."""
        return all(piece.reads for piece in self.free)

    def scale(self, count: int, splits: int | None) -> dict[str, int]:
        """Say what each of its operators is to have, for a number that it is to have."""
        return {uid: piece.size(count, splits) for piece in self.free for uid in piece.uids}


def freedoms(replan: Replan, plan: PhysicalPlan, settings: Autoscale) -> dict[str, Freedom]:
    """Tell what each chain of a plan may have; ``settings`` bound who has no bounds of its own."""
    known = replan.operators
    members = {
        chain.name: [known[uid] for one in chain.nodes for uid in parts(one.uid, known)]
        for chain in plan.chains
    }
    most = min(settings.max_parallelism or plan.max_parallelism, plan.max_parallelism)
    bounds = (min(settings.min_parallelism, most), most)
    home = {node: chain for chain, nodes in members.items() for node in nodes}
    joined = _joined(home)
    return {
        chain: Freedom(
            tuple(_piece(nodes, *bounds) for nodes in _pieces(members[chain])), joined[chain]
        )
        for chain in members
    }


def _pieces(nodes: list[LogicalNode]) -> list[list[LogicalNode]]:
    """Part the operators of a chain where rows would be exchanged at another size."""
    piece_of: dict[LogicalNode, list[LogicalNode]] = {}
    for node in nodes:  # each stands behind its input
        before = [
            origin.node
            for one in node.inputs
            for origin in origins(one)
            if origin.exchange is None or isinstance(origin.exchange, Forward)
        ]
        piece = next((piece_of[one] for one in before if one in piece_of), [])
        piece.append(node)
        piece_of[node] = piece
    return [piece for node, piece in piece_of.items() if piece[0] is node]


def _piece(nodes: list[LogicalNode], least: int, most: int) -> Piece:
    uids = tuple(node.uid or node.name for node in nodes)
    reads = any(isinstance(node.spec, SourceSpec) for node in nodes)
    for node in nodes:
        if node.single:
            why = f'"{node.name}" sees all rows in one subtask'
            return Piece(uids, 1, 1, why, fixed=True, reads=reads)
        if node.parallelism is not None:
            count, why = node.parallelism, f'"{node.name}" is pinned by with_parallelism()'
            return Piece(uids, count, count, why, fixed=True, reads=reads)
    bounded = [node for node in nodes if node.bounds is not None]
    why = f"{most} subtasks an operator are the most that the job may have"
    if bounded:
        given = [node.bounds for node in bounded if node.bounds is not None]
        least, most = max(one[0] for one in given), min(one[1] for one in given)
        why = f'"{bounded[0].name}" has at most {most} subtasks by with_parallelism()'
    return Piece(uids, min(least, most), most, why, reads=reads)


def _joined(home: Mapping[LogicalNode, str]) -> dict[str, frozenset[str]]:
    """Give the chains that ``forward()`` joins to each chain, itself included."""
    groups = {chain: {chain} for chain in home.values()}
    for node in home:
        for one in node.inputs:
            for origin in origins(one):
                if isinstance(origin.exchange, Forward) and origin.node in home:
                    group = groups[home[node]] | groups[home[origin.node]]
                    groups.update(dict.fromkeys(group, group))
    return {chain: frozenset(group) for chain, group in groups.items()}
