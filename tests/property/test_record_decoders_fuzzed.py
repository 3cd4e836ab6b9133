"""Every decoder bears any bytes: the good values arrive, each bad one is told, nothing else."""

from __future__ import annotations

import json

import encoded
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.connectors.json_texts import json_texts
from raystream.connectors.record_formats import decoded
from raystream.operators.pyrows import to_rows

FORMATS = {**encoded.FORMATS, "protobuf": encoded.protobuf}

MESSY = st.one_of(
    st.binary(max_size=40),
    st.text('{}[]",:\\ \n\r01e-truefalsnul\x00', max_size=30).map(str.encode),
    st.none(),
)


def good_values(name, kind):
    if name == "protobuf":
        rows = [
            {"n": 1, "text": "a", "inner": {"tags": ["x"]}, "kind": "SOME", "counts": [("k", 1)]},
            {"n": -5, "text": "", "inner": None, "kind": "NONE", "counts": []},
        ]
        batch = pa.RecordBatch.from_pylist(rows, kind.columns(None))
    else:
        batch = pa.RecordBatch.from_pylist(encoded.ROWS, encoded.SCHEMA)
    return kind.encoder()(batch).to_pylist()


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_neighbours_of_any_bytes_arrive(name, data):
    kind = FORMATS[name]()
    columns = kind.columns(None if name == "protobuf" else encoded.SCHEMA)
    decode = kind.decoder(columns)
    good = good_values(name, kind)
    damaged = st.builds(
        lambda value, at, byte, cut: (value[:at] + bytes([byte]) + value[at + 1 :])[: cut or None],
        st.sampled_from(good),
        st.integers(0, 200),
        st.integers(0, 255),
        st.integers(0, 200),
    )
    values = data.draw(st.lists(st.one_of(st.sampled_from(good), MESSY, damaged), max_size=12))
    nothing = pa.RecordBatch.from_pylist([], columns)
    found = decoded(values, decode, nothing)
    found.rows.validate(full=True)
    # What each value gives alone is what it gives among others.
    alone = [decoded([value], decode, nothing) for value in values]
    rows = [str(row) for one in alone for row in one.rows.to_pylist()]
    broken = [place for place, one in enumerate(alone) if one.broken]
    assert [str(row) for row in found.rows.to_pylist()] == rows
    assert [place for place, _ in found.broken] == broken
    assert len(found.places) == found.rows.num_rows


TEXTS = st.text(max_size=20)
COLUMNS = {
    "n": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "x": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "b": (pa.bool_(), st.booleans()),
    "text": (pa.string(), TEXTS),
    "list": (pa.list_(pa.string()), st.lists(TEXTS, max_size=3)),
    "deep": (pa.struct({"a": pa.int32()}), st.fixed_dictionaries({"a": st.integers(0, 9)})),
}


@given(
    rows=st.lists(
        st.fixed_dictionaries({n: st.none() | values for n, (_, values) in COLUMNS.items()}),
        max_size=8,
    )
)
def test_columns_written_as_json_are_what_python_reads(rows):
    batch = pa.RecordBatch.from_pylist(
        rows, pa.schema({n: kind for n, (kind, _) in COLUMNS.items()})
    )
    texts = json_texts(batch).to_pylist()
    assert [json.loads(text) for text in texts] == to_rows(batch)
