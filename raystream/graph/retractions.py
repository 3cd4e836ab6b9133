"""Which changelogs must announce each row that leaves their table, and which need not.

A changelog may say what a key's row is now (+U), or besides what it was before (-U). The second is
twice the rows, and only some consumers need it: that is known once all of them are. So demand goes
from consumers to producers, through what only hands rows on, before anything else is done with the
plan.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from raystream.contracts.rejects import FAIL
from raystream.flow.batch import visible_names
from raystream.flow.changes import OP
from raystream.flow.exchange import Hash
from raystream.graph.flatten import FlatEdge, FlatGraph, FlatNode
from raystream.operators.columns import ColumnsSpec, Filter
from raystream.operators.operator import Spec
from raystream.operators.row_functions import MapSpec
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.operators.to_changelog import ToChangelogSpec
from raystream.operators.to_rows import ToRowsSpec


def demands(spec: Spec) -> bool | None:
    """Tell whether an operator needs each row announced that leaves; None: whoever it gives to.

    What takes changes by their key can do without, and what shows them to people. All else counts
    rows in one way or another, a filter among it: the new row may not pass where the old one did.
    """
    match spec:
        case SinkSpec() | ToRowsSpec() | SideOutputSpec():
            return False
        case MapSpec():
            return None
        case ColumnsSpec():
            return True if any(isinstance(step, Filter) for step in spec.steps) else None
        case _:
            return True


def announce_retractions(graph: FlatGraph) -> None:
    """Let producers of changelogs announce rows that leave, where somebody behind them needs it."""
    wanted: dict[FlatNode, bool] = {}
    for node in reversed(graph.nodes):
        wanted[node] = _is_changelog(node) and (
            _keyless(node) or any(_asks(edge, wanted) for edge in graph.outputs(node))
        )
        if wanted[node] and "before" in getattr(node.spec, "__dataclass_fields__", {}):
            spec: Any = node.spec
            node.spec = cast("Spec", dataclasses.replace(spec, before=True))  # a spec like it
    for node in [node for node in graph.nodes if wanted[node]]:
        if isinstance(node.spec, SourceSpec) and not node.spec.source.retracts:
            _complete(graph, node)
    for node in graph.nodes:
        if _is_changelog(node):
            node.retracting = _retracts(graph, node)


def _complete(graph: FlatGraph, source: FlatNode) -> None:
    """Let an operator behind a source keep the last row of each key, and announce what leaves."""
    assert source.schema is not None, "a changelog has columns"
    if source.changelog is None or _keyless(source):
        return  # no row of such a table is replaced, and a key is all there is to announce
    spec = ToChangelogSpec(source.changelog, OP, source.schema, source.schema, before=True)
    name, uid = f"{source.name}.changes", f"{source.uid}.changes"
    kept = dataclasses.replace(source, name=name, uid=uid, spec=spec, on_error=FAIL)
    for edge in graph.outputs(source):
        if not isinstance(edge.downstream.spec, SideOutputSpec):
            edge.upstream = kept
    graph.nodes.insert(graph.nodes.index(source) + 1, kept)
    graph.edges.append(FlatEdge(source, kept, 0, Hash(source.changelog)))


def _asks(edge: FlatEdge, wanted: dict[FlatNode, bool]) -> bool:
    if edge.merged:
        return True
    asked = demands(edge.downstream.spec)
    return wanted[edge.downstream] if asked is None else asked


def _retracts(graph: FlatGraph, node: FlatNode) -> bool:
    if demands(node.spec) is None or isinstance(node.spec, ColumnsSpec):
        return all(edge.upstream.retracting for edge in graph.inputs(node))
    if isinstance(node.spec, SourceSpec):
        return node.spec.source.retracts
    return bool(getattr(node.spec, "before", True))


def _is_changelog(node: FlatNode) -> bool:
    return node.schema is not None and OP in node.schema.names


def _keyless(node: FlatNode) -> bool:
    """Tell whether rows are told apart by all that they hold: no key says what a +U replaces."""
    assert node.schema is not None, "a changelog has columns"
    return set(node.changelog or ()) == set(visible_names(node.schema))
