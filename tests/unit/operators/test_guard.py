from itertools import islice

import pytest

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function
from raystream.errors import UserFunctionError
from raystream.operators import guard

HERE = {"operator": "map#1", "where": "job.py:7"}


def divide(row):
    return 10 // row


def test_each_row_is_called_in_order():
    assert guard.call_each(divide, [1, 2, 5], **HERE) == [10, 5, 2]


def test_the_row_that_failed_is_named_with_the_users_own_traceback():
    with pytest.raises(UserFunctionError) as caught:
        guard.call_each(divide, [1, 2, 0, 5], **HERE)
    error = caught.value
    assert error.row == "0"
    assert error.operator == "map#1"
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "in divide" in error.user_traceback
    assert "call_each" not in error.user_traceback
    assert "map#1 failed: ZeroDivisionError" in str(error)
    assert "at job.py:7" in str(error)


def test_causes_keep_their_user_frames_too():
    def outer(row):
        try:
            return divide(row)
        except ZeroDivisionError as error:
            raise ValueError("bad row") from error

    with pytest.raises(UserFunctionError) as caught:
        guard.call_each(outer, [0], **HERE)
    assert "ZeroDivisionError" in caught.value.user_traceback
    assert "ValueError: bad row" in caught.value.user_traceback


def test_a_stop_iteration_does_not_end_the_batch_silently():
    with pytest.raises(UserFunctionError) as caught:
        guard.call_each(lambda row: next(iter(row)), [[1], [], [2]], **HERE)
    assert caught.value.row == "[]"


def test_a_long_row_is_cut_and_a_broken_repr_does_not_hide_the_error():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    assert len(guard.short("x" * 10_000)) <= guard.ROW_CHARACTERS_MAX
    assert "Broken" in guard.short(Broken())


def expanded(function, rows, limit):
    return [
        (values, origins.tolist())
        for values, origins in guard.expand(function, rows, limit, **HERE)
    ]


@pytest.mark.parametrize("form", [list, iter, tuple])
def test_rows_of_several_inputs_leave_in_batches_with_their_origin(form):
    made = expanded(lambda n: form([n] * n), [2, 0, 3, 1], limit=4)
    assert made == [([2, 2, 3, 3], [0, 0, 2, 2]), ([3, 1], [2, 3])]


def test_none_makes_no_row_and_a_full_batch_is_not_followed_by_an_empty_one():
    made = expanded(lambda n: None if n == 0 else [n, n], [1, 0, 2], limit=4)
    assert made == [([1, 1, 2, 2], [0, 0, 2, 2])]


def test_a_generator_is_pulled_only_as_its_output_leaves():
    pulled = []

    def count(row):
        for number in range(100_000):
            pulled.append(number)
            yield number

    batches = guard.expand(count, [None], 100, **HERE)
    assert [len(values) for values, _ in islice(batches, 3)] == [100, 100, 100]
    assert len(pulled) == 300
    batches.close()


@pytest.mark.parametrize("one_row", [{"a": 1}, "text", b"bytes", 7])
def test_a_single_row_where_rows_are_expected_is_refused(one_row):
    with pytest.raises(UserFunctionError, match="return \\[row\\], or yield") as caught:
        expanded(lambda _: one_row, ["input"], limit=10)
    assert caught.value.row == "'input'"


def test_a_generator_that_fails_names_the_row_it_was_made_of():
    def fails(row):
        yield row
        raise KeyError(row)

    with pytest.raises(UserFunctionError) as caught:
        expanded(fails, ["a"], limit=10)
    assert caught.value.row == "'a'"


def test_a_constructor_and_a_close_that_raise_say_so():
    class Bad:
        def __init__(self):
            raise OSError("no model")

        def __call__(self, row):
            return row

    with pytest.raises(UserFunctionError, match="failed in open: OSError: no model"):
        guard.open_function(Function(Bad), OpenContext(), **HERE)
