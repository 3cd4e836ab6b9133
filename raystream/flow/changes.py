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


def apply_changes(keys: Sequence[Hashable], ops: Sequence[str], *, unique: bool) -> list[int]:
    """Give the places of the rows that are in the table once all changes are applied.

    ``keys`` are those of the rows; with ``unique`` a key has one row at a time, which the next one
    replaces; without, a row is taken back by one that equals it.
    """
    rows: dict[Hashable, list[int]] = {}
    # A loop over rows, because keys are Python values and each change meets what those before left.
    for place, (key, op) in enumerate(zip(keys, ops, strict=True)):
        if op in ("+I", "+U"):
            if unique:
                rows[key] = [place]
            else:
                rows.setdefault(key, []).append(place)
        elif op == "-D" or not unique:
            held = rows.get(key, [])
            if held:
                held.pop(0)
            if not held:
                rows.pop(key, None)
    return sorted(place for held in rows.values() for place in held)
