"""Process functions on one stream and on two: what they are checked for, and what they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from raystream.api import transforms
from raystream.api.callsite import user_line
from raystream.api.draft import Tip
from raystream.contracts.process import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
    ProcessMaker,
    check_process_function,
)
from raystream.errors import PlanError
from raystream.flow.exchange import Broadcast
from raystream.flow.key import key_kind, plain_type
from raystream.graph.logical import LogicalNode, StreamType, label
from raystream.keyed.key_form import KeyForm
from raystream.operators.broadcast_process import BroadcastProcessSpec
from raystream.operators.co_process import CoProcessSpec
from raystream.operators.operator import Spec
from raystream.operators.process import ProcessSpec

if TYPE_CHECKING:
    from raystream.api.streams import Stream

Kwargs: TypeAlias = Mapping[str, Any] | None
Keys: TypeAlias = tuple[str, ...] | None


class ConnectedStreams:
    """Two streams, of whatever columns, whose rows one function takes."""

    def __init__(self, left: Tip, right: Tip, keys: Keys, right_keys: Keys) -> None:
        self._left = left
        self._right = right
        self._keys = keys
        self._right_keys = right_keys

    def __repr__(self) -> str:
        return f'<ConnectedStreams "{label(self._left.node)}", "{label(self._right.node)}">'

    def process(
        self,
        fn: Any,
        schema: pa.Schema | None = None,
        *,
        fn_kwargs: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Give the rows that a ``CoProcessFunction`` makes of the rows of both.

        It is a ``BroadcastProcessFunction`` where the right stream is ``broadcast()``. A function
        is an instance, or a class that each subtask makes with ``fn_kwargs``.
        """
        from raystream.api.streams import Stream

        where = user_line()
        left, right = self._left, self._right
        timed = left.node.type.timed or right.node.type.timed
        made = StreamType(transforms.declared(left.node, "process", schema, where).schema, timed)
        maker = ProcessMaker(fn, dict(fn_kwargs or {}))
        if isinstance(right.exchange, Broadcast):
            spec = self._broadcast(maker, made, where)
        else:
            spec = self._two(maker, made, where)
        inputs = [left.input, right.input]
        node = left.draft.add(
            "process", spec, made, inputs, where, stateful=True, sides=None, changes=True
        )
        return Stream(Tip(left.draft, node))

    def _broadcast(self, maker: ProcessMaker, made: StreamType, where: str) -> Spec:
        check_process_function(
            maker,
            BroadcastProcessFunction,
            ("process", "process_broadcast"),
            verb="connect(other.broadcast()).process()",
            where=where,
        )
        keys, form = self._keys, None
        if keys is not None:
            form = key_form(self._left.node, keys)
        return BroadcastProcessSpec(
            maker, port_keys(self._left.node, keys), form, made.wire, made.timed, "process", where
        )

    def _two(self, maker: ProcessMaker, made: StreamType, where: str) -> Spec:
        check_process_function(
            maker,
            CoProcessFunction,
            ("process_left", "process_right"),
            verb="connect(other).process()",
            where=where,
        )
        left, right = self._left.node, self._right.node
        keys, right_keys = self._keys, self._right_keys
        if keys is None or right_keys is None:
            keys, right_keys, form = None, None, None
        else:
            form = _shared_form(left, keys, right, right_keys, where)
        return CoProcessSpec(
            maker,
            port_keys(left, keys),
            port_keys(right, right_keys),
            form,
            made.wire,
            made.timed,
            "process",
            where,
        )


def process(tip: Tip, keys: Keys, fn: Any, schema: Any, kwargs: Kwargs) -> Tip:
    """Write down a process function on one stream.

    Raises: PlanError if it is of the wrong class, or its schema is none.
    """
    where, node = user_line(), tip.node
    made = transforms.declared(node, "process", schema, where)
    maker = ProcessMaker(fn, dict(kwargs or {}))
    verb = "process()" if keys is None else "key_by(…).process()"
    wanted = ProcessFunction if keys is None else KeyedProcessFunction
    check_process_function(maker, wanted, ("process",), verb=verb, where=where)
    form = None if keys is None else key_form(node, keys)
    spec = ProcessSpec(maker, port_keys(node, keys), form, made.wire, made.timed, "process", where)
    return tip.then("process", spec, made, where, stateful=True, sides=None, changes=True)


def connect(left: Tip, left_keys: Keys, right: Tip, right_keys: Keys) -> ConnectedStreams:
    """Put two streams of one job side by side.

    Raises: PlanError if they are of different jobs, or the left one is broadcast.
    """
    where = user_line()
    if left.draft is not right.draft:
        raise PlanError(
            f'connect(): "{label(left.node)}" belongs to job "{left.draft.name}", '
            f'"{label(right.node)}" to "{right.draft.name}"',
            where=where,
        )
    if isinstance(left.exchange, Broadcast):
        raise PlanError(
            f'connect(): the left stream "{label(left.node)}" is broadcast',
            where=where,
            hint="the stream that all subtasks see is the right one: "
            "payments.connect(rules.broadcast())",
        )
    return ConnectedStreams(left, right, left_keys, right_keys)


def port_keys(node: LogicalNode, keys: Keys) -> Keys:
    """Give the key columns of an input as an operator reads them: () on a stream of objects."""
    return () if keys is not None and node.type.schema is None else keys


def key_form(node: LogicalNode, keys: tuple[str, ...]) -> KeyForm:
    """Say how the keys of a stream are kept."""
    schema = node.type.schema
    if schema is None:
        return KeyForm.objects()
    return KeyForm.columns([schema.field(key) for key in keys])


def _shared_form(
    left: LogicalNode,
    keys: tuple[str, ...],
    right: LogicalNode,
    others: tuple[str, ...],
    where: str,
) -> KeyForm:
    """Say how the keys that two streams share are kept.

    Raises: PlanError if no key of one can be a key of the other.
    """
    schema, other_schema = left.type.schema, right.type.schema
    if schema is None or other_schema is None:
        return KeyForm.objects()
    types = [plain_type(schema.field(key).type) for key in keys]
    other_types = [plain_type(other_schema.field(key).type) for key in others]
    kinds, other_kinds = list(map(key_kind, types)), list(map(key_kind, other_types))
    if kinds != other_kinds:
        raise PlanError(
            f'connect(): the keys of "{label(left)}" are {_shown(keys, types)}, '
            f'those of "{label(right)}" {_shown(others, other_types)}: no row would meet another',
            where=where,
            hint="key both by as many columns of the same types; "
            "key_by(id=rs.col(…).cast(rs.Int64)) makes one",
        )
    # An int32 and an int64 can be the same key, but no column of either type holds them all.
    return key_form(left, keys) if types == other_types else KeyForm.objects()


def _shown(keys: tuple[str, ...], types: list[pa.DataType]) -> str:
    return ", ".join(f"{key} {kind}" for key, kind in zip(keys, types, strict=True))
