"""What ends a test that takes too long: an exception that nobody takes for one of the test's.

pytest-timeout raises what ``pytest.fail`` raises, once. hypothesis takes that for a failure of the
test and runs the example that hangs again, to shrink it: it then hangs without an end. So does a
test whose clean-up waits for what the test waited for, and one whose exception was lost in a
callback or an event loop. So this is another exception, and it comes again.
"""

from __future__ import annotations

import signal
import threading

import pytest

AGAIN_S = 60.0
"""How long a clean-up may take behind a timeout, before it is one, too."""


_RUNNING: list[str] = []
"""The phase of a test that runs."""


class TimedOut(BaseException):
    """A test took too long."""


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item, settings):
    """Set the timer of a test in place of pytest-timeout, whose own hook cancels it."""
    if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
        return None
    import pytest_timeout

    def ring(*_):
        __tracebackhide__ = True
        if not _RUNNING:
            return  # what pytest does in between would not bear it, and takes no time
        try:
            pytest_timeout.timeout_sigalrm(item, settings)  # shows where all threads are
        except pytest.fail.Exception as failed:
            raise TimedOut(str(failed)) from None

    def cancel():
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, AGAIN_S)
    return True


def _running(phase):
    @pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: what it raises is of the test
    def run(item):
        _RUNNING.append(phase)
        try:
            return (yield)
        finally:
            _RUNNING.pop()

    return run


pytest_runtest_setup = _running("setup")
pytest_runtest_call = _running("call")
pytest_runtest_teardown = _running("teardown")
