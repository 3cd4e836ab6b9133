"""Who stays when a job changes its size or leaves nodes: in their places, and on few nodes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from raystream.flow.ids import SubtaskId
from raystream.graph.physical import Resources
from raystream.runtime.seating import Present, seat

CPU, GPU = Resources(num_cpus=1), Resources(num_gpus=1)


def subtasks(chain: str, count: int) -> list[SubtaskId]:
    return [SubtaskId(chain, index, count) for index in range(count)]


def wanted(chain: str, count: int, kind: Resources = CPU) -> dict[SubtaskId, Resources]:
    return dict.fromkeys(subtasks(chain, count), kind)


def test_who_stays_keeps_its_place():
    present = [Present(CPU, node, was) for was, node in zip(subtasks("a", 3), "xyx", strict=True)]
    assert seat(wanted("a", 3), present) == {s: s.index for s in subtasks("a", 3)}


def test_a_job_that_grows_keeps_all_and_seats_the_new_ones_where_none_is():
    old = [Present(CPU, "x", was) for was in subtasks("a", 2)]
    seats = seat(wanted("a", 4), [*old, Present(CPU, "y"), Present(CPU, "y")])
    assert {s.index: index for s, index in seats.items()} == {0: 0, 1: 1, 2: 2, 3: 3}


def test_a_job_that_shrinks_stays_on_the_nodes_that_hold_most_of_it():
    nodes = ["small", "large", "small", "large", "large"]
    present = [Present(CPU, n, was) for was, n in zip(subtasks("a", 5), nodes, strict=True)]
    seats = seat(wanted("a", 3), present)
    assert {nodes[index] for index in seats.values()} == {"large"}
    assert {s.index: index for s, index in seats.items()} == {1: 1, 0: 3, 2: 4}


def test_of_those_on_one_node_whoever_has_a_place_still_stays_in_it():
    crew = [*subtasks("a", 3), *subtasks("b", 2)]
    present = [Present(CPU, "x", was) for was in crew]
    seats = seat(wanted("a", 1) | wanted("b", 2), present)
    assert {s: crew[index] for s, index in seats.items() if s.chain == "b"} == {
        s: s for s in subtasks("b", 2)
    }
    assert seats[subtasks("a", 1)[0]] == 0


def test_of_nodes_that_hold_as_much_the_same_one_is_left_by_all_chains():
    nodes = ["x", "y"] * 2
    present = [
        Present(kind, node, was)
        for chain, kind in (("a", CPU), ("b", GPU))
        for was, node in zip(subtasks(chain, 4), nodes, strict=True)
    ]
    seats = seat(wanted("a", 2) | wanted("b", 2, GPU), present)
    assert {present[index].node for index in seats.values()} == {"x"}


def test_who_was_given_something_else_is_of_no_use():
    assert seat(wanted("a", 1, GPU), [Present(CPU, "x", subtasks("a", 1)[0])]) == {}


kinds = st.sampled_from([CPU, GPU])
crews = st.lists(st.tuples(kinds, st.sampled_from(["", "x", "y", "z"])), max_size=8)


@given(crews, st.integers(0, 5), st.integers(0, 5))
def test_all_that_fit_are_seated_once_and_nobody_else(crew, cpus, gpus):
    present = [Present(kind, node, SubtaskId("a", i, 9)) for i, (kind, node) in enumerate(crew)]
    asked = wanted("a", cpus) | wanted("b", gpus, GPU)
    seats = seat(asked, present)
    assert len(set(seats.values())) == len(seats)
    assert all(asked[s] == present[index].resources for s, index in seats.items())
    there = Counter(kind for kind, _ in crew)
    assert len(seats) == min(cpus, there[CPU]) + min(gpus, there[GPU])


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=9), st.data())
def test_no_other_choice_leaves_more_nodes(nodes, data):
    count = data.draw(st.integers(1, len(nodes)))
    present = [Present(CPU, n, was) for was, n in zip(subtasks("a", 9), nodes, strict=False)]
    used = {nodes[index] for index in seat(wanted("a", count), present).values()}
    largest = sorted(Counter(nodes).values(), reverse=True)
    assert sum(largest[: len(used) - 1]) < count <= sum(largest[: len(used)])
