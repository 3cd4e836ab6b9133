"""Envelopes: a few elements of one channel as one ``bytes`` argument of one actor call.

A frame is a header of 64 bytes, then the elements, each behind a small head of its own and padded
to 64 bytes so that Arrow reads columns in place. Columns travel as Arrow IPC without their schema,
which both ends know from the plan; objects are pickled whole, once a batch.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pyarrow as pa
from typing_extensions import assert_never

from raystream.errors import ProtocolError
from raystream.flow.batch import Columns, Objects
from raystream.flow.element import Barrier, Element, EndOfInput, Marker, Status, Watermark
from raystream.flow.ids import ChannelId

_HEADER = struct.Struct("<4sIIIIQIQ")
_HEAD = struct.Struct("<BxxxI")
_CREDIT = struct.Struct("<IIIQQq")
_INT64 = struct.Struct("<q")
_MAGIC = b"RSE1"
_ALIGN = 64

_COLUMNS, _OBJECTS, _WATERMARK, _ACTIVE, _IDLE, _END, _BARRIER, _MARKER = range(8)


@dataclass(frozen=True, slots=True)
class Header:
    """Who sent a frame, as which one of its channel, in which attempt.

    ``barrier`` is the checkpoint of the barrier that is the frame's last element; 0: none.
    """

    attempt: int
    channel: ChannelId
    sequence: int
    elements: int
    barrier: int = 0


def encode(header: Header, elements: Sequence[Element]) -> bytes:
    """Write elements into one frame."""
    channel = header.channel
    head = _HEADER.pack(
        _MAGIC,
        header.attempt,
        channel.edge,
        channel.upstream,
        channel.downstream,
        header.sequence,
        len(elements),
        header.barrier,
    )
    parts: list[Any] = [head, bytes(_ALIGN - len(head))]
    for element in elements:
        kind, body = _body(element)
        parts += [_HEAD.pack(kind, len(body)), bytes(_ALIGN - _HEAD.size), body]
        parts.append(bytes(-len(body) % _ALIGN))
    return b"".join(parts)


def overhead_bytes(schema: pa.Schema | None) -> int:
    """Tell what a batch takes in a frame beside its rows: its head, Arrow's description of it."""
    if schema is None:
        return 2 * _ALIGN
    empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
    return 2 * _ALIGN + int(pa.ipc.get_record_batch_size(empty))


def row_bytes(batch: Objects, every: int) -> float:
    """Measure the bytes of a row by pickling some: one in ``every``, eight of a large batch.

    Shapes: batch [n], n > 0.
    """
    step = max(every, batch.num_rows // 8)
    keys = None if batch.keys is None else batch.keys[::step]
    values = batch.values[::step]
    return len(pickled((values, None, keys))) / len(values) + 8


def encode_credit(
    channel: ChannelId, consumed_bytes: int, window_bytes: int, received_bytes: int | None = None
) -> bytes:
    """Write a grant of credit: it travels as often as frames do."""
    received = -1 if received_bytes is None else received_bytes
    return _CREDIT.pack(
        channel.edge, channel.upstream, channel.downstream, consumed_bytes, window_bytes, received
    )


def decode_credit(message: bytes) -> tuple[ChannelId, int, int, int | None]:
    """Read a grant: the channel, what was consumed, what may be on its way, what had arrived."""
    edge, upstream, downstream, consumed_bytes, window_bytes, received = _CREDIT.unpack(message)
    channel = ChannelId(edge, upstream, downstream)
    return channel, consumed_bytes, window_bytes, None if received < 0 else received


def read_header(frame: bytes) -> Header:
    """Read the header of a frame.

    Raises: ProtocolError if this is no frame of ours.
    """
    if len(frame) < _ALIGN or frame[:4] != _MAGIC:
        raise ProtocolError(f"{len(frame)} bytes that are no envelope")
    _, attempt, edge, upstream, downstream, sequence, *rest = _HEADER.unpack_from(frame)
    return Header(attempt, ChannelId(edge, upstream, downstream), sequence, *rest)


def decode(frame: bytes, schema: pa.Schema | None) -> Iterator[Element]:
    """Read the elements of a frame, in order; columns are views of the frame.

    Raises: ProtocolError if the frame is cut short.
    """
    count = read_header(frame).elements
    view = pa.py_buffer(frame)
    start = _ALIGN
    for _ in range(count):
        if start + _ALIGN > len(frame):
            raise ProtocolError(f"an envelope is cut short at byte {start}")
        kind, size = _HEAD.unpack_from(frame, start)
        body = start + _ALIGN
        if body + size > len(frame):
            raise ProtocolError(f"an envelope is cut short: element of {size} bytes at {body}")
        yield _element(kind, view, body, size, schema)
        start = body + size + (-size % _ALIGN)


def _body(element: Element) -> tuple[int, Any]:
    match element:
        case Columns(record):
            return _COLUMNS, record.serialize()
        case Objects(values, timestamps, keys):
            return _OBJECTS, pickled((values, timestamps, keys))
        case Watermark(time_us):
            return _WATERMARK, _INT64.pack(time_us)
        case Status(idle):
            return (_IDLE if idle else _ACTIVE), b""
        case EndOfInput():
            return _END, b""
        case Barrier(checkpoint_id, target, stops):
            return _BARRIER, _INT64.pack(checkpoint_id) + bytes([stops]) + target.encode()
        case Marker(source, at_us):
            return _MARKER, _INT64.pack(at_us) + source.encode()
        case _:
            assert_never(element)


def pickled(value: object) -> bytes:
    """Pickle a user's value."""
    # Classes of the job's script live in ``__main__``, which pickle cannot name elsewhere.
    try:
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        by_value: bytes = cloudpickle.dumps(value)
        return by_value


def _element(
    kind: int, view: pa.Buffer, start: int, size: int, schema: pa.Schema | None
) -> Element:
    if kind == _COLUMNS:
        assert schema is not None, "columns on an object stream"
        return Columns(pa.ipc.read_record_batch(view.slice(start, size), schema))
    if kind == _OBJECTS:
        return Objects(*pickle.loads(view.slice(start, size)))
    if kind == _WATERMARK:
        return Watermark(_INT64.unpack(view.slice(start, size).to_pybytes())[0])
    if kind in (_ACTIVE, _IDLE):
        return Status(idle=kind == _IDLE)
    if kind == _END:
        return EndOfInput()
    if kind == _BARRIER:
        body = view.slice(start, size).to_pybytes()
        stops, target = body[_INT64.size], body[_INT64.size + 1 :]
        return Barrier(_INT64.unpack_from(body)[0], bytes(target).decode(), bool(stops))
    if kind == _MARKER:
        body = view.slice(start, size).to_pybytes()
        return Marker(bytes(body[_INT64.size :]).decode(), _INT64.unpack_from(body)[0])
    raise ProtocolError(f"an envelope holds an element of unknown kind {kind}")
