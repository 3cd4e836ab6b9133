"""Draw a plan as a picture: operators in layers from left to right, as SVG that any page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from raystream.graph.logical import LogicalNode, LogicalPlan, origins

BOX_WIDTH = 190
BOX_HEIGHT = 52
_GAP_X = 90
_GAP_Y = 22
_MARGIN = 12
_CHARS = 27
"""So many characters of the small font fit into a box."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box stands: its left upper corner, in pixels."""

    x: int
    y: int


def places(inputs: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """Give each box its place, so that every line goes to the right and few of them cross.

    ``inputs`` names the boxes that lead to each; boxes come behind all that lead to them.
    """
    layers: dict[str, int] = {}
    for name, before in inputs.items():
        layers[name] = max((layers[one] + 1 for one in before if one in layers), default=0)
    rows: dict[str, float] = {}
    columns: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for name, layer in layers.items():
        columns[layer].append(name)
    for column in columns:
        wanted = {name: _middle(rows, inputs[name]) for name in column}
        ordered = sorted(column, key=lambda name: wanted[name])  # stable: else as they were written
        row = 0.0
        for name in ordered:
            rows[name] = row = max(row, wanted[name])
            row += 1
    return {
        name: Place(
            _MARGIN + layers[name] * (BOX_WIDTH + _GAP_X),
            _MARGIN + round(rows[name] * (BOX_HEIGHT + _GAP_Y)),
        )
        for name in inputs
    }


def _middle(rows: Mapping[str, float], before: Sequence[str]) -> float:
    known = [rows[name] for name in before if name in rows]
    return sum(known) / len(known) if known else 0.0


def picture(plan: LogicalPlan) -> str:
    """Draw the operators of a job and the streams between them, as one SVG element."""
    nodes = {node.name: node for node in plan.nodes if node.spec is not None}
    edges = [
        (origin.node.name, name, "" if origin.exchange is None else str(origin.exchange))
        for name, node in nodes.items()
        for one in node.inputs
        for origin in origins(one)
    ]
    at = places({name: [up for up, down, _ in edges if down == name] for name in nodes})
    width = max((place.x for place in at.values()), default=0) + BOX_WIDTH + _MARGIN
    height = max((place.y for place in at.values()), default=0) + BOX_HEIGHT + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" style="max-width:100%;height:auto"'
        ' font-family="system-ui,sans-serif" font-size="11" fill="currentColor">'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape(f'job {plan.job}')}</title>",
            *(_line(at[up], at[down], said) for up, down, said in edges),
            *(_box(at[name], node, plan.subtasks(node)) for name, node in nodes.items()),
            "</svg>",
        ]
    )


def _line(up: Place, down: Place, said: str) -> str:
    x1, y1 = up.x + BOX_WIDTH, up.y + BOX_HEIGHT // 2
    x2, y2 = down.x, down.y + BOX_HEIGHT // 2
    half = (x2 - x1) // 2
    path = f"M{x1} {y1} C{x1 + half} {y1} {x2 - half} {y2} {x2} {y2}"
    label = (
        f'<text x="{x2 - _GAP_X // 2}" y="{(y1 + y2) // 2 - 5}" text-anchor="middle"'
        f' opacity=".75">{escape(_short(said, 15))}</text>'
        if said
        else ""
    )
    return f'<path d="{path}" fill="none" stroke="currentColor" opacity=".5"/>{label}'


def _box(place: Place, node: LogicalNode, parallelism: int) -> str:
    says = f"{node.verb} {node.named_spec.describe()}".strip()
    x, y, right = place.x + 10, place.y + 18, place.x + BOX_WIDTH - 10
    name, said = escape(_short(node.name, 22)), escape(_short(says, _CHARS))
    texts = (
        f'<text x="{x}" y="{y}" font-weight="600">{name}</text>'
        f'<text x="{right}" y="{y}" text-anchor="end" opacity=".75">p={parallelism}</text>'
        f'<text x="{x}" y="{y + 18}" opacity=".75">{said}</text>'
    )
    frame = (
        f'<rect x="{place.x}" y="{place.y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"'
        ' fill="currentColor" fill-opacity=".05" stroke="currentColor" stroke-opacity=".6"/>'
    )
    told = escape(f"{node.name}\n{says}\n{node.where}")
    return f"<g><title>{told}</title>{frame}{texts}</g>"


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
