"""A job's visible rows are those of an undisturbed run, whatever dies: many seeds, every shape.

``make sim SEEDS=2000`` runs more of them; what once failed is kept in ``regressions.txt``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runs import NAMES, Sharp, live, story, undisturbed

from raystream.testing.world import Faults

SEEDS = int(os.environ.get("SEEDS", "200"))
EACH = 3
"""Seeds of one test: so that a run of many is many tests, and one that fails names its seeds."""

REGRESSIONS = [
    line.split("#")[0].split()
    for line in (Path(__file__).parent / "regressions.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, max(1, SEEDS // len(NAMES)), EACH))
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_an_undisturbed_run(name, first):
    for seed in range(first, first + EACH):
        live(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["diamond", "union"])
def test_at_least_once_loses_no_row(name, seed):
    sharp = Sharp({"mode": "at_least_once", "unaligned_after": None})
    world, ledger = story(name, seed, sharp)
    world.run()
    missing = undisturbed(name).rows - ledger.rows
    assert not missing, f"{name} seed={seed}: missing {list(missing.items())[:5]}"


# A checkpoint of few subtasks may be in time where one of many, in one thread, never is.
PATIENT = {"timeout": "1s"}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, max(EACH, SEEDS // 40), EACH))
@pytest.mark.parametrize("name", NAMES)
def test_words_that_come_twice_or_never_change_nothing(name, first):
    for seed in range(first, first + EACH):
        live(name, seed, Sharp(PATIENT, Faults(1, 1, 0, 0, 1, words=8)))


RESIZED = {
    "nodes go": Sharp(PATIENT, Faults(1, 1, 0, 0, 1, resizes=2, departures=4), lives=1),
    "one at a time": Sharp(
        PATIENT | {"every": "500us", "min_pause": "0s", "unaligned_after": None},
        Faults(1, 0, 0, 0, 1, words=2, resizes=12, departures=1),
        lives=1,
        parallelism=(2, 3),
    ),
    "few blows": Sharp(PATIENT, Faults(1, 1, 0, 0, 1, resizes=4), lives=1),
    "all blows": Sharp(PATIENT, Faults(2, 1, 1, 1, 1, resizes=4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("sharp", RESIZED.values(), ids=RESIZED)
@pytest.mark.parametrize("first", range(0, max(EACH, SEEDS // 80), EACH))
@pytest.mark.parametrize("name", NAMES)
def test_a_job_that_moves_while_it_runs_gives_the_same_rows(name, first, sharp):
    for seed in range(first, first + EACH):
        live(name, seed, sharp)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [(words[0], int(words[1])) for words in REGRESSIONS])
def test_what_once_failed_does_not_fail_again(name, seed):
    live(name.replace("_", " "), seed)
