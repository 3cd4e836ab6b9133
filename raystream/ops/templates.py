"""The files of a new project, by name; ``{name}`` is what it is called."""

from __future__ import annotations

JOB = '''"""How warm it is: each sensor's mean over each minute, of readings made up on the spot."""

import raystream as rs

READINGS = 20_000


def reading(number: int) -> dict:
    """Make one reading; time advances by ten milliseconds."""
    return {{
        "sensor": f"sensor-{{number % 4}}",
        "at": number * 10,
        "celsius": 18.0 + number % 4 + number % 7_000 / 1_000,
    }}


def line(row: dict) -> str:
    """Say what a window has found."""
    found = f"{{row['readings']}} readings  {{row['mean']:.2f}} C"
    return f"{{row['window_end']:%H:%M}}  {{row['sensor']}}  {{found}}"


def build() -> rs.Job:
    """Write the job down; nothing runs yet."""
    job = rs.Job("{name}")
    readings = job.source(
        rs.DataGenSource(reading, rows=READINGS),
        watermark=rs.WatermarkStrategy("at", unit="ms", out_of_orderness="1s"),
        name="readings",
    )
    means = (
        readings.key_by("sensor")
        .window(rs.Tumbling("1m"))
        .aggregate(readings=rs.count(), mean=rs.mean("celsius"))
        .named("means")
    )
    means.map(line).print().named("report")
    return job


if __name__ == "__main__":
    build().run()
'''

TEST = '''"""What happens is written down, and so is what must come out."""

import raystream as rs

from job import build

T = rs.testing


def read(second: int, celsius: float) -> T.At:
    row = {{"sensor": "a", "at": second * 1_000, "celsius": celsius}}
    return T.At(rs.micros(f"{{second}}s"), row)


def test_a_minute_has_a_mean():
    readings = T.Source([read(1, 20.0), read(2, 22.0), read(61, 30.0)])
    for seed in range(5):  # each seed is another order of everything that has none
        run = T.run(build(), sources={{"readings": readings}}, seed=seed)
        assert run.sink("report") == [
            "00:01  a  2 readings  21.00 C",
            "00:02  a  1 readings  30.00 C",
        ]


def test_nothing_is_lost_or_counted_twice_by_crashes():
    readings = T.Source([read(second, 20.0) for second in range(60)])
    run = T.run(build(), sources={{"readings": readings}}, crashes=3)
    assert run.sink("report") == ["00:01  a  60 readings  20.00 C"]
'''

SETTINGS = """# What holds for the jobs of this folder, over what they say themselves.
# Flags and the environment (RAYSTREAM_RUNTIME, ...) beat it; `raystream config` shows it all.

runtime = "local"  # in one process; "ray" spreads subtasks over a cluster, or over this machine
# parallelism = 2

# [checkpoint]
# directory = "checkpoints"  # or s3://bucket/path; all nodes must reach it
# every = "10s"
"""

PYPROJECT = """[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["raystream"]

[project.optional-dependencies]
test = ["pytest>=8"]

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

README = """# {name}

A job that runs on [raystream](https://pypi.org/project/raystream/).

    raystream run job.py                      # in this process, as raystream.toml says
    raystream run job.py --runtime ray -p 2   # as actors of Ray
    raystream explain job.py                  # what would run where
    raystream config                          # each setting, and where it comes from
    python -m pytest                          # the job's tests, without Ray

To go on where it stopped, keep checkpoints: `raystream run job.py --checkpoint checkpoints`, and
the next time add `--from latest`.
"""

IGNORED = """__pycache__/
.pytest_cache/
.venv/
checkpoints/
out/
"""

FILES = {
    "job.py": JOB,
    "tests/test_job.py": TEST,
    "raystream.toml": SETTINGS,
    "pyproject.toml": PYPROJECT,
    "README.md": README,
    ".gitignore": IGNORED,
}
