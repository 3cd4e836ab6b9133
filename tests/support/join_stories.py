"""Stories of two sides drawn at random, and the ways to play them: for laws of joins."""

from __future__ import annotations

from typing import Any

from conformance import Case, Right, Story
from conformance_run import Run
from conformance_scaling import rescaled
from hypothesis import strategies as st
from stories import ODD

from raystream.flow.element import MAX_TIME, MIN_TIME

NONE = dict.fromkeys(ODD.names)
KEYS = (("k",), ("k", "f"), ("i",))

ROWS = st.tuples(
    st.integers(-60, 60),
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(["a", "a", "a", "a", "b", "", None]),
            "i": st.sampled_from([1, 1, 2, -(2**40), None]),
            "f": st.sampled_from([0.0, -0.0, float("nan"), None, 1.5]),
            "b": st.sampled_from([True, False]),
        }
    ),
)


@st.composite
def stories(draw: st.DrawFn, times: str = "anywhere") -> Story:
    """Draw batches of both sides and watermarks that rise; rows come in any order, some late."""
    shifts = [0, 0, 0, MAX_TIME - 200, MIN_TIME + 200] if times == "anywhere" else [0]
    shift, level, told = draw(st.sampled_from(shifts)), -61, list[Any]()
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 2)) == 0 and level < 70:
            level += draw(st.integers(1, 30))
            told.append(shift + level)
            continue
        rows = draw(st.lists(ROWS, min_size=1, max_size=12))
        made = [(shift + time, {**NONE, **row}) for time, row in rows]
        told.append(Right(made) if draw(st.booleans()) else made)
    return told


def drive(made: Case, mode: int) -> None:
    """Play a case's story in one of the ways in which a subtask may be driven."""
    match mode:
        case 0:
            Run(made).play(made.story)
        case 1:
            Run(made, starved=True, reborn=True, views=True).play(made.story)
        case 2:
            Run(made, starved=True).play(made.story, reborn_every=2)
        case _:
            rescaled(made, made.story, (1, 3, 2))
