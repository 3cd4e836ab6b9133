"""A column of Python objects, pickled: state that has no Arrow type, as it is kept."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raystream.errors import UserFunctionError
from raystream.keyed.key_form import pickled


def pickled_column(values: Sequence[Any]) -> pa.Array:
    """Pickle each value on its own, so that each can go to the subtask of its key.

    Shapes: values [n] -> large_binary [n].
    Raises: UserFunctionError for a value that cannot be pickled.
    """
    try:
        return pa.array(pickled(values), pa.large_binary())
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UserFunctionError(
            f"an accumulator cannot be kept: {error}",
            hint="accumulators are pickled by checkpoints: let them be plain values, without "
            "locks, files or connections",
        ) from error


def unpickled(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Give back the values of a column that ``pickled_column`` made."""
    return [pickle.loads(value) for value in column.to_pylist()]
