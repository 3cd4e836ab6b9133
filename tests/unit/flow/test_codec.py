"""Envelopes: what is written is read, and outside bytes never pass for one of ours."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.errors import ProtocolError
from raystream.flow.batch import Columns, Objects, with_times
from raystream.flow.codec import (
    Header,
    decode,
    decode_credit,
    encode,
    encode_credit,
    read_header,
)
from raystream.flow.element import EndOfInput, Status, Watermark
from raystream.flow.ids import ChannelId

CHANNEL = ChannelId(3, 1, 2)


def columns(count: int) -> Columns:
    record = pa.RecordBatch.from_pydict(
        {"a": list(range(count)), "s": [None if i % 3 == 0 else "x" * i for i in range(count)]},
        schema=pa.schema({"a": pa.int64(), "s": pa.string()}),
    )
    return with_times(record, np.arange(count, dtype=np.int64))


def test_columns_and_control_elements_come_back_in_order():
    batch = columns(10)
    elements = [batch, Watermark(-5), Status(idle=True), Status(idle=False), EndOfInput()]
    frame = encode(Header(1, CHANNEL, 9, len(elements)), elements)
    assert read_header(frame) == Header(1, CHANNEL, 9, 5)
    first, *rest = decode(frame, batch.record.schema)
    assert first.record.equals(batch.record)
    assert rest == elements[1:]


def test_a_slice_travels_as_what_it_shows():
    whole = columns(10_000)
    part = whole.slice(5_000, 3)
    frame = encode(Header(1, CHANNEL, 0, 1), [part])
    assert len(frame) < 30_000
    (read,) = decode(frame, whole.record.schema)
    assert read.record.equals(part.record)


class Local:
    """A class that pickle can name."""

    def __init__(self, value):
        self.value = value


def test_objects_come_back_with_times_and_keys():
    batch = Objects([1, "a", None, {"b": [2]}], np.arange(4), ["k", ("a", 1), None, 2.5])
    frame = encode(Header(1, CHANNEL, 0, 1), [batch])
    (read,) = decode(frame, None)
    assert read.values == batch.values
    assert read.keys == batch.keys
    assert read.timestamps.tolist() == [0, 1, 2, 3]


def test_objects_of_a_class_that_pickle_cannot_name_travel_too():
    class Nameless:
        def __init__(self, value):
            self.value = value

    frame = encode(Header(1, CHANNEL, 0, 1), [Objects([Nameless(7)])])
    (read,) = decode(frame, None)
    assert read.values[0].value == 7


def test_a_frame_cut_anywhere_is_refused():
    batch = columns(100)
    frame = encode(Header(1, CHANNEL, 0, 2), [batch, Watermark(1)])
    for length in range(0, len(frame) - 63, 37):
        with pytest.raises(ProtocolError):
            list(decode(frame[:length], batch.record.schema))


@given(st.binary(max_size=200))
def test_outside_bytes_are_no_envelope(noise):
    with pytest.raises(ProtocolError):
        read_header(noise)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 99))
def test_credit_comes_back(edge, consumed, window, index):
    channel = ChannelId(edge, index, index + 1)
    plain = encode_credit(channel, consumed, window)
    assert decode_credit(plain) == (channel, consumed, window, None)
    asked = encode_credit(channel, consumed, window, index)
    assert decode_credit(asked) == (channel, consumed, window, index)
