"""Names, uids and inputs of the plan as written."""

import pytest

import raystream as rs
from raystream.graph.logical import is_bounded, label
from raystream.graph.physical import Resources

COL = rs.col


def make(**settings):
    job = rs.Job("t", **settings)
    return job, job.from_items([{"a": 1}]).with_schema([("a", rs_int())])


def rs_int():
    import pyarrow as pa

    return pa.int64()


def names(job):
    return [node.name for node in job._draft.graph.nodes]


def test_operators_are_numbered_by_verb():
    job, s = make()
    s.select("a").filter(COL("a") > 0).select("a")
    assert names(job) == ["source#1", "with_schema#1", "select#1", "filter#1", "select#2"]


def test_a_name_does_not_change_the_numbers_of_later_operators():
    job, s = make()
    s.select("a").named("first").select("a")
    assert names(job)[-2:] == ["first", "select#2"]


def test_a_default_name_that_is_taken_is_passed_over():
    job, s = make()
    s.filter(COL("a") > 0).named("select#1")
    s.select("a")
    assert names(job)[-1] == "select#2"


def test_a_name_is_taken_once():
    _, s = make()
    s.select("a").named("x")
    with pytest.raises(rs.PlanError, match='the name "x" is taken by the select') as error:
        s.filter(COL("a") > 0).named("x")
    assert "test_logical_graph.py" in error.value.where


def test_naming_an_operator_twice_with_its_own_name_is_fine():
    _, s = make()
    s.named("x").named("x")


@pytest.mark.parametrize("name", ["", "  ", 3, None])
def test_a_name_is_a_text(name):
    _, s = make()
    with pytest.raises(rs.PlanError, match="a name is a text"):
        s.named(name)


def test_a_uid_is_taken_once():
    _, s = make()
    s.select("a").uid("u")
    with pytest.raises(rs.PlanError, match='the uid "u" is taken by "select#1"'):
        s.select("a").uid("u")


def test_a_uid_that_is_the_name_of_another_operator_is_refused_when_planned():
    job, s = make()
    s.select("a").named("u").print()
    s.select("a").uid("u").print()
    with pytest.raises(rs.PlanError, match='have the same uid "u"'):
        job.explain(physical=True)


def test_an_error_names_the_source_and_the_operator_behind_it():
    _, s = make()
    assert label(s.named("cast")._tip.node) == 'source#1" after "cast'


def test_pruning_keeps_what_the_targets_need():
    job, s = make()
    kept = s.filter(COL("a") > 0)
    s.select("a")
    plan = job._draft.plan()
    pruned = plan.prune([kept._tip.node])
    assert [node.name for node in pruned.nodes] == ["source#1", "with_schema#1", "filter#1"]


def test_operators_stand_behind_their_inputs_also_when_unioned():
    job, s = make()
    t = s.filter(COL("a") > 0)
    t.union(s).select("a").print()
    seen = set()
    for node in job._draft.plan().nodes:
        assert all(one.node in seen for one in node.inputs)
        seen.add(node)


def test_a_stream_is_unbounded_if_one_source_is():
    job = rs.Job("t")
    items = job.from_items([{"line": "a"}]).with_schema([("line", "string")])
    both = items.union(job.source(rs.SocketSource("localhost", 9999)))
    assert is_bounded(items._tip.node)
    assert not is_bounded(both.select("line")._tip.node)


def test_changes_are_made_in_place_and_give_the_stream_back():
    _, s = make()
    t = s.select("a")
    assert t.named("n").uid("u").with_parallelism(3).with_resources(num_gpus=1) is t
    node = t.disable_chaining()._tip.node
    assert (node.name, node.uid, node.parallelism, node.chaining) == ("n", "u", 3, False)
    assert node.resources == Resources(num_gpus=1)


@pytest.mark.parametrize(("default", "planned"), [(1, 2), (3, 3), (9, 8)])
def test_bounds_of_parallelism_hold_the_default_within_them(default, planned):
    job, s = make(parallelism=default)
    node = s.with_parallelism((2, 8))._tip.node
    assert job._draft.plan().subtasks(node) == planned


@pytest.mark.parametrize("wrong", [0, -1, "2", True, 1.5, (3, 2), (1, 2, 3), (0, 2), ()])
def test_a_parallelism_is_a_positive_int_or_a_pair(wrong):
    _, s = make()
    with pytest.raises(rs.PlanError, match="with_parallelism"):
        s.with_parallelism(wrong)


def test_a_parallelism_above_the_maximum_is_refused():
    _, s = make(max_parallelism=4)
    with pytest.raises(rs.PlanError, match="max_parallelism is 4"):
        s.with_parallelism((1, 5))


def test_a_negative_resource_is_refused():
    _, s = make()
    with pytest.raises(rs.PlanError, match="num_cpus is an amount"):
        s.with_resources(num_cpus=-1)


def test_a_union_cannot_be_placed():
    _, s = make()
    with pytest.raises(rs.PlanError, match="a union is no operator"):
        s.union(s).with_parallelism(2)
