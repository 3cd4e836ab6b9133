"""What processes log and print is kept, the newest of it, each line once."""

from __future__ import annotations

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raystream.clock import ManualClock
from raystream.config import Limits
from raystream.runtime.journal import LINE_CHARS_MAX, Journal, LogLine, Notes, Recorder, record, tee
from raystream.runtime.json_lines import FIELDS


def line(text, level="info"):
    return LogLine(0, level, text)


def texts(lines):
    return [one.text for one in lines]


@given(st.lists(st.lists(st.sampled_from(["info", "print"]), max_size=4), max_size=8))
def test_whoever_asks_again_gets_each_line_once_and_in_order(parts):
    journal, seen, told, number = Journal(100), 0, [], 0
    for part in parts:
        journal.add(line(str(number + place), level) for place, level in enumerate(part))
        number += len(part)
        seen, new = journal.after(seen)
        told += texts(new)
    assert told == [str(one) for one in range(number)]
    assert seen == number


def test_the_oldest_lines_make_room():
    journal = Journal(2)
    journal.add(map(line, "abc"))
    assert texts(journal.after(0)[1]) == ["b", "c"]
    assert journal.after(3) == (3, [])


def test_what_is_printed_crowds_out_nothing_that_was_logged():
    journal = Journal(2)
    journal.add([line("grave", "error"), *(line(str(n), "print") for n in range(100))])
    assert texts(journal.after(0)[1]) == ["grave", "98", "99"]


def test_notes_are_taken_once_and_say_what_had_no_room():
    notes = Notes(ManualClock(5), 2)
    notes.chain, notes.index, notes.attempt = "count", 1, 3
    notes.subtask = "count[1/2]"
    for text in "abc":
        notes.note("info", text)
    first, *rest = notes.take()
    assert (first.level, first.text) == ("warning", "1 lines before these are left out")
    said = {"operator": "count", "subtask": "count[1/2]"}
    assert rest == [LogLine(5, "info", text, "count", 1, 3, said) for text in "bc"]
    assert notes.take() == []
    notes.note("info", "x" * (LINE_CHARS_MAX + 1))
    assert len(notes.take()[0].text) == LINE_CHARS_MAX


def test_a_stream_is_noted_line_by_line_and_still_written():
    stream, noted = io.StringIO(), []
    tee(stream, noted.append)
    print("a", 1, file=stream)
    stream.write("b")
    assert noted == ["a 1"]
    stream.write("c\n\n  \nd\ne")
    assert noted == ["a 1", "bc", "d"]
    assert stream.getvalue() == "a 1\nbc\n\n  \nd\ne"


def test_a_record_is_noted_with_its_traceback_and_shown_where_it_is_grave():
    noted, shown = [], io.StringIO()
    logger = logging.Logger("mine")  # noqa: LOG001  no other test is to find it
    logger.addHandler(Recorder(lambda level, text, fields: noted.append((level, text)), shown))
    logger.info("seen %d", 3)
    try:
        float("no such price")
    except ValueError:
        logger.exception("it broke")
    assert noted[0] == ("info", "seen 3")
    assert noted[1][0] == "error"
    assert noted[1][1].startswith("it broke\nTraceback")
    assert noted[1][1].endswith("could not convert string to float: 'no such price'")
    assert shown.getvalue().startswith("it broke\n")
    assert "seen" not in shown.getvalue()


@pytest.fixture
def root():
    """Leave Python's own logger as it was."""
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers


def test_as_json_a_process_writes_each_record_with_what_it_is(root, monkeypatch):
    noted, err = [], io.StringIO()
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setattr("raystream.runtime.journal._plain", lambda stream: err)
    where = {"job": "told", "operator": "count", "subtask": "count[1/2]", "attempt": 3}
    limits = Limits(log_format="json")
    record(lambda level, text, fields: noted.append((level, text)), limits, lambda: where)
    logging.getLogger("mine").debug("too fine")
    logging.getLogger("mine").info("seen %d", 3)
    where["attempt"] = 4
    try:
        float("no such price")
    except ValueError:
        logging.getLogger("mine").exception('it "broke"\nhere')
    assert noted[0] == ("info", "seen 3")  # what is kept of it stays text
    seen, broke = map(json.loads, err.getvalue().splitlines())
    assert {name: seen[name] for name in FIELDS} == {**FIELDS, **where, "attempt": 3}
    assert (seen["level"], seen["logger"], seen["message"]) == ("info", "mine", "seen 3")
    assert (broke["level"], broke["attempt"]) == ("error", 4)
    assert broke["message"] == 'it "broke"\nhere'
    assert broke["error"].endswith("could not convert string to float: 'no such price'")


def test_a_process_notes_what_it_logs_and_prints(root, monkeypatch):
    noted = []
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    record(lambda level, text, fields: noted.append((level, text)), Limits())
    logging.getLogger("mine").debug("too fine")
    logging.getLogger("mine").info("fine")
    print("printed")
    print("complained", file=err)
    assert noted == [("info", "fine"), ("print", "printed"), ("stderr", "complained")]
    assert (out.getvalue(), err.getvalue()) == ("printed\n", "complained\n")


def test_of_a_record_the_fields_that_it_has_are_noted_as_plain_values():
    noted = []
    logger = logging.Logger("mine")  # noqa: LOG001  no other test is to find it
    logger.addHandler(Recorder(lambda level, text, fields: noted.append(fields)))
    states = {"from": "starting", "to": "running", "attempt": 2, "checkpoint": 0}
    logger.info("it runs", extra=states)
    logger.info("odd", extra={"job": object(), "attempt": True, "subtask": "s" * 900, "mine": 1})
    logger.info("plain")
    assert noted[0] == {"from": "starting", "to": "running", "attempt": 2}
    assert {name: len(value) for name, value in noted[1].items()} == {"subtask": 200}
    assert noted[2] == {}
