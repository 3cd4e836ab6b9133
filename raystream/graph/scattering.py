"""Whether the changes of one key come in their order, or from several subtasks in any.

A changelog keeps its order per key where all rows of a key go through one subtask. What is spread
by something else breaks that: a join of orders with their customers, spread by customer, takes an
order back in one subtask and brings it again in another.
"""

from __future__ import annotations

from raystream.flow.exchange import Hash
from raystream.graph.logical import Input, LogicalNode
from raystream.operators.regular_join import RegularJoinSpec


def scattered(node: LogicalNode) -> bool:
    """Tell whether changes of one key may come from several subtasks, in any order."""
    key = node.type.changelog
    if key is None:
        return False
    spec = node.spec
    if node.verb == "aggregate":
        return False  # it has a table of its own, whose keys are what it is spread by
    if isinstance(spec, RegularJoinSpec):
        moves = not set(spec.plan.left_keys) <= set(key)
    else:
        moves = any(_moves(one, key) for one in node.inputs)
    return moves or any(scattered(one.node) for one in node.inputs)


def _moves(given: Input, key: tuple[str, ...]) -> bool:
    spread = given.exchange
    return isinstance(spread, Hash) and not set(spread.columns) <= set(key)
