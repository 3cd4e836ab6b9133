"""From the plan as written to the plan as run."""

from __future__ import annotations

from collections.abc import Collection

from raystream.graph.chaining import assemble
from raystream.graph.flatten import flatten
from raystream.graph.logical import LogicalPlan
from raystream.graph.physical import PhysicalPlan
from raystream.graph.retractions import announce_retractions
from raystream.graph.rules import fuse_columns, group_before_exchange, push_projection
from raystream.graph.upserting import settle_upserts

RULES = ("two_phase", "fuse", "project", "chain")
"""All rules, in the order in which they are applied."""


def physical_plan(plan: LogicalPlan, rules: Collection[str] = RULES) -> PhysicalPlan:
    """Say which subtasks run which operators, and what travels between them.

    Whatever the ``rules``, the rows that come out are the same.
    Raises: PlanError where operators cannot be joined as they are.
    """
    assert set(rules) <= set(RULES), "a rule that nobody knows"
    graph = flatten(plan)
    settle_upserts(graph)
    announce_retractions(graph)
    if "two_phase" in rules:
        group_before_exchange(graph)
    if "fuse" in rules and "chain" in rules:
        fuse_columns(graph)
    if "project" in rules:
        push_projection(graph)
    return assemble(graph, plan, chaining="chain" in rules)
