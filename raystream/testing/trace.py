"""One line for each thing that happens in a simulated run: when, where, what."""

from __future__ import annotations

from raystream.contracts.batch import Batch
from raystream.contracts.source import END, Later
from raystream.coordinator import events as job
from raystream.flow.codec import read_header
from raystream.flow.element import MAX_TIME, Status, Watermark
from raystream.flow.ids import SubtaskId
from raystream.flow.messages import Start
from raystream.subtask import events as sub


def line(now_us: int, where: object, what: str) -> str:
    """Lay a line out: the simulated second, the subtask or stream, the words."""
    return f"{now_us / 1_000_000:14.6f}  {where!s:<28}  {what}"


def words(subtask: SubtaskId | None, event: sub.Event | job.Event | None) -> str:
    """Say what happens; nothing that differs from process to process is in it."""
    if subtask is None:
        return _of_job(event)
    match event:
        case None:
            return "works"
        case sub.Polled(split, rows):
            return f"split {split}: {_read(rows)}"
        case sub.Received(frame):
            header = read_header(frame)
            return f"gets {header.elements} elements on {header.channel}, #{header.sequence}"
        case sub.CreditCame(channel):
            return f"gets credit for {channel}"
        case Start(splits):
            return f"starts with {len(splits)} splits" if splits else "starts"
        case _:
            return f"gets {type(event).__name__}"


def _of_job(event: object) -> str:
    name = type(event).__name__
    match event:
        case job.Failed(subtask, error):
            return f"{name} {'' if subtask is None else subtask}: {type(error).__name__}: {error}"
        case job.Said(subtask, _, report):
            return f"{type(report).__name__} {subtask}"
        case job.SplitsListed(chain, splits):
            return f"{name} {chain}: {len(splits)}"
        case job.StopAsked():
            return name
        case _:
            return f"{name} {getattr(event, 'subtask', '')}"


def _read(rows: object) -> str:
    if rows is END:
        return "ends"
    match rows:
        case None:
            return "nothing now"
        case Later(not_before_us):
            return "nothing more" if not_before_us == MAX_TIME else "waits for time"
        case Watermark(time_us):
            return f"Watermark(ts={time_us})"
        case Status(idle):
            return "idle" if idle else "active"
        case Batch() | list():
            return f"{len(rows)} rows"
        case _:
            return f"{getattr(rows, 'num_rows', '?')} rows"
