"""The plan of a job made ready for a test: other sources, and somebody who writes down the ends."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raystream.clock import Clock
from raystream.errors import PlanError
from raystream.graph.logical import Input, LogicalNode, LogicalPlan, StreamType
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.graph.planner import physical_plan
from raystream.operators.side_output import SideOutputSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.testing.fate import Fate
from raystream.testing.recording import Recording, RecordSpec, Taps, TapSpec, Told
from raystream.testing.script import Staged
from raystream.testing.source import Source


@dataclass(eq=False)
class Stage:
    """A plan that is ready to run, and where what comes out of it is written down."""

    plan: PhysicalPlan
    stream: Recording | None
    sinks: dict[str, Recording]
    sides: dict[str, list[Recording]]
    taps: Taps = field(default_factory=Taps)
    any_tag: bool = False


@dataclass(frozen=True)
class Director:
    """What one run is to be: the test's sources by name, its clock, its seed."""

    sources: Mapping[str, Source] | None
    clock: Clock
    seed: int
    told: Told
    where: str
    fate: Fate

    def stage(self, logical: LogicalPlan, target: LogicalNode | None) -> Stage:
        """Make a plan ready; ``target`` is the operator of a stream whose rows are wanted.

        Raises: PlanError for a source that does not fit.
        """
        made: dict[LogicalNode, LogicalNode] = {}
        sinks: dict[str, Recording] = {}
        ends: list[LogicalNode] = []
        for node in logical.nodes:
            inputs = tuple(dataclasses.replace(one, node=made[one.node]) for one in node.inputs)
            copied = dataclasses.replace(node, inputs=inputs)
            if isinstance(node.spec, SourceSpec):
                copied.spec = self._source(node, node.spec)
            if isinstance(node.spec, SinkSpec):
                changelog = node.inputs[0].node.type.changelog
                recording = sinks[node.name] = Recording(node.name, self.told, changelog)
                if self.sources is not None:
                    # The test's rows are not written anywhere else.
                    made[node] = _end(recording, inputs, node.name, node.where)
                    continue
                ends.append(_end(recording, inputs, f"recorded {node.name}", node.where))
            made[node] = copied
        stream = None
        if target is not None:
            stream = Recording("stream", self.told, target.type.changelog)
            ends.append(_end(stream, (Input(made[target]),), "recorded stream", self.where))
        sides: dict[str, list[Recording]] = {}
        for node in list(made.values()):
            ends += _side_readers(node, sides, self.told)
        plan = physical_plan(dataclasses.replace(logical, nodes=(*made.values(), *ends)))
        stage = Stage(plan, stream, sinks, sides)
        chosen = {node.name for node in logical.nodes if node.sides is None}
        stage.any_tag = bool(chosen)
        stage.plan = _tapped(plan, chosen, stage.taps)
        return stage

    def _source(self, node: LogicalNode, spec: SourceSpec) -> SourceSpec:
        given = (self.sources or {}).get(node.name)
        source: Any = spec.source if given is None else given
        if not isinstance(source, Source):
            return spec
        self.fate.needed = self.fate.needed or bool(source.befalls)
        schema = node.type.schema
        if source.schema is not None and source.schema != schema:
            kept = "objects" if schema is None else _columns(schema)
            raise PlanError(
                f'the test source for "{node.name}" has {_columns(source.schema)}; the job reads '
                f"{kept}",
                where=self.where,
                hint="leave schema= out: the job's stays",
            )
        if spec.watermark is None and source.has_rows and source.timed is not spec.timed:
            said = "gives its rows event time" if spec.timed else "has rows without event time"
            raise PlanError(
                f'source "{node.name}" {said}, and the test source does not',
                where=self.where,
                hint="write rs.testing.At(ts, row)" if spec.timed else "write the rows alone",
            )
        scripts = source.scripts(schema)
        seed = f"{self.seed} {node.name}"
        staged = Staged(scripts, source, schema, self.clock, seed, fate=self.fate)
        return dataclasses.replace(spec, source=staged)


def check_sources(sources: Any, nodes: Iterable[LogicalNode], where: str) -> None:
    """Refuse test sources for sources that a job has not.

    Raises: PlanError with the close match.
    """
    if not isinstance(sources, Mapping):
        raise PlanError(
            f"sources= is a dict of test sources by name, got {sources!r:.60}", where=where
        )
    known = [node.name for node in nodes if isinstance(node.spec, SourceSpec)]
    for name, source in sources.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            listed = ", ".join(known) or "none"
            raise PlanError(
                f'the job has no source "{name}". It has: {listed}',
                where=where,
                hint=f'did you mean "{close[0]}"?' if close else "name it with .named(…)",
            )
        if not isinstance(source, Source):
            raise PlanError(
                f'sources["{name}"] is a rs.testing.Source, got {source!r:.60}', where=where
            )


def _end(recording: Recording, inputs: tuple[Input, ...], name: str, where: str) -> LogicalNode:
    """Give what writes down a stream; how its rows would travel to a sink does not matter."""
    plain = tuple(dataclasses.replace(one, exchange=None) for one in inputs)
    spec = RecordSpec(recording)
    return LogicalNode("collect", spec, StreamType(None), plain, where, name=name, single=True)


def _side_readers(
    node: LogicalNode, sides: dict[str, list[Recording]], told: Told
) -> list[LogicalNode]:
    """Read every side output that an operator is known to have, also where the job does not."""
    found = []
    for tag, type in (node.sides or {}).items():
        name = f"{node.name} to {tag}"
        spec = SideOutputSpec(tag, type.wire, name, node.where)
        reader = LogicalNode("side_output", spec, type, (Input(node),), node.where, name=name)
        recording = Recording(name, told, type.changelog)
        sides.setdefault(tag, []).append(recording)
        end = _end(recording, (Input(reader),), f"recorded {name}", node.where)
        found += [reader, end]
    return found


def _tapped(plan: PhysicalPlan, names: set[str], taps: Taps) -> PhysicalPlan:
    """Look on where functions of the user choose the tags of side outputs, and keep states."""

    def tapped(node: ChainNode) -> ChainNode:
        if node.name not in names:
            return node
        return dataclasses.replace(node, spec=TapSpec(node.spec, node.uid, taps))

    chains = tuple(
        dataclasses.replace(chain, nodes=tuple(map(tapped, chain.nodes))) for chain in plan.chains
    )
    return dataclasses.replace(plan, chains=chains)


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
