"""What golden tests need: a job's module, a program in a process of its own, tables compared."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROOT = Path(__file__).parents[2]
FLOAT_TOLERANCE = 1e-9
TIME = pa.timestamp("us", "UTC")
_OURS = ("RAY_ADDRESS", "RAYSTREAM_")


def load(script: str) -> ModuleType:
    """Import a script of this project, without running its job."""
    path = ROOT / script
    spec = importlib.util.spec_from_file_location(f"golden_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(*command: str | Path, ray: str | None = None, cwd: Path | None = None) -> str:
    """Run Python in a process of its own and give what it printed; it must end well.

    Without the address of a ``ray`` it must need none, so Ray cannot be imported.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    env["PYTHONPATH"] = str(ROOT)
    start = [sys.executable]
    if ray is None:
        start += ["-c", _WITHOUT_RAY]
    else:
        env["RAY_ADDRESS"] = ray
    done = subprocess.run(
        [*start, *map(str, command)],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


_WITHOUT_RAY = """
import runpy, sys
sys.modules["ray"] = None
del sys.argv[0]
if sys.argv[0] == "-m":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.path.insert(0, sys.argv[0].rpartition("/")[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def micros(table: pa.Table) -> pa.Table:
    """Give points in time as ints of microseconds: no database's time zone can spoil them."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            column = table.column(index).cast(TIME).cast(pa.int64())
            table = table.set_column(index, field.name, column)
    return table


def assert_same_rows(ours: pa.Table, expected: pa.Table) -> None:
    """Compare tables as multisets of rows: floats to 1e-9, everything else exactly.

    Points in time may be ints of microseconds in ``expected``.
    """
    for field in ours.schema:
        assert not pa.types.is_timestamp(field.type) or field.type == TIME, field
    ours, expected = _ordered(micros(ours)), _ordered(micros(expected))
    assert ours.schema.names == expected.schema.names
    assert ours.schema.types == expected.schema.types
    if ours.num_rows == expected.num_rows and all(
        _same(one, other) for one, other in zip(ours.columns, expected.columns, strict=True)
    ):
        return
    raise AssertionError(_difference(ours, expected))


def _ordered(table: pa.Table) -> pa.Table:
    # Floats come last in the order: rows that differ in nothing but a rounding error keep it.
    names = sorted(
        table.column_names, key=lambda name: pa.types.is_floating(table.schema.field(name).type)
    )
    return table.sort_by([(name, "ascending") for name in names]).combine_chunks()


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    if not pa.types.is_floating(one.type):
        return one.equals(other)
    if not pc.is_null(one).equals(pc.is_null(other)):
        return False
    left, right = (column.fill_null(0).to_numpy() for column in (one, other))
    return np.allclose(left, right, rtol=FLOAT_TOLERANCE, atol=FLOAT_TOLERANCE, equal_nan=True)


def _difference(ours: pa.Table, expected: pa.Table) -> str:
    def counted(table: pa.Table) -> Counter[tuple[object, ...]]:
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return Counter(
            tuple(round(value, 7) if isinstance(value, float) else value for value in row)
            for row in rows
        )

    got, wanted = counted(ours), counted(expected)
    missing, surplus = wanted - got, got - wanted
    return (
        f"{ours.num_rows} rows, expected {expected.num_rows}, of columns {ours.column_names}\n"
        f"{missing.total()} missing: {list(missing)[:5]}\n"
        f"{surplus.total()} too many: {list(surplus)[:5]}"
    )
