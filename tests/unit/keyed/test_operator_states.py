"""State of no key: dealt out, given to all, or the same everywhere."""

from __future__ import annotations

import pyarrow as pa
import pytest

import raystream as rs
from raystream.errors import UserError
from raystream.keyed.operator_states import OperatorStates
from raystream.keyed.snapshot import share

LIST = rs.OperatorListState("offsets")
UNION = rs.UnionListState("offsets")
RULES = rs.BroadcastState("rules", key_type=pa.string(), type=pa.int64())


def with_elements(descriptor, *elements):
    states = OperatorStates()
    handle = states.register(descriptor)
    for element in elements:
        handle.add(element)
    return states


def shared(before, parallelism):
    snapshots = [tuple(states.snapshot()) for states in before]
    after = []
    for index in range(parallelism):
        states = OperatorStates()
        states.restore(share(snapshots, index, parallelism, 128))
        after.append(states)
    return after


@pytest.mark.parametrize("type", [None, pa.string()])
def test_c30_lists_are_dealt_out_evenly_in_order(type):
    descriptor = rs.OperatorListState("offsets", type=type)
    before = [with_elements(descriptor, *"ABC"), with_elements(descriptor, *"DE")]
    lists = [states.register(descriptor).get() for states in shared(before, 3)]
    assert lists == [["A", "B"], ["C", "D"], ["E"]]
    same = [states.register(descriptor).get() for states in shared(before, 2)]
    assert same == [["A", "B", "C"], ["D", "E"]]


def test_c30_a_subtask_without_elements_counts():
    before = [with_elements(LIST, *"ABC"), with_elements(LIST)]
    assert [states.register(LIST).get() for states in shared(before, 2)] == [["A", "B", "C"], []]


def test_c30_everyone_gets_all_of_a_union():
    before = [with_elements(UNION, 1), with_elements(UNION, 2, 3)]
    assert [states.register(UNION).get() for states in shared(before, 3)] == [[1, 2, 3]] * 3


def test_c30_broadcast_is_copied():
    before = []
    for value in (1, 2):
        states = OperatorStates()
        states.register(RULES).put("limit", value)
        before.append(states)
    found = [states.register(RULES)["limit"] for states in shared(before, 4)]
    assert found == [1, 2, 1, 2]


def test_a_broadcast_state_has_the_methods_of_a_map():
    states = OperatorStates("rules#1")
    rules = states.register(RULES)
    rules["a"] = 1
    rules.put("b", 2)
    rules.remove("a")
    assert ("a" in rules, rules.items(), rules.is_empty()) == (False, [("b", 2)], False)
    with pytest.raises(UserError, match=r'state "rules" of rules#1 is of type int64'):
        rules.put("c", "x")
    table = states.snapshot()[0].table
    assert table.schema.names == ["map_key", "value"]


def test_what_nobody_has_registered_waits_and_is_kept():
    again = shared([with_elements(LIST, 1, 2)], 1)
    third = shared(again, 1)[0]
    assert third.register(LIST).get() == [1, 2]


def test_a_name_for_two_things_is_refused():
    states = with_elements(LIST, 1)
    assert states.register(LIST) is states.register(rs.OperatorListState("offsets"))
    with pytest.raises(UserError, match="is a UnionListState, but was an OperatorListState"):
        states.register(UNION)
    with pytest.raises(UserError, match="is no state of an operator"):
        states.register(rs.ValueState("total"))
    with pytest.raises(UserError, match="was kept as one that is shared by split"):
        shared([states], 1)[0].register(UNION)
