"""Find out, before anything starts, whether a job can travel to other processes.

An operator that cannot be pickled is named together with the variable that is the reason. Modules
of the script's own folder travel by value, so that the folder need not exist on other machines.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle

from raystream.errors import PlanError
from raystream.operators.guard import attempt

_DEPTH_MAX = 6
"""How far into a function's variables the culprit is looked for."""


def check_picklable(spec: object, name: str, where: str) -> None:
    """Refuse an operator that cannot be sent to another process.

    Raises: PlanError naming the variable that cannot be pickled.
    """
    error = _failure(spec)
    if error is None:
        return
    culprit = _culprit(spec)
    what = f": {culprit}" if culprit else f": {type(error).__name__}: {error}"
    raise PlanError(
        f"{name} cannot be pickled{what}",
        where=where,
        hint="make it in open(ctx) of a class, which runs in each subtask, or pass what makes it",
    ) from error


def pickles(value: object) -> bool:
    """Tell whether a value can be sent to another process."""
    return _failure(value) is None


def pickle_script_folder_by_value(main_file: str | None = None) -> list[str]:
    """Let the modules beside the script, and below the current folder, travel with the job.

    Give their names. Workers may run where neither folder exists.
    """
    main = main_file or getattr(sys.modules.get("__main__"), "__file__", None)
    folders = [Path.cwd()] if main is None else [Path(main).resolve().parent, Path.cwd()]
    registered = []
    for name, module in list(sys.modules.items()):
        if name != "__main__" and any(_travels(module, name, folder) for folder in folders):
            cloudpickle.register_pickle_by_value(module)
            registered.append(name)
    return registered


def _travels(module: types.ModuleType | None, name: str, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or not str(file).endswith(".py") or name.partition(".")[0] == "raystream":
        return False
    path = Path(file).resolve()
    if folder not in path.parents or folder in _library_folders():
        return False
    return not {"site-packages", "dist-packages"} & set(path.relative_to(folder).parts)


@functools.cache
def _library_folders() -> frozenset[Path]:
    # A script such as python -m pytest starts from the interpreter's own folders.
    library = Path(inspect.__file__).resolve().parent
    prefixes = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    bins = [folder for prefix in prefixes for folder in (prefix, prefix / "bin")]
    return frozenset([library, *library.parents, *bins])


def _failure(value: object) -> Exception | None:
    # Pickling runs code of whoever wrote the class.
    pickled = attempt(lambda: cloudpickle.dumps(value))
    return pickled if isinstance(pickled, Exception) else None


def _culprit(value: object) -> str | None:
    """Give ``variable "lock" holds a _thread.lock``: the innermost part that fails on its own."""
    path: list[str] = []
    seen: set[int] = set()
    holder = "variable"
    while len(path) < _DEPTH_MAX:
        seen.add(id(value))
        for kind, name, part in _parts(value):
            if id(part) not in seen and _failure(part) is not None:
                path.append(name)
                holder, value = kind, part
                break
        else:
            break
    if not path:
        return None
    owner = type(value)
    described = (
        f"the {type(value).__name__} {getattr(value, '__name__', '')}".rstrip()
        if inspect.isroutine(value) or inspect.ismodule(value)
        else f"a {owner.__module__}.{owner.__qualname__}".replace(" builtins.", " ")
    )
    return f'{holder} "{path[-1]}" holds {described}'


def _parts(value: object) -> Iterator[tuple[str, str, object]]:
    """Give what a value holds, by the kind and name of what holds it."""
    if isinstance(value, functools.partial):
        yield "argument", "func", value.func
        yield from _named("argument", {f"#{i}": part for i, part in enumerate(value.args)}.items())
        yield from _named("argument", value.keywords.items())
    elif isinstance(value, types.MethodType):
        yield "instance", type(value.__self__).__name__, value.__self__
    elif isinstance(value, types.FunctionType):
        variables = inspect.getclosurevars(value)
        yield from _named("variable", variables.nonlocals.items())
        yield from _named("variable", variables.globals.items())
        yield from _named(
            "default of", zip(_defaulted(value), value.__defaults__ or (), strict=True)
        )
        yield from _named("default of", (value.__kwdefaults__ or {}).items())
    elif isinstance(value, dict):
        yield from _named("key", value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from _named("element", ((f"#{i}", part) for i, part in enumerate(value)))
    elif isinstance(value, type):
        yield from _named("attribute", vars(value).items())
    else:
        names = list(getattr(value, "__dict__", ()))
        for owner in type(value).__mro__:
            slots = getattr(owner, "__slots__", ())
            names.extend([slots] if isinstance(slots, str) else slots)
        yield from _named(
            "attribute", ((name, getattr(value, name)) for name in names if hasattr(value, name))
        )


def _named(kind: str, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, str, object]]:
    for name, part in pairs:
        yield kind, str(name), part


def _defaulted(function: types.FunctionType) -> list[str]:
    code = function.__code__
    names = list(code.co_varnames[: code.co_argcount])
    return names[len(names) - len(function.__defaults__ or ()) :]
