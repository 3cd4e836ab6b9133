"""A browser drives the dashboard while a job runs on Ray: it looks, it changes, it looks up."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from browsing import a_browser, looking
from resized import COUNTED, Paced, numbered

import raystream as rs
from raystream.ops.http.cluster import ClusterJobs
from raystream.ops.http.serving import Server

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

NAME = "watched"
KEYS = 50
SOON_MS = 45_000


class Breaks:
    """Counts rows, and breaks once: when it sees a late row for the first time."""

    def __init__(self, mark):
        self._mark = mark

    def __call__(self, state, row):
        if row["i"] == 2_000 and not self._mark.exists():
            self._mark.touch()
            raise ValueError("planted: the 2,000th row of a split")
        return numbered(state, row)


def job_of(folder):
    checkpoint = rs.Checkpointing(folder / "kept", every="500ms")
    job = rs.Job(NAME, checkpoint=checkpoint, parallelism=1)
    read = job.source(Paced(KEYS, 2_000), name="read")
    breaks = Breaks(folder / "broke")
    counted = read.key_by("k").map_with_state(breaks, type=pa.int64(), schema=COUNTED)
    counted.named("count").uid("by-key").sink(rs.FileSink(folder / "out", "parquet"))
    return job


@pytest.mark.timeout(500)
def test_a_job_is_watched_and_changed(tmp_path):
    handle = job_of(tmp_path).submit()
    try:
        with (
            Server(ClusterJobs(), every_s=0.5) as server,
            a_browser() as browser,
            looking(browser, server, tmp_path / "shots") as look,
        ):
            look.page.set_default_timeout(SOON_MS)
            look.open(f"{NAME}/graph")
            look.page.wait_for_selector(".node")
            graph(look)
            broke(look)
            drawer(look)
            savepoint(look, tmp_path)
            checkpoints(look)
            rescaled(look)
            state(look)
    finally:
        handle.end()


def rows_of(look, operator):
    said = look.ask(f"/jobs/{NAME}/operators")["operators"]
    return next(one["rows_in"] for one in said if one["name"] == operator)


def graph(look):
    operators = look.ask(f"/jobs/{NAME}/operators")["operators"]
    shown = {n.get_attribute("data-operator"): n for n in look.page.locator(".node").all()}
    assert shown.keys() == {one["name"] for one in operators}
    assert {"read", "count"} <= shown.keys()
    for one in operators:
        assert f"p={one['parallelism']}" in shown[one["name"]].text_content()
    assert look.page.locator(".edge").count() == len(operators) - 1
    look.page.wait_for_selector(".diagnosis")


def broke(look):
    look.section("Exceptions")
    look.page.wait_for_selector(".failure")
    (said,) = look.ask(f"/jobs/{NAME}/exceptions")["exceptions"]
    assert look.texts(".failure .line") == [said["where"]]
    assert "test_dashboard_on_ray.py" in said["where"]
    assert "planted" in look.page.inner_text(".failure pre")
    look.page.wait_for_selector(".status.is-running")
    look.shot("ray-exceptions")


def drawer(look):
    """Figures grow while the page is read: they lie between two answers of the API."""
    look.section("Graph")
    look.page.click(".node[data-operator='count']")
    look.page.wait_for_selector(".drawer tr[data-subtask='0']")
    before = rows_of(look, "count")
    figure = ".drawer [data-figure='rows in']"
    is_newer = """([figure, before]) =>
        Number(document.querySelector(figure).innerText.replaceAll(',', '')) > before"""
    look.page.wait_for_function(is_newer, arg=[figure, before])
    shown = int(look.page.inner_text(figure).replace(",", ""))
    assert before < shown <= after(look, shown)
    look.page.click(".drawer >> text=Tap")
    look.page.wait_for_selector(".live tr")
    assert '"n":' in look.texts(".live tr td:last-child")[0]
    look.page.click("text=End tap")
    look.page.click(".drawer tr[data-subtask='0'] >> text=Profile")
    look.page.wait_for_selector(".flame .frame")
    look.shot("ray-drawer")
    look.page.keyboard.press("Escape")
    look.page.wait_for_selector(".drawer", state="detached")


def after(look, shown):
    """Ask until the API has come as far as the page; both hear from the same report."""
    give_up_s = time.monotonic() + 30
    while (rows := rows_of(look, "count")) < shown and time.monotonic() < give_up_s:
        pass
    return rows


def savepoint(look, folder):
    look.page.click("button:has-text('Savepoint')")
    look.page.fill("dialog input[name=name]", "by-hand")
    look.page.click("dialog >> text=Make it")
    look.page.wait_for_selector(".said.good:has-text('by-hand')")
    url = look.page.inner_text(".said.good").split(": ", 1)[1].strip()
    assert {one.uid for one in rs.state.list(url)} >= {"by-key"}


def checkpoints(look):
    look.section("Checkpoints")
    look.page.wait_for_selector("#made tr:has-text('savepoint')")
    rows = [text.split("\t") for text in look.texts("#made tbody tr")]
    said = {
        str(one["checkpoint_id"]): one
        for one in look.ask(f"/jobs/{NAME}/checkpoints")["checkpoints"]
    }
    known = [row for row in rows if row[0].strip() in said and row[1].startswith("completed")]
    assert known
    for row in known:
        assert row[6].strip() == (
            "savepoint" if said[row[0].strip()]["savepoint"] else "checkpoint"
        )
    look.page.click(f"#made tr[data-checkpoint='{known[0][0].strip()}'] button")
    look.page.wait_for_selector(".details .timeline")
    look.shot("ray-checkpoints")


def rescaled(look):
    look.section("Rescale")
    look.page.click("[aria-label='more of count']")
    look.page.wait_for_selector("#sizes tr[data-operator='count']:has-text('1 → 2')")
    look.page.click("section#rescale >> button.primary")
    look.page.click("dialog >> button.primary")
    look.page.wait_for_selector(".said.good:has-text('Rescaled')")
    look.page.wait_for_selector("#pauses tr:has-text('rescaled')")
    assert look.ask(f"/jobs/{NAME}/rescales")["sizes"]["count"] == 2
    look.shot("ray-rescale")
    look.section("Graph")
    look.page.wait_for_selector(".node[data-operator='count'] >> text=p=2")
    look.shot("ray-graph")


def state(look):
    look.section("State")
    look.page.click("#states tr[data-uid='by-key'] >> text=Look")
    look.page.wait_for_selector("#found tbody tr")
    look.page.fill("input[name=key]", "7")
    look.page.click("text=Look up")
    look.page.wait_for_selector("#found tbody:not(:has(tr:nth-child(2))) tr")
    cells = look.texts("#found tbody td")
    assert cells[0] == "7"
    assert int(cells[-1]) > 0
    look.shot("ray-state")
