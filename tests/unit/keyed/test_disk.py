"""State on disk: in one folder that goes away, and in memory no more than was allowed."""

from __future__ import annotations

import gc
import sys

import pytest

import raystream as rs
from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.contracts.context import OpenContext
from raystream.errors import ConfigError
from raystream.keyed.disk import Disk
from raystream.keyed.key_form import KeyForm
from raystream.keyed.store import KeyedStore

TOTAL = rs.ValueState("total", default=0)


def opened(folder, cached_values_max=10):
    return KeyedStore(
        KeyForm.objects(), ManualClock(), 128, "disk", folder, cached_values_max=cached_values_max
    )


def test_a_store_without_state_makes_no_folder(tmp_path):
    store = opened(str(tmp_path))
    assert store.snapshot() == []
    store.close()
    assert not list(tmp_path.iterdir())


def test_the_folder_goes_when_the_store_is_closed_or_forgotten(tmp_path):
    for forget in (False, True):
        store = opened(str(tmp_path))
        total = store.register(TOTAL)
        store.select("a", "a")
        total.update(1)
        assert len(list(tmp_path.iterdir())) == 1
        if not forget:
            store.close()
            store.close()
        del store, total
        gc.collect()
        assert not list(tmp_path.iterdir())


def test_a_folder_is_not_left_by_a_failure_to_open(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(ConfigError, match=r"needs RocksDB") as caught:
        Disk(str(tmp_path), 128, 10)
    assert "pip install raystream[disk]" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_values_in_memory_are_bounded(tmp_path):
    store = opened(str(tmp_path))
    total = store.register(TOTAL)
    for key in [*range(500), *range(500)]:
        store.select(key, key)
        total.update(total.value() + key)
        cells = store._states["total"].cells
        assert len(cells._hot) + len(cells._cold) <= 10
        assert len(cells._dirty) <= 10
    for key in range(500):
        store.select(key, key)
        assert total.value() == 2 * key
    store.close()


def test_two_stores_in_one_folder_are_apart(tmp_path):
    stores = [opened(str(tmp_path)) for _ in range(2)]
    handles = [store.register(TOTAL) for store in stores]
    for index, (store, total) in enumerate(zip(stores, handles, strict=True)):
        store.select("a", "a")
        total.update(index)
    assert [total.value() for total in handles] == [0, 1]
    for store in stores:
        store.close()


@pytest.mark.parametrize("backend", ["memory", "disk"])
def test_the_configuration_chooses_the_backend(backend):
    ctx = OpenContext(limits=Limits(state_backend=backend))
    store = KeyedStore.of(KeyForm.objects(), ctx)
    store.register(TOTAL)
    assert (type(store._states["total"].cells) is dict) == (backend == "memory")
    store.close()
