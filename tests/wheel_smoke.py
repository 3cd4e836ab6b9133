"""Build the wheel, install it apart from the checkout, and run what is in it: ``make wheel``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPECTED = {
    "raystream/__init__.py",
    "raystream/py.typed",
    "raystream/jobs/nexmark.py",
    "raystream/runtime/ray/__init__.py",
    "raystream/ops/http/static/index.html",
    "raystream/ops/http/static/app.js",
    "raystream/ops/http/static/style.css",
}
WHERE_FROM = "import raystream; print(raystream.__file__)"


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    with tempfile.TemporaryDirectory(prefix="raystream-wheel-") as folder:
        wheels, installed, elsewhere = (Path(folder) / name for name in ("w", "i", "e"))
        elsewhere.mkdir()
        run(*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT), cwd=elsewhere)
        (wheel,) = wheels.glob("raystream-*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        assert names >= EXPECTED, f"the wheel lacks {sorted(EXPECTED - names)}"
        strange = [n for n in names if not n.startswith("raystream") or "__pycache__" in n]
        assert not strange, f"the wheel holds {strange}"
        # What it depends on comes from this environment; the package itself must not.
        run(*pip, "install", "--no-deps", "--target", str(installed), str(wheel), cwd=elsewhere)
        origin = run(sys.executable, "-c", WHERE_FROM, cwd=elsewhere, path=installed).strip()
        assert Path(origin).is_relative_to(installed), f"imported {origin}"
        command = (sys.executable, str(installed / "bin" / "raystream"))
        run(*command, "--version", cwd=elsewhere, path=installed)
        flags = ("--events", "10000", "--runtime", "local", "--json")
        out = run(*command, "nexmark", "q1", *flags, cwd=elsewhere, path=installed)
        assert out.strip(), "raystream nexmark printed nothing"
    print(f"{wheel.name}: {len(names)} files, installs, imports and runs")


if __name__ == "__main__":
    main()
