"""Sinks learn what stream they write before a plan is made: some then write in another way."""

from __future__ import annotations

from dataclasses import replace

from raystream.api.callsite import located
from raystream.graph.logical import LogicalPlan
from raystream.operators.sink import SinkSpec


def bind_sinks(plan: LogicalPlan) -> None:
    """Tell each sink of a plan what stream it writes; once more changes nothing.

    Raises: PlanError where the two do not go together.
    """
    for node in plan.sinks:
        spec = node.spec
        if not isinstance(spec, SinkSpec):
            continue
        given = node.inputs[0].node.type
        key = given.changelog
        if key is not None and spec.sink.table_key is not None:
            key = spec.sink.table_key  # by which changes come in order, whatever made them
        with located(node.where):
            sink = spec.sink.bound(given.schema, key)
        if sink is not spec.sink:
            node.spec = replace(spec, sink=sink)
