"""Rows taken piece by piece are those that Arrow takes at once, whatever the table lies in."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.errors import UserError
from raystream.flow import gather
from raystream.flow.hashing import hash_columns, hash_table
from raystream.keyed.row_store import RowStore

SCHEMA = pa.schema([("i", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.string()))])
TEXTS = st.none() | st.text("ab", max_size=3)
ROWS = st.lists(st.tuples(st.none() | st.integers(0, 9), TEXTS, st.none() | st.lists(TEXTS)))


@st.composite
def tables(draw):
    """Give tables in several batches, some of them empty or views of larger ones."""
    batches = []
    for rows in draw(st.lists(ROWS, max_size=4)):
        columns = list(zip(*rows, strict=True)) or [[], [], []]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        batches.append(batch.slice(draw(st.integers(0, len(rows)))))
    return pa.Table.from_batches(batches, SCHEMA)


@given(tables(), st.data(), st.sampled_from([0, 10, 1 << 20]))
def test_taking_in_pieces_is_taking(table, data, piece_bytes):
    rows = st.integers(0, max(table.num_rows - 1, 0))
    numbers = np.array(data.draw(st.lists(rows)) if table.num_rows else [], np.int64)
    expected = table.take(pa.array(numbers)).to_pylist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "PIECE_BYTES", piece_bytes)
        assert gather.take_rows(table, numbers).to_pylist() == expected
        store = RowStore(SCHEMA)
        for batch in table.to_batches():
            store.append(batch)
        assert store.table(numbers).to_pylist() == expected
        assert store.table(numbers).schema == SCHEMA
        assert store.take(numbers).to_pylist() == expected
        store.keep(np.unique(numbers))
        kept = np.arange(store.row_count)
        assert store.take(kept).to_pylist() == table.take(pa.array(np.unique(numbers))).to_pylist()


@given(tables())
def test_a_table_is_hashed_as_its_rows_are(table):
    keys = table.select(["i", "s"])
    whole = keys.combine_chunks()
    columns = [column.combine_chunks() for column in whole.columns]
    assert hash_table(keys).tolist() == hash_columns(columns).tolist()


def test_what_does_not_fit_into_one_batch_is_refused_and_not_cut(monkeypatch):
    table = pa.table({"s": ["a", "b"]})
    assert gather.one_record(table).to_pylist() == table.to_pylist()
    assert gather.one_record(table.slice(2)).schema == table.schema
    # As Arrow leaves a column of more than 2 GiB: in two.
    cut = pa.Table.from_batches(table.to_batches() * 2)
    monkeypatch.setattr(gather, "_combined", lambda table: table)
    with pytest.raises(UserError, match="2 GiB of text"):
        gather.one_record(cut)
