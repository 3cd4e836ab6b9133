import asyncio
import functools

import pytest

from raystream.contracts.context import OpenContext
from raystream.contracts.functions import Function, check_async_function, check_function
from raystream.errors import PlanError


class Adder:
    def __init__(self, amount=1):
        self.amount, self.calls = amount, []

    def open(self, ctx):
        self.calls.append(ctx.operator)

    def __call__(self, row):
        return row + self.amount

    def close(self):
        self.calls.append("closed")


def test_a_class_is_made_once_with_its_arguments_opened_and_closed():
    opened = Function(Adder, {"amount": 5}).open(OpenContext(operator="map#1"))
    assert opened.call(1) == 6
    opened.close()
    assert opened.instance.calls == ["map#1", "closed"]


def test_an_instance_serves_as_it_is_and_a_function_gets_its_arguments():
    adder = Adder(2)
    assert Function(adder).open(OpenContext()).instance is adder
    assert Function(lambda row, by: row * by, {"by": 3}).open(OpenContext()).call(2) == 6


def test_async_open_and_close_run_in_one_loop():
    class Client:
        async def open(self, ctx):
            self.loop = asyncio.get_running_loop()

        def __call__(self, row):
            return row

        async def close(self):
            assert asyncio.get_running_loop() is self.loop
            self.closed = True

    opened = Function(Client).open(OpenContext())
    opened.close()
    assert opened.instance.closed


def test_a_plain_function_and_a_builtin_have_no_open():
    for target in (len, str.split, lambda row: row):
        Function(target).open(OpenContext()).close()


def test_names_are_those_that_users_gave():
    assert Function(Adder).name == "Adder"
    assert Function(Adder()).name == "Adder"
    assert Function(str.split).name == "split"


async def awaits(row):
    return row


class AwaitsCalls:
    async def __call__(self, row):
        return row


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Function(5), "takes a function, got int"),
        (Function(awaits), "async_map"),
        (Function(AwaitsCalls), "async_map"),
        (Function(Adder, {"amuont": 1}), "amuont"),
    ],
)
def test_what_cannot_be_called_is_refused_while_the_job_is_built(function, message):
    with pytest.raises(PlanError, match=message):
        check_function(function, verb="map", where="job.py:3")


async def yields(row):
    yield row


class YieldsCalls:
    async def __call__(self, row):
        yield row


@pytest.mark.parametrize("target", [yields, YieldsCalls, YieldsCalls(), functools.partial(yields)])
def test_an_async_generator_is_called_one_and_told_what_to_do(target):
    name = Function(target).name
    with pytest.raises(PlanError, match=rf"{name} is an async generator: it yields") as error:
        check_async_function(Function(target), verb="async_map", where="job.py:3")
    assert "return a list instead, and let flat_map(list) behind it" in error.value.hint
    assert error.value.where == "job.py:3"
    with pytest.raises(PlanError, match=rf"plain function; {name} is an async generator") as error:
        check_function(Function(target), verb="map", where="job.py:3")
    assert "yield in a plain function, or return a list" in error.value.hint


def test_what_can_be_awaited_passes():
    for target in (awaits, AwaitsCalls, AwaitsCalls(), functools.partial(awaits)):
        check_async_function(Function(target), verb="async_map")
    with pytest.raises(PlanError, match="str is a plain one"):
        check_async_function(Function(str), verb="async_map")


def test_what_can_be_called_passes():
    for target in (Adder, Adder(), len, str.split, lambda row: row):
        check_function(Function(target), verb="map")


def test_a_class_whose_instances_cannot_be_called_is_a_function_itself():
    opened = Function(int).open(OpenContext())
    assert opened.call("7") == 7
