"""``log_format="json"``: each transition of a job is one object on a line of stderr."""

from __future__ import annotations

import itertools
import json
import logging

import raystream as rs
from raystream.runtime.json_lines import FIELDS


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def run(**config: str) -> None:
    checkpoint = rs.Checkpointing("memory://json", every="1s")
    job = rs.Job("told", runtime="local", checkpoint=checkpoint, config=config)
    job.from_items([1, 2, 3]).map(lambda n: n + 1).named("more").sink(rs.MemorySink())
    job.run()


def test_each_transition_is_one_object_with_all_fields(capfd):
    run(log_format="json")
    told = lines(capfd.readouterr().err)
    assert all(set(FIELDS) <= set(one) for one in told)
    assert {one["job"] for one in told} == {"told"}
    states = [one["state"] for one in told]
    assert states[:2] == ["starting", "running"]
    assert states[-1] == "finished"
    (kept,) = [one for one in told if one["checkpoint"]]
    assert (kept["state"], kept["checkpoint"], kept["attempt"]) == ("completed", 1, 1)
    assert kept["message"] == "job told: checkpoint 1 completed"
    assert (kept["level"], kept["logger"]) == ("info", "raystream")
    assert str(kept["at"]).endswith("+00:00")


def test_at_debug_each_subtask_says_when_its_state_changes(capfd):
    run(log_format="json", log_level="debug")
    told = [one for one in lines(capfd.readouterr().err) if one["subtask"]]
    assert {(one["subtask"], one["state"]) for one in told} >= {
        (told[0]["subtask"], state) for state in ("ready", "ended", "closed")
    }
    assert all(str(one["subtask"]).startswith(str(one["operator"])) for one in told)


def test_text_writes_nothing_of_it_and_python_logging_is_left_as_it_was(capfd):
    log = logging.getLogger("raystream")
    before = (log.level, log.handlers[:])
    run(log_format="json")
    assert (log.level, log.handlers) == before
    capfd.readouterr()
    run()
    assert capfd.readouterr().err == ""


def test_where_the_job_goes_from_one_state_to_another_both_are_fields(capfd):
    run(log_format="json")
    told = lines(capfd.readouterr().err)
    states = [(one["from"], one["to"]) for one in told if one["to"]]
    assert states[:2] == [("opening", "starting"), ("starting", "running")]
    assert all(after[0] == before[1] for before, after in itertools.pairwise(states))
    assert all(one["to"] in ("", one["state"]) for one in told)
    assert any(not one["to"] for one in told)  # a checkpoint is no state of the job
