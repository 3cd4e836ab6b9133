"""Start a job from a snapshot of itself as it was: at another parallelism, changed, or moved."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import lives
import pyarrow as pa
import pytest

import raystream as rs

S = rs.micros("1s")
ROWS = [{"k": i * 5 % 7, "v": i, "t": (i + i % 3) * S} for i in range(240)]
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("t", pa.int64())])


class Reminders(rs.KeyedProcessFunction):
    """Gives, ten seconds behind each row, how many rows its key had by then."""

    def open(self, ctx):
        self.seen = ctx.state(rs.ValueState("seen", type=pa.int64(), default=0))
        self.last = ctx.state(rs.ListState("last"))

    def process(self, row, ctx):
        self.seen.update(self.seen.value() + 1)
        self.last.add(row["v"])
        ctx.timers.register_event_time(ctx.timestamp + 10 * S)

    def on_timer(self, timestamp, ctx):
        yield {"k": ctx.key, "seen": self.seen.value(), "last": max(self.last.get())}
        self.last.update(self.last.get()[-3:])


def counted(state, row):
    return state + 1, {"k": row["k"], "n": state + 1}


BRANCHES = {
    "count": lambda keyed: keyed.map_with_state(counted, 0),
    "totals": lambda keyed: keyed.aggregate(n=rs.count(), total=rs.sum("v")),
    "windows": lambda keyed: keyed.window(rs.Tumbling("20s")).aggregate(top=rs.max("v")),
    "sessions": lambda keyed: keyed.window(rs.Session("4s")).aggregate(n=rs.count()),
    "reminders": lambda keyed: keyed.process(Reminders()),
    "ranks": lambda keyed: keyed.top_k(2, "v"),
    "firsts": lambda keyed: keyed.deduplicate(),
}


def build(sink, *, parallelism=2, branches=tuple(BRANCHES), cut=False, name="all", **settings):
    """Make a job of some branches; ``cut`` makes each operator a subtask of its own."""
    settings = {"checkpoint": None, **settings}
    job = rs.Job(name, parallelism=parallelism, config={"batch_rows_max": 16}, **settings)
    times = rs.WatermarkStrategy("t", out_of_orderness="5s")
    rows = job.from_items(ROWS, schema=SCHEMA, watermark=times).named("read").uid("read")
    given = []
    for branch in branches:
        out = BRANCHES[branch](rows.key_by("k")).uid(branch)
        if cut:
            out.disable_chaining()
        given.append(out.map(lambda row, branch=branch: (branch, *row.items())))
    given[0].union(*given[1:]).sink(sink)
    return job


def kept(rows, branches=BRANCHES):
    """Give the rows of some branches, in an order of their own."""
    return sorted(repr(row) for row in rows if row[0] in branches)


@pytest.fixture(scope="module")
def straight():
    sink = rs.MemorySink()
    build(sink).run(runtime="local")
    assert len(kept(sink.rows)) > 500
    return sink.rows


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stop a job behind its first hundred rows; give the savepoint, and the rows."""
    sink = rs.MemorySink()
    url = lives.savepoint(build(sink), tmp_path_factory.mktemp("kept") / "stopped", rows=100)
    assert 100 < len(sink.rows) < 900
    return url, sink.rows


def refused(url, *, allow=False, **changes):
    """Give what a job says to a snapshot that it does not take."""
    with pytest.raises(rs.RaystreamError) as caught:
        build(rs.MemorySink(), **changes).run(
            runtime="local", from_snapshot=str(url), allow_dropped_state=allow
        )
    return caught.value


def go_on(url, **changes):
    sink = rs.MemorySink()
    build(sink, **changes).run(runtime="local", from_snapshot=str(url))
    return sink.rows


@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_a_job_goes_on_at_another_parallelism(straight, stopped, parallelism):
    url, before = stopped
    assert kept(before + go_on(url, parallelism=parallelism)) == kept(straight)


def test_a_job_moves_from_two_subtasks_to_three_to_one(straight, tmp_path):
    one, two = rs.MemorySink(), rs.MemorySink()
    first = lives.savepoint(build(one), tmp_path / "1", rows=60)
    second = lives.savepoint(build(two, parallelism=3), tmp_path / "2", rows=60, start=first)
    three = go_on(second, parallelism=1)
    assert all([one.rows, two.rows, three])
    assert kept(one.rows + two.rows + three) == kept(straight)


def test_a_savepoint_on_the_way_lets_the_job_be(straight, tmp_path):
    sink = rs.MemorySink()
    job = build(sink)
    url = lives.savepoint(job, tmp_path / "way", rows=60, stop=False)
    assert rs.state.read(url, "totals").num_rows == 7
    assert len(go_on(url)) < len(straight)


def test_a_job_that_is_drained_has_given_all_of_what_it_read(tmp_path):
    sink = rs.MemorySink()
    url = lives.savepoint(build(sink, branches=["windows"]), tmp_path / "it", rows=60, drain=True)
    highest = max(dict(row[1:])["top"] for row in sink.rows)
    assert 60 < highest < 240
    assert rs.state.read(url, "windows", "windows").num_rows == 0


def test_operators_may_come_and_change_places_and_chains(straight, stopped):
    url, before = stopped
    after = go_on(url, branches=[*reversed(BRANCHES)], cut=True)
    assert kept(before + after) == kept(straight)


def test_an_operator_that_is_new_begins_with_nothing(straight, tmp_path):
    sink = rs.MemorySink()
    few = ["count", "windows"]
    url = lives.savepoint(build(sink, branches=few), tmp_path / "few", rows=100)
    after = go_on(url, branches=[*few, "totals"])
    assert kept(sink.rows + after, few) == kept(straight, few)
    firsts = [dict(row[1:])["n"] for row in after if row[0] == "totals"]
    assert min(firsts) == 1
    assert max(firsts) < max(dict(row[1:])["n"] for row in straight if row[0] == "totals")


def test_an_operator_that_is_gone_is_refused_by_its_uid_unless_its_state_may_go(straight, stopped):
    url, before = stopped
    left = [branch for branch in BRANCHES if branch != "totals"]
    error = refused(url, branches=left)
    assert isinstance(error, rs.RestoreRefused)
    assert '"totals"' in str(error)
    assert "allow_dropped_state=True" in str(error)
    sink = rs.MemorySink()
    build(sink, branches=left).run(runtime="local", from_snapshot=url, allow_dropped_state=True)
    assert kept(before + sink.rows, left) == kept(straight, left)


def test_an_operator_keeps_its_state_under_another_name(tmp_path):
    def job(sink, name):
        made = rs.Job("names", config={"batch_rows_max": 16})
        read = made.from_items(ROWS, schema=SCHEMA).named("read")
        read.key_by("k").map_with_state(counted, 0).uid("count").named(name).sink(sink)
        return made

    before, after = rs.MemorySink(), rs.MemorySink()
    url = lives.savepoint(job(before, "old"), tmp_path / "it", rows=100)
    job(after, "new").run(runtime="local", from_snapshot=url)
    counts = [row["n"] for row in before.rows + after.rows if row["k"] == 3]
    assert counts == list(range(1, len(counts) + 1))


def test_another_verb_under_a_uid_is_refused(stopped, monkeypatch):
    monkeypatch.setitem(BRANCHES, "firsts", lambda keyed: keyed.map_with_state(counted, 0))
    error = refused(stopped[0])
    assert isinstance(error, rs.RestoreRefused)
    for part in ('"firsts"', "deduplicate", "map_with_state"):
        assert part in str(error)


def test_another_number_of_key_groups_is_refused(stopped):
    error = refused(stopped[0], max_parallelism=64)
    assert isinstance(error, rs.RestoreRefused)
    assert "128" in str(error)
    assert "64" in str(error)


def test_another_key_is_refused(stopped, monkeypatch):
    monkeypatch.setitem(
        BRANCHES, "count", lambda keyed: keyed.map(dict).key_by("v").map_with_state(counted, 0)
    )
    assert "state was kept by other keys" in str(refused(stopped[0]))


def test_a_job_of_another_name_starts_from_a_snapshot_by_its_uids(straight, stopped):
    url, before = stopped
    assert kept(before + go_on(url, name="another")) == kept(straight)


def test_a_savepoint_may_be_moved(straight, stopped, tmp_path):
    url, before = stopped
    shutil.copytree(url, tmp_path / "elsewhere")
    moved = go_on(tmp_path / "elsewhere")
    assert kept(before + moved) == kept(straight)
    assert kept(go_on(tmp_path / "elsewhere" / "manifest.json")) == kept(moved)


# What cannot be read -------------------------------------------------------------------------


def read_all(url):
    for one in rs.state.list(url):
        rs.state.read(url, one.uid, one.name, allow_pickle=True)


@pytest.fixture
def copied(stopped, tmp_path):
    return Path(shutil.copytree(stopped[0], tmp_path / "copy"))


def test_a_chunk_that_was_cut_is_named(copied):
    chunk = max((copied / "chunks").iterdir(), key=lambda path: path.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-10])
    error = refused(copied)
    assert chunk.name in str(error)
    assert "checksum" in str(error)
    with pytest.raises(rs.RaystreamError, match="checksum"):
        read_all(str(copied))


def test_a_chunk_that_is_gone_is_named(copied):
    chunk = next((copied / "chunks").iterdir())
    chunk.unlink()
    error = refused(copied)
    assert chunk.name in str(error)
    assert "there is no such object" in str(error)


def test_a_manifest_of_a_newer_release_says_to_upgrade(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    error = refused(copied)
    assert "format is 99" in str(error)
    assert "upgrade raystream" in str(error)


def test_a_manifest_that_is_none_is_no_snapshot(copied):
    (copied / "manifest.json").write_text("{}")
    assert "is no snapshot" in str(refused(copied))


def test_a_folder_that_is_not_there_is_told(tmp_path):
    error = refused(tmp_path / "nowhere")
    assert isinstance(error, rs.ConfigError)
    assert f"there is nothing at {tmp_path / 'nowhere'}" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(rs.RaystreamError, match="permission"):
        build(rs.MemorySink(), checkpoint=str(tmp_path / "ckpt")).run(runtime="local")


def test_a_directory_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(rs.RaystreamError, match="file"):
        build(rs.MemorySink(), checkpoint=str(tmp_path / "file")).run(runtime="local")


def test_latest_without_a_checkpoint_directory_is_refused():
    assert "the job has none" in str(refused("latest"))


def test_latest_where_there_is_nothing_starts_empty(straight, tmp_path):
    assert kept(go_on("latest", checkpoint=str(tmp_path))) == kept(straight)
