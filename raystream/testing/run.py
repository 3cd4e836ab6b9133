"""Run a job, or what one stream needs, in a test: ``rs.testing.run``."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from raystream.api.binding import bind_sinks
from raystream.api.callsite import user_line
from raystream.api.checks import is_count
from raystream.api.draft import Draft
from raystream.api.job import Job
from raystream.api.streams import Stream
from raystream.errors import PlanError, UserError
from raystream.graph.logical import LogicalNode, LogicalPlan
from raystream.testing.fate import Fate
from raystream.testing.recording import Recording
from raystream.testing.simulated_clock import SimulatedClock
from raystream.testing.simulation import STEPS_MAX, Simulation
from raystream.testing.source import Source
from raystream.testing.staging import Director, Stage, check_sources

_ROW_BATCH_ROWS_MAX = 64
"""Functions pause after so many rows: what has no end is found soon, and tests are small."""


class Run:
    """What a run has given."""

    def __init__(self, stage: Stage, trace: list[str], steps: int) -> None:
        self._stage = stage
        self.steps = steps
        """How many things happened, one after the other."""
        self.trace = trace
        """One line for each thing that happened, the same for the same seed."""

    @property
    def rows(self) -> list[Any]:
        """The rows of the stream, or of the only sink."""
        return self._main.rows

    @property
    def events(self) -> list[Any]:
        """What came out of the stream, or into the only sink, in order.

        Rows stand as ``At(ts, row)`` where they have an event time, else alone; ``Watermark(ts)``,
        ``Idle()`` and ``Active()`` stand between them. An input that ends says so by
        ``Watermark(MAX)``, one that is left ``Open()`` does not.
        """
        return self._main.events

    def sink(self, name: str) -> list[Any]:
        """Give the rows that came to a sink."""
        sinks = self._stage.sinks
        if name not in sinks:
            raise _unknown("sink", name, sinks)
        return sinks[name].rows

    def side(self, tag: str) -> list[Any]:
        """Give the rows of all side outputs of a tag, whether the job reads them or not."""
        sides, chosen = self._stage.sides, self._stage.taps.sides
        if tag not in sides and tag not in chosen and not self._stage.any_tag:
            raise _unknown("side output", tag, sides)
        known = [row for recording in sides.get(tag, ()) for row in recording.rows]
        return [*known, *chosen.get(tag, ())]

    def state(self, uid: str, name: str) -> Any:
        """Give the values that a state of an operator had at the end: by key where it is keyed.

        ``uid`` is the operator's, or its name where it has none.
        """
        states = self._stage.taps.states
        if uid not in states:
            raise _unknown("operator with states", uid, states)
        if name not in states[uid]:
            raise _unknown(f'state of "{uid}"', name, states[uid])
        return states[uid][name]

    @property
    def _main(self) -> Recording:
        if self._stage.stream is not None:
            return self._stage.stream
        sinks = list(self._stage.sinks.values())
        if len(sinks) != 1:
            names = ", ".join(self._stage.sinks)
            raise UserError(f"the job has several sinks: {names}", hint="run(…).sink(name)")
        return sinks[0]


def run(
    stream_or_job: Stream | Job,
    *,
    sources: Mapping[str, Source] | None = None,
    seed: int = 0,
    crashes: int = 0,
    parallelism: int | None = None,
) -> Run:
    """Run a job, or what a stream needs, in this thread on a simulated clock.

    The seed decides the order of everything that may happen in any order, and how rows are cut into
    batches; the same seed gives the same run. With ``sources`` test sources stand in place of those
    of that name, and no sink writes anything. Time passes only where a source says ``Advance``; the
    run is over when the job is, or when nothing is left to do. The job crashes ``crashes`` times,
    at moments that the seed decides, and goes on from its last checkpoint; those are in memory.
    Raises: JobFailed; PlanError.

    >>> import raystream as rs
    >>> T = rs.testing
    >>> items = [T.At(3, "a"), T.Watermark(3), T.At(5, "b"), T.Open()]
    >>> words = rs.Job("words").source(T.Source(items))
    >>> T.run(words.map(str.upper)).events
    [At(ts=3, row='A'), Watermark(ts=3), At(ts=5, row='B')]
    """
    where = user_line()
    _check(seed, crashes, parallelism, where)
    draft, target = _read(stream_or_job, where)
    if sources is not None:
        check_sources(sources, draft.graph.nodes, where)
    logical = _plan(draft, target, parallelism, where)
    return simulate(logical, target, sources, seed, where, crashes=crashes)


def simulate(
    logical: LogicalPlan,
    target: LogicalNode | None,
    sources: Mapping[str, Source] | None,
    seed: int,
    where: str = "",
    *,
    crashes: int = 0,
    steps_max: int = STEPS_MAX,
) -> Run:
    """Run a plan; ``target`` is the operator of a stream whose rows are wanted."""
    steps = 0
    if crashes:
        # How long it takes must be known before moments can be drawn.
        steps = simulate(logical, target, sources, seed, where, steps_max=steps_max).steps
    limits = logical.limits
    rows_max = min(limits.row_batch_rows_max, _ROW_BATCH_ROWS_MAX)
    limits = dataclasses.replace(limits, row_batch_rows_max=rows_max)
    logical = dataclasses.replace(logical, limits=limits)
    clock = SimulatedClock()
    fate = Fate(seed, crashes, steps)
    simulation = Simulation(clock, seed, steps_max, fate)
    stage = Director(sources, clock, seed, simulation.told, where, fate).stage(logical, target)
    simulation.run(stage.plan, stage.taps)
    return Run(stage, simulation.trace, simulation.steps)


def _check(seed: Any, crashes: Any, parallelism: Any, where: str) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise PlanError(f"run(): seed is an int, got {seed!r:.60}", where=where)
    if isinstance(crashes, bool) or not isinstance(crashes, int) or crashes < 0:
        raise PlanError(f"run(): crashes is an int of at least 0, got {crashes!r:.60}", where=where)
    if parallelism is not None and not is_count(parallelism):
        raise PlanError(
            f"run(): parallelism is a positive int, got {parallelism!r:.60}", where=where
        )


def _read(stream_or_job: Any, where: str) -> tuple[Draft, LogicalNode | None]:
    if isinstance(stream_or_job, Job):
        return stream_or_job._draft, None  # noqa: SLF001  the kit looks into what it tests
    if isinstance(stream_or_job, Stream):
        tip = stream_or_job._tip  # noqa: SLF001  the kit looks into what it tests
        return tip.draft, tip.node
    raise PlanError(
        f"run() takes a stream or a job, got {stream_or_job!r:.60}",
        where=where,
        hint="a job is run with its sinks, a stream with what it needs",
    )


def _plan(
    draft: Draft, target: LogicalNode | None, parallelism: int | None, where: str
) -> LogicalPlan:
    chosen = draft.parallelism if parallelism is None else parallelism
    if chosen > draft.max_parallelism:
        raise PlanError(
            f"run(): parallelism {chosen} is above the job's max_parallelism "
            f"{draft.max_parallelism}",
            where=where,
        )
    plan = dataclasses.replace(draft.plan(), parallelism=chosen)
    if target is not None:
        return plan.prune([target])
    bind_sinks(plan)
    if not plan.sinks:
        raise PlanError(
            f'job "{draft.name}" has no sink, so there is nothing to run',
            where=where,
            hint="give run() the stream whose rows you want",
        )
    return plan.prune(plan.sinks)


def _unknown(kind: str, name: Any, known: Iterable[str]) -> UserError:
    names = list(known)
    close = difflib.get_close_matches(str(name), names, 1)
    return UserError(
        f'there is no {kind} "{name}". There is: {", ".join(names) or "none"}',
        hint=f'did you mean "{close[0]}"?' if close else None,
    )
