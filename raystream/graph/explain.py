"""Show a plan: what was written, and what will run where."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pyarrow as pa

from raystream.config import MIB, Limits
from raystream.contracts.rejects import FAIL
from raystream.errors import PlanError
from raystream.flow.batch import visible_names, visible_schema
from raystream.flow.exchange import Forward, Rebalance
from raystream.graph.logical import LogicalNode, LogicalPlan, origins
from raystream.graph.physical import Chain, ChainNode, Edge, PhysicalPlan, Resources
from raystream.operators.source import SourceSpec

FORMATS = ("text", "mermaid", "json")
_NO_UID = "keeps state under its name: uid(…) keeps the state whatever the operator is called"


def explain(logical: LogicalPlan, physical: PhysicalPlan | None, format: str = "text") -> str:
    """Print the logical plan and, if there is one, the physical plan.

    Raises: PlanError for a format that is none of text, mermaid and json.
    """
    if format == "text":
        return _text(logical, physical)
    if format == "mermaid":
        return _mermaid(logical) if physical is None else _mermaid_physical(physical)
    if format == "json":
        plans = {"logical": _logical_json(logical)}
        if physical is not None:
            plans["physical"] = physical_json(physical)
        return json.dumps({"job": logical.job, **plans}, indent=2)
    raise PlanError(f"format is one of {', '.join(FORMATS)}, got {format!r}")


def _text(logical: LogicalPlan, physical: PhysicalPlan | None) -> str:
    parallelism = f"parallelism {logical.parallelism}, max_parallelism {logical.max_parallelism}"
    lines = [f"job {logical.job}  {parallelism}"]
    if logical.autoscale is not None:
        lines.append(f"  autoscale: {logical.autoscale}")
    lines += ["", "logical plan"]
    lines += _table([_logical_line(node, logical) for node in logical.nodes])
    if any(_unnamed_state(node) for node in logical.nodes):
        lines.append(f"  * {_NO_UID}")
    if physical is not None:
        lines += ["", *_physical_text(physical)]
    return "\n".join(lines)


def _logical_line(node: LogicalNode, plan: LogicalPlan) -> list[str]:
    mark = "*" if _unnamed_state(node) else ""
    inputs = [
        f"{one.node.name}{'' if one.exchange is None else f' {one.exchange}'}"
        for one in node.inputs
    ]
    return [
        node.name + mark,
        f"{node.verb} {_described(node)}".rstrip(),
        f"← {', '.join(inputs)}" if inputs else "",
        "" if node.spec is None else f"p={plan.subtasks(node)}",
        node.where,
    ]


def _described(node: LogicalNode) -> str:
    if node.spec is None:
        return ""
    key = node.type.changelog
    table = "" if key is None else f"  changelog by {', '.join(key)}"
    return f"{node.named_spec.describe()}{table}{_policy(node)}"


def _policy(node: LogicalNode | ChainNode) -> str:
    return "" if node.on_error == FAIL else f"  on_error={node.on_error}"


def _unnamed_state(node: LogicalNode) -> bool:
    return node.stateful and node.uid is None


def _physical_text(plan: PhysicalPlan) -> list[str]:
    subtasks = len(plan.subtasks)
    counts = ", ".join(
        [
            _count(len(plan.chains), "chain"),
            _count(subtasks, "subtask"),
            _count(len(plan.edges), "edge"),
        ]
    )
    bound = f"channels hold at most {_mib(_input_bytes(plan))} in all"
    lines = [f"physical plan  {counts}; {bound}"]
    for chain in plan.chains:
        lines.append(f"  chain {chain.name}  p={chain.parallelism}{_resources(chain.resources)}")
        lines += [f"  {line}" for line in _table([_node_line(node) for node in chain.nodes])]
        for edge in plan.inputs(chain.name):
            lines.append(
                f"    input {edge.port}: {edge.exchange} from {edge.upstream}, "
                f"{_count(_senders(plan, edge) * chain.parallelism, 'channel')}"
            )
        if plan.inputs(chain.name):
            lines.append(
                f"    holds at most {_mib(_subtask_bytes(plan, chain))} of input a subtask, "
                f"batches of {plan.limits.batch_rows_max:,} rows"
            )
    return lines


def _node_line(node: ChainNode) -> list[str]:
    changes = "" if node.retracting is None else f"  {_changes(node.retracting)}"
    line = [node.name, f"{node.spec.verb} {node.spec.describe()}{changes}{_policy(node)}".rstrip()]
    if isinstance(node.spec, SourceSpec) and node.schema is not None:
        line.append(f"reads {', '.join(_visible(node.schema))}")
    return line


def _changes(retracting: bool) -> str:
    return "retracting" if retracting else "upserting"


def _visible(schema: pa.Schema) -> list[str]:
    return visible_names(schema)


def _senders(plan: PhysicalPlan, edge: Edge) -> int:
    """Count the subtasks that send to each one on an edge, or at least nearly so."""
    up, down = plan.chain(edge.upstream).parallelism, plan.chain(edge.downstream).parallelism
    if isinstance(edge.exchange, Forward):
        return 1
    local = isinstance(edge.exchange, Rebalance) and edge.exchange.local
    return -(-up // down) if local else up


def _subtask_bytes(plan: PhysicalPlan, chain: Chain) -> int:
    """Give what the input channels of one subtask may hold: each has a window of some size."""
    senders = sum(_senders(plan, edge) for edge in plan.inputs(chain.name))
    least = senders * plan.limits.channel_bytes_min
    return max(plan.limits.input_bytes_max, least) if senders else 0


def _input_bytes(plan: PhysicalPlan) -> int:
    return sum(chain.parallelism * _subtask_bytes(plan, chain) for chain in plan.chains)


def _resources(resources: Resources) -> str:
    asked = {
        "cpus": resources.num_cpus,
        "gpus": resources.num_gpus or None,
        **dict(resources.custom),
        "on": resources.accelerator_type,
        **{f"label {name}": value for name, value in resources.labels},
    }
    return "".join(f"  {name} {value}" for name, value in asked.items() if value is not None)


def _table(rows: list[list[str]]) -> list[str]:
    """Lay cells out in columns, two spaces apart; the long second one ends its line early."""
    if not rows:
        return []
    widths = [
        min(max(len(row[i]) for row in rows if i < len(row)), 48)
        for i in range(max(map(len, rows)))
    ]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _mib(count: int) -> str:
    return f"{count / MIB:g} MiB"


def _mermaid(plan: LogicalPlan) -> str:
    numbers = {node: f"n{i}" for i, node in enumerate(plan.nodes)}
    lines = ["flowchart LR"]
    for node, number in numbers.items():
        if node.spec is not None:
            lines.append(f"  {number}[{_quoted(node.name, f'{node.verb} {_described(node)}')}]")
    for node, number in numbers.items():
        if node.spec is None:
            continue
        for one in node.inputs:
            for origin in origins(one):
                said = "" if origin.exchange is None else f"|{_quoted(str(origin.exchange))}|"
                lines.append(f"  {numbers[origin.node]} -->{said} {number}")
    return "\n".join(lines)


def _mermaid_physical(plan: PhysicalPlan) -> str:
    lines = ["flowchart LR"]
    heads: dict[str, str] = {}
    leaving: dict[int, str] = {}
    for i, chain in enumerate(plan.chains):
        lines.append(f"  subgraph c{i}[{_quoted(f'{chain.name} p={chain.parallelism}')}]")
        heads[chain.name] = f"c{i}n0"
        for j, node in enumerate(chain.nodes):
            text = _quoted(node.name, f"{node.spec.verb} {node.spec.describe()}{_policy(node)}")
            lines.append(f"    c{i}n{j}[{text}]")
            lines += [f"    c{i}n{j} --> c{i}n{child}" for child in node.children]
            leaving.update(dict.fromkeys(node.outputs, f"c{i}n{j}"))
        lines.append("  end")
    for edge in plan.edges:
        said = _quoted(str(edge.exchange))
        lines.append(f"  {leaving[edge.id]} -->|{said}| {heads[edge.downstream]}")
    return "\n".join(lines)


def _quoted(*lines: str) -> str:
    escaped = [
        line.strip().replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        for line in lines
    ]
    return f'"{"<br/>".join(escaped)}"'


def _logical_json(plan: LogicalPlan) -> dict[str, Any]:
    return {
        "parallelism": plan.parallelism,
        "max_parallelism": plan.max_parallelism,
        "autoscale": None if plan.autoscale is None else dataclasses.asdict(plan.autoscale),
        "operators": [
            {
                "name": node.name,
                "uid": node.uid or node.name,
                "uid_given": node.uid is not None,
                "verb": node.verb,
                "describe": "" if node.spec is None else node.named_spec.describe(),
                "where": node.where,
                "parallelism": None if node.spec is None else plan.subtasks(node),
                "stateful": node.stateful,
                "on_error": node.on_error,
                "changelog": node.type.changelog,
                "event_time": node.type.timed,
                "schema": _schema_json(node.type.schema),
                "inputs": [
                    {
                        "from": one.node.name,
                        "exchange": None if one.exchange is None else str(one.exchange),
                    }
                    for one in node.inputs
                ],
            }
            for node in plan.nodes
        ],
    }


def physical_json(plan: PhysicalPlan) -> dict[str, Any]:
    """Give the physical plan as JSON has it."""
    return {
        "limits": {name: getattr(plan.limits, name) for name in Limits.__dataclass_fields__},
        "input_bytes_max": _input_bytes(plan),
        "chains": [_chain_json(chain) for chain in plan.chains],
        "edges": [
            {
                "id": edge.id,
                "from": edge.upstream,
                "to": edge.downstream,
                "port": edge.port,
                "exchange": str(edge.exchange),
                "schema": _schema_json(edge.schema),
            }
            for edge in plan.edges
        ],
    }


def _chain_json(chain: Chain) -> dict[str, Any]:
    return {
        "name": chain.name,
        "parallelism": chain.parallelism,
        "resources": {
            "num_cpus": chain.resources.num_cpus,
            "num_gpus": chain.resources.num_gpus,
            "custom": dict(chain.resources.custom),
            "accelerator_type": chain.resources.accelerator_type,
            "labels": dict(chain.resources.labels),
        },
        "operators": [
            {
                "name": node.name,
                "uid": node.uid,
                "verb": node.spec.verb,
                "describe": node.spec.describe(),
                "where": node.where,
                "on_error": node.on_error,
                "changes": None if node.retracting is None else _changes(node.retracting),
                "schema": _schema_json(node.schema),
                "children": list(node.children),
                "outputs": list(node.outputs),
            }
            for node in chain.nodes
        ],
    }


def _schema_json(schema: pa.Schema | None) -> dict[str, str] | None:
    if schema is None:
        return None
    return {field.name: str(field.type) for field in visible_schema(schema)}
