"""Reports travel whatever an exception holds."""

from __future__ import annotations

import threading

import pytest

from raystream.coordinator.events import Failed
from raystream.errors import JobFailed, SubtaskLost
from raystream.runtime.ray.report import pack_report, unpack_report
from raystream.runtime.shell import travelling


class Holding(BaseException):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def test_an_error_that_is_not_ours_travels_with_its_traceback():
    with pytest.raises(Holding) as caught:
        raise Holding
    failed = travelling("j", caught.value)
    arrived = unpack_report(pack_report(Failed(None, failed))).error
    assert type(arrived) is JobFailed
    assert arrived.message == 'job "j" failed: Holding: holds a lock'
    assert "raise Holding" in arrived.user_traceback


def test_an_error_of_ours_travels_as_it_is():
    lost = SubtaskLost("gone", hint="why")
    assert travelling("j", lost) is lost
