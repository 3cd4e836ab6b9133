"""Answers that are fetched where they are: in the newest checkpoint, or in a subtask's process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raystream.config import MIB
from raystream.ops.http.answers import Refused
from raystream.ops.http.view import JobView
from raystream.runtime import profiler
from raystream.runtime.native_profile import native_share
from raystream.runtime.sampling import plain, records
from raystream.storage.states import Held

STATE_BYTES_MAX = 256 * MIB
"""A larger state is not read here: it is read whole, by the process that serves all others."""


def states(one: JobView, _: Mapping[str, Any]) -> dict[str, Any]:
    """List what the newest checkpoint holds."""
    return {"states": [dataclasses.asdict(held) for held in one.states()]}


def state(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Read a typed state as the newest checkpoint has it; what is pickled is never unpickled."""
    uid, name = asked["uid"], asked["name"]
    known = [held for held in one.states() if (held.uid, held.name) == (uid, name)]
    if not known:
        raise Refused(
            404,
            "not_found",
            f'the newest checkpoint holds no "{name}" of "{uid}"',
            hint="GET /jobs/{job}/state lists what it holds",
        )
    held = known[0]
    if "pickled" in held.type or any("pickled" in key for key in held.keys):
        raise Refused(
            409,
            "pickled",
            f'"{name}" of "{uid}" has no type, so that it was pickled, and is not read here',
            hint="declare it with type=, or read it with rs.state.read(…, allow_pickle=True)",
        )
    if held.bytes > STATE_BYTES_MAX:
        raise Refused(
            409,
            "too_large",
            f'"{name}" of "{uid}" has {held.bytes // MIB:,} MiB, at most {STATE_BYTES_MAX // MIB} '
            "are read here",
            hint="`raystream state dump` reads it",
        )
    table = one.state(uid, name)
    if asked["key"] is not None:
        table = of_key(table, held, asked["key"])
    rows = records(table.slice(0, asked["limit"]))
    return {
        "uid": uid,
        "name": name,
        "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
        "rows": [plain(row) for row in rows],
        "found": table.num_rows,
        "truncated": table.num_rows > len(rows),
    }


def of_key(table: pa.Table, held: Held, texts: Sequence[str]) -> pa.Table:
    """Choose the rows of one key, each of whose columns is given as text.

    Raises: Refused where a text is nothing of its column's type.
    """
    schema = table.schema
    names = [field.name for field in schema if f"{field.name}: {field.type}" in held.keys]
    if len(texts) != len(names):
        listed = ", ".join(held.keys) or "none: the state has no key"
        raise Refused(400, "malformed", "key is given once for each column of the key", hint=listed)
    for name, text in zip(names, texts, strict=True):
        kind = schema.field(name).type
        try:
            wanted = pa.scalar(text).cast(kind)
            table = table.filter(pc.equal(table.column(name), wanted))
        except pa.ArrowException as error:
            raise Refused(400, "malformed", f'key is to be a {kind} for "{name}"') from error
    return table


def sample(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Show rows that leave an operator now."""
    if asked["edge"] is None:
        raise Refused(
            400, "malformed", "edge is to be given", hint="?edge=OPERATOR, or an edge's id"
        )
    operator = _leaving(one.plan(), asked["edge"])
    rows = one.sample(
        operator, subtask=asked["subtask"], rows=asked["rows"], seconds=asked["seconds"]
    )
    return {"operator": operator, "rows": rows}


def _leaving(plan: Mapping[str, Any], edge: str) -> str:
    """Find the operator whose rows an edge carries."""
    operators = [one for chain in plan["chains"] for one in chain["operators"]]
    names = [str(one["name"]) for one in operators]
    if edge in names:
        return edge
    for one in operators:
        if edge.isdecimal() and int(edge) in one["outputs"]:
            return str(one["name"])
    raise Refused(
        404, "not_found", "no such edge or operator is in the plan", hint=", ".join(names)
    )


def profile(one: JobView, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Profile the process of a subtask while it runs."""
    operator, subtask = asked["operator"], asked["subtask"]
    if operator is None:
        raise Refused(400, "malformed", "operator is to be given", hint="?operator=NAME&subtask=0")
    native = asked["native"]
    seen = one.profile(operator, subtask, seconds=asked["seconds"], native=native)
    return {
        "operator": operator,
        "subtask": subtask,
        "seconds": seen.seconds,
        "samples": seen.samples,
        "cpu_known": seen.cpu_known,
        "native_share": native_share(seen) if native else None,
        "top": profiler.top(seen),
        "collapsed": profiler.collapsed(seen),
        "speedscope": profiler.speedscope(seen),
    }
