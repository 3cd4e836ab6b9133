"""What makes a plan faster without changing its rows: each rule rewrites the graph in place."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias, TypeGuard

import narwhals.stable.v2 as nw
import pyarrow as pa

from raystream.contracts.rejects import DEAD_LETTER, FAIL
from raystream.contracts.watermark import Strategy, WatermarkStrategy
from raystream.errors import PlanError
from raystream.flow.batch import EVENT_TIME, visible_names, visible_schema
from raystream.flow.changes import OP
from raystream.flow.exchange import Custom, Hash, ToOne
from raystream.graph.chaining import chains
from raystream.graph.flatten import FlatEdge, FlatGraph, FlatNode
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.columns import ColumnsSpec, Select, fuse, required_columns
from raystream.operators.expressions import columns_used
from raystream.operators.operator import Spec
from raystream.operators.regular_join import RegularJoinSpec
from raystream.operators.source import SourceSpec
from raystream.operators.table_join import TableJoinSpec
from raystream.operators.window_aggregate import WindowAggregateSpec
from raystream.operators.window_partial import WindowPartialSpec, partial_schema
from raystream.operators.window_top_k import WindowTopKSpec
from raystream.operators.window_top_k_partial import WindowTopKPartialSpec

Wanted: TypeAlias = set[str] | None
"""Names of columns; None: all of them."""

ATTACHED = frozenset({"window_partial", "window_top_k_partial"})
"""Verbs of operators that nobody wrote: whether there are some hangs on the parallelism."""


def fuse_columns(graph: FlatGraph) -> None:
    """Make one operator of columnar steps that follow each other in a chain.

    Not of steps that go on without the rows that fail: each has letters of its own, and leaves out
    a row also where nobody behind it wants the column that failed.
    """
    for edge in list(graph.edges):
        up, down = edge.upstream, edge.downstream
        if (
            isinstance(up.spec, ColumnsSpec)
            and isinstance(down.spec, ColumnsSpec)
            and up.on_error == down.on_error == FAIL
            and len(graph.outputs(up)) == 1
            and chains(graph, edge)
        ):
            _merge(graph, edge, up.spec, down.spec)


def _merge(graph: FlatGraph, edge: FlatEdge, first: ColumnsSpec, second: ColumnsSpec) -> None:
    up, down = edge.upstream, edge.downstream
    shown = [node for node in (up, down) if not node.attached] or [down]
    down.spec = fuse(first, second)
    down.name = "+".join(node.name for node in shown)
    down.uid = "+".join(node.uid for node in shown)
    down.where = shown[0].where
    down.chaining = up.chaining
    down.attached = up.attached and down.attached
    graph.edges.remove(edge)
    for entry in graph.inputs(up):
        entry.downstream = down
    graph.nodes.remove(up)


def group_before_exchange(graph: FlatGraph) -> None:
    """Aggregate windows in two phases where rows would cross from subtask to subtask.

    Each batch is grouped where it is made, and one row of a key and window travels in place of
    many; a top-k sends only the rows of a batch that may be among the best.
    """
    for node in list(graph.nodes):
        edges = graph.inputs(node)
        if any(chains(graph, edge) for edge in edges):
            continue
        if not all(isinstance(edge.exchange, (Hash, ToOne)) for edge in edges):
            continue
        if node.parallelism == 1 and sum(edge.upstream.parallelism for edge in edges) == 1:
            continue
        _split(graph, node, edges)


def _split(graph: FlatGraph, node: FlatNode, edges: list[FlatEdge]) -> None:
    """Put the first phase of a window before each of its inputs, where it has one."""
    spec = node.spec
    schema = edges[0].upstream.schema if edges else None
    partial: Spec
    if schema is None:
        return
    if isinstance(spec, WindowAggregateSpec) and spec.two_phase:
        keys = [schema.field(key) for key in spec.keys]
        schema = partial_schema(keys, spec.window, spec.aggregates)
        partial = WindowPartialSpec(spec.keys, spec.window, spec.aggregates, schema)
        node.spec = dataclasses.replace(spec, partial_input=True)
    elif isinstance(spec, WindowTopKSpec) and spec.window.grid.cover.alone:
        partial = WindowTopKPartialSpec(spec, schema)
    else:
        return
    for number, edge in enumerate(edges):
        name = f"{node.name}.partial{number + 1 if len(edges) > 1 else ''}"
        graph.insert(edge, name, partial, schema)


def push_projection(graph: FlatGraph) -> None:
    """Let sources read, steps give and joins hold only what somebody behind them reads."""
    reads: dict[tuple[FlatNode, int], Wanted] = {}
    for node in reversed(graph.nodes):
        wanted = _wanted(graph, node, reads)
        # A value that cannot be computed loses its row, whether or not somebody reads it.
        if wanted is not None and node.on_error == FAIL:
            _narrow(node, wanted)
        for edge in graph.inputs(node):
            reads[node, edge.port] = _reads(graph, node, edge.port)
    for node in list(graph.nodes):
        if node.attached and _changes_nothing(graph, node):
            graph.remove(node)


def _wanted(graph: FlatGraph, node: FlatNode, reads: dict[tuple[FlatNode, int], Wanted]) -> Wanted:
    """Name the columns of a node's output that its consumers read."""
    if node.schema is None or not graph.outputs(node):
        return None
    wanted: set[str] = set()
    for edge in graph.outputs(node):
        read = reads[edge.downstream, edge.port]
        if read is None or isinstance(edge.exchange, Custom):
            return None
        wanted |= read
        if isinstance(edge.exchange, Hash):
            wanted |= set(edge.exchange.columns)
    return wanted


def _narrow(node: FlatNode, wanted: set[str]) -> None:
    """Let a node give fewer columns, where it can."""
    spec, schema = node.spec, node.schema
    assert schema is not None, "only columns can be left out"
    if isinstance(spec, (SourceSpec, AssignTimestampsSpec)):
        read = _time_columns(spec.watermark, schema)
        if read is None:
            return
        wanted = wanted | read
    less = _keep(schema, wanted)
    if less.equals(schema):
        return
    kept = visible_names(less)
    if isinstance(spec, SourceSpec):
        source = spec.source.project(kept)
        node.spec, node.schema = dataclasses.replace(spec, source=source, schema=less), less
    elif isinstance(spec, AssignTimestampsSpec):
        node.spec, node.schema = dataclasses.replace(spec, output=less), less
    elif isinstance(spec, ColumnsSpec):
        steps = (*spec.steps, Select(tuple((name, None) for name in kept)))
        node.spec, node.schema = ColumnsSpec(spec.verb, steps, less), less
    elif isinstance(spec, WindowTopKSpec):
        node.spec, node.schema = dataclasses.replace(spec, output=less), less
    elif isinstance(spec, WindowTopKPartialSpec):
        node.spec, node.schema = dataclasses.replace(spec, schema=less), less
    elif _joins_fewer(spec):
        plan = spec.plan.narrowed(set(kept))
        node.spec, node.schema = dataclasses.replace(spec, plan=plan), plan.output


def _joins_fewer(spec: Spec) -> TypeGuard[RegularJoinSpec | TableJoinSpec]:
    """Tell whether an operator joins rows that need not be whole."""
    if isinstance(spec, RegularJoinSpec):
        # What takes a row back names it by all of its columns.
        return not any(OP in schema.names for schema in (spec.plan.left, spec.plan.right))
    return isinstance(spec, TableJoinSpec)


def _reads(graph: FlatGraph, node: FlatNode, port: int) -> Wanted:
    """Name the columns of the input at a port that a node reads."""
    inputs = graph.inputs(node)
    spec = node.spec
    if node.on_error == DEAD_LETTER:  # a letter holds the whole row
        return None
    if not inputs or node.schema is None or inputs[0].upstream.schema is None:
        return None
    if isinstance(spec, AssignTimestampsSpec):
        return {name for name in node.schema.names if name != EVENT_TIME}
    if isinstance(spec, WindowTopKSpec):
        return _compared(spec) | set(node.schema.names) - {spec.rank, EVENT_TIME}
    if isinstance(spec, WindowTopKPartialSpec):
        return _compared(spec.top_k) | set(node.schema.names) - {EVENT_TIME}
    if _joins_fewer(spec):
        return set(visible_names(spec.plan.right if port else spec.plan.left))
    if not isinstance(spec, ColumnsSpec):
        return None
    schema = inputs[0].upstream.schema
    timed = EVENT_TIME in schema.names
    visible = visible_schema(schema)
    needed = required_columns(spec.steps, visible, timed, None)
    try:
        # A column that nobody wants may still be computed: what it reads must then be there.
        required_columns(spec.steps, _keep(visible, needed), timed, None)
    except PlanError:
        return None
    return needed


def _compared(spec: WindowTopKSpec) -> set[str]:
    """Name the columns that a top-k reads whether or not they leave it."""
    return {*spec.keys, *(name for name, _ in spec.by)}


def _time_columns(strategy: Strategy | None, schema: pa.Schema) -> Wanted:
    if strategy is None:
        return set()
    if not isinstance(strategy, WatermarkStrategy):
        return None  # its function reads whole rows
    timestamp = strategy.timestamp
    if isinstance(timestamp, str):
        return {timestamp}
    if isinstance(timestamp, nw.Expr):
        visible = visible_schema(schema)
        return columns_used(timestamp, visible, timed=False)
    return None


def _keep(schema: pa.Schema, names: set[str]) -> pa.Schema:
    hidden = schema.names[len(visible_names(schema)) :]
    kept = [field for field in schema if field.name in names or field.name in hidden]
    # One column at least: a record without columns does not know how many rows it has.
    return pa.schema(kept or [schema.field(0)])


def _changes_nothing(graph: FlatGraph, node: FlatNode) -> bool:
    spec = node.spec
    if not isinstance(spec, ColumnsSpec):
        return False
    plain = all(
        isinstance(step, Select) and all(expr is None for _, expr in step.columns)
        for step in spec.steps
    )
    return plain and all(edge.upstream.schema == node.schema for edge in graph.inputs(node))
