"""Somebody looks at the rows that leave an operator, while the chain goes on."""

from __future__ import annotations

import pytest
from subtasks import WIRE, rows, spell

from raystream.contracts.context import OpenContext
from raystream.flow.batch import Objects
from raystream.graph.physical import Chain, ChainNode
from raystream.operators.operator import Operator
from raystream.subtask.chain import RunningChain
from raystream.subtask.tap import Tap


class Passing(Operator):
    """Gives every batch twice."""

    verb = "pass"

    def describe(self):
        return ""

    def build(self):
        return self

    def on_batch(self, port, batch):
        yield batch
        yield batch


@pytest.fixture
def chain():
    nodes = tuple(
        ChainNode(name, name, Passing(), WIRE, children=children)
        for name, children in (("a", (1,)), ("b", ()))
    )
    running = RunningChain(Chain("a", nodes, 1), lambda node: OpenContext(0, 1))
    running.open()
    return running


def given(chain, *batches):
    for batch in batches:
        for _ in chain.batch(0, batch):
            pass


def test_rows_are_seen_only_while_somebody_looks(chain):
    given(chain, rows(0, 3))
    chain.tap = tap = Tap(0, 5)
    given(chain, rows(3, 2))
    chain.tap = None
    given(chain, rows(9, 1))
    assert spell(tap.kept) == [3, 4, 3, 4]


def test_of_one_operator_and_no_more_than_wanted(chain):
    chain.tap = tap = Tap(1, 5)
    given(chain, rows(0, 2), rows(2, 2))
    assert tap.full
    assert spell(tap.kept) == [0, 1, 0, 1, 0]  # four batches leave the second for one that comes


def test_looking_changes_nothing(chain):
    chain.tap = Tap(0, 1)
    seen = [spell([e]) for edges, e in chain.batch(0, rows(0, 2)) if not isinstance(e, Objects)]
    chain.tap = None
    plain = [spell([e]) for edges, e in chain.batch(0, rows(0, 2)) if not isinstance(e, Objects)]
    assert seen == plain
    assert chain.rows_out == [8, 16]


def test_batches_are_bounded_too():
    tap = Tap(0, 1_000)
    for number in range(200):
        tap.take(0, rows(number, 1))
    assert tap.full
    assert len(tap.kept) == 64
