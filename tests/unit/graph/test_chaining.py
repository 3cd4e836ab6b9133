"""Which operators share a subtask."""

import pyarrow as pa
import pytest

import raystream as rs
from raystream.flow.exchange import Broadcast, Forward, Hash, Rebalance, ToOne
from raystream.graph.planner import physical_plan

SCHEMA = pa.schema({"a": pa.int64(), "b": pa.int64()})


def make(parallelism=2, **settings):
    job = rs.Job("t", parallelism=parallelism, **settings)
    return job, job.from_items([{"a": 1, "b": 2}], schema=SCHEMA).named("src")


def planned(job, **options):
    return physical_plan(job._draft.plan(), **options)


def shape(plan):
    """Chains as lists of operator names, edges as (from, exchange, to)."""
    chains = [[node.name for node in chain.nodes] for chain in plan.chains]
    head = {chain.name: chain.nodes[0].name for chain in plan.chains}
    tail = {i: n.name for chain in plan.chains for n in chain.nodes for i in n.outputs}
    return chains, [(tail[e.id], str(e.exchange), head[e.downstream]) for e in plan.edges]


def identity(row):
    return row


def test_forward_operators_of_equal_parallelism_are_one_chain():
    job, s = make()
    s.map(identity).map(identity).print()
    assert shape(planned(job)) == ([["src", "map#1", "map#2", "print#1"]], [])


def test_nodes_point_to_their_children_in_the_chain():
    job, s = make()
    s.map(identity).print()
    (chain,) = planned(job).chains
    assert [node.children for node in chain.nodes] == [(1,), (2,), ()]


def test_several_consumers_chain_as_a_tree():
    job, s = make()
    s.map(identity).print()
    s.map(identity).map(identity).print()
    (chain,) = planned(job).chains
    by_name = {node.name: node for node in chain.nodes}
    index = {node.name: i for i, node in enumerate(chain.nodes)}
    assert by_name["src"].children == (index["map#1"], index["map#2"])
    assert by_name["map#2"].children == (index["map#3"],)


def test_an_edge_leaves_the_tree_where_one_consumer_cannot_chain():
    job, s = make()
    s.map(identity).print()
    s.map(identity).with_parallelism(3)
    plan = planned(job)
    chains, edges = shape(plan)
    assert chains == [["src", "map#1", "print#1"], ["map#2"]]
    assert edges == [("src", "rebalance", "map#2")]
    assert plan.chains[0].nodes[0].outputs == (0,)


def test_different_parallelism_without_an_exchange_is_a_rebalance():
    job, s = make()
    s.map(identity).with_parallelism(3)
    (edge,) = planned(job).edges
    assert edge.exchange == Rebalance()


def test_forward_between_different_parallelisms_is_refused():
    job, s = make()
    s.forward().map(identity).with_parallelism(3).named("wide")
    with pytest.raises(rs.PlanError, match=r'"src" \(parallelism 2\) to "wide" \(parallelism 3\)'):
        planned(job)


def test_chaining_can_be_disabled_on_either_side():
    job, s = make()
    s.map(identity).disable_chaining().map(identity)
    chains, edges = shape(planned(job))
    assert chains == [["src"], ["map#1"], ["map#2"]]
    assert edges == [("src", "forward", "map#1"), ("map#1", "forward", "map#2")]


def test_operators_of_different_resources_do_not_share_a_subtask():
    job, s = make()
    s.map(identity).with_resources(num_gpus=1)
    assert shape(planned(job))[0] == [["src"], ["map#1"]]


@pytest.mark.parametrize("exchange", ["rebalance", "shuffle", "broadcast", "to_one"])
def test_an_exchange_between_one_subtask_and_one_is_none(exchange):
    job, s = make(parallelism=1)
    getattr(s, exchange)().map(identity)
    assert shape(planned(job)) == ([["src", "map#1"]], [])


def test_a_key_between_one_subtask_and_one_is_no_exchange():
    job, s = make(parallelism=1)
    s.key_by("a").reduce(lambda x, _: x)
    s.partition_by(lambda row: row["a"]).map(identity)
    assert shape(planned(job))[1] == []


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [("rebalance", Rebalance()), ("broadcast", Broadcast()), ("to_one", ToOne())],
)
def test_an_exchange_between_several_subtasks_is_an_edge(exchange, expected):
    job, s = make()
    getattr(s, exchange)().map(identity)
    plan = planned(job)
    assert [edge.exchange for edge in plan.edges] == [expected]
    assert [chain.parallelism for chain in plan.chains] == [2, 2]


def test_keys_are_hashed_between_several_subtasks():
    job, s = make()
    s.key_by("a", "b").reduce(lambda x, _: x)
    (edge,) = planned(job).edges
    assert edge.exchange == Hash(("a", "b"))
    assert edge.schema == SCHEMA


def test_a_union_dissolves_into_edges_of_its_consumers():
    job, s = make()
    other = job.from_items([{"a": 3, "b": 4}], schema=SCHEMA).named("other")
    s.union(other).map(identity)
    plan = planned(job)
    assert shape(plan) == (
        [["src"], ["other"], ["map#1"]],
        [("src", "forward", "map#1"), ("other", "forward", "map#1")],
    )
    assert [edge.port for edge in plan.edges] == [0, 0]


def test_unions_of_unions_dissolve_and_the_exchange_behind_them_counts():
    job, s = make()
    s.union(s.rebalance().union(s)).key_by("a").reduce(lambda x, _: x)
    chains, edges = shape(planned(job))
    assert chains == [["src"], ["reduce#1"]]
    assert edges == [("src", "hash(a)", "reduce#1")] * 3


def test_an_exchange_before_a_union_stays_where_none_is_behind_it():
    job, s = make()
    s.union(s.rebalance()).map(identity)
    assert [str(edge.exchange) for edge in planned(job).edges] == ["forward", "rebalance"]


def test_operators_behind_a_union_do_not_chain_with_its_inputs_even_at_one():
    job, s = make(parallelism=1)
    s.union(s).map(identity)
    plan = planned(job)
    assert shape(plan)[0] == [["src"], ["map#1"]]
    assert [edge.exchange for edge in plan.edges] == [Forward(), Forward()]


def test_to_one_leaves_the_parallelism_and_window_all_makes_it_one():
    job = rs.Job("t", parallelism=2)
    timed = job.from_items([{"a": 1, "b": 2}], schema=SCHEMA, timestamps=[0])
    timed.to_one().map(identity).named("kept")
    timed.window_all(rs.Tumbling("1s")).aggregate(n=rs.count()).named("one")
    plan = planned(job)
    assert plan.chain("kept").parallelism == 2
    assert plan.chain("one").parallelism == 1
    with pytest.raises(rs.PlanError, match="one subtask"):
        timed.window_all(rs.Tumbling("1s")).aggregate(n=rs.count()).with_parallelism(2)


def test_a_window_over_all_of_one_subtask_needs_no_exchange():
    job = rs.Job("t", parallelism=1)
    timed = job.from_items([{"a": 1, "b": 2}], schema=SCHEMA, timestamps=[0])
    timed.window_all(rs.Tumbling("1s")).aggregate(n=rs.count())
    assert planned(job).edges == ()


def test_chains_are_named_by_their_ends_and_each_has_its_own_name():
    job, s = make()
    s.map(identity).map(identity).print().named("out")
    s.map(identity).with_parallelism(3)
    assert [chain.name for chain in planned(job).chains] == ["src→out", "map#3"]


def test_a_parallelism_above_the_maximum_is_refused_with_its_line():
    job, s = make(max_parallelism=4)
    node = s.map(identity).named("wide")._tip.node
    node.parallelism = 5
    with pytest.raises(rs.PlanError, match='"wide" has parallelism 5'):
        planned(job)


def test_without_chaining_every_operator_is_a_chain():
    job, s = make(parallelism=1)
    s.filter(rs.col("a") > 0).key_by("a").aggregate(n=rs.count()).print()
    plan = planned(job, rules=())
    assert all(len(chain.nodes) == 1 for chain in plan.chains)
    assert len(plan.edges) == len(plan.chains) - 1


def test_an_operator_knows_the_name_that_it_got_later():
    job, s = make()
    s.map(identity).named("later")
    (chain,) = planned(job).chains
    assert chain.nodes[1].spec.operator == "later"
    assert chain.nodes[0].spec.name == "src"
