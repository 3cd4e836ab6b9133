"""The table of metrics is one: the page shows it, the dashboard and the page name nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

from raystream.coordinator.metric_names import METRICS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
DASHBOARD = ROOT / "k8s" / "grafana-dashboard.json"

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.*?) \| (.*?) \|$", re.MULTILINE)


def exported() -> set[str]:
    names = set()
    for metric in METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.exported + end for end in ends}
    return names


def test_the_page_shows_the_table_in_its_order():
    shown = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    told = [(m.name, m.kind, m.of, m.flink, m.meaning) for m in METRICS]
    wanted = "\n".join(f"| `{n}` | {k} | {o} | {f} | {t} |" for n, k, o, f, t in told)
    assert shown == told, wanted


def test_every_metric_of_the_dashboard_is_in_the_table():
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    told = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    told += [
        one["query"]["query"] for one in dashboard["templating"]["list"] if one["name"] == "job"
    ]
    named = {name for expr in told for name in re.findall(r"raystream_\w+", expr)}
    assert len(named) >= 15
    assert named <= exported()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_names_carry_their_unit_where_they_have_one():
    for metric in METRICS:
        if "time" in metric.name or "duration" in metric.name or "lag" in metric.name:
            assert "_ms" in metric.name
        if "size" in metric.name or "bytes" in metric.meaning.split()[:1]:
            assert "bytes" in metric.name
