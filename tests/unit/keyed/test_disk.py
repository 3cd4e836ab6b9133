"""State on disk: in one folder that goes away, and in memory no more than was allowed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

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


KILLED = """
import os, signal, sys
from raystream.keyed.disk import Disk

disk = Disk(sys.argv[1], 128, 10)
print(disk.folder, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


def age(folder):
    """Make a database as old as one that nobody is about to open."""
    lock = Path(folder) / "LOCK"
    old = lock.stat().st_mtime - 1_000
    os.utime(lock, (old, old))


@pytest.mark.slow
def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run([*command, "killed"], stdout=subprocess.PIPE, text=True, check=False)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command, "alive"], text=True, **pipes) as alive:
        orphan, used = killed.stdout.strip(), alive.stdout.readline().strip()
        young = Disk(str(tmp_path), 128, 10)
        assert set(map(str, tmp_path.iterdir())) == {orphan, used, young.folder}
        for folder in (orphan, used, young.folder):
            age(folder)
        store = opened(str(tmp_path))
        store.register(TOTAL)
        mine = store._disk.folder
        assert set(map(str, tmp_path.iterdir())) == {used, young.folder, mine}
        store.close()
        young.close()
        alive.communicate("")
    assert not list(tmp_path.iterdir())
