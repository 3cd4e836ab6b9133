"""Which line of the user's a thread is at: what a function that does not return is doing."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

_OURS = str(Path(__file__).parent.parent)
_INSTALLED = ("site-packages", "dist-packages", str(Path(threading.__file__).parent))


def user_line(thread: int) -> str:
    """Give file, line and function of the innermost frame that is the user's; empty if none is."""
    # The only way to see another thread's stack; faulthandler can only write one to a file.
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_OURS) and not any(place in path for place in _INSTALLED):
            return f"{path}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return ""
