"""What ``import raystream`` gives, and what it must not load."""

from __future__ import annotations

import json
import subprocess
import sys

import raystream

# A name is added here on purpose and taken away never.
PUBLIC: list[str] = []

# Slow to load, or not installed with the package.
NOT_LOADED = ("ray", "kafka", "confluent_kafka", "duckdb", "polars", "pandas", "rich", "click")


def test_the_public_names_are_exactly_these():
    assert sorted(raystream.__all__) == sorted(PUBLIC)


def test_every_public_name_is_there():
    assert [name for name in PUBLIC if not hasattr(raystream, name)] == []


def test_a_star_import_leaves_the_builtins_alone():
    assert not {"sum", "min", "max", "first", "last", "print"} & set(raystream.__all__)


def test_importing_raystream_loads_nothing_heavy():
    code = (
        "import json, sys, raystream; "
        f"print(json.dumps([name for name in {NOT_LOADED!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
