"""The job: where a script starts, and what runs it."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from raystream.api import overrides, running
from raystream.api.binding import bind_sinks
from raystream.api.callsite import located, user_line
from raystream.api.checks import instants, is_count, is_rows, is_text
from raystream.api.columns import check_schema
from raystream.api.draft import Draft, Tip
from raystream.api.reporting import report_uncaught
from raystream.api.settings import autoscale_of, checkpointing_of, restart_of
from raystream.api.streams import Stream
from raystream.api.transforms import check_watermark
from raystream.config import Limits, limits_from
from raystream.contracts.autoscale import Autoscale
from raystream.contracts.checkpointing import Checkpointing, RestartStrategy
from raystream.contracts.sink import commits
from raystream.contracts.source import Source
from raystream.contracts.watermark import Strategy
from raystream.coordinator.report import JobReport
from raystream.errors import PlanError
from raystream.flow.control import JobResult
from raystream.flow.time import Duration, Instant
from raystream.graph.explain import explain
from raystream.graph.logical import LogicalNode, LogicalPlan, StreamType, is_bounded
from raystream.graph.picture import picture
from raystream.graph.planner import physical_plan
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.runtime.profiler import Profile

_NAME = re.compile(r"[^\s/\\][^/\\\n]*")


class JobHandle(Protocol):
    """A job that was submitted; it lives on without the one who holds this."""

    @property
    def id(self) -> str:
        """What tells this run from others of the same name."""

    @property
    def name(self) -> str:
        """The job's name."""

    def status(self) -> str:
        """Give starting, running, rescaling, restarting, finished, stopped, canceled or failed."""

    def wait(self, timeout: Duration | None = None) -> JobResult:
        """Wait for the end; TimeoutError lets the job be, JobFailed tells why it failed."""

    def cancel(self) -> None:
        """End the job where it stands."""

    def savepoint(self, path: str | None = None) -> str:
        """Make a savepoint, and give its URL."""

    def stop(self, savepoint: bool | str = True, drain: bool = False) -> str | None:
        """Stop behind a savepoint, and give its URL; with ``drain`` the input ends first."""

    def rescale(self, to: int | Mapping[str, int]) -> None:
        """Run the job, or operators by name or uid, with so many subtasks; it goes on meanwhile."""

    def checkpoints(self) -> list[Any]:
        """Give the newest checkpoints, and how they went."""

    def scaling(self) -> str:
        """Say why a job that chooses its size has the one that it has; empty for any other."""

    def rescalings(self) -> list[Any]:
        """Give the newest changes of size, asked for or its own, why, and how they went."""

    def metrics(self) -> dict[str, Any]:
        """Give the newest figures of each operator."""

    def state(self, uid: str, name: str, *, allow_pickle: bool = False) -> pa.Table:
        """Read a state as the newest checkpoint has it; ``rs.state.read`` says how it looks."""

    def sample(
        self, operator: str, *, subtask: int | None = None, rows: int = 20, seconds: float = 2.0
    ) -> list[dict[str, Any]]:
        """Give a few rows that leave an operator now, as JSON has them."""

    def profile(
        self, operator: str, subtask: int | None = None, *, seconds: float = 5, native: bool = False
    ) -> Profile:
        """Tell where a subtask's process spends its time; it goes on meanwhile.

        ``native`` tells frames of compiled code, too, where py-spy is installed.
        """

    def report(self) -> JobReport:
        """Give all that is known: each subtask, what failed and where, when the state changed."""


class Job:
    """A named dataflow: sources, what is done with their rows, and sinks.

    ``parallelism`` is that of every operator that does not say another; ``max_parallelism`` the
    number of key groups, which a job keeps for life. ``config`` sets limits by name.
    """

    def __init__(
        self,
        name: str,
        *,
        parallelism: int = 1,
        max_parallelism: int = 128,
        checkpoint: Checkpointing | str | None = None,
        restart: RestartStrategy | None = None,
        autoscale: Autoscale | None = None,
        runtime: str = "ray",
        config: Mapping[str, Any] | Limits | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        report_uncaught()
        where = user_line()
        if not is_text(name) or not _NAME.fullmatch(name):
            raise PlanError(f"a job's name is a text without slashes, got {name!r}", where=where)
        _check_runtime(runtime, where)
        max_parallelism = overrides.current().max_parallelism or max_parallelism
        _check_parallelism(parallelism, max_parallelism, where)
        self._draft = Draft(
            name=name,
            parallelism=parallelism,
            max_parallelism=max_parallelism,
            limits=limits_from(config),
            runtime=runtime,
            runtime_env=None if runtime_env is None else dict(runtime_env),
            checkpoint=checkpointing_of(checkpoint, where),
            restart=restart_of(restart, where),
            autoscale=autoscale_of(autoscale, max_parallelism, where),
        )

    @property
    def name(self) -> str:
        """What the job is called; one job of a name runs at a time."""
        return self._draft.name

    def __repr__(self) -> str:
        return f'<Job "{self.name}": {len(self._draft.graph.nodes)} operators>'

    def _repr_html_(self) -> str:
        return picture(self._draft.plan())

    def source(
        self,
        source: Source,
        *,
        watermark: Strategy | None = None,
        name: str | None = None,
    ) -> Stream:
        """Read rows from a source; a watermark strategy gives them event time.

        Raises: PlanError for what is no source; SourceError if its columns cannot be read.
        """
        where = user_line()
        if not isinstance(source, Source):
            raise PlanError(
                f"source() takes a source, got {type(source).__name__} {source!r:.60}",
                where=where,
                hint='rs.FileSource("data/*.parquet"), job.from_items([...]), …',
            )
        schema = _schema_of(source, where)
        timed = watermark is not None or source.timed
        type_out = StreamType(schema, timed, _changelog_of(source, schema, where))
        if watermark is not None:
            read = LogicalNode("source", None, StreamType(schema), (), where, name=name or "source")
            check_watermark(read, watermark, "source", where)
        spec = SourceSpec(source, type_out.wire, watermark, name or "source", where, timed)
        node = self._draft.add(
            "source",
            spec,
            type_out,
            (),
            where,
            name=name,
            bounded=source.bounded,
            stateful=True,
        )
        return Stream(Tip(self._draft, node))

    def from_items(
        self,
        items: Iterable[Any] | pa.Table,
        *,
        schema: pa.Schema | None = None,
        timestamps: Iterable[Instant] | None = None,
        watermark: Strategy | None = None,
    ) -> Stream:
        """Read rows that are there already: a table, dicts with a ``schema``, or any objects.

        ``timestamps`` are their event times, one for each, and come with one watermark, at the end;
        a ``watermark`` strategy reads event time from the rows instead.
        """
        from raystream.connectors.items import ItemsSource

        where = user_line()
        if not is_rows(items):
            raise PlanError(
                f"from_items() takes an iterable of rows or a pa.Table, got {items!r:.60}",
                hint="pa.table(frame) makes one of a data frame",
                where=where,
            )
        if timestamps is not None and watermark is not None:
            raise PlanError(
                "from_items() takes timestamps= or watermark=, not both: each says what the event "
                "time of a row is",
                hint="watermark= reads it from the rows, so put the times there; with timestamps= "
                "alone the only watermark is the one at the end",
                where=where,
            )
        rows = items if isinstance(items, (pa.Table, pa.RecordBatch)) else list(items)
        times = None if timestamps is None else instants(timestamps, "from_items", where)
        given = None if schema is None else check_schema(schema, "from_items", where)
        with located(where):
            source = ItemsSource(rows, schema=given, timestamps=times)
        return self.source(source, watermark=watermark)

    def run(
        self,
        *,
        runtime: str | None = None,
        from_snapshot: str | None = None,
        allow_dropped_state: bool = False,
        timeout: Duration | None = None,
    ) -> JobResult:
        """Run the job to its end.

        Raises: JobFailed with the user's own traceback first; PlanError before anything starts.
        """
        where = user_line()
        flags = overrides.current()
        if flags.explain is not None:
            shown = self.explain(physical=True, format=flags.explain)
            builtins.print(shown)  # noqa: T201  what was asked for
            raise SystemExit(0)
        plan, chosen = self._ready(runtime, where)
        start = running.Beginning(from_snapshot, allow_dropped_state, where)
        if flags.detach:
            _check_detached(chosen, where)
            running.tell_ended(self.name, running.submit(self._draft, plan, start))
            raise SystemExit(0)
        return running.run(self._draft, plan, chosen, timeout, show=True, beginning=start)

    def submit(
        self,
        *,
        runtime: str | None = None,
        from_snapshot: str | None = None,
        allow_dropped_state: bool = False,
    ) -> JobHandle:
        """Start the job on a standing cluster and return at once; it outlives this process.

        Raises: PlanError before anything starts; ClusterError if the cluster does not answer.
        """
        where = user_line()
        plan, chosen = self._ready(runtime, where)
        _check_detached(chosen, where)
        start = running.Beginning(from_snapshot, allow_dropped_state, where)
        handle: JobHandle = running.submit(self._draft, plan, start)
        return handle

    def explain(self, physical: bool = False, format: str = "text") -> str:
        """Show the plan: what was written, and, if ``physical``, what will run where.

        ``format`` is text, mermaid or json.
        """
        logical = self._draft.plan()
        bind_sinks(logical)
        if logical.sinks:
            logical = logical.prune(logical.sinks)
        plan = physical_plan(logical) if physical else None
        return explain(logical, plan, format)

    def _ready(self, runtime: str | None, where: str) -> tuple[LogicalPlan, str]:
        chosen = overrides.current().runtime or runtime or self._draft.runtime
        _check_runtime(chosen, where)
        plan = self._draft.plan()
        if not plan.sinks:
            raise PlanError(
                f'job "{self.name}" has no sink, so there is nothing to run',
                where=where,
                hint="end a stream with sink(…) or print(), or look at one with collect()",
            )
        if plan.autoscale is not None and plan.checkpoint is None:
            raise PlanError(
                f'job "{self.name}" cannot change its size by itself: it has no checkpoints to go '
                "on from",
                where=where,
                hint="give Job(checkpoint=…) beside autoscale=, or --checkpoint on the command "
                "line",
            )
        bind_sinks(plan)
        if plan.checkpoint is None:
            for node in plan.sinks:
                _check_commits(node)
        return plan.prune(plan.sinks), chosen


def attach(name_or_id: str) -> JobHandle:
    """Find a running job by its name or its id.

    Raises: ClusterError if there is no cluster; NotFound if it knows no such job, naming those that
    it knows.
    """
    handle: JobHandle = running.driver().attach(name_or_id)
    return handle


def list_jobs() -> list[Any]:
    """List the jobs of the cluster that run, or ended a short while ago, as ``JobHandle``s.

    Raises: ClusterError if there is no cluster.
    """
    jobs: list[Any] = running.driver().list_jobs()
    return jobs


def _schema_of(source: Source, where: str) -> pa.Schema | None:
    with located(where):
        schema = source.schema
    return None if schema is None else check_schema(schema, "source", where)


def _changelog_of(source: Source, schema: pa.Schema | None, where: str) -> tuple[str, ...] | None:
    key = source.changelog
    if key is None:
        return None
    missing = [name for name in key if schema is None or name not in schema.names]
    if missing or not key:
        raise PlanError(
            f"{source.describe()} gives the changes of a table with the key "
            f"{', '.join(key) or '()'}, which is not among its columns",
            where=where,
            hint="a changelog has columns, and key columns among them",
        )
    return tuple(key)


def _check_commits(node: LogicalNode) -> None:
    spec = node.spec
    if isinstance(spec, SinkSpec) and commits(spec.sink) and not is_bounded(node):
        raise PlanError(
            f'"{node.name}" ({spec.sink.describe()}) makes rows visible by commits, which need '
            "checkpoints when the input has no end",
            where=node.where,
            hint="give Job(checkpoint=…), bound the source, or write to a sink that is "
            "at-least-once",
        )


def _check_runtime(runtime: Any, where: str) -> None:
    if runtime not in overrides.RUNTIMES:
        raise PlanError(f'runtime is "ray" or "local", got {runtime!r:.60}', where=where)


def _check_detached(runtime: str, where: str) -> None:
    if runtime != "ray":
        raise PlanError(
            f"submit() needs a cluster; the runtime is {runtime}", where=where, hint="use run()"
        )


def _check_parallelism(parallelism: Any, max_parallelism: Any, where: str) -> None:
    for name, value in {"parallelism": parallelism, "max_parallelism": max_parallelism}.items():
        if not is_count(value):
            raise PlanError(f"{name} is a positive int, got {value!r:.60}", where=where)
    if parallelism > max_parallelism:
        raise PlanError(
            f"parallelism {parallelism} is above max_parallelism {max_parallelism}",
            where=where,
            hint="max_parallelism is the number of key groups; give a larger one",
        )
