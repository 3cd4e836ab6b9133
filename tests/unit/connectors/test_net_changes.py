"""What changes come to, key by key, whatever their order; and where they wait."""

from __future__ import annotations

import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raystream as rs
from raystream.connectors.net_changes import CHANGES, netted, newest, removing
from raystream.connectors.staged_changes import Staged, changes_of, forget


def changes(rows):
    names = CHANGES.names
    return pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows], CHANGES)


def test_the_last_change_of_a_key_counts():
    assert newest(pa.array(["a", "b", "a", "c", "b"])).tolist() == [2, 3, 4]
    assert newest(pa.array([], pa.string())).tolist() == []
    assert removing(["+I", "-U", "+U", "-D"], 4).tolist() == [False, True, False, True]
    assert removing(None, 2).tolist() == [False, False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12), st.randoms())
def test_a_table_that_changes_comes_to_what_it_was_and_is_in_any_order(updates, chance):
    """Each update takes back what its key had and brings a value, or only takes back (2)."""
    table, rows = {}, []
    begins = {0: "v0", 1: "v1"}
    table.update(begins)
    for key, value in updates:
        if key in table:
            rows.append((f"k{key}", table.pop(key).encode(), True))
        if value < 2:
            table[key] = f"v{value}"
            rows.append((f"k{key}", table[key].encode(), False))
    random.Random(chance.random()).shuffle(rows)
    net = netted(changes(rows)).to_pylist()
    assert max(Counter(row["key"] for row in net).values(), default=0) <= 1
    found = {f"k{key}": value for key, value in begins.items()}
    for row in net:
        if row["removes"]:
            del found[row["key"]]
        else:
            found[row["key"]] = row["value"].decode()
    assert found == {f"k{key}": value for key, value in table.items()}


@pytest.mark.parametrize("size", [10, 300_000])
def test_changes_outlive_their_writer_in_the_checkpoint_or_in_files(tmp_path, size):
    staged = Staged(rs.OpenContext(staging=str(tmp_path)), "lane")
    noise = random.Random(1).randbytes(size)
    staged.add(changes([("a", noise, False)]))
    staged.add(changes([("b", b"x", True)]))
    prepared = staged.prepared(7)
    assert staged.prepared(8) == []
    staged.discard()
    assert len(list(tmp_path.iterdir())) == (size > 1_000)
    assert changes_of(prepared).column("value").to_pylist() == [noise, b"x"]
    forget(prepared)
    forget(prepared)
    assert list(tmp_path.iterdir()) == []


def test_what_is_gone_is_told_of(tmp_path):
    staged = Staged(rs.OpenContext(staging=str(tmp_path)), "lane")
    staged.add(changes([("a", random.Random(1).randbytes(300_000), False)]))
    prepared = staged.prepared(7)
    forget(prepared)
    with pytest.raises(rs.SinkError, match="cannot read what is to be committed"):
        changes_of(prepared)
