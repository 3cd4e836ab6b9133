"""Ray exports a job's metrics beside its own, and a job says where it is stuck."""

from __future__ import annotations

import threading
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import raystream as rs
from raystream.coordinator.diagnosis import Cause, diagnose

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("ray_cluster"),
]

OUTER_S = 90
SECOND_US = 1_000_000


class Ticks(rs.Source):
    """A number every hundredth of a second or so, without end."""

    bounded = False

    def splits(self):
        return [rs.Split("a")]

    def open(self, split, position):
        return TickReader()


class TickReader(rs.Reader):
    def __init__(self):
        self.next, self.due_s = 0, 0.0

    def poll(self, max_rows):
        if time.monotonic() < self.due_s:
            return None
        self.due_s = time.monotonic() + 0.01
        self.next += 1
        return [self.next]

    def position(self):
        return self.next


class Nowhere(rs.Sink):
    def open(self, ctx):
        return NowhereWriter()


class NowhereWriter(rs.Writer):
    def write(self, batch):
        pass


def wait_until(condition, what):
    deadline = time.monotonic() + OUTER_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still waiting until {what}"
        threading.Event().wait(0.2)
    return value


def exported() -> dict[str, list]:
    """Give what Ray exports of ours, by metric."""
    import ray  # not where tests are only collected

    node = next(one for one in ray.nodes() if one["Alive"])
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    lines = [line for line in text.split("\n") if "ray_raystream" in line]
    families = text_string_to_metric_families("\n".join(lines) + "\n")
    return {family.name: family.samples for family in families}


def test_metrics_of_a_job_come_out_of_ray_and_a_stuck_function_is_named():
    job = rs.Job("watched", parallelism=2, restart=rs.Restart.none())

    def hangs(row: int) -> int:
        if row == 300:
            threading.Event().wait(3_600)
        return row

    rows = job.source(Ticks(), name="read").rebalance().map(hangs).named("call")
    rows.sink(Nowhere())
    handle = job.submit()
    try:

        def counted():
            samples = exported().get("ray_raystream_num_records_in", [])
            mine = [s for s in samples if s.labels["job"] == "watched" and s.value > 0]
            return {s.labels["operator"] for s in mine} >= {"read", "call"}

        wait_until(counted, "Ray exports rows of both operators")
        found = wait_until(
            lambda: (
                (said := diagnose(handle.report())).bottleneck
                and said.bottleneck.cause is Cause.STUCK
                and said
            ),
            "the function that does not return is named",
        )
        assert found.bottleneck.operator == "call"
        assert "test_metrics_on_ray.py:" in found.bottleneck.sentence
        assert " in hangs" in found.bottleneck.sentence
        report = handle.report()
        process = report.subtasks[0].figures.process
        assert process.rss_bytes > 10_000_000
        assert process.node_ip
        assert [one.after for one in report.changes][:3] == ["opening", "starting", "running"]
        assert handle.metrics()["read"]["num_records_in"] >= 300
        started = report.status.uptime_s
        assert started > 0
    finally:
        handle.cancel()
        status = handle.wait(timeout="60s").status
        handle.end()  # its coordinator would be there to be asked for some minutes
    assert status == "canceled"
