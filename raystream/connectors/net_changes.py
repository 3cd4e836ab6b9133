"""What changes come to, key by key: what is to be written, and what is to be removed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raystream.flow.batch import Int64s

CHANGES = pa.schema([("key", pa.string()), ("value", pa.binary()), ("removes", pa.bool_())])
"""Changes of documents: where, what, and whether it is taken back."""

_TAKES_BACK = ("-U", "-D")


def removing(ops: Sequence[str] | None, count: int) -> npt.NDArray[np.bool_]:
    """Tell which rows take one back.

    Shapes: ops [n] -> bool [n].
    """
    return np.zeros(count, bool) if ops is None else np.isin(np.array(ops, object), _TAKES_BACK)


def newest(keys: pa.Array) -> Int64s:
    """Give the place of the last change of each key: rows of a key came in order.

    Shapes: keys [n] -> int64 [k], increasing.
    """
    codes = _codes(keys)
    last = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    last[codes] = np.arange(len(codes))  # of several the last stays
    return np.sort(last)


def netted(changes: pa.RecordBatch) -> pa.RecordBatch:
    """Net changes whose order is not known: what was brought and taken back cancels.

    Of a key what is brought counts more than what is taken back, which is then another row that it
    had before. Shapes: changes [n] -> changes [k], one a key.
    """
    count = changes.num_rows
    if not count:
        return changes
    keys = _codes(changes.column("key"))
    values = _codes(changes.column("value"))
    removes = changes.column("removes").to_numpy(zero_copy_only=False)
    pairs = keys * (int(values.max()) + 1) + values
    _, group = np.unique(pairs, return_inverse=True)
    net = np.bincount(group, np.where(removes, -1, 1)).astype(np.int64)
    last = np.zeros(len(net), np.int64)
    last[group] = np.arange(count)
    brings, takes = last[net > 0], last[net < 0]
    chosen = np.full(int(keys.max()) + 1, -1, np.int64)
    chosen[keys[np.sort(takes)]] = np.sort(takes)
    chosen[keys[np.sort(brings)]] = np.sort(brings)
    places = np.sort(chosen[chosen >= 0])
    signs = np.zeros(count, bool)
    signs[takes] = True
    kept = changes.take(pa.array(places))
    return kept.set_column(2, CHANGES.field(2), pa.array(signs[places]))


def _codes(values: pa.Array) -> Int64s:
    """Number the different values. Shapes: [n] -> int64 [n]."""
    codes: Int64s = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes
