"""Where the changes of one row of a table may come in any order to a sink that goes by its key.

Changes are in order where all of a key were made by one subtask. A join of orders with customers,
keyed by customer, makes those of one order in several: then, in front of the sink, an operator
spread by the key of the sink's table keeps the rows that are there and tells the newest.
"""

from __future__ import annotations

import dataclasses

from raystream.contracts.rejects import FAIL
from raystream.errors import PlanError
from raystream.flow.batch import visible_names
from raystream.flow.exchange import Forward, Hash
from raystream.graph.flatten import FlatEdge, FlatGraph, FlatNode
from raystream.operators.columns import ColumnsSpec, names_behind
from raystream.operators.operator import Spec
from raystream.operators.regular_join import RegularJoinSpec
from raystream.operators.row_functions import FilterFunctionSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.operators.table_join import TableJoinSpec
from raystream.operators.upserts import UpsertsSpec


def settle_upserts(graph: FlatGraph) -> None:
    """Let each sink that goes by a key have the changes of each of its keys in order.

    Whether they are does not hang on the parallelism: what is kept must outlive another one. Sinks
    that write the same table share what is kept.
    Raises: PlanError for key columns that are not there, or of a type that is none.
    """
    ordered: dict[FlatNode, frozenset[str] | None] = {}
    for node in graph.nodes:
        ordered[node] = _ordered_by(node, graph.inputs(node), ordered)
    made: dict[tuple[tuple[FlatNode, ...], tuple[str, ...]], FlatNode] = {}
    for node in list(graph.nodes):
        edges = graph.inputs(node)
        key = _table_key(node.spec, edges)
        if key is None or _in_order(edges, key, ordered):
            continue
        which = (tuple(edge.upstream for edge in edges), key)
        if which in made:
            for edge in edges:
                graph.edges.remove(edge)
        else:
            made[which] = _settle(graph, node, edges, key)
        equal = made[which].parallelism == node.parallelism
        graph.edges.append(FlatEdge(made[which], node, 0, Forward() if equal else Hash(key)))


def _table_key(spec: Spec, edges: list[FlatEdge]) -> tuple[str, ...] | None:
    """Name the columns by which a sink finds the rows of a changelog; None: it needs no order."""
    if not isinstance(spec, SinkSpec) or not spec.sink.upserts:
        return None
    if spec.sink.any_order or spec.sink.retracting:
        return None
    before = edges[0].upstream
    if before.changelog is None:
        return None
    if spec.sink.table_key is not None:
        return spec.sink.table_key
    assert before.schema is not None, "a changelog has columns"
    # Rows without a key are told apart by all that they hold, and equal ones may stand beside.
    known = set(before.changelog) != set(visible_names(before.schema))
    return before.changelog if known and len(edges) == 1 else None


def _in_order(
    edges: list[FlatEdge], key: tuple[str, ...], ordered: dict[FlatNode, frozenset[str] | None]
) -> bool:
    """Tell whether the changes of each value of ``key`` come in order, and to one row at a time."""
    if len(edges) > 1:
        return False
    (before,) = (edge.upstream for edge in edges)
    by = ordered[before]
    return by is not None and by <= set(key) and set(key) == set(before.changelog or ())


def _ordered_by(
    node: FlatNode, edges: list[FlatEdge], ordered: dict[FlatNode, frozenset[str] | None]
) -> frozenset[str] | None:
    """Name columns, of whose every value one subtask gives all changes; None: none are known."""
    spec = node.spec
    if node.changelog is None or node.schema is None:
        return None
    if isinstance(spec, SourceSpec):
        return frozenset(node.changelog)
    if isinstance(spec, RegularJoinSpec):
        return frozenset(spec.plan.left_keys)
    if isinstance(spec, ColumnsSpec | FilterFunctionSpec | TableJoinSpec):
        by = ordered[edges[0].upstream]
        if by is None or len(edges) > 1:
            return None
        steps = spec.steps if isinstance(spec, ColumnsSpec) else ()
        names: tuple[str, ...] | None = tuple(by)
        for step in steps:
            names = None if names is None else names_behind(step, names)
        return None if names is None else frozenset(names)
    exchange = edges[0].exchange if edges else None
    if isinstance(exchange, Hash) and set(exchange.columns) <= set(visible_names(node.schema)):
        return frozenset(exchange.columns)
    return None


def _settle(
    graph: FlatGraph, sink: FlatNode, edges: list[FlatEdge], key: tuple[str, ...]
) -> FlatNode:
    """Put the operator in front of a sink, behind what it was behind."""
    before = edges[0].upstream
    assert before.schema is not None, "a changelog has columns"
    missing = [name for name in key if name not in before.schema.names]
    if missing:
        raise PlanError(
            f'"{sink.name}" finds rows by {", ".join(key)}; "{before.name}" has no column '
            f"{', '.join(missing)}, only {', '.join(visible_names(before.schema))}",
            where=sink.where,
        )
    of = before if len(edges) == 1 else sink
    by = "" if key == before.changelog else f".{'.'.join(key)}"
    node = dataclasses.replace(
        before,
        name=f"{of.name}.upserts{by}",
        uid=f"{of.uid}.upserts{by}",
        spec=UpsertsSpec(key, before.schema),
        where=sink.where,
        attached=False,
        on_error=FAIL,
        changelog=key,
    )
    graph.nodes.insert(graph.nodes.index(sink), node)
    for edge in edges:
        edge.downstream, edge.port, edge.exchange = node, 0, Hash(key)
    return node
