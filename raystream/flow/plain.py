"""Write plain Python values as text that anyone can read, and any other value pickled.

``None``, bools, ints, floats, strings, bytes, and lists, tuples and dicts of these, are JSON with a
tag where JSON has no such type. What is read from elsewhere need not be trusted: only values that
say that they are pickled are.
"""

from __future__ import annotations

import base64
import json
import math
import pickle
from typing import Any

from raystream.errors import CorruptSnapshot, PlanError
from raystream.flow.codec import pickled

_TAG = "$"


def dumps(value: Any) -> str:
    """Write a value.

    Raises: PlanError for one that can be neither written nor pickled.
    """
    return json.dumps(_written(value), separators=(",", ":"), ensure_ascii=False)


def loads(text: str, *, allow_pickle: bool = True) -> Any:
    """Read what ``dumps`` wrote.

    Raises: CorruptSnapshot for other text, or a pickle where none is allowed.
    """
    try:
        return _read(json.loads(text), allow_pickle)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptSnapshot(f"not a value that was kept: {text!r:.80}: {error}") from error


def _written(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_TAG: "float", "v": repr(value)}
    if kind is list:
        return [_written(one) for one in value]
    if kind is tuple:
        return {_TAG: "tuple", "v": [_written(one) for one in value]}
    if kind is bytes:
        return {_TAG: "bytes", "v": base64.b64encode(value).decode()}
    if kind is dict:
        return {_TAG: "dict", "v": [[_written(k), _written(v)] for k, v in value.items()]}
    try:
        packed = pickled(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise PlanError(
            f"{value!r:.80} cannot be kept in a checkpoint: {error}",
            hint="positions and committables are plain values, or can be pickled",
        ) from error
    return {_TAG: "pickle", "v": base64.b64encode(packed).decode()}


def _read(given: Any, allow_pickle: bool) -> Any:
    if isinstance(given, list):
        return [_read(one, allow_pickle) for one in given]
    if not isinstance(given, dict):
        return given
    kind, inside = given[_TAG], given["v"]
    if kind == "float":
        return float(inside)
    if kind == "tuple":
        return tuple(_read(one, allow_pickle) for one in inside)
    if kind == "bytes":
        return base64.b64decode(inside)
    if kind == "dict":
        return {_read(k, allow_pickle): _read(v, allow_pickle) for k, v in inside}
    if kind == "pickle" and allow_pickle:
        return pickle.loads(base64.b64decode(inside))
    raise CorruptSnapshot(
        "a pickled value, which is only loaded where allow_pickle=True"
        if kind == "pickle"
        else f"a value of unknown kind {kind!r:.40}"
    )
