"""What is in deploy/monitoring: Prometheus takes it; each alert is raised when it should be, and else is not."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.observe import dashboard, rules
from interlock.observe.catalogue import GROUPS
from tests.interlock.observe.alert_cases import CASES, AlertCase, Series
from tests.interlock.prometheus import promtool

MONITORING = Path(__file__).parents[3] / "deploy" / "monitoring"
ALERTS = {rules.PROCESSES.name, *(metric.alert.name for group in GROUPS for metric in group.metrics if metric.alert)}
METRICS = {metric.name for group in GROUPS for metric in group.metrics}
JUDGED = "45m"  # when it is looked whether an alert is raised; no alert waits for longer than 10 minutes


def test_the_files_are_what_is_written_from_the_catalogue() -> None:
    advice = "run: python -m interlock.observe.{0} > deploy/monitoring/{1}"
    assert (MONITORING / "alerts.yaml").read_text() == rules.rules(), advice.format("rules", "alerts.yaml")
    assert (MONITORING / "dashboard.json").read_text() == dashboard.dashboard(), advice.format(
        "dashboard", "dashboard.json"
    )


def test_prometheus_takes_the_configuration_with_its_rules() -> None:
    checked = promtool("check", "config", str(MONITORING / "prometheus.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_each_alert_has_its_case() -> None:
    assert CASES.keys() == ALERTS, "each alert of the catalogue needs a case in alert_cases.py that raises it"


def test_each_alert_is_raised_and_stays_quiet(tmp_path: Path) -> None:
    judged = _judge(tmp_path, CASES)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_cases_can_fail(tmp_path: Path) -> None:
    """A case whose two halves are exchanged fails twice, so the test above shows something."""
    case = CASES["StoreAway"]
    judged = _judge(tmp_path, {"StoreAway": AlertCase(case.quiet, case.fires)})
    assert judged.returncode != 0
    assert judged.stdout.count("InterlockStoreAway") + judged.stderr.count("InterlockStoreAway") == 2


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    page = json.loads((MONITORING / "dashboard.json").read_text())
    shown = [target["expr"] for panel in page["panels"] for target in panel.get("targets", ())]
    assert shown == dashboard.queries()
    named = {name for query in shown for name in re.findall(r"\binterlock_\w+", query)}
    assert {re.sub("_bucket$", "", name) for name in named} <= METRICS
    places = [tuple(panel["gridPos"].values()) for panel in page["panels"]]
    assert len(set(places)) == len(places)


def _judge(directory: Path, cases: Mapping[str, AlertCase]) -> subprocess.CompletedProcess[str]:
    """All series that raise alerts in one world, and all that do not in another: no two cases share a series."""
    path = directory / "tests.yaml"
    raised = {name: case.fires for name, case in cases.items()}
    quiet = {name: case.quiet for name, case in cases.items()}
    worlds = [_world(raised, [{"labels": "{}", "value": 1}]), _world(quiet, [])]
    files = [str(MONITORING / "alerts.yaml")]
    # JSON is a part of YAML.
    path.write_text(json.dumps({"rule_files": files, "evaluation_interval": "1m", "tests": worlds}))
    return promtool("test", "rules", str(path))


def _world(cases: Mapping[str, Series], expected: list[dict[str, Any]]) -> dict[str, Any]:
    given = [(one, values) for series in cases.values() for one, values in series.items()]
    assert len(dict(given)) == len(given), "two cases have the same series"
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in given],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="Interlock{name}",alertstate="firing"}})',
                "eval_time": JUDGED,
                "exp_samples": expected,
            }
            for name in cases
        ],
    }
