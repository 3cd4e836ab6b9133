"""Which chains of a job are the same at another size: operators that may stay as they are.

A plan is made anew for each size, and rules may make other operators of the same lines of a script:
so each is compared as a whole. What cannot be looked into is the same only if it is one object, as
users' functions and expressions are in two plans that were made from one logical plan.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pyarrow as pa

from raystream.graph.physical import Chain, ChainNode, PhysicalPlan

_DEPTH_MAX = 16
"""What lies deeper is not looked into."""

_VALUES = (str, bytes, int, float, bool, type(None), enum.Enum)


class _Plain:
    """An object that is its attributes and nothing else, to be measured."""


_PLAIN_BYTES = _Plain.__basicsize__


def unchanged(before: PhysicalPlan, after: PhysicalPlan) -> frozenset[str]:
    """Name the chains whose subtasks do in one plan exactly what they do in the other.

    Only what they send to whom may differ.
    """
    settings = ("job", "max_parallelism", "limits", "checkpoint")
    if not all(same(getattr(before, name), getattr(after, name)) for name in settings):
        return frozenset()
    known = {chain.name: chain for chain in before.chains}
    return frozenset(
        chain.name
        for chain in after.chains
        if chain.name in known
        and _same_chain(known[chain.name], chain)
        and same(_ports(before, chain), _ports(after, chain))
    )


def _same_chain(one: Chain, other: Chain) -> bool:
    return (
        one.parallelism == other.parallelism
        and one.resources == other.resources
        and same(tuple(map(_without_edges, one.nodes)), tuple(map(_without_edges, other.nodes)))
    )


def _without_edges(node: ChainNode) -> ChainNode:
    # Edges are numbered through the whole plan; that there are some is what counts.
    return dataclasses.replace(node, outputs=(0,) if node.outputs else ())


def _ports(plan: PhysicalPlan, chain: Chain) -> list[tuple[int, pa.Schema | None]]:
    edges = sorted(plan.inputs(chain.name), key=lambda edge: edge.port)
    return [(edge.port, edge.schema) for edge in edges]


def same(one: Any, other: Any, depth: int = 0) -> bool:
    """Tell whether two parts of plans are certain to do the same."""
    if one is other:
        return True
    if type(one) is not type(other) or depth > _DEPTH_MAX:
        return False
    if isinstance(one, _VALUES):
        return bool(one == other)
    if isinstance(one, pa.Schema | pa.DataType | pa.Field):
        return bool(one.equals(other))
    inner = depth + 1
    if isinstance(one, tuple | list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same(a, b, inner) for a, b in pairs)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k], inner) for k in one)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, n), getattr(other, n), inner) for n in names)
    if type(one).__basicsize__ == _PLAIN_BYTES and hasattr(one, "__dict__"):
        return same(vars(one), vars(other), inner)
    return False
