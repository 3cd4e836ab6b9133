"""What a notebook shows for a job, a stream and its windows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pyarrow as pa

from raystream.contracts.window import Cumulative, Sliding, Tumbling, Window
from raystream.contracts.window_unaligned import Session
from raystream.flow.time import micros

_WIDTH, _BAR, _GAP = 560, 14, 5
_AXIS_WINDOWS = 4
"""So many sizes of a window are drawn."""


def schema_table(title: str, schema: pa.Schema | None) -> str:
    """Show the columns of a stream, by name and type."""
    head = f"<b>{escape(title)}</b>"
    if schema is None:
        return f"<div>{head}: objects</div>"
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(field.name)}</td>"
        f"<td style='text-align:left'>{escape(str(field.type))}</td></tr>"
        for field in schema
    )
    heading = "<thead><tr><th>column</th><th>type</th></tr></thead>"
    return f"<div>{head}<table>{heading}{rows}</table></div>"


def windows_picture(window: Window, keys: Sequence[str]) -> str:
    """Draw how windows lie in time, a bar each; what time does not cut is said in words."""
    of = f" of each {', '.join(keys)}" if keys else ""
    head = f"<b>{escape(f'{window}{of}')}</b>"
    bars = _bars(window)
    if not bars:
        return f"<div>{head}</div>"
    stop = max(end for _, end in bars)
    lanes = _lanes(bars)
    height = (max(lanes) + 1) * (_BAR + _GAP) + 24
    scale = (_WIDTH - 20) / stop
    drawn = "".join(
        f'<rect x="{10 + start * scale:.1f}" y="{4 + lane * (_BAR + _GAP)}"'
        f' width="{(end - start) * scale - 1:.1f}" height="{_BAR}" rx="3" fill="currentColor"'
        ' fill-opacity=".12" stroke="currentColor" stroke-opacity=".6"/>'
        for (start, end), lane in zip(bars, lanes, strict=True)
    )
    axis = height - 18
    return (
        f'<div>{head}<br/><svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_WIDTH}"'
        f' height="{height}" font-family="system-ui,sans-serif" font-size="11"'
        f' fill="currentColor">{drawn}<path d="M10 {axis} H{_WIDTH - 10}" stroke="currentColor"/>'
        f'<text x="{_WIDTH - 10}" y="{height - 4}" text-anchor="end">time →</text></svg></div>'
    )


def _bars(window: Window) -> list[tuple[float, float]]:
    """Give some windows, with the size of one as the unit."""
    match window:
        case Tumbling():
            return [(n, n + 1) for n in range(_AXIS_WINDOWS)]
        case Sliding():
            slide = window.slide_us / window.size_us
            count = int((_AXIS_WINDOWS - 1) / slide) + 1
            return [(n * slide, n * slide + 1) for n in range(min(count, 12))]
        case Cumulative():
            step = window.step_us / window.size_us
            ends = [step * (n + 1) for n in range(min(round(1 / step), 8))]
            return [(start, start + end) for start in (0, 1) for end in ends]
        case Session(gap) if not callable(gap):
            assert micros(gap) > 0, "a gap is longer than nothing"
            # Rows that follow one another by less than the gap, then silence.
            return [(0, 1.6), (2.2, 3.2), (3.6, 5.0)]
        case _:
            return []


def _lanes(bars: list[tuple[float, float]]) -> list[int]:
    """Put bars that overlap below each other."""
    free: list[float] = []
    lanes = []
    for start, end in bars:
        lane = next((i for i, until in enumerate(free) if until <= start + 1e-9), len(free))
        free[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes
