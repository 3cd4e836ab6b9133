"""Write a plan for the workers: functions of the script keep the names of their files.

Newer cloudpickles leave the names out, and with them a traceback would show neither the file of the
user's code nor its lines.
"""

from __future__ import annotations

import io
import types
from typing import Any

import cloudpickle


def pack_plan(plan: object) -> bytes:
    """Pickle a plan, what its script defines by value."""
    out = io.BytesIO()
    _Pickler(out).dump(plan)
    return out.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            _, arguments = self.dispatch_table[types.CodeType](obj)
            return _code, (obj.co_filename, arguments)
        return super().reducer_override(obj)


def _code(file: str, arguments: tuple[Any, ...]) -> types.CodeType:
    return types.CodeType(*arguments).replace(co_filename=file)
