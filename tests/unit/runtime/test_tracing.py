"""Traces of checkpoints, changes of size and restarts, as OpenTelemetry's own SDK receives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from watched import Endless

import raystream as rs
from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.coordinator import events as job_events
from raystream.coordinator.checkpoints import CheckpointFigures
from raystream.coordinator.states import Beginning
from raystream.graph.rescaling import Replan
from raystream.runtime.local_job import LocalJob
from raystream.runtime.spans import checkpoint_span
from raystream.runtime.tracing import check_tracing, try_tracing
from raystream.runtime.vault import Home, Vault

ROOT = Path(__file__).parents[3]
ROWS = pa.schema([("k", pa.int64())])


@pytest.fixture(scope="module")
def provider() -> InMemorySpanExporter:
    """A provider that is there before the job: a process has but one."""
    kept = InMemorySpanExporter()
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(made)
    return kept


@pytest.fixture
def collected(provider) -> Iterator[InMemorySpanExporter]:
    provider.clear()
    yield provider
    provider.clear()


def traces(collected: InMemorySpanExporter) -> list[tuple[Any, list[Any]]]:
    """Each root with its children."""
    spans = collected.get_finished_spans()
    roots = [one for one in spans if one.parent is None]
    assert len({one.context.trace_id for one in roots}) == len(roots)
    return [
        (r, [s for s in spans if s.parent and s.parent.span_id == r.context.span_id]) for r in roots
    ]


def rows(folder: str, **settings: Any) -> rs.Job:
    checkpoint = rs.Checkpointing(folder, every="1s")
    job = rs.Job("traced", checkpoint=checkpoint, config={"tracing": "otel"}, **settings)
    read = job.source(
        Endless({"a": lambda: iter([[{"k": 1}]] + [None] * 10_000)}, ROWS), name="read"
    )
    counted = read.key_by("k").map_with_state(lambda s, row: (s, row), schema=ROWS).named("count")
    counted.sink(rs.CallbackSink(lambda row: None))
    return job


class Live:
    """The job in this thread, on a clock of its own; time passes where nothing else can happen."""

    def __init__(self, folder: str) -> None:
        self.clock = ManualClock()
        self.replan = Replan(rows(folder, parallelism=2)._draft.plan())
        plan = self.replan.plan({})
        vault = Vault(plan, Home(folder, "1"))
        self.job = LocalJob(plan, self.clock, None, vault=vault, replan=self.replan)
        self.job.begin()

    def until(self, holds: Any) -> None:
        for _ in range(2_000):
            if holds():
                return
            if not self.job.advance():
                self.clock.advance(500_000)
        raise AssertionError(self.job.report())

    def checkpointed(self, count: int) -> None:
        self.until(lambda: len(self.job.report().checkpoints) >= count)


def test_a_checkpoint_is_one_trace_with_a_child_for_each_subtask(collected):
    live = Live("memory://traced-1")
    live.checkpointed(2)
    told = live.job.report().checkpoints
    live.job.close()
    found = traces(collected)
    assert [root.name for root, _ in found] == ["raystream.checkpoint"] * len(told)
    for (root, parts), figures in zip(found, told, strict=True):
        assert root.attributes["raystream.job"] == "traced"
        assert root.attributes["raystream.checkpoint"] == figures.checkpoint_id
        assert root.attributes["raystream.attempt"] == 1
        assert root.attributes["raystream.bytes"] == figures.bytes
        assert root.start_time == figures.triggered_us * 1_000
        assert root.end_time - root.start_time == figures.duration_us * 1_000
        subtasks = {one.attributes["raystream.subtask"] for one in parts}
        assert subtasks == set(figures.parts)
        assert len(subtasks) == 4
        assert all(root.start_time <= one.start_time for one in parts)
        assert all(one.end_time <= root.end_time for one in parts)
        assert root.status.status_code is trace.StatusCode.UNSET


def test_a_checkpoint_that_was_given_up_is_an_error_with_its_reason():
    figures = CheckpointFigures(3, 1, "aborted", 5, 20, reason="not in time")
    span = checkpoint_span("told", figures)
    assert (span.name, span.error, span.end_us) == ("checkpoint", "not in time", 25)
    done = CheckpointFigures(4, 1, "completed", 5, 20, savepoint=True)
    assert (checkpoint_span("told", done).name, checkpoint_span("told", done).error) == (
        "savepoint",
        "",
    )


def test_a_change_of_size_is_one_trace_with_its_steps(collected):
    live = Live("memory://traced-2")
    live.checkpointed(1)
    live.job.ask(job_events.RescaleAsked("r", {"count": 3}))
    live.until(lambda: "r" in live.job.answers and live.job.state == "running")
    live.checkpointed(3)
    live.job.close()
    ((root, steps),) = [one for one in traces(collected) if one[0].name == "raystream.rescale"]
    names = [step.name.removeprefix("raystream.") for step in steps]
    assert names == ["processes", "checkpoint", "close", "read the log", "start"]
    assert root.attributes["raystream.before"].endswith("=2")
    assert root.attributes["raystream.after"].endswith("=3")
    assert root.attributes["raystream.by"] == "request"
    assert root.attributes["raystream.pause_us"] >= 0
    assert root.start_time == steps[0].start_time
    assert root.end_time == steps[-1].end_time
    ends = [step.end_time for step in steps]
    assert [step.start_time for step in steps[1:]] == ends[:-1]


def test_a_change_that_is_given_up_says_why(collected):
    live = Live("memory://traced-3")
    live.checkpointed(1)
    live.job.ask(job_events.RescaleAsked("r", {"count": 3}))
    live.job.ask(job_events.StopAsked())
    live.until(lambda: live.job.over)
    ((root, _),) = [one for one in traces(collected) if one[0].name == "raystream.rescale"]
    assert root.status.status_code is trace.StatusCode.ERROR
    assert root.status.description == "the job is over"


def restarts(collected: InMemorySpanExporter) -> list[tuple[Any, list[Any]]]:
    return [one for one in traces(collected) if one[0].name == "raystream.restart"]


def test_a_restart_is_one_trace_from_the_failure_until_rows_flow_again(collected):
    live = Live("memory://traced-4")
    live.checkpointed(1)
    live.until(lambda: live.job.state == "running")
    lost = next(one for one in live.job.alive if one.chain.startswith("count"))
    failed_us = live.clock.now_us()
    live.job.crash(lost)
    live.until(lambda: live.job.report().attempt == 2 and live.job.state == "running")
    running_us = live.job.report().changes[-1].at_us
    live.checkpointed(3)
    live.job.close()
    ((root, steps),) = restarts(collected)
    names = [step.name.removeprefix("raystream.") for step in steps]
    assert names == ["close", "read the log", "start"]
    told = {key.removeprefix("raystream."): one for key, one in root.attributes.items()}
    assert (told["job"], told["attempt"], told["next_attempt"]) == ("traced", 1, 2)
    assert (told["kind"], told["subtask"]) == ("SubtaskLost", str(lost))
    assert (told["operator"], told["cause"]) == (lost.chain, f"{lost} died: its process is gone")
    assert root.status.status_code is trace.StatusCode.UNSET
    assert root.start_time >= failed_us * 1_000
    assert root.end_time == running_us * 1_000
    ends = [root.start_time, *(step.end_time for step in steps)]
    assert [step.start_time for step in steps] == ends[:-1]
    assert ends[-1] == root.end_time


class Refuses(rs.KeyedProcessFunction):
    """Breaks in its first row, or when it is opened: in every attempt."""

    def __init__(self, *, opens: bool) -> None:
        self._opens = opens

    def open(self, ctx: rs.OpenContext) -> None:
        if not self._opens:
            raise ValueError("no such table")

    def process(self, row: int, ctx: object) -> Iterator[int]:
        raise ValueError("no such price")
        yield row


def refused(*, opens: bool) -> None:
    """Run a job until it has failed for the third time, seven seconds after the time before."""
    job = rs.Job("traced", restart=rs.Restart.fixed(2, "7s"), config={"tracing": "otel"})
    read = job.source(Endless({"a": lambda: iter([[1]] + [None] * 10_000)}), name="read")
    rows = read.key_by(lambda row: row).process(Refuses(opens=opens)).named("refuse")
    rows.sink(rs.CallbackSink(lambda row: None))
    clock = ManualClock()
    local = LocalJob(Replan(job._draft.plan()).plan({}), clock, None)
    local.begin()
    for _ in range(1_000):
        if not local.over and not local.advance():
            clock.advance(500_000)
    assert local.state == "failed"
    local.close()


def test_a_restart_waits_as_asked_and_names_the_operator_whose_function_broke(collected):
    refused(opens=True)
    found = restarts(collected)
    assert [root.attributes["raystream.operator"] for root, _ in found] == ["refuse"] * 2
    assert [root.attributes["raystream.kind"] for root, _ in found] == ["ValueError"] * 2
    assert all("no such price" in root.attributes["raystream.cause"] for root, _ in found)
    assert all(root.status.status_code is trace.StatusCode.UNSET for root, _ in found)
    for _, steps in found:
        (waits,) = [one for one in steps if one.name == "raystream.wait"]
        assert waits.end_time - waits.start_time >= 6_500_000_000


def test_a_restart_that_fails_before_rows_flow_ends_and_another_begins(collected):
    refused(opens=False)
    (first, _), (second, _) = restarts(collected)
    assert first.status.description == "it has failed again"
    assert first.end_time <= second.start_time
    assert second.status.description == "the job is failed"


def test_a_takeover_is_a_restart_that_begins_with_the_new_coordinator(collected):
    folder = "memory://traced-6"
    live = Live(folder)
    live.checkpointed(1)
    collected.clear()
    live.clock.advance(3_000_000)
    born_us = live.clock.now_us()
    came = Beginning("second", born_us, resumed=True, came_back=True)
    vault = Vault(live.replan.plan({}), Home(folder, "1", came))
    live.job = LocalJob(
        live.replan.plan({}), live.clock, None, vault=vault, beginning=came, replan=live.replan
    )
    live.job.begin()
    live.until(lambda: live.job.state == "running")
    live.job.close()
    ((root, steps),) = restarts(collected)
    assert root.attributes["raystream.kind"] == "CoordinatorLost"
    assert root.start_time == born_us * 1_000
    assert [one.name for one in steps] == ["raystream.read the log", "raystream.start"]


def test_without_the_packages_only_a_job_that_asks_for_traces_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    silent = rs.Job("silent", runtime="local")
    silent.from_items([1]).sink(rs.MemorySink())
    silent.run()
    asked = rs.Job("asked", runtime="local", config={"tracing": "otel"})
    asked.from_items([1]).sink(rs.MemorySink())
    with pytest.raises(rs.ConfigError, match="opentelemetry-sdk") as caught:
        asked.run()
    assert "raystream[otel]" in (caught.value.hint or "")


def test_an_exporter_that_is_not_there_is_named_before_a_job_starts(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nowhere")
    with pytest.raises(rs.ConfigError, match='no exporter "nowhere"'):
        check_tracing(Limits(tracing="otel"))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    check_tracing(Limits(tracing="otel"))
    assert try_tracing(Limits(), "job") is None


SCRIPT = """
import raystream as rs
job = rs.Job("told", runtime="local", config={"tracing": "otel"}, checkpoint="memory://told")
job.from_items([1, 2]).sink(rs.MemorySink())
job.run()
"""


@pytest.mark.slow
def test_a_process_without_a_provider_takes_the_exporter_that_the_environment_names():
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    # One object after the other, as the SDK's own exporter prints them.
    reader, rest, spans = json.JSONDecoder(), done.stdout.strip(), []
    while rest:
        span, end = reader.raw_decode(rest)
        spans.append(span)
        rest = rest[end:].strip()
    assert {one["name"] for one in spans} == {"raystream.checkpoint", "raystream.snapshot"}
    assert spans[0]["resource"]["attributes"]["service.name"] == "raystream"
