"""Look into an expression: print it as its author wrote it, find what is not row-wise in it.

narwhals keeps an expression as a list of nodes, and gives no public way to read it. All that is
known of these nodes is known here; where they look different from what is expected, the text is
narwhals' own ``repr`` and nothing is found, which leaves the verdict to the probes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import narwhals.stable.v2 as nw

from raystream.flow.batch import EVENT_TIME

_BINARY = {
    "__or__": ("|", 1),
    "__xor__": ("^", 2),
    "__and__": ("&", 3),
    "__eq__": ("==", 0),
    "__ne__": ("!=", 0),
    "__gt__": (">", 0),
    "__ge__": (">=", 0),
    "__lt__": ("<", 0),
    "__le__": ("<=", 0),
    "__add__": ("+", 5),
    "__sub__": ("-", 5),
    "__mul__": ("*", 6),
    "__truediv__": ("/", 6),
    "__floordiv__": ("//", 6),
    "__mod__": ("%", 6),
    "__pow__": ("**", 8),
}
"""Python's operators and how strongly they bind."""

_SIGNS = {"__invert__": "~", "__neg__": "-"}
_UNARY = 7
_CALL = 9
_TIME_TEXT = f"{EVENT_TIME}.cast(Datetime(time_unit='us', time_zone='UTC'))"


def text(expr: nw.Expr) -> str:
    """Print an expression: ``price * 2 > 100``."""
    try:
        written, _ = _expression(expr)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return repr(expr)
    return written.replace(_TIME_TEXT, "event_time()")


def not_row_wise(expr: nw.Expr) -> str | None:
    """Name the first operation in an expression that looks at other rows; None if there is none.

    ``map_batches`` may do so or not: the probes tell.
    """
    try:
        for node in _nodes(expr):
            if not node.kind.is_elementwise and node.name != "map_batches":
                return f"{node.name}()"
    except AttributeError:
        return None
    return None


def names_all(expr: nw.Expr) -> bool:
    """Tell whether an expression may mean columns that it does not name: ``all()``, selectors."""
    written = repr(expr)
    return any(word in written for word in ("all()", "nth(", "exclude(", "selectors."))


def _nodes(expr: Any) -> Iterator[Any]:
    for node in expr._nodes:  # noqa: SLF001  narwhals has no other way to read an expression
        yield node
        for argument in node.exprs:
            if _is_expression(argument):
                yield from _nodes(argument)


def _expression(expr: Any) -> tuple[str, int]:
    written, strength = "", _CALL
    for node in expr._nodes:  # noqa: SLF001  narwhals has no other way to read an expression
        written, strength = _apply(written, strength, node)
    return written, strength


def _apply(left: str, strength: int, node: Any) -> tuple[str, int]:
    """Print ``node`` applied to what stands to its left; give the text and how it binds."""
    name, arguments = node.name, node.exprs
    if name == "alias":
        return left, strength
    if name == "col":
        return ", ".join(_column(column) for column in node.kwargs["names"]), _CALL
    if name == "lit":
        return _literal(node.kwargs["value"]), _CALL
    if name in _SIGNS:
        return f"{_SIGNS[name]}{_wrapped(left, strength, _UNARY)}", _UNARY
    if name == "when_then":
        return _when(arguments), _CALL
    reflected = "__" + name[3:] if name.startswith("__r") else name
    if name in _BINARY or reflected in _BINARY:
        return _operator(left, strength, node, reflected)
    call = f"{name}({_arguments(node)})"
    return (f"{_wrapped(left, strength, _CALL)}.{call}" if left else call), _CALL


def _operator(left: str, strength: int, node: Any, name: str) -> tuple[str, int]:
    sign, binding = _BINARY[name]
    right, right_strength = _argument(_operand(node), as_literal=True)
    if name != node.name:  # 1 - x arrives as x.__rsub__(1)
        left, strength, right, right_strength = right, right_strength, left, strength
    first, second = _wrapped(left, strength, binding), _wrapped(right, right_strength, binding + 1)
    return f"{first} {sign} {second}", binding


def _operand(node: Any) -> Any:
    return node.exprs[0] if node.exprs else next(iter(node.kwargs.values()))


def _wrapped(written: str, strength: int, least: int) -> str:
    return written if strength >= least else f"({written})"


def _when(arguments: Any) -> str:
    condition, then = arguments[0], arguments[1]
    written = f"when({_condition(condition)}).then({_argument(then)[0]})"
    return written + "".join(f".otherwise({_argument(other)[0]})" for other in arguments[2:])


def _condition(expr: Any) -> str:
    # when(a, b) means that all of them hold, and narwhals says so even for one.
    nodes: Any = expr._nodes if _is_expression(expr) else ()  # noqa: SLF001  see _expression
    if len(nodes) == 1 and nodes[0].name == "all_horizontal":
        return ", ".join(_condition(part) for part in nodes[0].exprs)
    return _argument(expr)[0]


def _arguments(node: Any) -> str:
    parts = [_argument(argument, as_literal=node.str_as_lit)[0] for argument in node.exprs]
    options = {key: value for key, value in node.kwargs.items() if not _unset(value)}
    alone = len(options) == 1 and not parts
    parts += [
        _literal(value) if alone else f"{key}={_literal(value)}" for key, value in options.items()
    ]
    return ", ".join(parts)


def _argument(value: Any, *, as_literal: bool = False) -> tuple[str, int]:
    if _is_expression(value):
        return _expression(value)
    if isinstance(value, str) and not as_literal:
        return _column(value), _CALL
    return _literal(value), _CALL


def _column(name: str) -> str:
    return name if name.isidentifier() else f"col({name!r})"


def _is_expression(value: Any) -> bool:
    # Not by class: inside of an expression of the stable API stand some of the other.
    return hasattr(value, "_nodes")


def _unset(value: Any) -> bool:
    return value is None or value is False or value == []


def _literal(value: Any) -> str:
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    return repr(value)
