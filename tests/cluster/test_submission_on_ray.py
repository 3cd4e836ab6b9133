"""Job scripts that Ray's own job submission runs, as ``ray job submit`` and a RayJob do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clusters import run_script

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SUBMITTED = """
import json, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from clusters import WithJobs, until
from ray.job_submission import JobStatus, JobSubmissionClient
folder, counting = Path({folder!r}), Path({here!r}).parents[1] / "jobs" / "word_count.py"

def client(url):
    try:
        found = JobSubmissionClient(url)
        found.list_jobs()  # its first answer says that it takes jobs
    except (ConnectionError, RuntimeError):
        return None
    return found

with (cluster := WithJobs()) as address:
    until(lambda: client(cluster.url))
    jobs, told = client(cluster.url), dict()

    def submit(script, *arguments):
        return jobs.submit_job(entrypoint=" ".join(map(str, [sys.executable, script, *arguments])))

    def ended(name, job):
        until(lambda: jobs.get_job_status(job).is_terminal(), 200)
        told[name] = [jobs.get_job_status(job).value, jobs.get_job_logs(job)]

    ended("good", submit(counting, folder / "words.txt"))
    ended("bad", submit(counting, folder / "missing.txt"))
    endless = submit(folder / "endless.py", folder / "began")
    until((folder / "began").exists)
    jobs.stop_job(endless)
    ended("stopped", endless)
    import ray
    import raystream as rs
    ray.init(address=address, namespace="raystream", log_to_driver=False)
    until(lambda: not rs.list_jobs())
    until(lambda: not ray.util.list_named_actors(all_namespaces=True))
    ray.shutdown()
    print(json.dumps(told))
"""

ENDLESS = """
import sys, pathlib
import raystream as rs
job = rs.Job("endless")
rows = job.source(rs.DataGenSource(lambda i: {"n": i}, rows_per_second=100))
rows.sink(rs.CallbackSink(lambda row: pathlib.Path(sys.argv[1]).touch()))
job.run()
"""


@pytest.mark.timeout(400)
def test_scripts_that_are_submitted_succeed_fail_and_stop_as_their_jobs_do(tmp_path: Path):
    (tmp_path / "words.txt").write_text("tea and cake\nTea and more tea\n" * 100)
    (tmp_path / "endless.py").write_text(ENDLESS)
    told = json.loads(run_script(SUBMITTED, tmp_path).splitlines()[-1])
    assert {name: status for name, (status, _) in told.items()} == {
        "good": "SUCCEEDED",
        "bad": "FAILED",
        "stopped": "STOPPED",
    }
    printed = told["good"][1]
    for word, count in {"tea": 300, "and": 200, "cake": 100, "more": 100}.items():
        assert f"'word': '{word}', 'n': {count}" in printed
    assert "missing.txt" in told["bad"][1]
