"""The import law: a room knows only the rooms to its left, and Ray is known in one folder."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From left to right; rooms of one entry do not know each other.
ORDER = (
    {"errors"},
    {"clock"},
    {"config"},
    {"flow"},
    {"contracts"},
    {"keyed"},
    {"operators"},
    {"graph"},
    {"subtask", "coordinator"},
    {"storage", "connectors"},
    {"runtime"},
    {"api"},
    {"testing", "sql", "ops"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# Libraries that a room may import when it is itself imported; all others only inside a function,
# because they are optional or slow to load.
EVERYWHERE = {
    "pyarrow",
    "numpy",
    "narwhals",
    "cloudpickle",
    "fsspec",
    "xxhash",
    "typing_extensions",
}
TERMINAL = {"click", "rich"}
FACADE_USERS = {"testing", "sql", "ops"}


@dataclass(frozen=True)
class Import:
    line: int
    name: str
    when_loaded: bool


def imports_of(tree: ast.AST) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, when_loaded: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(node.lineno, alias.name, when_loaded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "raystream":
                for alias in node.names:
                    room = alias.name in RANK
                    name = f"raystream.{alias.name}" if room else "raystream"
                    found.append(Import(node.lineno, name, when_loaded))
            elif module in {"raystream.runtime", "ray"}:
                found.extend(
                    Import(node.lineno, f"{module}.{alias.name}", when_loaded)
                    for alias in node.names
                )
            else:
                found.append(Import(node.lineno, module, when_loaded))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.extend(
                Import(node.lineno, str(argument.value), when_loaded)
                for argument in node.args
                if isinstance(argument, ast.Constant)
            )
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        # What is imported for types alone is never loaded.
        inside = inside or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            visit(child, when_loaded and not inside)

    visit(tree, True)
    return found


def broken_law(path: str, source: str) -> list[str]:
    """Say what a file, ``raystream/room/file.py``, imports against the law."""
    parts = Path(path).with_suffix("").parts[1:]
    room = parts[0]
    if room == "__init__":  # the façade knows everybody, and is looked at by test_public
        return []
    if room not in RANK:
        return [f"{path}: room {room!r} has no place in the order"]
    in_ray = parts[:2] == ("runtime", "ray")
    broken = []
    for item in imports_of(ast.parse(source)):
        complaint = _complaint(room, in_ray, item)
        if complaint:
            broken.append(f"{path}:{item.line}: {complaint}")
    return broken


def _complaint(room: str, in_ray: bool, item: Import) -> str | None:
    top, _, rest = item.name.partition(".")
    if item.name.startswith("."):
        return f"{item.name} is a relative import"
    if top == "raystream":
        return _between_rooms(room, in_ray, item, rest)
    if top == "ray":
        known = in_ray or (item.name == "ray.data" and not item.when_loaded)
        return None if known else "ray is imported in raystream/runtime/ray/ alone"
    if top in sys.stdlib_module_names or top in EVERYWHERE or not item.when_loaded:
        return None
    if top in TERMINAL and room == "ops":
        return None
    return f"{top} must be imported inside the function that needs it"


def _between_rooms(room: str, in_ray: bool, item: Import, rest: str) -> str | None:
    if not rest:
        known = room in FACADE_USERS
        return None if known else f"{room} imports the façade"
    target = rest.split(".", maxsplit=1)[0]
    if target not in RANK:
        return f"there is no room {target!r}"
    if target != room and RANK[target] >= RANK[room]:
        return f"{room} imports {target}, which is not to its left"
    if rest.startswith("runtime.ray") and not in_ray and item.when_loaded:
        return "raystream.runtime.ray must be imported inside the function that needs it"
    return None


def test_every_room_imports_only_from_rooms_to_its_left():
    broken = [
        line
        for path in sorted((ROOT / "raystream").rglob("*.py"))
        for line in broken_law(str(path.relative_to(ROOT)), path.read_text())
    ]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize("folder", ["jobs", "examples"])
def test_scripts_import_the_facade_and_connectors_only(folder):
    broken = []
    for path in sorted((ROOT / folder).glob("*.py")):
        for item in imports_of(ast.parse(path.read_text())):
            ours = item.name.startswith("raystream.")
            if item.name == "ray" or (ours and not item.name.startswith("raystream.connectors")):
                broken.append(f"{path.relative_to(ROOT)}:{item.line}: imports {item.name}")
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("raystream/flow/batch.py", "from raystream.operators.guard import call"),
        ("raystream/flow/batch.py", "from raystream import operators"),
        ("raystream/subtask/machine.py", "import raystream.coordinator.job"),
        ("raystream/runtime/local.py", "from raystream.api.job import Job"),
        ("raystream/api/job.py", "def run():\n    import raystream.ops.progress"),
        ("raystream/api/job.py", "def run():\n    import_module('raystream.ops.progress')"),
        ("raystream/api/job.py", "import raystream as rs"),
        ("raystream/api/job.py", "def run():\n    import ray"),
        ("raystream/runtime/local.py", "from ray import get"),
        ("raystream/api/job.py", "from raystream.runtime import ray"),
        ("raystream/runtime/shell.py", "import raystream.runtime.ray.deploy"),
        ("raystream/connectors/files.py", "import pandas"),
        ("raystream/graph/explain.py", "import rich"),
        ("raystream/graph/explain.py", "from .rules import fuse"),
        ("raystream/misc/things.py", "import os"),
    ],
)
def test_the_law_finds_what_breaks_it(path, line):
    assert broken_law(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("raystream/config.py", "from raystream.errors import ConfigError"),
        ("raystream/flow/batch.py", "from raystream.flow.time import micros"),
        ("raystream/api/job.py", "def run():\n    from raystream.runtime.ray.deploy import deploy"),
        ("raystream/api/stream.py", "def to_pandas():\n    import pandas"),
        ("raystream/runtime/ray/deploy.py", "import ray\nfrom raystream.runtime.shell import run"),
        ("raystream/ops/cli.py", "import click\nimport raystream as rs"),
        ("raystream/__init__.py", "from raystream.api.job import Job"),
    ],
)
def test_the_law_allows_what_it_should(path, line):
    assert not broken_law(path, line)
