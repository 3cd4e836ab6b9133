"""Row kinds of changelogs: what a row does to the table whose changes flow.

A columnar changelog carries the kind of each row in the hidden column ``__op``, before the event
time: int8, the codes below.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

OP = "__op"
"""Name of the hidden column of row kinds."""

OP_FIELD = pa.field(OP, pa.int8(), nullable=False)

INSERT: Final = 0
UPDATE_BEFORE: Final = 1
UPDATE_AFTER: Final = 2
DELETE: Final = 3

OPS = ("+I", "-U", "+U", "-D")
"""What users see of a kind, by its code."""


def op_names(codes: npt.NDArray[np.int8]) -> list[str]:
    """Give kinds as users see them.

    Shapes: int8 [n] -> texts [n].
    """
    names: list[str] = np.array(OPS, object)[codes].tolist()
    return names


def takes_back(ops: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Tell which rows take one back that came before.

    Shapes: int8 [n] -> bool [n].
    """
    removes: npt.NDArray[np.bool_] = (ops == UPDATE_BEFORE) | (ops == DELETE)
    return removes


def kept_ops(ops: npt.NDArray[np.int8], passes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """Give the kinds of rows of which only some pass, so that no update is half told.

    Where -U and +U of one update stand side by side, the one that passes alone is -D or +I.
    Shapes: int8 [n], bool [n] -> int8 [n]; those of rows that do not pass mean nothing.
    """
    pairs = np.flatnonzero((ops[:-1] == UPDATE_BEFORE) & (ops[1:] == UPDATE_AFTER))
    before, after = passes[pairs], passes[pairs + 1]
    alone = before != after
    if not alone.any():
        return ops
    kept = ops.copy()
    kept[pairs[before & ~after]] = DELETE
    kept[pairs[after & ~before] + 1] = INSERT
    return kept


def apply_changes(
    keys: Sequence[Hashable], rows: Sequence[Hashable], ops: Sequence[str], *, unique: bool
) -> list[int]:
    """Give the places of the rows that are in the table once all changes are applied.

    Rows that are to be equal have equal ``rows``. With ``unique`` a +U replaces the rows of its key
    unless a -U directly before it has made room, and -U and -D without an equal row take the key's;
    without, where the key is all columns, the table may hold equal rows.
    """
    table: dict[Hashable, list[int]] = {}
    room: set[Hashable] = set()
    # A loop over rows, because keys are Python values and each change meets what those before left.
    for place, (key, row, op) in enumerate(zip(keys, rows, ops, strict=True)):
        held = table.setdefault(key, [])
        if op in ("+I", "+U"):
            if op == "+U" and unique and key not in room:
                held.clear()
            held.append(place)
        else:
            equal = next((i for i, one in enumerate(held) if rows[one] == row), None)
            if equal is not None:
                del held[equal]
            elif unique and held:
                del held[0]
            if not held:
                del table[key]
        if op == "-U":
            room.add(key)
        else:
            room.discard(key)
    return sorted(place for held in table.values() for place in held)
