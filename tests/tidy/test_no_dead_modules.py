"""Every module is there because another one needs it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Modules that the world outside starts.
ENTRIES = {
    "raystream.ops.cli": "the command raystream",
    "raystream.__main__": "python -m raystream",
    "raystream.connectors.kafka": "scripts that read or write Kafka",
    "raystream.connectors.redis": "scripts that read or write Redis",
    "raystream.connectors.elasticsearch": "scripts that write Elasticsearch or OpenSearch",
    "raystream.connectors.http": "scripts that send or take requests",
    "raystream.connectors.nats": "scripts that read or write NATS JetStream",
    "raystream.connectors.mqtt": "scripts that read MQTT",
    "raystream.connectors.delta": "scripts that read or write Delta tables",
    "raystream.connectors.iceberg": "scripts that read or write Iceberg tables",
    "raystream.testing.world": "tests/simulation",
    "raystream.connectors.postgres": "users import it",
    "raystream.connectors.ray_data": "scripts that read or make Ray datasets",
}


def modules() -> dict[str, Path]:
    """All modules of the package; a package is alive if something in it is."""
    found = {}
    for path in (ROOT / "raystream").rglob("*.py"):
        if path.name != "__init__.py":
            found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path
    return found


def named_in(source: str) -> set[str]:
    """Dotted names that a source imports, also lazily by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("raystream."):
            names.add(str(node.value))
    return names


def test_every_module_is_imported_by_another():
    known = modules()
    needed = set(ENTRIES)
    for path in (ROOT / "raystream").rglob("*.py"):
        mine = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        needed |= named_in(path.read_text()) - {mine}
    dead = sorted(known.keys() - needed)
    assert not dead, f"nobody imports {', '.join(dead)}: delete it, or list it with its reason"


def test_imports_are_found_in_every_form():
    source = (
        "import raystream.a\n"
        "from raystream.b import thing\n"
        "from raystream.c import d\n"
        "def f():\n    import_module('raystream.e')\n"
    )
    assert {"raystream.a", "raystream.b", "raystream.c.d", "raystream.e"} <= named_in(source)
