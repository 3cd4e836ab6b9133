"""Every lesson runs as a program and prints what it teaches."""

from __future__ import annotations

import ast

import pytest
from goldens import ROOT, program

EXAMPLES = ROOT / "examples"
COMMAND_LINE = ("-m", "raystream.ops.cli", "run", "--runtime", "local")

pytestmark = pytest.mark.slow

WINDOWS = """\
sensor  window_start               window_end                 rows  mean  last
──────  ─────────────────────────  ─────────────────────────  ────  ────  ────
a       1970-01-01 00:00:00+00:00  1970-01-01 00:00:10+00:00  2     3.0   5.0
b       1970-01-01 00:00:00+00:00  1970-01-01 00:00:10+00:00  1     7.0   7.0
a       1970-01-01 00:00:10+00:00  1970-01-01 00:00:20+00:00  1     3.0   3.0
a       1970-01-01 00:00:20+00:00  1970-01-01 00:00:30+00:00  1     2.0   2.0
"""

CLICKS = """\
 user                        at  page        day
    1 2024-05-01 09:00:00+00:00 /home 2024-05-01
    2 2024-05-01 09:00:05+00:00  /buy 2024-05-01
    1 2024-05-02 10:30:00+00:00  /buy 2024-05-02
"""


TOUR = {
    "1. orders": ["(1, 'ann', 'tea', 400)", "(12, 'bob', 'pot', 2500)"],
    "2. columns": ["('bob', 'pot', 25.0)", "('ann', 'cup', 9.0)", "('bob', 'cup', 9.0)"],
    "3. every ten seconds": [
        "('ann', 10, 1, 400)",
        "('bob', 20, 1, 2500)",
        "('ann', 20, 1, 900)",
        "('ann', 30, 1, 400)",
        "('bob', 40, 1, 900)",
    ],
    "4. late": ["(3, 'bob', 'tea', 400)"],
    "5. quiet for ten seconds": ["('bob', 22)", "('ann', 35)", "('bob', 48)"],
    "6. paid within five seconds": ["('ann', 'tea', 'amex')", "('bob', 'pot', 'visa')"],
    "7. the changes": [
        "('ann', 400, '+I')",
        "('bob', 2500, '+I')",
        "('ann', 1300, '+U')",
        "('ann', 1700, '+U')",
        "('bob', 2900, '+U')",
        "('bob', 3800, '+U')",
    ],
    "who is rich": ["(False, 1)", "(True, 1)"],
    "8. it died": ["power cut"],
    "9. restored, larger": ["finished: 700 lines, none twice: True"],
    "the state": ["('user 0', 100)", "('user 1', 100)", "('user 2', 100)"],
}


def test_every_lesson_is_run_here():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == [
        "01_hello.py",
        "02_windows.py",
        "03_word_count.py",
        "04_files.py",
        "05_own_source.py",
        "06_test_your_job.py",
        "07_state_and_timers.py",
        "08_late_and_broken_rows.py",
        "09_own_sink.py",
        "10_survive.py",
        "11_as_of.py",
        "12_clicks_and_impressions.py",
        "13_leaderboard.py",
        "14_changing_table.py",
        "15_model_in_stream.py",
        "16_tour.py",
    ]


def test_hello_prints_the_large_orders():
    rows = [ast.literal_eval(line) for line in program(EXAMPLES / "01_hello.py").splitlines()]
    assert rows == [
        {"item": "tea", "price": 3.5, "count": 2, "total": 7.0},
        {"item": "coffee", "price": 2.5, "count": 4, "total": 10.0},
    ]


def test_windows_prints_the_late_row_in_its_own_window():
    assert sorted(program(EXAMPLES / "02_windows.py").splitlines()) == sorted(WINDOWS.splitlines())


def test_word_count_prints_counts_that_grow_and_counts_that_are_final():
    running, final = program(EXAMPLES / "03_word_count.py").splitlines()
    assert running == (
        "after each word: [('to', 1), ('be', 1), ('or', 1), ('not', 1), ('to', 2), ('be', 2)]"
    )
    counts = "('be', 3), ('is', 1), ('not', 1), ('or', 1), ('question', 1)"
    assert final == f"in the end: [{counts}, ('sure', 1), ('that', 1), ('the', 1), ('to', 3)]"


def check_files(printed: str) -> None:
    plan, head, rows = printed.partition(CLICKS.splitlines()[0])
    assert head + rows == CLICKS
    for part in ("FileSource", "with_columns", "FileSink"):
        assert part in plan


def check_dice(printed: str) -> None:
    counts = dict.fromkeys(range(1, 7), 0)
    for die in range(3):
        for roll in range(1, 61):
            counts[(die * 7 + roll * 5) % 6 + 1] += 1
    rows = [ast.literal_eval(line) for line in printed.splitlines()]
    assert sorted((row["eyes"], row["times"]) for row in rows) == sorted(counts.items())


def test_files_prints_its_plan_and_what_it_wrote():
    check_files(program(*COMMAND_LINE, EXAMPLES / "04_files.py"))


def test_own_source_counts_the_eyes_of_three_dice():
    check_dice(program(*COMMAND_LINE, EXAMPLES / "05_own_source.py"))


def test_test_your_job_prints_what_came_out():
    assert program(EXAMPLES / "06_test_your_job.py").splitlines() == [
        "At(ts=59999999, row={'user': 'ann', 'total': 7})",
        "Watermark(ts=59999999)",
    ]


def test_state_and_timers_reminds_who_did_not_pay():
    assert program(EXAMPLES / "07_state_and_timers.py") == "[{'remind': 'bob'}]\n"


def test_late_and_broken_rows_go_aside():
    assert program(EXAMPLES / "08_late_and_broken_rows.py").splitlines() == [
        "{'user': 'ann', 'total': 5}",
        "{'user': 'bob', 'total': 3}",
        "{'user': 'ann', 'total': 2}",
        "{'user': 'bob', 'total': 1}",
        "late: [{'at': 3, 'user': 'ann', 'amount': 9}]",
        "broken: ['oops']",
    ]


def test_own_sink_writes_each_word_once():
    printed = program(*COMMAND_LINE, EXAMPLES / "09_own_sink.py")
    assert printed == "be be not or to to\n"


def test_survive_counts_each_order_once():
    assert program(EXAMPLES / "10_survive.py").splitlines() == [
        "it died: power cut",
        "1000 orders, 334 of bob",
    ]


def test_as_of_takes_the_rate_of_the_time_of_each_order():
    rows = [ast.literal_eval(line) for line in program(EXAMPLES / "11_as_of.py").splitlines()]
    assert [tuple(row.values()) for row in rows] == [
        (100, "USD", 0.9, 0, 18.0),
        (650, "GBP", 1.25, 0, 6.25),
        (700, "USD", 0.5, 600, 10.0),
        (800, "JPY", None, None, None),
    ]


def test_clicks_and_impressions_are_an_hour_apart_at_most():
    assert program(EXAMPLES / "12_clicks_and_impressions.py").splitlines() == [
        "(0, 'tea', 1, 30)",
        "(0, 'tea', 1, 200)",
        "(60, 'tea', 2, None)",
        "(100, 'coffee', 1, 3700)",
        "(7000, 'tea', 1, None)",
        "[('coffee', 1, 1), ('tea', 3, 2)]",
    ]


def test_leaderboard_tells_each_change_and_the_table_in_the_end():
    *changes, table = program(EXAMPLES / "13_leaderboard.py").splitlines()
    places: dict[str, str] = {}
    for line in changes:
        op, place, who = line.split(" ", 2)
        if op in ("+I", "+U"):
            places[place] = who
        else:
            assert places.pop(place) == who
    assert places == {"1": "ann 9", "2": "dan 4"}
    assert changes[:4] == ["+I 1 ann 3", "-U 1 ann 3", "+U 1 bob 5", "+I 2 ann 3"]
    blue = "('blue', 'eve', 2, 1), ('blue', 'cid', 1, 2)"
    assert table == f"[{blue}, ('red', 'ann', 9, 1), ('red', 'dan', 4, 2)]"


def test_changing_table_forgets_what_is_gone():
    orders, cities, *changes = program(EXAMPLES / "14_changing_table.py").splitlines()
    assert orders == "orders: [(1, 'Bonn', 10), (3, 'Bonn', 9)]"
    assert cities == "cities: [('Bonn', 2, 19, 10)]"
    rows = [ast.literal_eval(line) for line in changes]
    assert [(row["total"], row["op"]) for row in rows if row["city"] == "Rom"] == [
        (10, "+I"),
        (15, "+U"),
        (5, "+U"),
        (5, "-D"),
    ]


def test_model_in_stream_scores_each_message_and_keeps_a_users_order():
    lines = [
        line.split(" ", 2) for line in program(EXAMPLES / "15_model_in_stream.py").splitlines()
    ]
    assert [text for user, _, text in lines if user == "bob"] == [
        "free prize",
        "win money now",
        "see the prize",
    ]
    assert sorted(text for _, spam, text in lines if float(spam) > 0.5) == [
        "free prize",
        "win money now",
    ]


def test_tour_shows_what_each_step_says():
    printed = program(EXAMPLES / "16_tour.py").split("\n\n")
    steps = [[line.strip() for line in part.strip().splitlines()] for part in printed]
    shown = {title: rows for title, *rows in steps}
    assert len(shown) == 13
    assert "Did you mean" in shown["a wrong column"][0]
    plan = shown.pop("10. the plan")
    for line, part in zip(plan[1:], ("source", "key_by", "map_with_state", "sink"), strict=True):
        assert line.startswith(part)
    del shown["a wrong column"]
    assert shown == TOUR


@pytest.mark.cluster
def test_lessons_that_run_a_job_print_the_same_on_ray(ray_cluster):
    check_files(program(EXAMPLES / "04_files.py", ray=ray_cluster))
    check_dice(program(EXAMPLES / "05_own_source.py", ray=ray_cluster))
