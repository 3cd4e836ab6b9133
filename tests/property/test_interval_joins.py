"""Interval joins give what a model gives that compares every row with every other."""

from __future__ import annotations

import random

import numpy as np
import pytest
from cases_interval_join import KINDS, LEFT, RIGHT, case
from conformance import Case, Right, Story, at_random, one_by_one
from conformance_run import Run
from conformance_scaling import rescaled
from hypothesis import given
from hypothesis import strategies as st

from raystream.keyed.first_partners import first_partners, ranges_once
from raystream.keyed.rows_due import RowsDue
from raystream.keyed.time_segments import TimeSegments, spread

KEYS = [None, "", "a", "b", "c", "d"]
HOT = [*KEYS, *["hot"] * 20]


def told(seed: int, count: int, jitter: int, keys: list[str | None]) -> Story:
    """Tell rows of both sides, in any order, some late, between watermarks that rise."""
    rng = random.Random(seed)
    items: Story = []
    time = watermark = -30
    left = count
    while left > 0:
        side, schema = rng.choice([(list, LEFT), (Right, RIGHT)])
        some = rng.choice([1, 2, 5, 20])
        left -= some
        rows = []
        for _ in range(some):
            time += rng.choice([0, 0, 1, 2])
            row = {"k": rng.choice(keys), "i": rng.randint(0, 3), "l": [1], "f": 0.5}
            rows.append((time - rng.randint(0, jitter), {name: row[name] for name in schema.names}))
        items.append(side(rows))
        if rng.random() < 0.4:
            watermark = max(watermark, time - rng.randint(0, 2 * jitter))
            items.append(watermark)
    return items


bounds = st.tuples(st.integers(-40, 40), st.integers(0, 40) | st.just(0) | st.just(10_000)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)
cases = st.builds(
    lambda how, ends, seed, count, jitter, keys: case(
        how, ends, told(seed, count, jitter, keys), name="drawn"
    ),
    st.sampled_from(KINDS),
    bounds,
    st.integers(0, 100_000),
    st.integers(0, 120),
    st.sampled_from([1, 8, 50]),
    st.sampled_from([KEYS, HOT]),
)


@given(drawn=cases, seed=st.integers(0, 9), starved=st.booleans())
def test_the_rows_are_those_of_the_model_and_none_is_behind_the_watermark(drawn, seed, starved):
    cut = at_random if seed else one_by_one
    Run(drawn, starved=starved, views=True).play(cut(drawn.story, random.Random(seed)))


@pytest.mark.slow
@given(drawn=cases, every=st.integers(1, 5), incremental=st.booleans())
def test_an_operator_that_takes_up_what_another_kept_goes_on(drawn, every, incremental):
    Run(drawn, starved=True, incremental=incremental).play(drawn.story, reborn_every=every)


@pytest.mark.slow
@given(drawn=cases, parallelisms=st.tuples(*3 * [st.integers(1, 4)]))
def test_state_moves_to_other_numbers_of_subtasks(drawn, parallelisms):
    rescaled(drawn, drawn.story, parallelisms)


def test_the_stories_have_what_is_to_be_tested():
    drawn: Case = case("full", (-5, 3), told(3, 120, 8, HOT))
    assert drawn.late
    rows = drawn.expect(drawn.story, True)
    assert len({time for time, _ in rows}) > 10
    assert any("i_right" in str(row) for _, row in rows)


# The structures below ----------------------------------------------------------------------------


def drawn_rows(seed: int, count: int, span: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, count) ** 2, rng.integers(-span, span, count)


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 30), max_size=8),
    span=st.sampled_from([1, 5, 1_000]),
)
def test_segments_find_the_rows_of_a_key_and_a_span_of_time(seed, counts, span):
    segments = TimeSegments()
    added: list[tuple[int, int]] = []
    for at, count in enumerate(counts):
        slots, times = drawn_rows(seed + at, count, span)
        segments.append(slots, times, len(added) + np.arange(count))
        added += zip(slots.tolist(), times.tolist(), strict=True)
    slots, lows = drawn_rows(seed + 99, 20, span)
    highs = lows + np.arange(20) % 7
    firsts, stops = segments.find(slots, lows, highs)
    for slot, low, high, first, stop in zip(slots, lows, highs, firsts, stops, strict=True):
        wanted = [
            (time, number)
            for number, (one, time) in enumerate(added)
            if one == slot and low <= time <= high
        ]
        places = np.arange(first, stop)
        pairs = [segments.times(places).tolist(), segments.numbers(places).tolist()]
        assert list(zip(*pairs, strict=True)) == sorted(wanted)


@given(
    seed=st.integers(0, 10_000),
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(-30, 30), st.integers(1, 9))),
)
def test_rows_are_taken_in_order_of_time(seed, steps):
    due = RowsDue()
    waiting: list[tuple[int, int]] = []
    added = 0
    for at, (count, until, most) in enumerate(steps):
        times = np.random.default_rng(seed + at).integers(-30, 30, count)
        due.append(times, added + np.arange(count))
        waiting += zip(times.tolist(), range(added, added + count), strict=True)
        added += count
        over = sorted(time for time, _ in waiting if time <= until)
        taken = due.take(until, most).tolist()
        time_of = {number: time for time, number in waiting}
        assert [time_of[number] for number in taken] == over[:most]
        waiting = [pair for pair in waiting if pair[1] not in taken]
        assert due.count == len(waiting)
        assert due.numbers().tolist() == sorted(number for _, number in waiting)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), span=st.sampled_from([2, 40]))
def test_the_first_partner_is_the_one_that_came_first(seed, count, span):
    slots, times = drawn_rows(seed, count, span)
    order = np.lexsort((times, slots))
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, count, 30)
    wanted, lows = slots[picked], times[picked] - rng.integers(0, 9, 30)
    highs = times[picked] + rng.integers(0, 9, 30)
    found = first_partners((slots[order], times[order]), order, wanted, (lows, highs))
    for slot, low, high, row in zip(wanted, lows, highs, found, strict=True):
        fits = (slots == slot) & (low <= times) & (times <= high)
        assert order[row] == np.flatnonzero(fits)[0]


@pytest.mark.parametrize("span", [2, 6, 50])
def test_ranges_of_one_key_hold_each_place_once(span):
    rng = np.random.default_rng(span)
    slots = np.sort(rng.integers(0, 4, 40))
    starts = slots * 2_000 % 5_000 + 7
    firsts, stops = starts + 0, starts + 0
    for slot in range(4):
        mine = slots == slot
        firsts[mine] += np.sort(rng.integers(0, span, mine.sum()))
        stops[mine] = np.maximum.accumulate(firsts[mine] + rng.integers(0, span, mine.sum()))
    places = spread(*ranges_once(slots, firsts, stops)).tolist()
    held = [place for a, b in zip(firsts, stops, strict=True) for place in range(a, b)]
    assert sorted(places) == sorted(set(held))
