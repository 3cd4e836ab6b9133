"""What ``import raystream as rs`` gives."""

import subprocess
import sys

import pytest

import raystream as rs


def test_every_name_is_there():
    assert [name for name in rs.__all__ if not hasattr(rs, name)] == []


def test_aggregates_that_python_has_too_are_there_but_not_in_a_star_import():
    assert rs.sum("a").kind == "sum"
    assert not {"sum", "min", "max", "first", "last", "Decimal"} & set(rs.__all__)


def test_a_star_import_brings_sources_sinks_and_expressions():
    names: dict[str, object] = {}
    exec("from raystream import *", names)  # noqa: S102  inside a function it is no statement
    assert {"Job", "FileSource", "PrintSink", "col", "count", "Int64"} <= set(names)


def test_expressions_and_types_are_those_of_narwhals():
    import narwhals.stable.v2 as nw

    assert rs.col is nw.col
    assert rs.Float64 is nw.Float64
    assert rs.Decimal is nw.Decimal


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'KafkaSource'"):
        rs.KafkaSource  # noqa: B018


def test_importing_it_loads_neither_ray_nor_a_connector():
    code = (
        "import sys, raystream; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "{'ray', 'pandas', 'polars', 'duckdb', 'fsspec', 'rich', 'click'} "
        "or m.startswith('raystream.connectors.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
