"""A function as users hand it over: a function, an instance, or a class made once a subtask."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raystream.contracts.context import OpenContext
from raystream.errors import PlanError

Run: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Calls something, awaits what it gives where that can be awaited, and gives what comes of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A user's function and its ``fn_kwargs``.

    A class whose instances can be called is instantiated with ``kwargs`` once in each subtask;
    anything else, ``int`` and ``dict`` too, is called with them.
    """

    target: Callable[..., Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What ``explain`` and errors call it."""
        target: Any = self.target
        while isinstance(target, functools.partial):
            target = target.func
        name: str = getattr(target, "__name__", type(target).__name__)
        return name

    @property
    def is_plain(self) -> bool:
        """Whether it can be called as it is: neither made nor opened, and without arguments."""
        target: Any = self.target
        return not self.kwargs and not _is_made_once(target) and _method(target, "open") is None

    def open(self, ctx: OpenContext, run: Run | None = None) -> OpenFunction:
        """Make the function of one subtask, and call its ``open(ctx)`` where it has one.

        ``run`` makes these calls, and that of ``close``, in a loop that already runs.
        """
        target: Any = self.target
        if _is_made_once(target):
            make = functools.partial(target, **self.kwargs)
            instance: Any = make() if run is None else run(make)
            opened = OpenFunction(instance, instance, run)
        else:
            call = functools.partial(target, **self.kwargs) if self.kwargs else target
            opened = OpenFunction(call, target, run)
        opened.open(ctx)
        return opened

    def __str__(self) -> str:
        return self.name


class OpenFunction:
    """A function in one subtask, opened: ``call`` is what rows go to."""

    __slots__ = ("_loop", "_run", "call", "instance")

    def __init__(self, call: Callable[..., Any], instance: Any, run: Run | None = None) -> None:
        self.call = call
        self.instance = instance
        self._run: Run = self._run_here if run is None else run
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, ctx: OpenContext) -> None:
        """Call the instance's ``open(ctx)``, plain or async, if it has one."""
        method = _method(self.instance, "open")
        if method is not None:
            self._run(functools.partial(method, ctx))

    def close(self) -> None:
        """Call the instance's ``close()``, plain or async, if it has one."""
        method = _method(self.instance, "close")
        try:
            if method is not None:
                self._run(method)
        finally:
            if self._loop is not None:
                self._loop.close()
                self._loop = None

    def _run_here(self, call: Callable[[], Any]) -> Any:
        result = call()
        if not inspect.isawaitable(result):
            return result
        # One loop for both calls: what ``open`` makes in a loop must be closed in the same one.
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(_await(result))


class Opened:
    """A function that is opened at its first call in a process, where nothing else opens it."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.__name__ = function.name
        self._call: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_call": None}

    def __call__(self, row: Any) -> Any:
        if self._call is None:
            self._call = self.function.open(OpenContext(operator=self.function.name)).call
        return self._call(row)


def check_function(function: Function, *, verb: str, where: str = "") -> None:
    """Refuse what cannot be called, while the job is built.

    Raises: PlanError naming what came instead, an async function, or arguments that do not fit.
    """
    called = _checked(function, verb, where)
    if any(map(inspect.iscoroutinefunction, called)):
        raise PlanError(
            f"{verb}() takes a plain function; {function.name} is async",
            hint="async_map() awaits functions, many at a time",
            where=where,
        )
    if any(map(inspect.isasyncgenfunction, called)):
        raise PlanError(
            f"{verb}() takes a plain function; {function.name} is an async generator",
            hint="yield in a plain function, or return a list: async_map() awaits functions, and "
            "flat_map(list) behind it gives the rows",
            where=where,
        )


def check_async_function(function: Function, *, verb: str, where: str = "") -> None:
    """Refuse what cannot be awaited, while the job is built.

    Raises: PlanError naming what came instead, a plain function, or arguments that do not fit.
    """
    called = _checked(function, verb, where)
    if any(map(inspect.isasyncgenfunction, called)):
        raise PlanError(
            f"{verb}() awaits an async function; {function.name} is an async generator: it yields",
            hint="return a list instead, and let flat_map(list) behind it give the rows",
            where=where,
        )
    if not any(map(inspect.iscoroutinefunction, called)):
        raise PlanError(
            f"{verb}() awaits an async function; {function.name} is a plain one",
            hint="map() calls plain functions; async def makes one that can be awaited",
            where=where,
        )


def _checked(function: Function, verb: str, where: str) -> tuple[Any, Any]:
    """Give what tells how it is called: the function and, of what is none, its ``__call__``.

    Raises: PlanError where nobody could call it.
    """
    target: Any = function.target
    if not callable(target):
        raise PlanError(
            f"{verb}() takes a function, got {type(target).__name__} {target!r:.80}", where=where
        )
    if _is_made_once(target):
        _check_arguments(target, function.kwargs, verb, where)
    return target, target if inspect.isfunction(target) else target.__call__


def _is_made_once(target: object) -> bool:
    return isinstance(target, type) and issubclass(target, Callable)  # type: ignore[arg-type]


def _check_arguments(
    target: Callable[..., Any], kwargs: Mapping[str, Any], verb: str, where: str
) -> None:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # classes written in C need not have one
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        raise PlanError(
            f"{verb}() cannot make {getattr(target, '__name__', target)}: {error}",
            hint="fn_kwargs= holds the arguments of its __init__",
            where=where,
        ) from error


def _method(instance: Any, name: str) -> Callable[..., Any] | None:
    # A plain function or a builtin has no life of its own, whatever attributes it carries.
    if inspect.isroutine(instance) or isinstance(instance, type):
        return None
    method = getattr(instance, name, None)
    return method if callable(method) else None


async def _await(awaitable: Any) -> Any:
    return await awaitable
