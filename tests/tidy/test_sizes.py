"""A file is an idea of at most 400 lines, a function of at most 60."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60


def too_long(path: str, source: str) -> list[str]:
    found = []
    count = len(source.splitlines())
    if count > FILE_LINES_MAX:
        found.append(f"{path}: {count} lines, at most {FILE_LINES_MAX}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                found.append(
                    f"{path}:{node.lineno}: {node.name} has {length} lines, "
                    f"at most {FUNCTION_LINES_MAX}"
                )
    return found


def test_no_file_and_no_function_is_too_long():
    found = [
        line
        for path in sorted((ROOT / "raystream").rglob("*.py"))
        for line in too_long(str(path.relative_to(ROOT)), path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


def test_a_file_of_401_lines_is_found():
    assert too_long("a.py", "x = 1\n" * 401)
    assert not too_long("a.py", "x = 1\n" * 400)


def test_a_function_of_61_lines_is_found_where_it_is_nested():
    body = "        y = 1\n" * 60
    assert too_long("a.py", "class A:\n    def f(self):\n" + body)
    assert not too_long("a.py", "class A:\n    def f(self):\n" + body[:-14])
