"""Every operator goes through the conformance suite."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "conformance" / "cases.py"


def defines_a_spec(source: str) -> bool:
    return any(
        isinstance(node, ast.ClassDef) and node.name != "Spec" and node.name.endswith("Spec")
        for node in ast.parse(source).body
    )


def test_every_operator_with_a_spec_has_conformance_cases():
    spec = importlib.util.spec_from_file_location("conformance_cases", CASES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    covered = {name.rsplit(".", 1)[-1] for name, cases in module.CASES.items() if cases}
    operators = {
        path.stem
        for path in (ROOT / "raystream" / "operators").glob("*.py")
        if defines_a_spec(path.read_text())
    }
    assert not operators - covered, "operators without conformance cases"
    assert not covered - operators, "conformance cases of operators that are gone"


def test_a_spec_is_seen_by_its_name():
    assert defines_a_spec("class KeyBySpec:\n    pass")
    assert not defines_a_spec("class Spec:\n    pass\n\ndef make_spec(): ...")
