"""A job script in a process of its own that is interrupted once its first row has come out."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os
import raystream as rs

job = rs.Job("interrupted", parallelism=2, checkpoint=rs.Checkpointing({kept!r}, every="1h"))
rows = job.source(rs.DataGenSource(lambda n: {{"n": n}}, rows_per_second=500), name="read")
told = rows.rebalance().map(lambda row: (os.getpid(), row["n"])).named("told")
told.print()
told.map(lambda row: {{"n": row[1]}}).sink(rs.FileSink({out!r}, format="json"))
job.run({run})
"""


@dataclass(frozen=True)
class Ended:
    code: int
    errors: str
    pids: set[int]  # of the processes that rows came from
    out: Path

    @property
    def visible(self) -> list[Path]:
        """What somebody would read."""
        return [path for path in self.out.rglob("*") if path.is_file() and path.name[0] not in "._"]


def interrupt(
    folder: Path, *before: str, environment: dict[str, str], run: str = "", timeout_s: float
) -> Ended:
    """Run the script behind the words ``before``; send SIGINT when it has printed ten rows."""
    script, out = folder / "job.py", folder / "out"
    script.write_text(SCRIPT.format(kept=str(folder / "kept"), out=str(out), run=run))
    mine = ("RAY_ADDRESS", "RAYSTREAM_TEST_NO_RAY")
    without = {name: value for name, value in os.environ.items() if name not in mine}
    # Not a pipe: nobody reads errors while rows are waited for, and it would be full.
    with (folder / "errors").open("wb") as said:
        driver = subprocess.Popen(
            [sys.executable, *before, str(script)],
            env=without | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    late = threading.Timer(2 * timeout_s + 60, driver.kill)
    late.start()
    try:
        assert driver.stdout is not None
        lines = list(itertools.islice(driver.stdout, 10))
        driver.send_signal(signal.SIGINT)
        rest, _ = driver.communicate(timeout=timeout_s)
    finally:
        late.cancel()
        driver.kill()
    errors = (folder / "errors").read_text()
    whole = [line for line in "".join([*lines, rest]).splitlines() if line.endswith(")")]
    assert whole, errors
    pids = {int(line.split("(")[1].split(",")[0]) for line in whole}
    return Ended(driver.returncode, errors, pids, out)


def alive(pid: int) -> bool:
    """Tell whether a process still does something."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
