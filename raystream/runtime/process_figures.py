"""Facts of this process that its operating system knows."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from raystream.flow.figures import ProcessFigures

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = resource.getpagesize()


def process_figures(node_id: str = "", node_ip: str = "") -> ProcessFigures:
    """Look at this process."""
    return ProcessFigures(os.getpid(), _rss_bytes(), node_id, node_ip)


def _rss_bytes() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:  # no Linux: what it was at most
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
