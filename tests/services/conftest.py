"""Servers of other systems for the tests: one that the environment names, or a child of our own."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka_broker import broker  # noqa: F401  a fixture


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents:
            item.add_marker(pytest.mark.services)
            item.add_marker(pytest.mark.slow)
