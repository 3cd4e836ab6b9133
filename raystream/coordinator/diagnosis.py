"""Say in a sentence what holds a job up, and why its watermark stands still: figures in, words out.

Where rows pile up the operators before the cause are backpressured, and the cause is the first one
behind them that is not. What it is then shows in its subtasks: one has most of the rows, one does
not return, a sink or a function takes all of the time. Where nothing is backpressured and nothing
is busy, it is the source that has nothing to give.

Source: the rule of looking behind the last backpressured task is Flink's, in its documentation of
back pressure monitoring.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from raystream.coordinator.report import JobReport, OperatorRates, SubtaskReport
from raystream.coordinator.stalls import stalled
from raystream.coordinator.words import percent, rows_per_s, seconds, subtask_name, time_a_row
from raystream.flow.control import OperatorStatus

HELD = 0.3
"""A subtask that could not work for this share of its time is backpressured."""

BUSY = 0.75
"""One that worked for this share of it has little to spare."""

STUCK_US = 5_000_000
"""A slice of work is milliseconds, of a slow function's batch seconds; this is neither."""

_BATCH_ROWS = 4_096
"""A row function may be at a whole batch of so many rows before anybody is asked (``Limits``)."""

SILENT_US = 3_000_000
"""For so long nothing came: it is not the pause between two polls."""


class Cause(enum.Enum):
    """Why a job is as slow as it is."""

    STUCK = "a function does not return"
    SKEW = "one subtask gets most of the rows"
    SLOW_SINK = "a sink cannot take the rows as they come"
    SLOW_FUNCTION = "an operator uses all of its time"
    WAITING = "an operator waits for something outside"
    STARVED = "a source has nothing to read"


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What holds a job up; ``subtask`` is its index where it is one of several."""

    cause: Cause
    operator: str
    sentence: str
    subtask: int | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What there is to say of a job; ``watermark`` says why event time stands still, if it does."""

    bottleneck: Bottleneck | None = None
    watermark: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = [] if self.bottleneck is None else [self.bottleneck.sentence]
        return "\n".join([*said, *self.watermark]) or "nothing holds this job up"


def diagnose(report: JobReport) -> Diagnosis:
    """Name the bottleneck of a running job, and what its watermark waits for."""
    if report.status.state != "running" or not report.subtasks:
        return Diagnosis()
    return Diagnosis(_bottleneck(report), stalled(report))


def _bottleneck(report: JobReport) -> Bottleneck | None:
    stuck = next(_stuck(report), None)
    if stuck is not None:
        return stuck
    held = {chain: _most_held(report, chain) for chain in _chains(report)}
    behind = [
        (held[before], chain)
        for chain in held
        for before in _chains_before(report, chain)
        if held[before] >= HELD > held[chain] and _holds(report, before, chain)
    ]
    if behind:
        return _cause(report, max(behind)[1])
    busy = [(_load(report, chain), chain) for chain in held]
    share, busiest = max(busy)
    if share >= BUSY:
        return _cause(report, busiest)
    return next(_starved(report), None)


# Who it is ---------------------------------------------------------------------------------------


def _chains(report: JobReport) -> list[str]:
    """List the chains that run, in the order of the plan."""
    there = {one.figures.subtask.chain for one in report.subtasks}
    return [c for c in dict.fromkeys(o.chain for o in report.status.operators) if c in there]


def _chains_before(report: JobReport, chain: str) -> list[str]:
    of = {one.name: one.chain for one in report.status.operators}
    inputs = [
        of[name] for one in report.status.operators if one.chain == chain for name in one.inputs
    ]
    there = _chains(report)
    return [one for one in dict.fromkeys(inputs) if one != chain and one in there]


def _subtasks(report: JobReport, chain: str) -> list[SubtaskReport]:
    return [one for one in report.subtasks if one.figures.subtask.chain == chain]


def _operators(report: JobReport, chain: str) -> list[OperatorStatus]:
    return [one for one in report.status.operators if one.chain == chain]


def _most_held(report: JobReport, chain: str) -> float:
    return max(one.backpressured for one in _subtasks(report, chain))


def _load(report: JobReport, chain: str) -> float:
    """Give the greatest share that a process is at work for a chain: several may run in one."""
    shares: dict[object, float] = {}
    for one in _subtasks(report, chain):
        process = one.figures.process
        place = one.figures.subtask if process is None else (process.node_id, process.pid)
        shares[place] = shares.get(place, 0.0) + one.busy
    return max(shares.values())


def _holds(report: JobReport, before: str, chain: str) -> bool:
    """Tell whether it is this chain that the one before waits for, and not another one."""
    shares: dict[str, float] = {}
    for one in _subtasks(report, before):
        for output, share in zip(one.figures.outputs, one.held, strict=False):
            shares[output.to] = max(shares.get(output.to, 0.0), share)
    return chain not in shares or shares[chain] >= max(shares.values()) / 2


# What it is --------------------------------------------------------------------------------------


def _cause(report: JobReport, chain: str) -> Bottleneck:
    return _skew(report, chain) or _slow(report, chain)


def _stuck(report: JobReport) -> Iterator[Bottleneck]:
    stuck = [one for one in report.subtasks if _stuck_us(one)]
    for one in sorted(stuck, key=_stuck_us, reverse=True):
        figures = one.figures
        operator = figures.working_in or figures.subtask.chain
        where = f", at {figures.at}" if figures.at else ""
        sentence = (
            f'"{operator}" is the bottleneck: in {subtask_name(figures.subtask)} it has been at '
            f"one batch for {seconds(_stuck_us(one))} and does not return (stuck){where}; nothing "
            "else runs there until it does"
        )
        yield Bottleneck(Cause.STUCK, operator, sentence, figures.subtask.index)


def _stuck_us(one: SubtaskReport) -> int:
    """Tell for how long a subtask has been in a function that should have returned; 0 if not."""
    figures = one.figures
    if not figures.working_us:
        return 0
    lasts_us = figures.working_us + one.age_us
    inside = next((o for o in figures.operators if o.name == figures.working_in), None)
    slow_us = 0.0
    # A function that is slow with every row is not stuck: its batch takes as long as its rows do.
    # The rows of the batch that it is at count already, so that this is rather too little.
    if inside is not None and inside.rows_in > _BATCH_ROWS:
        earlier_us = max(0, inside.busy_us - figures.working_us)
        slow_us = 2 * _BATCH_ROWS * earlier_us / (inside.rows_in - _BATCH_ROWS)
    return lasts_us if lasts_us >= max(STUCK_US, slow_us) else 0


def _skew(report: JobReport, chain: str) -> Bottleneck | None:
    subtasks = _subtasks(report, chain)
    whole = sum(one.rows_in_per_s for one in subtasks)
    if len(subtasks) < 2 or not whole:
        return None
    first = max(subtasks, key=lambda one: one.rows_in_per_s)
    share = first.rows_in_per_s / whole
    others = [one.busy for one in subtasks if one is not first]
    # Where the others have no time to spare either it is not, or not only, how rows are divided.
    spared = sum(others) / len(others) < min(BUSY, first.busy)
    if share < 1.5 / len(subtasks) or not spared:
        return None
    head = _operators(report, chain)[0]
    if head.exchange.startswith(("hash", "custom")):
        advice = "rescaling will not help, salt the key"
    elif head.kind == "source":
        advice = "its splits differ; rescaling will not help, rebalance() the rows behind it"
    else:
        advice = "rescaling will not help, rebalance() the rows before it"
    operator = _heaviest(report, chain).name
    sentence = (
        f'"{operator}" is the bottleneck: subtask {first.figures.subtask.index} takes '
        f"{percent(share)} of the rows (skew); {advice}"
    )
    return Bottleneck(Cause.SKEW, operator, sentence, first.figures.subtask.index)


def _slow(report: JobReport, chain: str) -> Bottleneck:
    subtasks = _subtasks(report, chain)
    heaviest = _heaviest(report, chain)
    status = next(one for one in _operators(report, chain) if one.name == heaviest.name)
    busiest = _load(report, chain)
    cost = time_a_row(heaviest)
    if status.kind == "sink":
        sentence = (
            f'"{heaviest.name}" is the bottleneck: the sink takes {cost} a row and '
            f"{percent(heaviest.busy)} of the time of its subtasks; what it writes to is slow, or "
            f"takes too few rows at once; more subtasks help if it can take more"
        )
        return Bottleneck(Cause.SLOW_SINK, heaviest.name, sentence)
    if busiest < BUSY / 2:
        sentence = (
            f'"{heaviest.name}" is the bottleneck: rows wait for it while it is busy for only '
            f"{percent(busiest)} of the time; it waits for something outside, such as a service"
        )
        return Bottleneck(Cause.WAITING, heaviest.name, sentence)
    wider = min(2 * len(subtasks), report.max_parallelism)
    more = f', or rescale({{"{heaviest.name}": {wider}}})' if wider > len(subtasks) else ""
    sentence = (
        f'"{heaviest.name}" is the bottleneck: it takes {cost} a row and '
        f"{percent(heaviest.busy)} of the time of its {len(subtasks)} subtasks, "
        f"{rows_per_s(sum(_rate(one, heaviest.name) for one in subtasks))}; make it cheaper{more}"
    )
    return Bottleneck(Cause.SLOW_FUNCTION, heaviest.name, sentence)


def _rate(one: SubtaskReport, operator: str) -> float:
    return next((o.rows_in_per_s for o in one.operators if o.name == operator), 0.0)


def _heaviest(report: JobReport, chain: str) -> OperatorRates:
    """Give the operator of a chain that takes most of the time, its figures as of all subtasks."""
    subtasks = _subtasks(report, chain)
    sums = [
        OperatorRates(
            status.name,
            sum(one.operators[index].busy for one in subtasks) / len(subtasks),
            sum(one.operators[index].rows_in_per_s for one in subtasks) / len(subtasks),
            sum(one.operators[index].rows_out_per_s for one in subtasks) / len(subtasks),
        )
        for index, status in enumerate(_operators(report, chain))
    ]
    return max(sums, key=lambda one: one.busy)


def _starved(report: JobReport) -> Iterator[Bottleneck]:
    """Find the source that has nothing to read, where no other one has anything either."""
    sources = [one.name for one in report.status.operators if one.kind == "source"]
    reading = {name: [one for one in report.subtasks_of(name) if _reads(one)] for name in sources}
    silent_us = {name: min(map(_silent_us, some)) for name, some in reading.items() if some}
    if silent_us and min(silent_us.values()) >= SILENT_US:
        source = max(silent_us, key=lambda name: silent_us[name])
        sentence = (
            f'source "{source}" is the bottleneck: it has had nothing to read for '
            f"{seconds(silent_us[source])} (starved); the job waits for rows"
        )
        yield Bottleneck(Cause.STARVED, source, sentence)


def _reads(one: SubtaskReport) -> bool:
    return bool(one.figures.inputs_active or one.figures.inputs_idle)


def _silent_us(one: SubtaskReport) -> int:
    reading = [i.silent_us for i in one.figures.inputs if i.status != "finished"]
    silent = [us for us in reading if us is not None]
    return min(silent) + one.age_us if silent and len(silent) == len(reading) else 0
