"""Watermarks of several splits, case by case, from written sources to what comes out."""

from __future__ import annotations

import pytest

import raystream as rs

T = rs.testing
W = T.Watermark


def timeline(*moments):
    """Turn moments, each ``(split, item, …)`` and a second apart, into splits that stay open."""
    count = 1 + max(split for split, *_ in moments)
    splits = [[] for _ in range(count)]
    for split, *items in moments:
        splits[split] += items
        for one in splits:
            one.append(T.Advance("1s"))
    return T.Source(splits=[[*one, T.Open()] for one in splits])


def events(source, seed, parallelism=1):
    return T.run(rs.Job("t").source(source), seed=seed, parallelism=parallelism).events


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_an_idle_split_leaves_and_rejoins_when_it_has_caught_up(seed, parallelism):
    moments = [(0, W(5)), (1, W(3)), (1, T.Idle()), (1, T.Active(), W(4))]
    moments += [(0, W(8)), (1, W(10)), (0, W(12))]
    assert events(timeline(*moments), seed, parallelism) == [W(3), W(5), W(8), W(10)]


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_when_all_are_idle_the_furthest_counts_and_then_the_stream_is(seed, parallelism):
    moments = [(0, W(5)), (1, W(5)), (2, W(20)), (2, T.Idle()), (1, T.Idle()), (0, W(9))]
    moments += [(1, T.Active()), (0, T.Idle()), (1, T.Idle())]
    assert events(timeline(*moments), seed, parallelism) == [W(5), W(9), W(20), T.Idle()]


@pytest.mark.parametrize("seed", range(4))
def test_a_split_that_has_ended_holds_nothing_back(seed):
    ended, open_ = [W(5), T.Advance("2s")], [W(3), T.Advance("1s"), T.Idle(), T.Advance("2s")]
    source = T.Source(splits=[ended, [*open_, T.Active(), W(6), T.Open()]])
    assert events(source, seed) == [W(3), W(5), T.Idle(), T.Active(), W(6)]


@pytest.mark.parametrize("seed", range(4))
def test_an_idle_split_brings_nothing_new_from_one_that_has_ended(seed):
    idle = [W(3), T.Advance("2s"), T.Idle(), T.Advance("1s"), T.Active(), W(6)]
    source = T.Source(splits=[[W(5), T.Advance("1s")], idle])
    assert events(source, seed) == [W(3), T.Idle(), T.Active(), W(6), W(T.MAX)]


@pytest.mark.parametrize("seed", range(4))
def test_a_split_without_a_word_holds_time_until_it_has_been_silent_for_its_idleness(seed):
    strategy = rs.WatermarkStrategy(lambda row: row, idleness="10s")
    splits = [
        [5, T.Advance("9s"), 6, T.Advance("5s"), 8, T.Open()],
        [T.Advance("12s"), T.Open()],
    ]
    read = rs.Job("t").source(T.Source(splits=splits), watermark=strategy)
    said = T.run(read, seed=seed).events
    assert said == [T.At(5, 5), T.At(6, 6), W(5), T.At(8, 8), W(7)]


def test_a_row_wakes_an_idle_split():
    source = T.Source([T.At(1, "a"), T.Idle(), T.At(2, "b"), T.Open()])
    assert events(source, 0) == [T.At(1, "a"), T.Idle(), T.Active(), T.At(2, "b")]
