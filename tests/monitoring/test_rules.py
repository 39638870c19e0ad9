"""Rules, alerts, routes and runbooks: they pass the checks of their tools, and they are complete."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.utils import floatToGoString

from core.processes.parts import PROCESSES
from core.settings import Settings
from core.telemetry import metrics

HOME = Path(__file__).parents[2]
PROMETHEUS = HOME / "deploy" / "prometheus"
ALERTMANAGER = HOME / "deploy" / "alertmanager" / "alertmanager.yml"
RUNBOOKS = HOME / "docs" / "how-to" / "runbooks"
OBJECTIVES = HOME / "docs" / "reference" / "objectives.md"
CASES = Path(__file__).parent / "rules"

SEVERITIES = {"page", "ticket"}
SECTIONS = ["Check", "Fix", "Resolved when"]

TOOLS = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}
"""Each tool with its package in Debian and Ubuntu."""

OF_THE_CLIENT_LIBRARY = {"process_start_time_seconds"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> list[dict[str, Any]]:
    """Return every alerting (`alert`) or recording (`record`) rule."""
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    return [rule for file in files for group in load(file)["groups"] for rule in group["rules"] if kind in rule]


ALERTS = rules("alert")
NAMES = sorted({rule["alert"] for rule in ALERTS})
PAIRS = sorted({(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS})


def page_of(alert: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower() + ".md"


def run(*command: str) -> str:
    """Run a tool of Prometheus or Alertmanager; the test fails with the tool's output."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed; another test reports that")
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout.strip()


def words(expression: str) -> set[str]:
    """Return every name in an expression, except in quoted text."""
    return set(re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r'"[^"]*"', "", expression)))


# --- checks of the tools ---


@pytest.mark.prometheus
@pytest.mark.parametrize(("tool", "package"), TOOLS.items())
def test_tools_are_installed(tool: str, package: str) -> None:
    if shutil.which(tool) is None:
        pytest.fail(f"{tool} is not on the PATH; on Debian and Ubuntu: apt install {package}", pytrace=False)


@pytest.mark.prometheus
@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_prometheus_accepts_the_configuration(name: str) -> None:
    run("promtool", "check", "config", "--lint=all", "--lint-fatal", str(PROMETHEUS / name))


@pytest.mark.prometheus
@pytest.mark.parametrize("name", ["objectives.yml", "alerts.yml"])
def test_prometheus_accepts_the_rules(name: str) -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(PROMETHEUS / "rules" / name))


@pytest.mark.prometheus
@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("*.yml")))
@pytest.mark.timeout(300)  # hours of cases, on a busy machine
def test_rules_pass_their_cases(name: str) -> None:
    run("promtool", "test", "rules", str(CASES / name))


@pytest.mark.prometheus
def test_alertmanager_accepts_the_configuration() -> None:
    run("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.prometheus
@pytest.mark.parametrize("severity", sorted(SEVERITIES))
def test_each_severity_has_its_own_receiver(severity: str) -> None:
    command = ["amtool", "config", "routes", "test", "--config.file", str(ALERTMANAGER), f"severity={severity}"]
    assert run(*command) == severity


# --- alerts ---


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_has_severity_summary_description_and_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(text.strip() for text in rule["annotations"].values())
    assert rule["annotations"]["runbook_url"] == f"docs/how-to/runbooks/{page_of(rule['alert'])}"


def cases() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the alerts that fire in the cases, and those that stay silent, each as (name, severity)."""
    firing, silent = set(), set()
    for file in CASES.glob("*.yml"):
        for look in (look for case in load(file)["tests"] for look in case["promql_expr_test"]):
            named = re.search(r'ALERTS\{alertname="(\w+)"', look["expr"])
            severity = re.search(r'severity="(\w+)"', look["expr"])
            if not look["exp_samples"] and named:
                silent |= {(named[1], word) for word in ([severity[1]] if severity else SEVERITIES)}
            for sample in look["exp_samples"]:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
                if labels.get("alertstate") == "firing":
                    firing.add((labels["alertname"], labels["severity"]))
    return firing, silent


@pytest.mark.parametrize(("alert", "severity"), PAIRS)
def test_cases_cover_every_alert_firing_and_silent(alert: str, severity: str) -> None:
    firing, silent = cases()
    assert (alert, severity) in firing
    assert (alert, severity) in silent


def test_alertmanager_inhibits_alerts_that_exist() -> None:
    inhibited = load(ALERTMANAGER)["inhibit_rules"]
    matchers = [text for rule in inhibited for text in rule["source_matchers"] + rule["target_matchers"]]
    named = {name for text in matchers if "alertname" in text for name in re.findall(r"[A-Z]\w+", text)}
    assert len(named) > 10
    assert named <= set(NAMES)


# --- runbooks ---


@pytest.mark.parametrize("alert", NAMES)
def test_every_alert_has_a_runbook(alert: str) -> None:
    text = (RUNBOOKS / page_of(alert)).read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {path.name for path in RUNBOOKS.glob("*.md")} == {page_of(name) for name in NAMES} | {"README.md"}


def test_the_index_lists_every_alert_with_its_severities() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(([\w-]+\.md)\) \| ([a-z, ]+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(name for name, _, _ in rows) == NAMES
    for name, page, severities in rows:
        assert page == page_of(name)
        assert {(name, severity) for severity in severities.split(", ")} == {pair for pair in PAIRS if pair[0] == name}


# --- names ---


def test_rules_use_existing_metrics() -> None:
    documented = set(re.findall(r"`(giro_\w+)`", (HOME / "docs" / "reference" / "metrics.md").read_text()))
    named = {name for rule in ALERTS + rules("record") for name in words(rule["expr"]) if ":" not in name}
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named if re.match(r"(giro|process|dramatiq)_", name)}
    assert len(named) > 20
    assert named <= documented | OF_THE_CLIENT_LIBRARY


def test_rules_use_existing_histogram_buckets() -> None:
    histograms = {
        item._name: item for module in metrics.MODULES for item in vars(module).values() if isinstance(item, Histogram)
    }
    text = "".join(rule["expr"] for rule in rules("record"))
    named = [(name, bound) for name, bound in re.findall(r'(giro_\w+)_bucket\{le="([^"]+)"\}', text)]
    assert len(named) == 2
    for name, bound in named:
        assert bound in map(floatToGoString, histograms[name]._upper_bounds)


def test_recorded_series_are_used_and_used_series_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    used = {name for rule in ALERTS + rules("record") for name in words(rule["expr"]) if ":" in name}
    assert used <= recorded
    assert recorded <= used | set(re.findall(r"\w+:\w+:\w+", OBJECTIVES.read_text()))


def test_prometheus_scrapes_giros_ports() -> None:
    ports = {name: Settings.model_fields[f"metrics_port_{name}"].default for name in PROCESSES}
    (giro,) = (job for job in load(PROMETHEUS / "prometheus.yml")["scrape_configs"] if job["job_name"] == "giro")
    services = {service["names"][0]: service["port"] for service in giro["dns_sd_configs"]}
    assert {"settlement" if name == "worker" else name: port for name, port in services.items()} == ports
    (giro,) = (job for job in load(PROMETHEUS / "local.yml")["scrape_configs"] if job["job_name"] == "giro")
    assert {
        target["labels"]["process"]: int(target["targets"][0].rpartition(":")[2]) for target in giro["static_configs"]
    } == ports
