"""Write docs/reference.md from the docstrings: ``python tests/support/make_reference.py``.

The text does not depend on the Python that makes it: annotations are shown as they are written, and
what belongs to narwhals is only named.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import raystream as rs

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
WIDTH = 104

HEAD = """\
# Reference

Every public name of raystream, with its signature and the first words of its docstring;
`help(rs.Job)` has the rest. `python tests/support/make_reference.py` makes this page.

Durations are strings (`"500ms"`, `"10s"`, `"1h30m"`, `"2d"`), `timedelta`s, or ints of
microseconds. Points in time are ints of microseconds since 1970, UTC, or `datetime`s. Where a
column is expected a string names one and an expression computes one.
"""

GROUPS: dict[str, tuple[str, ...]] = {
    "Jobs": ("Job", "JobHandle", "JobResult", "attach", "list_jobs", "Autoscale", "Limits"),
    "Streams": ("Stream", "KeyedStream", "WindowedStream"),
    "Windows": (
        *("Tumbling", "Sliding", "Session", "Cumulative", "Global", "TumblingCount"),
        *("SlidingCount", "Trigger", "TriggerResult", "triggers", "Evictor", "evictors"),
    ),
    "Time": ("WatermarkStrategy", "Punctuated", "Alignment", "event_time", "micros"),
    "Functions and state": (
        *("ProcessFunction", "KeyedProcessFunction", "CoProcessFunction"),
        *("BroadcastProcessFunction", "OpenContext", "ValueState", "ListState", "MapState"),
        *("ReducingState", "AggregatingState", "OperatorListState", "UnionListState"),
        "BroadcastState",
    ),
    "Aggregates": (
        *("count", "sum", "mean", "min", "max", "stddev", "variance", "first", "last", "min_by"),
        *("max_by", "count_distinct", "approx_count_distinct", "quantile", "collect"),
        *("Aggregate", "AggregateFunction"),
    ),
    "Sources and sinks": (
        *("FileSource", "FileSink", "DataGenSource", "NexmarkSource", "SocketSource", "PrintSink"),
        *("CallbackSink", "MemorySink", "chain", "secret", "Source", "Split", "Reader", "END"),
        *("Batch", "Sink", "Writer"),
    ),
    "Checkpoints": ("Checkpointing", "Restart", "state"),
    "Testing": ("testing",),
    "Errors": (
        *("RaystreamError", "UserError", "PlanError", "ConfigError", "UserFunctionError"),
        *("RestoreRefused", "ExternalError", "SourceError", "SinkError", "StorageError"),
        *("ClusterError", "JobFailed", "InternalError"),
    ),
}

CONNECTORS = (
    "delta", "elasticsearch", "http", "iceberg", "kafka", "mqtt", "nats", "postgres", "redis",
)  # fmt: skip

MADE_BY_THE_ENGINE = {
    *("JobHandle", "OpenContext", "Stream", "KeyedStream", "WindowedStream", "Restart"),
    *("Aggregate", "testing.Run", "testing.Harness"),
}
"""Users are given these, or derive nothing from them; how they are made is nobody's business."""

VALUES = {
    "END": "What `Reader.poll` returns when its split has no more rows, ever.",
    "testing.MAX": "The watermark behind the last row of bounded input: no row is later.",
}
"""Names that are values, which have no docstring."""

CONTRACTS = {
    *("Source", "Reader", "Sink", "Writer", "Trigger", "Evictor", "AggregateFunction"),
    *("ProcessFunction", "KeyedProcessFunction", "CoProcessFunction", "BroadcastProcessFunction"),
}
"""Users derive from these; they have no arguments of their own."""

MEMBERS = CONTRACTS | {
    *("Job", "JobHandle", "Stream", "KeyedStream", "WindowedStream", "Restart"),
    *("Aggregate", "Batch", "testing.Run", "testing.Harness"),
}
"""The methods of these are listed; those of the others are what their contract says."""

INTERNAL = {
    "Restart": {"failures", "next_delay"},
}


def page() -> str:
    """Give the text of the whole page."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts.extend(entry(f"rs.{name}", name, getattr(rs, name)))
        if title == "Sources and sinks":
            parts.extend(connectors())
    parts.extend(expressions())
    return "\n".join(parts)


def connectors() -> Iterator[str]:
    yield "### Of other systems\n"
    yield (
        filled("Each is imported from `raystream.connectors`, and needs the extra of its name.")
        + "\n"
    )
    for system in CONNECTORS:
        module = importlib.import_module(f"raystream.connectors.{system}")
        for name in sorted(module.__all__):
            yield from entry(f"{system}.{name}", f"{system}.{name}", getattr(module, name))


def expressions() -> Iterator[str]:
    """Name what is narwhals', without a word of its docstrings: they are another project's."""
    yield "## Expressions and types\n"
    theirs = sorted(name for name in public() if of_narwhals(getattr(rs, name)))
    functions = [name for name in theirs if name[0].islower()]
    types = [name for name in theirs if name[0].isupper() and name != "Expr"]
    narwhals = "[narwhals](https://narwhals-dev.github.io/narwhals/)"
    yield (
        filled(f"These are those of {narwhals}: an `rs.Expr` is made by {joined(functions)}.")
        + "\n"
    )
    yield filled(f"Types, for `cast`: {joined(types)}.") + "\n"


def joined(names: list[str]) -> str:
    return ", ".join(f"`rs.{name}`" for name in names)


def of_narwhals(value: object) -> bool:
    return str(getattr(value, "__module__", "")).startswith("narwhals")


def public() -> set[str]:
    """Give all names that a user may write behind ``rs.``, more than ``import *`` brings."""
    theirs = {name for name, value in vars(rs).items() if of_narwhals(value)}
    return {*rs.__all__, "sum", "min", "max", "first", "last", *theirs}


def entry(shown: str, name: str, value: Any) -> Iterator[str]:
    """Give the lines of one name: a module, a class with its methods, a function or a value."""
    yield f"### `{shown}`\n"
    if name in VALUES:
        yield filled(VALUES[name]) + "\n"
        return
    if inspect.ismodule(value):
        yield first_words(value) + "\n"
        for part in module_names(value):
            yield from entry(f"{shown}.{part}", f"{name}.{part}", getattr(value, part))
        return
    if not isinstance(value, type):
        if inspect.isroutine(value):
            yield f"```text\n{signature(shown, value)}\n```\n"
    elif issubclass(value, Exception):
        yield f"A kind of `{value.__bases__[0].__name__}`.\n"
    elif issubclass(value, Enum):
        yield f"One of {', '.join(f'`{member.name}`' for member in value)}.\n"
    elif name not in MADE_BY_THE_ENGINE | CONTRACTS:
        yield f"```text\n{signature(shown, value)}\n```\n"
    yield first_words(value) + "\n"
    if name in MEMBERS:
        yield from members(name, value)


def module_names(module: Any) -> list[str]:
    """Give what a module shows to users, in the order in which it is written."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed, key=str.lower)
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and not name.startswith(("_", "default_"))
    ]


def members(name: str, owner: type) -> Iterator[str]:
    """List methods and properties, without what an ancestor on this page has."""
    above = {
        part
        for ancestor in owner.__mro__[1:]
        if ancestor is not object and ancestor.__name__ in MEMBERS
        for part in vars(ancestor)
    }
    lines = []
    for part in dir(owner):
        value = inspect.getattr_static(owner, part)
        if part.startswith("_") or part in above or part in INTERNAL.get(name, ()):
            continue
        called = part
        if isinstance(value, staticmethod | classmethod) or inspect.isroutine(value):
            called = signature(part, getattr(owner, part), method=True)
        elif not isinstance(value, property):
            continue
        lines.append(filled(f"- `{called}`: {words(getattr(owner, part))}", indent="  "))
    if lines:
        yield "\n".join(lines) + "\n"


def first_words(value: Any) -> str:
    """Give the first paragraph of a docstring, and what it guarantees and raises."""
    paragraphs = paragraphs_of(value)
    said = [one for one in paragraphs[1:] if one.startswith(("Guarantee:", "Units:", "Raises:"))]
    return "\n\n".join(filled(plain(one)) for one in (paragraphs[0], *said))


def words(value: Any) -> str:
    return plain(paragraphs_of(value)[0])


def paragraphs_of(value: Any) -> list[str]:
    """Give the paragraphs of a docstring; what it raises, and in which units, are their own."""
    return re.split(r"\n\n|\n(?=Raises: |Units: |Shapes: )", inspect.getdoc(value) or "")


def plain(paragraph: str) -> str:
    return " ".join(paragraph.replace("``", "`").split())


def filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def signature(name: str, called: Any, *, method: bool = False) -> str:
    """Show how something is called: annotations as written, a line a parameter if it is long.

    A method is shown in one line, without annotations.
    """
    shown = inspect.signature(called)
    parameters = list(shown.parameters.values())
    if method and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    parts = []
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        equals = "=" if method else " = "
        default = "" if one.default is one.empty else f"{equals}{default_of(one.default)}"
        parts.append(f"{stars}{one.name}{'' if method else annotation(one.annotation)}{default}")
    if method:
        return f"{name}({', '.join(parts)})"
    gives = "" if isinstance(called, type) else annotation(shown.return_annotation, " -> ")
    line = f"{name}({', '.join(parts)}){gives}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){gives}"


def annotation(written: Any, before: str = ": ") -> str:
    if written is inspect.Parameter.empty:
        return ""
    return f"{before}{written if isinstance(written, str) else inspect.formatannotation(written)}"


def default_of(value: Any) -> str:
    # The default of a function or an object would show where it lies in memory.
    text = repr(value)
    return "…" if text.startswith("<") else text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
