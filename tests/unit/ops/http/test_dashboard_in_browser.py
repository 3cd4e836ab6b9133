"""A browser draws a job whose figures stand still: what the page shows is what the API says."""

from __future__ import annotations

import dataclasses

import pytest
from browsing import a_browser, looking
from http_jobs import FakeJob, FakeJobs, ran, report_of, subtask_of

from raystream.flow.control import Spread
from raystream.flow.ids import SubtaskId
from raystream.ops.http.serving import Server

pytestmark = [pytest.mark.slow]

JOB = "hot%20items"
MANY = 500


class Drawn(FakeJob):
    """The job, with the lines of its graph, and something to do."""

    def report(self):
        report = report_of(self.shown)
        before = {"map_with_state#1": "users/a", "map_with_state#2": "users/a"}
        before |= {"sink#1": "map_with_state#1", "sink#2": "map_with_state#2"}
        operators = tuple(
            dataclasses.replace(
                one,
                inputs=(before[one.name],) if one.name in before else (),
                busy_spread=Spread(0.2, 0.5, 0.9),
            )
            for one in report.status.operators
        )
        return dataclasses.replace(
            report, status=dataclasses.replace(report.status, operators=operators)
        )


class Wide(Drawn):
    """The same job with many subtasks of each operator."""

    def report(self):
        report = super().report()
        status = dataclasses.replace(
            report.status,
            operators=tuple(
                dataclasses.replace(one, parallelism=MANY) for one in report.status.operators
            ),
        )
        return dataclasses.replace(report, status=status, subtasks=tuple(self._subtasks()))

    def _subtasks(self):
        for chain in self.shown["chains"]:
            for index in range(MANY):
                one = subtask_of(chain, 0)
                figures = dataclasses.replace(
                    one.figures, subtask=SubtaskId(chain["name"], index, MANY)
                )
                yield dataclasses.replace(one, figures=figures)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    known = ran(tmp_path_factory.mktemp("kept"))
    return Drawn(known.root, known.shown)


@pytest.fixture(scope="module")
def server(job):
    with Server(FakeJobs(job), every_s=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with a_browser() as started:
        yield started


@pytest.fixture(scope="module")
def look(browser, server, tmp_path_factory):
    with looking(browser, server, tmp_path_factory.mktemp("shots")) as looker:
        yield looker


def short(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def test_jobs_are_listed_and_one_is_opened(look):
    look.open()
    look.page.wait_for_selector("tr[data-job='hot items']")
    assert "token" not in look.page.url
    said = {one["name"]: one for one in look.ask("/jobs")["jobs"]}
    rows = {text.split("\t")[0]: text.split("\t") for text in look.texts("#jobs tbody tr")}
    assert rows.keys() == said.keys()
    assert rows["hot items"][1].strip() == said["hot items"]["status"]
    look.shot("jobs")
    look.page.click("text=hot items")
    look.page.wait_for_selector(".node")


def test_the_graph_shows_the_figures_of_the_api(look):
    look.open(f"{JOB}/graph")
    look.page.wait_for_selector(".diagnosis")
    figures = look.ask(f"/jobs/{JOB}/operators")["operators"]
    shown = {
        node.get_attribute("data-operator"): node.text_content()
        for node in look.page.locator(".node").all()
    }
    assert shown.keys() == {one["name"] for one in figures}
    for one in figures:
        text = shown[one["name"]]
        assert f"p={one['parallelism']}" in text
        assert f"in {short(one['rows_in_per_s'])}/s" in text
        assert f"out {short(one['rows_out_per_s'])}/s" in text
    assert look.page.locator(".edge").count() == sum(len(one["inputs"]) for one in figures)
    said = look.ask(f"/jobs/{JOB}/diagnosis")
    assert all(line in look.page.inner_text(".diagnosis") for line in said["watermark"])
    if said["bottleneck"]:
        assert said["bottleneck"]["says"] in look.page.inner_text(".diagnosis")
        assert (
            look.page.get_attribute(".node.held", "data-operator") == said["bottleneck"]["operator"]
        )
    look.shot("graph")


def test_what_comes_and_goes_before_an_element_leaves_its_focus(look):
    look.open(f"{JOB}/graph")
    look.page.wait_for_selector(".node")
    seen = look.page.evaluate(
        """async () => {
            const { h, put } = await import("/static/dom.js");
            const root = h("div"), seen = [];
            const node = (key) => h("button.mine", { "data-key": key });
            document.body.append(root);
            put(root, h("div.graph", null, node("deep")));
            root.firstChild.firstChild.focus();
            put(root, h("div.diagnosis", null, "says"), h("div.graph", null, node("deep")));
            seen.push([root.textContent, [], document.activeElement.dataset.key ?? null]);
            put(root, node("a"), node("b"));
            root.lastChild.focus();
            for (const children of [
                [h("p", null, "banner"), "text", node("a"), node("b")], [node("b")],
                [node("c"), node("b"), node("a")], [h("button.other"), node("b")], [], [node("b")],
            ]) {
                put(root, ...children);
                const keys = [...root.children].map((one) => one.dataset.key ?? null);
                seen.push([root.textContent, keys, document.activeElement.dataset.key ?? null]);
            }
            root.remove();
            return seen;
        }"""
    )
    assert seen == [
        ["says", [], "deep"],
        ["bannertext", [None, "a", "b"], "b"],
        ["", ["b"], "b"],
        ["", ["c", "b", "a"], "b"],
        ["", [None, "b"], "b"],
        ["", [], None],
        ["", ["b"], None],
    ]


def test_keys_lead_through_the_graph_and_the_drawer(look):
    look.open(f"{JOB}/graph")
    look.page.wait_for_selector(".node")
    look.page.keyboard.press("g")
    first = "document.activeElement.dataset.operator"
    assert look.page.evaluate(first) == "users/a"
    look.page.keyboard.press("ArrowRight")
    second = look.page.evaluate(first)
    assert second != "users/a"
    # The graph is drawn anew meanwhile: the key goes to the node, whichever element that is.
    look.page.locator(f".node[data-operator='{second}']").press("Enter")
    look.page.wait_for_selector(".drawer tr[data-subtask]")
    of = [o for o in look.ask(f"/jobs/{JOB}/operators")["operators"] if o["name"] == second]
    assert look.page.inner_text(".drawer [data-figure='rows in']") == str(of[0]["rows_in"])
    assert look.page.locator("tr[data-subtask]").count() == of[0]["parallelism"]
    look.page.keyboard.press("Escape")
    look.page.wait_for_selector(".drawer", state="detached")
    assert look.page.evaluate(first) == second
    look.page.keyboard.press("?")
    assert "sections of a job" in look.page.inner_text("dialog[open]")
    look.page.keyboard.press("Escape")
    look.page.keyboard.press("3")
    look.page.wait_for_selector("section#exceptions")


def test_a_profile_is_a_flame_graph_and_rows_are_tapped(look):
    look.open(f"{JOB}/graph")
    look.page.click(".node >> nth=0")
    look.page.click(".drawer tr[data-subtask='1'] >> text=Profile")
    look.page.wait_for_selector(".flame .frame")
    assert {"all", "t", "f (f.py:1)", "g (g.py:2)"} == set(
        look.page.locator(".flame text").all_text_contents()
    )
    look.page.check(".drawer >> text=Compiled code too")
    look.page.click(".drawer tr[data-subtask='1'] >> text=Profile")
    look.page.wait_for_selector(".drawer >> text=25% in compiled code")
    assert "sha256 (ssl.so:0)" in look.page.locator(".flame text").all_text_contents()
    look.page.click(".drawer >> text=Tap")
    look.page.wait_for_selector(".live tr")
    assert '{"user":"a"}' in look.texts(".live tr td:last-child")
    look.shot("drawer")
    look.page.click("text=End tap")


def test_what_broke_begins_with_the_line_of_the_user(look):
    look.open(f"{JOB}/exceptions")
    look.page.wait_for_selector(".failure")
    said = look.ask(f"/jobs/{JOB}/exceptions")["exceptions"]
    assert look.texts(".failure .line") == [one["where"] or "no line of yours" for one in said]
    assert look.texts(".failure pre") == [f"{one['kind']}: {one['message']}" for one in said]
    look.shot("exceptions")


def test_checkpoints_and_where_the_time_of_one_went(look):
    look.open(f"{JOB}/checkpoints")
    look.page.wait_for_selector("#made tbody tr")
    said = look.ask(f"/jobs/{JOB}/checkpoints")["checkpoints"]
    rows = look.page.locator("#made tbody tr").all()
    assert [row.get_attribute("data-checkpoint") for row in rows] == [
        str(one["checkpoint_id"]) for one in said
    ]
    look.page.click("#made tr[data-checkpoint='3'] button")
    look.page.wait_for_selector(".details .timeline")
    assert look.page.locator(".details .timeline").count() == 2
    look.shot("checkpoints")


def test_a_state_is_looked_up_by_its_key(look):
    look.open(f"{JOB}/state")
    look.page.click("#states tr[data-uid='count'] >> text=Look")
    look.page.wait_for_selector("#found tbody tr")
    assert look.page.locator("#found tbody tr").count() == 3
    look.page.fill("input[name=key]", "a")
    look.page.click("text=Look up")
    look.page.wait_for_selector("#found tbody:not(:has(tr:nth-child(2))) tr")
    row = look.ask(f"/jobs/{JOB}/state/count/state?key=a")["rows"][0]
    assert look.texts("#found tbody td") == [str(value) for value in row.values()]
    assert "pickled" in look.page.inner_text("#states tr[data-uid='loose']")
    look.shot("state")


def test_a_change_is_asked_for_twice_and_then_made(look, job):
    job.asked.clear()
    look.open(f"{JOB}/rescale")
    look.page.click("[aria-label='more of users/a']")
    look.page.wait_for_selector("#sizes tr[data-operator='users/a']:has-text('2 → 3')")
    look.page.wait_for_selector("#sizes:has-text('3 subtasks could take about')")
    look.page.click("section#rescale >> button.primary")
    look.shot("rescale")
    look.page.click("dialog >> button.primary")
    look.page.wait_for_selector(".said.good")
    look.page.click("text=Stop")
    look.page.click("dialog >> text=Not now")
    look.page.click("button:has-text('Savepoint')")
    look.page.fill("dialog input[name=name]", "before")
    look.page.click("dialog >> text=Make it")
    look.page.wait_for_selector(".said.good:has-text('s3://kept/before')")
    assert job.asked == [("rescale", {"users/a": 3}), ("savepoint", "s3://kept/before")]
    look.section("Config")
    assert "max_parallelism" in look.page.inner_text("#settings")
    look.shot("config")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, server, tmp_path, scheme):
    with looking(browser, server, tmp_path, color_scheme=scheme) as look:
        look.page.set_viewport_size({"width": 390, "height": 844})
        look.open(f"{JOB}/graph")
        look.page.wait_for_selector(".diagnosis")
        for section in ["Graph", "Checkpoints", "Exceptions", "Rescale", "State", "Config"]:
            look.section(section)
            wide = look.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, section
            look.shot(f"phone-{scheme}-{section.lower()}")


def test_five_hundred_subtasks_do_not_stutter(browser, job, tmp_path):
    wide = Wide(job.root, job.shown)
    with Server(FakeJobs(wide), every_s=0.1) as server, looking(browser, server, tmp_path) as look:
        look.open(f"{JOB}/graph")
        look.page.wait_for_selector(".node.held")
        look.shot("bottleneck")
        look.page.click(".node >> nth=0")
        look.page.wait_for_selector("tr[data-subtask]")
        assert look.page.locator("tr[data-subtask]").count() == 60
        look.page.click("text=Show 60 more of 500")
        look.page.wait_for_selector("tr[data-subtask='119']")
        assert look.page.locator("tr[data-subtask]").count() == 120
        longest = look.page.evaluate(
            """() => new Promise(done => {
                let last = performance.now(), longest = 0, left = 120
                const tick = () => {
                    const now = performance.now()
                    longest = Math.max(longest, now - last)
                    last = now
                    left -= 1
                    left ? requestAnimationFrame(tick) : done(longest)
                }
                requestAnimationFrame(tick)
            })"""
        )
        look.shot("wide")
        assert longest < 2_000, "a frame that takes so long is seen, even on a machine at work"


def test_without_the_token_it_asks_for_one(browser, server, tmp_path):
    with looking(browser, server, tmp_path) as look:
        look.page.goto(server.url)
        look.page.wait_for_selector(".banner input")
        look.page.fill("input[name=token]", server.token)
        look.page.click("text=Open")
        look.page.wait_for_selector("#jobs")
        assert all("401" in said for said in look.broke)
