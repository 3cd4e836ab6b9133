"""A coordinator of two thousand subtasks: a whole life, and what each step of it asks for."""

from __future__ import annotations

from fleet import Fleet

SUBTASKS = 2_000
CHECKPOINTS = 3


def test_a_job_of_two_thousand_subtasks_lives_its_whole_life():
    fleet = Fleet(SUBTASKS)
    fleet.run(CHECKPOINTS)
    assert (fleet.machine.state, fleet.machine.error) == ("finished", None)
    half, rounds = SUBTASKS // 2, CHECKPOINTS + 1  # and the final one
    assert [one.status for one in fleet.machine.checkpoints] == ["completed"] * rounds
    asked = fleet.ordered
    assert asked["Start"] == SUBTASKS
    assert asked["Trigger"] == asked["Completed"] == half * rounds
    assert asked["Commit"] == half * rounds
    assert fleet.steps["Acked"] == SUBTASKS * rounds
    # No event but those that concern everybody asks for more than a word or two.
    told = sum(asked.values())
    assert told <= 6 * SUBTASKS * (rounds + 2)
