"""What all tests share: hypothesis profiles, a world without Ray, and one Ray cluster."""

from __future__ import annotations

import importlib.abc
import os
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from timeouts import (  # noqa: F401  hooks
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_timeout_set_timer,
)

# A busy machine is slow without a test being wrong: no deadlines.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "night",
    deadline=None,
    max_examples=2_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="module")
def by_row():
    """Let all windows be gathered by the general operator, those that columns could gather too."""
    from raystream.api import windowed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowed, "takes_columns", lambda *_: False)
        yield


class WithoutRay(importlib.abc.MetaPathFinder):
    """Behave as if Ray were not installed."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "ray" or fullname.startswith("ray."):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


NO_RAY = os.environ.get("RAYSTREAM_TEST_NO_RAY") == "1"

if NO_RAY:
    assert "ray" not in sys.modules, "Ray was imported before it could be refused"
    sys.meta_path.insert(0, WithoutRay())


def pytest_collection_modifyitems(items):
    """Let Ray warn in the tests that start it: its warnings are not ours to fix."""
    for item in items:
        assert " at 0x" not in item.nodeid, f"named otherwise in each process: {item.nodeid}"
        if item.get_closest_marker("cluster"):
            for warning in (r"ignore:::ray(\.|$)", "ignore::ResourceWarning"):
                item.add_marker(pytest.mark.filterwarnings(warning), append=False)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Start one Ray for all tests that need it, and give its address; never anybody else's."""
    with (
        # Sockets live in this folder and a socket's path has at most 107 characters.
        tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("RAY_TMPDIR", folder)
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_worker_niceness", "0")
        environment.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray  # reads its environment when it is imported

        context = ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=4,
            object_store_memory=300 * 2**20,
            log_to_driver=False,
            namespace="raystream",
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()
