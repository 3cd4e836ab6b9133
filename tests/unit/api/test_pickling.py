"""What cannot travel is named, and what stands beside the script travels."""

import functools
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

import raystream as rs
from raystream.api import pickling
from raystream.api.running import check_travels
from raystream.graph.planner import physical_plan

LOCK = threading.Lock()


def uses_global(row):
    with LOCK:
        return row


class Holder:
    def __init__(self):
        self.guard = threading.Lock()

    def __call__(self, row):
        return row

    def method(self, row):
        return row


class Slotted:
    __slots__ = ("door", "unset")

    def __init__(self):
        self.door = threading.Lock()

    def __call__(self, row):
        return row


def closure():
    inner = threading.Lock()
    return lambda row: (inner, row)


def nested():
    inner = closure()
    return lambda row: inner(row)  # noqa: PLW0108  the cell is the point


def default(row, lock=LOCK):
    return row, lock


def keyword(row, *, lock=LOCK):
    return row, lock


def culprit(fn):
    job = rs.Job("t")
    job.from_items([1]).map(fn).named("step").print()
    plan = job._draft.plan()
    with pytest.raises(rs.PlanError) as error:
        check_travels(plan, physical_plan(plan))
    assert "test_pickling.py:" in error.value.where
    return error.value.message


@pytest.mark.parametrize(
    ("fn", "holder"),
    [
        (uses_global, 'variable "LOCK"'),
        (closure(), 'variable "inner"'),
        (nested(), 'variable "inner"'),
        (default, 'default of "lock"'),
        (keyword, 'default of "lock"'),
        (Holder(), 'attribute "guard"'),
        (Holder().method, 'attribute "guard"'),
        (Slotted(), 'attribute "door"'),
        (functools.partial(lambda row, lock: row, lock=LOCK), 'argument "lock"'),
        (functools.partial(lambda lock, row: row, LOCK), 'argument "#0"'),
    ],
)
def test_the_variable_that_holds_it_is_named(fn, holder):
    # Functions of this file are pickled by value, as those of a script are.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        assert culprit(fn) == f"step cannot be pickled: {holder} holds a _thread.lock"
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_arguments_of_a_function_are_looked_into():
    job = rs.Job("t")
    job.from_items([1]).map(print, fn_kwargs={"file": {"x": [LOCK]}}).named("step").print()
    plan = job._draft.plan()
    with pytest.raises(rs.PlanError, match=r"holds a _thread\.lock"):
        check_travels(plan, physical_plan(plan))


def test_an_exchange_is_looked_into():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    job = rs.Job("t", parallelism=2)
    job.from_items([1]).partition_by(uses_global).print().named("out")
    plan = job._draft.plan()
    try:
        with pytest.raises(rs.PlanError, match="before out cannot be pickled"):
            check_travels(plan, physical_plan(plan))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_what_can_travel_passes():
    job = rs.Job("t")
    job.from_items([1]).map(lambda row: row + 1).print()
    plan = job._draft.plan()
    check_travels(plan, physical_plan(plan))


def test_a_callback_stays_at_home_and_so_may_hold_anything():
    job = rs.Job("t")
    job.from_items([1]).sink(rs.CallbackSink(lambda row: LOCK))
    plan = job._draft.plan()
    check_travels(plan, physical_plan(plan))


def test_modules_beside_the_script_travel_and_libraries_do_not(tmp_path):
    (tmp_path / "beside.py").write_text("def double(row):\n    return row * 2\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "library.py").write_text("x = 1\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path / 'site-packages')!r})\n"
        "import beside, library, json, cloudpickle\n"
        "from raystream.api.pickling import pickle_script_folder_by_value\n"
        "print(pickle_script_folder_by_value())\n"
        "print(b'beside' in cloudpickle.dumps(beside.double), "
        "len(cloudpickle.dumps(beside.double)) > 200)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["['beside']", "True True"]


def test_a_script_in_a_folder_of_the_interpreter_takes_nothing_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pickling.pickle_script_folder_by_value(str(Path(sys.prefix) / "bin" / "pytest")) == []
