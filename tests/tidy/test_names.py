"""Names and calls that are banned, each for a reason given here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Names that say nothing about what a module is for.
BANNED_NAMES = {"util", "common", "base", "manager", "helper", "handler", "info", "misc", "core"}

# A test that sleeps is slow or flaky; these say why they must.
MAY_SLEEP: dict[str, str] = {
    "tests/bench/recovery.py": "a benchmark of time itself",
    "tests/bench/rescale.py": "a benchmark of time itself",
    "tests/cluster/test_kills_on_ray.py": "kills come at moments of chance",
    "tests/cluster/test_rescale_on_ray.py": "looks for what other processes do",
    "tests/cluster/test_lost_nodes_on_ray.py": "looks for a file that another process writes",
    "tests/support/tide.py": "a row that waits for something outside takes its time",
}

# Folders of checkouts that hold no source of ours.
SKIPPED = {"build", "dist", "out", "node_modules"}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".sh", ".json", ""}

# A path of one person's machine works on no other.
MACHINE_PATH = re.compile(r"(?<![\w.$}-])/(?:work|root)/")
UNNAMED_TODO = re.compile(r"#.*\b(?:TODO|FIXME|XXX)\b(?!\(\w+\))")


def files(
    *folders: str, suffixes: frozenset[str] | set[str] = frozenset({".py"})
) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            parts = path.relative_to(ROOT).parts
            hidden = any(
                (part.startswith(".") and part != ".ci") or part in SKIPPED or "egg-info" in part
                for part in parts
            )
            if not hidden and path.suffix in suffixes and path.is_file():
                yield path


def shown(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def banned_name(stem: str) -> bool:
    return any(word.rstrip("s") in BANNED_NAMES or word in BANNED_NAMES for word in stem.split("_"))


def unbounded_deques(source: str) -> list[int]:
    """Find deques without a bound: every queue has one."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and _name(node.func) == "deque"
        and len(node.args) < 2
        and not any(keyword.arg == "maxlen" for keyword in node.keywords)
    ]


def broad_excepts(source: str) -> list[int]:
    """Find handlers that catch everything, and with it our own bugs."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(k is None or _name(k) in {"Exception", "BaseException"} for k in kinds):
                found.append(node.lineno)
    return found


def sleeps(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and _name(node.func) == "sleep"
        and not (isinstance(node.func, ast.Attribute) and _name(node.func.value) == "asyncio")
    ]


def _name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def may_catch_all(path: Path) -> bool:
    """Where users' code is called, and at the edge of the shells."""
    inside = path.relative_to(ROOT / "raystream")
    # The command line is a shell, too: what nobody expected is told there as a bug of ours.
    guards = {Path("operators/guard.py"), Path("ops/failures.py")}
    return inside.parts[0] == "runtime" or inside in guards


def test_modules_are_named_for_what_they_hold():
    folders = {path.parent for path in files("raystream")}
    named = [*files("raystream", "jobs", "examples"), *folders]
    found = [str(path.relative_to(ROOT)) for path in named if banned_name(path.stem)]
    assert not found


def test_every_queue_has_a_bound():
    found = [
        shown(path, line, "deque() without maxlen")
        for path in files("raystream")
        for line in unbounded_deques(path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_todo_has_a_name():
    found = [
        shown(path, number, "write TODO(name)")
        for path in files("raystream", "jobs", "examples", "tests")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNNAMED_TODO.search(line) and path != Path(__file__)
    ]
    assert not found, "\n" + "\n".join(found)


def test_everything_is_caught_only_where_users_code_is_called():
    found = [
        shown(path, line, "catches everything")
        for path in files("raystream")
        if not may_catch_all(path)
        for line in broad_excepts(path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


def test_no_test_sleeps():
    found = [
        shown(path, line, "sleeps")
        for path in files("tests")
        if str(path.relative_to(ROOT)) not in MAY_SLEEP
        for line in sleeps(path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


def test_no_file_names_a_path_of_one_machine():
    tops = [p.name for p in ROOT.iterdir() if p.name == ".ci" or not p.name.startswith(".")]
    folders = [top for top in tops if (ROOT / top).is_dir()]
    alone = [ROOT / top for top in tops if (ROOT / top).is_file()]
    found = [
        shown(path, number, line.strip())
        for path in [*alone, *files(*folders, suffixes=TEXT)]
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line) and path != Path(__file__)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("stem", ["utils", "base", "state_manager", "row_helpers", "info"])
def test_empty_names_are_found(stem):
    assert banned_name(stem)


def test_banned_calls_are_found_and_others_are_not():
    assert unbounded_deques("deque([1])\ncollections.deque()") == [1, 2]
    assert not unbounded_deques("deque(maxlen=3)\ndeque([], 3)")
    assert sleeps("time.sleep(1)\nsleep(1)\nasyncio.sleep(0)") == [1, 2]
    caught = "try:\n    f()\nexcept (OSError, Exception):\n    pass"
    assert broad_excepts(caught) == [3]
    assert not broad_excepts(caught.replace(", Exception", ""))
    assert broad_excepts("try:\n    f()\nexcept:\n    pass") == [3]


def test_machine_paths_and_unnamed_todos_are_found():
    assert MACHINE_PATH.search("see /root/notes")
    assert MACHINE_PATH.search('open("/work/x")')
    assert not MACHINE_PATH.search("https://host/work/x")
    assert UNNAMED_TODO.search("x = 1  # TODO: later")
    assert not UNNAMED_TODO.search("x = 1  # TODO(ada): later")
