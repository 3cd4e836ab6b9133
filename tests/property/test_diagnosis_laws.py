"""Whatever the shape of a job, the planted cause is what its figures are read as."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from raystream.coordinator.diagnosis import Cause, diagnose
from raystream.coordinator.report import JobReport, OperatorRates, SubtaskReport
from raystream.flow.control import JobStatus, OperatorFigures, OperatorStatus, SubtaskFigures
from raystream.flow.figures import InputFigures, OutputFigures
from raystream.flow.ids import SubtaskId


@dataclass(frozen=True)
class Shape:
    """A line of chains: source, operators, sink, all of one parallelism."""

    chains: int
    parallelism: int

    def name(self, chain: int) -> str:
        return f"c{chain}"

    def kind(self, chain: int) -> str:
        if chain == 0:
            return "source"
        return "sink" if chain == self.chains - 1 else "operator"


def subtask(shape: Shape, chain: int, index: int, busy: float, held: float) -> SubtaskReport:
    name = shape.name(chain)
    rate = 1_000.0
    figures = SubtaskFigures(
        SubtaskId(name, index, shape.parallelism),
        (OperatorFigures(name, 10_000, 10_000),),
        None,
        0,
        0,
        0,
        inputs=(InputFigures(f"s{index}", "active"),),
        inputs_active=1,
        outputs=(OutputFigures(chain, shape.name(chain + 1), 1),) if held else (),
    )
    return SubtaskReport(
        figures,
        0,
        10_000_000,
        busy,
        1 - busy - held,
        held,
        rate,
        rate,
        operators=(OperatorRates(name, busy, rate, rate),),
        held=(held,) if held else (),
    )


def job(shape: Shape, slow: int, held: float = 0.8) -> JobReport:
    """All before ``slow`` are backpressured, it is busy, all behind it are idle."""
    operators = tuple(
        OperatorStatus(
            shape.name(chain),
            shape.parallelism,
            kind=shape.kind(chain),
            chain=shape.name(chain),
            inputs=(shape.name(chain - 1),) if chain else (),
            exchange="hash(k)" if chain else "",
        )
        for chain in range(shape.chains)
    )
    subtasks = tuple(
        subtask(
            shape,
            chain,
            index,
            0.95 if chain == slow else 0.15,
            held if chain < slow else 0.0,
        )
        for chain in range(shape.chains)
        for index in range(shape.parallelism)
    )
    return JobReport("id", 0, JobStatus("j", "running", 10.0, operators), subtasks=subtasks)


def changed(report: JobReport, chain: str, index: int, **values: object) -> JobReport:
    return replace(
        report,
        subtasks=tuple(
            replace(one, **values)
            if (one.figures.subtask.chain, one.figures.subtask.index) == (chain, index)
            else one
            for one in report.subtasks
        ),
    )


shapes = st.builds(Shape, st.integers(2, 6), st.integers(1, 8))
held = st.floats(0.35, 0.8)


@given(shapes, st.data(), held)
def test_the_first_chain_behind_the_backpressured_ones_is_the_cause(shape, data, share):
    slow = data.draw(st.integers(0, shape.chains - 1))
    found = diagnose(job(shape, slow, share)).bottleneck
    assert found is not None
    assert found.operator == shape.name(slow)
    last = slow == shape.chains - 1
    assert found.cause is (Cause.SLOW_SINK if last else Cause.SLOW_FUNCTION)
    assert f'"{found.operator}" is the bottleneck' in found.sentence


@given(st.builds(Shape, st.integers(2, 6), st.integers(2, 8)), st.data())
def test_a_subtask_with_most_of_the_rows_is_skew(shape, data):
    slow = data.draw(st.integers(1, shape.chains - 1))
    index = data.draw(st.integers(0, shape.parallelism - 1))
    report = job(shape, slow)
    for other in range(shape.parallelism):
        busy, rate = (0.95, 4_000.0 * shape.parallelism) if other == index else (0.2, 1_000.0)
        report = changed(report, shape.name(slow), other, busy=busy, rows_in_per_s=rate)
    found = diagnose(report).bottleneck
    assert found is not None
    assert (found.cause, found.operator, found.subtask) == (Cause.SKEW, shape.name(slow), index)
    whole = 4_000 * shape.parallelism + 1_000 * (shape.parallelism - 1)
    assert f"takes {4_000 * shape.parallelism / whole:.0%}"[:-1] in found.sentence
    assert "salt the key" in found.sentence


@given(shapes, st.data(), st.integers(5_000_000, 60_000_000))
def test_a_function_that_does_not_return_counts_before_everything_else(shape, data, us):
    slow = data.draw(st.integers(0, shape.chains - 1))
    chain = data.draw(st.integers(0, shape.chains - 1))
    index = data.draw(st.integers(0, shape.parallelism - 1))
    report = job(shape, slow)
    one = next(
        one
        for one in report.subtasks
        if one.figures.subtask == SubtaskId(shape.name(chain), index, shape.parallelism)
    )
    stuck = replace(one.figures, working_us=us, working_in=shape.name(chain), at="job.py:3 in wait")
    found = diagnose(changed(report, shape.name(chain), index, figures=stuck)).bottleneck
    assert found is not None
    assert (found.cause, found.operator, found.subtask) == (Cause.STUCK, shape.name(chain), index)
    assert "job.py:3 in wait" in found.sentence


@given(st.integers(100, 20_000))
def test_a_function_that_is_slow_with_every_row_is_not_stuck(row_us):
    report = job(Shape(3, 1), 1)
    one = next(one for one in report.subtasks if one.figures.subtask.chain == "c1")
    rows = 40_960
    slow = OperatorFigures("c1", rows, rows, busy_us=rows * row_us)
    figures = replace(one.figures, operators=(slow,), working_us=4_096 * row_us, working_in="c1")
    found = diagnose(changed(report, "c1", 0, figures=figures)).bottleneck
    assert found is not None
    assert found.cause is Cause.SLOW_FUNCTION


@given(shapes, st.integers(3_000_000, 600_000_000))
def test_a_source_that_is_silent_everywhere_starves_the_job(shape, us):
    report = job(shape, -1)
    for index in range(shape.parallelism):
        one = report.subtasks_of("c0")[index]
        silent = InputFigures(f"s{index}", "active", silent_us=us)
        report = changed(report, "c0", index, figures=replace(one.figures, inputs=(silent,)))
    found = diagnose(report).bottleneck
    assert found is not None
    assert (found.cause, found.operator) == (Cause.STARVED, "c0")


@given(shapes)
def test_a_job_that_keeps_up_has_no_bottleneck(shape):
    assert diagnose(job(shape, -1)).bottleneck is None
    assert str(diagnose(job(shape, -1))) == "nothing holds this job up"


@given(shapes, st.integers(3_000_000, 600_000_000), st.integers(0, 10**15))
def test_the_split_with_the_least_watermark_is_what_time_waits_for(shape, us, least_us):
    report = job(shape, -1)
    for index in range(shape.parallelism):
        one = report.subtasks_of("c0")[index]
        split = InputFigures(f"s{index}", "active", least_us + 1 + index)
        if index == shape.parallelism - 1:
            split = InputFigures("slow", "active", least_us, silent_us=us, still_us=us)
        report = changed(report, "c0", index, figures=replace(one.figures, inputs=(split,)))
    (said,) = diagnose(report).watermark
    assert 'split "slow" of source "c0"' in said
    assert ("idleness=" in said) is (shape.parallelism > 1)
