"""The times after which alerts fire, in docs/how-to/monitor.md, follow from the rules of Prometheus."""

import re
from pathlib import Path

import pytest
import yaml

DEPLOY = Path("deploy/prometheus")
PAGE = Path("docs/how-to/monitor.md")
ROW = re.compile(r"\[(\w+)\]\(runbooks/[\w-]+\.md\), (page|ticket) \| (\d+) s \|")

SHOWS_AFTER = {
    ("DatabaseErrors", "page"): 0,
    ("QueueLost", "ticket"): 0,
    ("DiskAlmostFull", "page"): 0,
    ("PendingTooOld", "ticket"): 10,
    ("PendingTooOld", "page"): 60,
    ("SettlementStalled", "page"): 60,
    ("SettlementWorkerLost", "page"): 20,
    ("SchedulerLost", "page"): 20,
    ("JobsWorkerLost", "ticket"): 20,
    ("ApiLost", "page"): 20,
}
"""Alert and severity → seconds after which a scrape shows the fault: the limit or window in its expression."""


def seconds(text: str) -> int:
    """Read a duration of Prometheus."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def rules() -> list[dict[str, object]]:
    groups = yaml.safe_load((DEPLOY / "rules/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def longest(alert: str, severity: str) -> int:
    """Seconds from a fault until its alert fires, if each interval has only just begun."""
    rule = next(rule for rule in rules() if rule["alert"] == alert and rule["labels"]["severity"] == severity)  # type: ignore[index]
    settings = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["global"]
    scrape, evaluation = seconds(settings["scrape_interval"]), seconds(settings["evaluation_interval"])
    recorded = bool(re.search(r"\bjob\w*:\w+:\w+", str(rule["expr"])))
    return (
        SHOWS_AFTER[alert, severity]
        + scrape
        + evaluation * (2 if recorded else 1)
        + seconds(str(rule.get("for", "0s")))
    )


@pytest.mark.parametrize(("alert", "severity"), SHOWS_AFTER)
def test_page_says_after_how_long_each_alert_fires(alert: str, severity: str) -> None:
    said = {int(time) for name, kind, time in ROW.findall(PAGE.read_text()) if (name, kind) == (alert, severity)}
    assert said == {longest(alert, severity)}


def test_page_has_no_other_alert() -> None:
    assert {(name, kind) for name, kind, _ in ROW.findall(PAGE.read_text())} == set(SHOWS_AFTER)
