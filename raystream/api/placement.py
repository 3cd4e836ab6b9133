"""What changes, in place, the operator that made a stream: its name, where it runs, its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol, TypeVar

from raystream.api.callsite import user_line
from raystream.api.checks import is_amount, is_count
from raystream.api.draft import Tip
from raystream.contracts.rejects import FAIL, POLICIES
from raystream.errors import PlanError
from raystream.graph.logical import LogicalNode, label
from raystream.graph.physical import Resources
from raystream.operators.assign_timestamps import AssignTimestampsSpec
from raystream.operators.async_map import AsyncMapSpec
from raystream.operators.broadcast_process import BroadcastProcessSpec
from raystream.operators.co_process import CoProcessSpec
from raystream.operators.columns import ColumnsSpec
from raystream.operators.key_by import KeyByFieldsSpec, KeyByFunctionSpec
from raystream.operators.map_batches import MapBatchesSpec
from raystream.operators.map_with_state import MapWithStateSpec
from raystream.operators.object_aggregate import ObjectAggregateSpec
from raystream.operators.object_top_k import ObjectTopKSpec
from raystream.operators.object_window import ObjectWindowSpec
from raystream.operators.process import ProcessSpec
from raystream.operators.reduce import ReduceSpec
from raystream.operators.row_functions import FilterFunctionSpec, FlatMapSpec, MapSpec
from raystream.operators.sink import SinkSpec
from raystream.operators.source import SourceSpec
from raystream.operators.to_changelog import ToChangelogSpec
from raystream.operators.window_rows import WindowRowsSpec
from raystream.operators.with_schema import WithSchemaSpec


class Placed(Protocol):
    """A stream, or the end of one."""

    _tip: Tip


P = TypeVar("P", bound=Placed)


def named(self: P, name: str) -> P:
    """Name the operator: plans, errors and metrics call it so; names are unique in a job.

    Raises: PlanError if another operator has that name.
    """
    self._tip.draft.graph.rename(self._tip.node, name, user_line())
    return self


def uid(self: P, uid: str) -> P:
    """Fix the name under which the operator's state is kept, whatever it is called later.

    Raises: PlanError if another operator has that uid.
    """
    self._tip.draft.graph.give_uid(self._tip.node, uid, user_line())
    return self


def with_parallelism(self: P, parallelism: int | tuple[int, int]) -> P:
    """Pin how many subtasks run the operator, or give the least and the most.

    Raises: PlanError if it is not positive, above the job's maximum, or not to be chosen here.
    """
    where = user_line()
    node = _runs(self._tip.node, "with_parallelism", where)
    given: tuple[int, ...] = parallelism if isinstance(parallelism, tuple) else (parallelism,)
    bounds = (given[0], given[-1]) if given else (0, 0)
    if len(given) > 2 or not all(map(is_count, given)) or not 0 < bounds[0] <= bounds[1]:
        raise PlanError(
            f"with_parallelism() takes a positive int or a pair (least, most), got {parallelism!r}",
            where=where,
        )
    if bounds[1] > self._tip.draft.max_parallelism:
        raise PlanError(
            f'"{node.name}" cannot run at parallelism {bounds[1]}: the job\'s max_parallelism is '
            f"{self._tip.draft.max_parallelism}",
            where=where,
            hint="give the job a larger max_parallelism=; it is the number of key groups",
        )
    if node.single and bounds[1] > 1:
        raise PlanError(
            f'"{node.name}" gathers all rows, so it runs as one subtask',
            where=where,
            hint="key_by() and window() run in parallel; window_all() does not",
        )
    node.parallelism = None if isinstance(parallelism, tuple) else parallelism
    node.bounds = bounds if isinstance(parallelism, tuple) else None
    return self


def with_resources(
    self: P,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    accelerator_type: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> P:
    """Say what each subtask of the operator asks of the cluster: a node that has it may come.

    ``resources`` are amounts of what nodes were given names for, ``labels`` what its node is
    labelled with: a value, ``"!value"``, ``"in(a, b)"`` or ``"!in(a, b)"``.

    Raises: PlanError if an amount is negative, or a label is no text.
    """
    where = user_line()
    node = _runs(self._tip.node, "with_resources", where)
    custom = dict(resources or {})
    for name, amount in {"num_cpus": num_cpus, "num_gpus": num_gpus, **custom}.items():
        if amount is not None and not is_amount(amount):
            raise PlanError(
                f"with_resources(): {name} is an amount of at least 0, got {amount!r}", where=where
            )
    wanted = dict(labels or {})
    texts: list[object] = [*wanted, *wanted.values()]
    if not all(isinstance(text, str) and text for text in texts):
        raise PlanError(
            f"with_resources(): labels are names and values, got {labels!r:.60}", where=where
        )
    node.resources = Resources(
        num_cpus,
        num_gpus or 0,
        tuple(sorted(custom.items())),
        accelerator_type,
        tuple(sorted(wanted.items())),
    )
    return self


def disable_chaining(self: P) -> P:
    """Run the operator in subtasks of its own, joined with none beside it."""
    _runs(self._tip.node, "disable_chaining", user_line()).chaining = False
    return self


def on_error(self: P, policy: str) -> P:
    """Say what becomes of a row that fails in the operator: ``fail``, ``skip`` or ``dead_letter``.

    A batch that fails is tried again row by row, so that no row is lost for its neighbours: rows
    that fail are left out and counted, and under ``dead_letter`` they can be read as
    ``dead_letters``. What a failing call had yielded is dropped, state that it had written stays.
    A timer that fails is given up as ``{"timer": time, "key": key}``; a window that fails when it
    fires as a dict of its key and, in microseconds, its bounds: it gives nothing then.

    Raises: PlanError for another word, and where an operator of columns calls nothing for a row.
    """
    where = user_line()
    node = _runs(self._tip.node, "on_error", where)
    if policy not in POLICIES:
        raise PlanError(
            f"on_error() takes {', '.join(map(repr, POLICIES))}, got {policy!r:.60}", where=where
        )
    if policy != FAIL and not isinstance(node.spec, _ROWS_MAY_FAIL):
        raise PlanError(
            f'on_error() is for operators that call user code with rows; "{label(node)}" computes '
            "whole columns: what fails there fails the job, also an AggregateFunction",
            where=where,
            hint="take out the rows that could fail before it, in a filter or map with "
            f'on_error("{policy}"), or aggregate objects',
        )
    node.on_error = policy
    return self


_ROWS_MAY_FAIL: Final = (
    AssignTimestampsSpec,
    AsyncMapSpec,
    BroadcastProcessSpec,
    CoProcessSpec,
    ColumnsSpec,
    FilterFunctionSpec,
    FlatMapSpec,
    KeyByFieldsSpec,
    KeyByFunctionSpec,
    MapBatchesSpec,
    MapSpec,
    MapWithStateSpec,
    ObjectAggregateSpec,
    ObjectTopKSpec,
    ObjectWindowSpec,
    ProcessSpec,
    ReduceSpec,
    SinkSpec,
    SourceSpec,
    ToChangelogSpec,
    WindowRowsSpec,
    WithSchemaSpec,
)


def _runs(node: LogicalNode, verb: str, where: str) -> LogicalNode:
    if node.spec is None:
        raise PlanError(
            f"{verb}() behind union(): a union is no operator of its own",
            where=where,
            hint="set it on the operators before or behind it",
        )
    if node.verb in {"side_output", "dead_letters"}:
        raise PlanError(
            f"{verb}() behind side_output(): a side output runs where its rows are made",
            where=where,
            hint="set it on the operator that makes them, or on the operators behind",
        )
    return node
