"""Python objects as a column of bytes: state that has no Arrow type, as it is kept."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from raystream.errors import UserFunctionError

_PROTOCOL = 5


def pickled(values: Iterable[Any]) -> pa.Array:
    """Pickle each value on its own, so that each finds its key's subtask.

    Raises: UserFunctionError for a value that cannot be pickled.
    """
    # A loop over values: they are Python objects.
    return pa.array([_bytes(value) for value in values], pa.large_binary())


def unpickled(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Give back the values of a column that ``pickled`` made."""
    return [pickle.loads(value) for value in column.to_pylist()]


def _bytes(value: Any) -> bytes:
    try:
        return pickle.dumps(value, _PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UserFunctionError(
            f"state of type {type(value).__name__} cannot be kept: {error}",
            hint="keep plain values, or objects of a class that stands in a module of its own",
        ) from error
