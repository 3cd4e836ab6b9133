"""Bring rows to the process that started the job: a bounded outbox that the driver pulls from."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import cloudpickle
import pyarrow as pa

from raystream.contracts.batch import Batch
from raystream.contracts.context import OpenContext
from raystream.contracts.sink import Sink, Writer
from raystream.flow.batch import Columns
from raystream.flow.changes import OP_FIELD, OPS, op_names
from raystream.graph.logical import LogicalPlan
from raystream.graph.physical import Chain, ChainNode, PhysicalPlan
from raystream.operators.sink import SinkSpec

Parcel = tuple[str, bytes]
"""The sink's operator, and a batch packed for it."""


class Outbox:
    """Parcels of one subtask; whoever puts waits while it is full."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parcels: deque[Parcel] = deque(maxlen=size)
        self._changed = threading.Condition()
        self._travelling = False
        self._closed = False

    def put(self, parcel: Parcel) -> bool:
        """Add a parcel; False if the outbox was closed before there was room."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._parcels) < self._size)
            if self._closed:
                return False
            self._parcels.append(parcel)
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> list[Parcel] | None:
        """Take what is there, waiting a while for something; None once closed and empty.

        Whoever asks again has what was taken before.
        """
        with self._changed:
            self._travelling = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or bool(self._parcels), timeout_s)
            taken = list(self._parcels)
            self._parcels.clear()
            self._travelling = bool(taken)
            self._changed.notify_all()
            return None if self._closed and not taken else taken

    def wait_empty(self) -> None:
        """Wait until everything has arrived, or the outbox is closed.

        What was taken is lost if this process ends while it travels.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not (self._parcels or self._travelling))

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class DriverSink(Sink):
    """Stands in, in the subtasks, for a sink whose object stays in the driver."""

    to_driver = True

    def __init__(self, description: str) -> None:
        self._description = description

    def open(self, ctx: OpenContext) -> Writer:
        return _Delivering(ctx.deliver)

    def describe(self) -> str:
        return self._description


class _Delivering(Writer):
    def __init__(self, deliver: Callable[[Batch], None]) -> None:
        self._deliver = deliver

    def write(self, batch: Batch) -> None:
        self._deliver(batch)


def keep_driver_sinks(plan: PhysicalPlan) -> tuple[PhysicalPlan, dict[str, Sink]]:
    """Take the sinks that run in the driver out of a plan; give them by operator."""
    kept: dict[str, Sink] = {}

    def node_without(node: ChainNode) -> ChainNode:
        spec: Any = node.spec
        if not _is_drivers(spec):
            return node
        kept[node.name] = spec.sink
        return dataclasses.replace(node, spec=_stand_in(spec))

    def chain_without(chain: Chain) -> Chain:
        return dataclasses.replace(chain, nodes=tuple(map(node_without, chain.nodes)))

    return dataclasses.replace(plan, chains=tuple(map(chain_without, plan.chains))), kept


def keep_logical_sinks(plan: LogicalPlan) -> LogicalPlan:
    """Take them out of the plan that others are made from while the job runs."""
    nodes = [
        dataclasses.replace(node, spec=_stand_in(node.spec)) if _is_drivers(node.spec) else node
        for node in plan.nodes
    ]
    return dataclasses.replace(plan, nodes=tuple(nodes))


def _is_drivers(spec: object) -> bool:
    return isinstance(spec, SinkSpec) and spec.sink.to_driver


def _stand_in(spec: Any) -> Any:
    return dataclasses.replace(spec, sink=DriverSink(spec.sink.describe()))


def pack(batch: Batch) -> bytes:
    """Write a batch with its schema, for a process that does not know the plan's."""
    if isinstance(batch.rows, list):
        packed: bytes = cloudpickle.dumps((batch.rows, batch.timestamps))
        return b"o" + packed
    rows = batch.rows
    if batch.ops is not None:
        codes = pa.array([OPS.index(op) for op in batch.ops], pa.int8())
        rows = rows.append_column(OP_FIELD, codes)
    out = pa.BufferOutputStream()
    out.write(b"c")
    with pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_batch(rows)
    return bytes(out.getvalue())


def unpack(packed: bytes) -> Batch:
    """Read a batch that ``pack`` wrote; columns come without event time, with their kinds."""
    if packed[:1] == b"o":
        return Batch(*cloudpickle.loads(packed[1:]))
    with pa.ipc.open_stream(pa.py_buffer(packed).slice(1)) as reader:
        rows = Columns(reader.read_next_batch())
    return Batch(rows.visible, ops=None if rows.ops is None else op_names(rows.ops))
