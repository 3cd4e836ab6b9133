"""Savepoints of every release are read by this one, and their jobs go on from them."""

from __future__ import annotations

import json
import shutil

import pytest
import savepoint_corpus as corpus

import raystream as rs

KEPT = sorted(path for path in corpus.CORPUS.glob("*/*") if (path / "manifest.json").exists())

pytestmark = pytest.mark.slow


def expected(path):
    return json.loads((path / "expected.json").read_text(encoding="utf-8"))


def ids(path):
    return f"{path.parent.name}-{path.name}"


def test_every_job_has_a_savepoint_of_this_release():
    assert {path.name for path in KEPT if path.parent.name == corpus.RELEASE} == set(corpus.JOBS)


def test_the_corpus_holds_state_of_every_kind():
    names = {(one.verb, one.name) for path in KEPT for one in rs.state.list(str(path))}
    assert {verb for verb, _ in names} >= {
        "source", "process", "map_with_state", "async_map", "aggregate", "over_aggregate", "top_k",
        "deduplicate", "reduce", "window_aggregate", "window_top_k", "window_rows",
    }  # fmt: skip
    assert {name for _, name in names} >= {"timers", "in flight", "rules", "splits", "panes"}


@pytest.mark.parametrize("path", KEPT, ids=ids)
def test_its_state_reads_as_it_did(path):
    assert corpus.reads(path) == expected(path)["state"]


# How rows and rules meet hangs on the parallelism: that job has one answer at its own.
STARTS = [(path, p) for path in KEPT for p in (1, 2, 3) if path.name != "rules" or p == 2]


@pytest.mark.parametrize(
    ("path", "parallelism"), STARTS, ids=[f"{ids(path)}-{p}" for path, p in STARTS]
)
def test_its_job_goes_on_as_it_did(path, parallelism):
    assert corpus.going_on(path.name, path, parallelism) == expected(path)["rows"]


@pytest.mark.parametrize("name", corpus.JOBS)
def test_what_is_made_now_is_what_was_made(name, tmp_path):
    corpus.make(name, tmp_path / name)
    made = expected(tmp_path / name)
    assert made["rows"] == expected(corpus.CORPUS / corpus.RELEASE / name)["rows"]
    shutil.rmtree(tmp_path / name)
