"""Look into the state of a job that is not running, and make state for one that is to start.

>>> import raystream as rs
>>> def count(seen, row):
...     return seen + 1, {"user": row["user"], "seen": seen + 1}
>>> job = rs.Job("visits", checkpoint="memory://visits", runtime="local")
>>> users = job.source(rs.DataGenSource(lambda n: {"user": "ab"[n % 2]}, rows=3), name="users")
>>> counted = users.key_by("user").map_with_state(count, 0, type=pa.int64()).uid("count")
>>> _ = counted.sink(rs.MemorySink())
>>> before = {"count": {"state": {"key": ["a"], "value": [7]}}}
>>> path = write("memory://visits-before", before, job=job)
>>> read(path, "count").to_pylist()
[{'key': 'a', 'value': 7}]
>>> job.run(from_snapshot=path).records_out
3
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from raystream.api.binding import bind_sinks
from raystream.api.job import Job
from raystream.clock import SystemClock
from raystream.errors import ConfigError, RaystreamError, UserError
from raystream.flow.snapshots import Manifest, OperatorEntry
from raystream.graph.physical import ChainNode, PhysicalPlan
from raystream.graph.planner import physical_plan
from raystream.keyed.key_form import KeyForm
from raystream.keyed.operator_states import PREFIX as UNKEYED
from raystream.keyed.snapshot import Section, Share
from raystream.keyed.state_tables import (
    MAP_KEY,
    PICKLED_KEY,
    kept,
    kept_without_key,
    key_names,
)
from raystream.keyed.store import PREFIX as KEYED
from raystream.storage.copying import write_savepoint
from raystream.storage.opening import open_store
from raystream.storage.states import Held, held, is_keyed, is_state, name_of, opened
from raystream.storage.states import read as read_state
from raystream.storage.store import Store
from raystream.storage.survey import Surveyed, survey

States = Mapping[str, Mapping[str, Any]]
"""Tables by the name of a state, by the uid of an operator."""


def list(path: str) -> builtins.list[Held]:
    """Tell what a checkpoint or savepoint holds, operator by operator.

    ``path`` is a manifest, the folder of a savepoint, or that of a job: then its newest checkpoint.
    Raises: ConfigError where there is no snapshot; StorageError.
    """
    return held(path)


def read(
    path: str, uid: str | None = None, name: str | None = None, *, allow_pickle: bool = False
) -> pa.Table:
    """Read what an operator has in a snapshot, with no job running.

    - A state, by the name that it was declared with (``map_with_state`` calls its own ``state``):
      the key columns, or ``key`` behind ``key_by(fn)`` (``key_0``, ``key_1`` … if that is a tuple);
      of a map state ``map_key``; then ``value``, in its type, a list of a list state; with a ttl
      when it was ``written``. In order of keys. What has expired may still be there.
    - A running aggregate: the key columns and what it keeps of each aggregate (a mean: ``x_0`` and
      ``x_1``, its sum and count).
    - Anything else by the name of its section, as it is kept: ``timers``, ``windows``, ``splits``
      of a source ….

    Without ``uid`` the snapshot, and without ``name`` the operator, has one thing to read. State
    without a type is pickled: reading it may run any code that its writer chose, so it needs
    ``allow_pickle=True``. Values that Arrow cannot give back as they are come as they were pickled,
    in a column ``pickled``.
    Raises: ConfigError naming what there is, if the one asked for is not; UserError for pickles.
    """
    return read_state(path, uid, name, allow_pickle=allow_pickle)


def write(path: str, states: States, *, job: Job | None = None, like: str | None = None) -> str:
    """Make a savepoint at ``path`` that a job can start from, and give its address.

    ``states`` holds a ``pa.Table``, or a dict of columns, for each state, by uid and name, as
    ``read`` gives them: ``{"count": {"total": table}}``. With ``job`` the savepoint is made for
    that job, which starts with nothing but these states: its sources begin at the beginning. With
    ``like`` it is a copy of another snapshot with these states in place of its own.
    Only states of functions are written: of ``process`` and ``map_with_state``. Values go into
    states with a type or without; a list state takes a column of lists, a map state a row for each
    entry.
    Raises: UserError where a table does not fit; ConfigError where there is a snapshot already.
    """
    if (job is None) == (like is None):
        raise ConfigError(
            "write() takes a job to make a savepoint for, or a snapshot to change a copy of",
            hint="give job=… or like=PATH",
        )
    target = open_store(path)
    if like is None:
        assert isinstance(job, Job), "job= is a rs.Job"
        logical = job._draft.plan()  # noqa: SLF001  of the same room
        bind_sinks(logical)
        plan = physical_plan(logical)
        manifest, sections = _made(plan, states)
        return write_savepoint(manifest, None, target, sections)
    before, store = opened(like)
    sections = _changed(before, store, states, like)
    uids = set(sections)
    entries = tuple(
        dataclasses.replace(one, stateful=one.stateful or one.uid in uids)
        for one in before.operators
    )
    manifest = dataclasses.replace(before, operators=entries)
    return write_savepoint(manifest, store, target, sections)


# Writing -------------------------------------------------------------------------------------


def _made(plan: PhysicalPlan, states: States) -> tuple[Manifest, dict[str, tuple[Section, ...]]]:
    """Make state for a job that has none yet."""
    nodes = {node.uid: node for chain in plan.chains for node in chain.nodes}
    sections = {
        uid: tuple(
            _section(name, _table(table), _form(nodes, uid), plan.max_parallelism)
            for name, table in tables.items()
        )
        for uid, tables in states.items()
    }
    entries = tuple(
        OperatorEntry(node.uid, node.name, node.spec.verb, node.uid in sections)
        for node in nodes.values()
    )
    now_us = SystemClock().now_us()
    manifest = Manifest(plan.job, 1, 0, plan.max_parallelism, now_us, True, entries, ())
    return manifest, sections


def _form(nodes: Mapping[str, ChainNode], uid: str) -> KeyForm | None:
    if uid not in nodes:
        raise _no_operator(uid, nodes)
    spec = nodes[uid].spec
    if not hasattr(spec, "key_form"):
        raise UserError(
            f'"{uid}" is {spec.verb}, which keeps no state that can be written',
            hint="states of process functions and of map_with_state are written by name",
        )
    form: KeyForm | None = spec.key_form
    return form


def _section(name: str, table: pa.Table, form: KeyForm | None, most: int) -> Section:
    if form is not None:
        return kept(KEYED + name, table, form, None, most)
    share = Share.BROADCAST if MAP_KEY in table.column_names else Share.SPLIT
    return kept_without_key(UNKEYED + name, table, share, None)


def _changed(
    manifest: Manifest, store: Store, states: States, path: str
) -> dict[str, tuple[Section, ...]]:
    """Make states that take the place of those of another snapshot."""
    found = survey(manifest, store)
    known = {uid: [one for one in found if one.uid == uid] for uid in {one.uid for one in found}}
    made: dict[str, tuple[Section, ...]] = {}
    for uid, tables in states.items():
        if uid not in known:
            raise _no_operator(uid, known)
        made[uid] = tuple(
            _in_place(name, _table(table), known[uid], manifest.max_parallelism, path)
            for name, table in tables.items()
        )
    return made


def _in_place(
    name: str, table: pa.Table, known: Iterable[Surveyed], most: int, path: str
) -> Section:
    before = [one for one in known if is_state(one) and name_of(one) == name]
    if not before:
        names = ", ".join(name_of(one) for one in known if is_state(one)) or "none"
        raise UserError(f'there is no state "{name}" in {path}', hint=f"states there: {names}")
    schema = before[0].schema
    if not is_keyed(before[0]):
        return kept_without_key(before[0].section, table, Share(before[0].share), schema)
    keys = key_names(schema)
    if keys == [PICKLED_KEY]:
        form = KeyForm.objects()
    else:
        form = KeyForm(tuple(schema.field(key) for key in keys))
    return kept(before[0].section, table, form, schema, most)


def _table(given: Any) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    try:
        return pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(
            f"write() takes tables of states, got {given!r:.60}", hint=str(error)
        ) from error


def _no_operator(uid: str, known: Iterable[str]) -> RaystreamError:
    return UserError(
        f'no operator has the uid "{uid}"', hint=f"those that there are: {', '.join(sorted(known))}"
    )
