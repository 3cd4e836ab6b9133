"""Which snapshots a job may start from, and what its first checkpoint owes them."""

from __future__ import annotations

import pytest

import raystream as rs
from raystream.api.restoring import check, home_of
from raystream.errors import RestoreRefused
from raystream.graph.physical import PhysicalPlan
from raystream.graph.planner import physical_plan
from raystream.runtime.local import run
from raystream.storage.jobs import read_manifest, resolve
from raystream.storage.opening import open_store


def plan_of(folder, *, uid="count", rows=3, most=128, kind="map") -> PhysicalPlan:
    job = rs.Job("counted", checkpoint=str(folder), max_parallelism=most)
    keyed = job.from_items(list(range(rows))).key_by(lambda row: row % 2)
    if kind == "map":
        out = keyed.map_with_state(lambda count, row: (count + 1, count + 1), 0)
    else:
        out = keyed.reduce(lambda one, other: one + other)
    out.uid(uid).map(str).sink(rs.PrintSink())
    return physical_plan(job._draft.plan())


def ran(folder, **more) -> str:
    """Run a job to its end; give the URL of its last checkpoint."""
    plan = plan_of(folder, **more)
    home = home_of(plan, None, allow_dropped=False, where="")
    assert home is not None
    run(plan, home=home)
    found = resolve("latest", open_store(str(folder)).url, plan.job)
    return found.url


def refused(url, plan, *, allow_dropped=False):
    check(resolve(url, None, plan.job), plan, allow_dropped, "here")


def test_c36_state_whose_operator_is_gone_is_refused_by_name_unless_it_may_go(tmp_path, capsys):
    url = ran(tmp_path / "a")
    with pytest.raises(RestoreRefused, match='"count"'):
        refused(url, plan_of(tmp_path / "b", uid="counter"))
    refused(url, plan_of(tmp_path / "b", uid="counter"), allow_dropped=True)
    refused(url, plan_of(tmp_path / "b"))


def test_c36_state_of_another_kind_of_operator_is_refused(tmp_path, capsys):
    url = ran(tmp_path / "a")
    with pytest.raises(RestoreRefused, match="was a map_with_state and is a reduce"):
        refused(url, plan_of(tmp_path / "b", kind="reduce"))


def test_c29_another_max_parallelism_is_refused_saying_why(tmp_path, capsys):
    url = ran(tmp_path / "a")
    with pytest.raises(RestoreRefused, match="max_parallelism 128, the job has 64") as caught:
        refused(url, plan_of(tmp_path / "b", most=64))
    assert "key groups" in str(caught.value.hint)


def test_c35_two_jobs_start_from_one_snapshot_and_their_first_checkpoints_stand_alone(
    tmp_path, capsys
):
    url = ran(tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    for name in ("b", "c"):
        plan = plan_of(tmp_path / name, rows=5)
        home = home_of(plan, url, allow_dropped=False, where="")
        assert home is not None
        run(plan, home=home)
        found = resolve("latest", open_store(str(tmp_path / name)).url, plan.job)
        root = open_store(found.root)
        manifest = read_manifest(root, found.manifest)
        chunks = {part.chunk for one in manifest.subtasks for part in one.parts}
        assert chunks
        assert chunks <= {f"chunks/{chunk}" for chunk in root.list("chunks")}
    after = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert after == before
