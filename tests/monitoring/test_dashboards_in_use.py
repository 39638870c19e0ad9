"""Grafana's dashboards in use: a real Prometheus scrapes a service and evaluates the queries of every panel."""

import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.processes.parts import PROCESSES
from deploy.grafana.dashboards import FOLDER
from tests.flows.stack import Stack
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.test_dashboards import PANELS, written
from tests.monitoring.traffic import SMALL_DOCUMENTS, Traffic
from tests.waiting import eventually

pytestmark = [pytest.mark.whole_service, pytest.mark.prometheus]

PATIENCE_SECONDS = 60
"""Time limit for an expression to get a value: with the settings below, all jobs run within seconds."""

FAILED = 'giro_transfers_settled_total{status="failed"}'
VARIABLES = {"$__rate_interval": "10s", "$__interval": "1s", "$process": ".+"}
FADING_SECONDS = 90
"""A rate is shown as long as its window contains an event."""

FREQUENT = {"verify_hours": 0.002, "checkpoint_minutes": 0.05, "sweep_age_seconds": 0.5, "silent_seconds": 600}


@pytest.fixture(scope="module")
def idle_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Prometheus]]:
    """An unused service, and a Prometheus that scrapes it."""
    assert shutil.which("prometheus"), "this needs Prometheus on the PATH"
    stack = Stack(tmp_path_factory.mktemp("stack"), measured=False, scraped=True, **FREQUENT, **SMALL_DOCUMENTS)
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), stack.metrics_ports).start()
    try:
        stack.start()
        eventually(lambda: len(prometheus.query('up{job="giro"} == 1')) == len(PROCESSES))
        yield stack, prometheus
    finally:
        prometheus.close()
        stack.close()


@pytest.fixture(scope="module")
def prometheus(idle_bank: tuple[Stack, Prometheus]) -> Iterator[Prometheus]:
    """The Prometheus, after every event that the panels show has happened, and while transfers continue."""
    stack, prometheus = idle_bank
    traffic = Traffic(stack)
    traffic.make_refused_requests()
    traffic.fail_a_log_in()
    traffic.read_as_an_operator()
    traffic.months_pass()
    traffic.ask_for_documents()
    traffic.failed_at_settlement()
    eventually(
        lambda: prometheus.query(FAILED)
    )  # a rate starts with the second event; the first one creates the series
    traffic.failed_at_settlement()
    with traffic:
        yield prometheus


def as_sent(expression: str) -> str:
    """Return an expression as Grafana sends it, with its variables replaced."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


QUERIES = {
    f"{name}, {target['refId']}": (panel, target) for name, panel in PANELS.items() for target in panel["targets"]
}


every_query = pytest.mark.parametrize(("panel", "target"), QUERIES.values(), ids=QUERIES)


@pytest.mark.timeout(300)
@every_query
def test_unused_bank_has_data_in_every_panel(
    panel: dict[str, Any], target: dict[str, Any], idle_bank: tuple[Stack, Prometheus]
) -> None:
    """Without events a panel shows 0, or a gap if there is nothing to measure."""
    _, prometheus = idle_bank
    assert eventually(lambda: prometheus.query(as_sent(target["expr"])), PATIENCE_SECONDS), panel["title"]


@pytest.mark.timeout(300)
@every_query
def test_every_expression_has_a_value(panel: dict[str, Any], target: dict[str, Any], prometheus: Prometheus) -> None:
    """The result has at least one number. NaN appears as a gap, and the panel's description explains the gap."""
    expression = as_sent(target["expr"])

    def numbers() -> list[dict[str, Any]]:
        return [sample for sample in prometheus.query(expression) if not math.isnan(sample["value"])]

    for sample in eventually(numbers, PATIENCE_SECONDS):
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= sample["metric"].keys()
    if any(math.isnan(sample["value"]) for sample in prometheus.query(expression)):
        assert "A gap means" in panel["description"]


def within(least: float, most: float) -> Callable[[dict[str, float]], bool]:
    return lambda values: bool(values) and all(least <= value <= most for value in values.values())


def lines(*names: str) -> Callable[[dict[str, float]], bool]:
    return lambda values: values.keys() >= set(names)


SEEN = {
    "transfers: Accepted": within(0.1, 100),
    "transfers: Settled": within(0.1, 100),
    "transfers: Failed share": within(0.001, 0.5),
    "transfers: Imbalance": within(0, 0),
    "transfers: Failures by reason": lines("account_frozen"),
    "transfers: Refusals by code": lines(
        "same_account", "account_not_found", "currency_mismatch", "insufficient_funds"
    ),
    "transfers: Swept up": within(0.5, 100),
    "service: Processes": lines(*PROCESSES),
    "service: Heartbeats": within(-1, 20),
    "service: Settlement workers": within(1, 1),
    "service: Queue server": within(1, 1),
    "service: Restarts": within(0, 0),
    "service: Database errors": within(0, 0),
    "service: Errors by status": lines("400", "401", "404"),
    "service: Requests in line": lines("admission", "documents", "log-ins", "passwords", "passwords-of-users", "reads"),
    "service: Refused in line": lines("admission", "documents", "log-ins", "passwords", "passwords-of-users", "reads"),
    "service: Refusals held": within(0, 100),
    "service: Failed log-ins": within(0.5, 100),
    "service: Clocks": within(-1, 1),
    "jobs: Statements overdue": within(0, 0),
    "jobs: Breaches": within(0, 0),
    "jobs: Dead letters": within(0, 0),
    "jobs: Scheduled jobs": lines("checkpoint", "forget_expired_tokens", "verify"),
    "jobs: Time by actor": lines("make_statement_group"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "is_right"), SEEN.items(), ids=SEEN)
def test_panel_shows_the_events(
    name: str, is_right: Callable[[dict[str, float]], bool], prometheus: Prometheus
) -> None:
    eventually(lambda: is_right(values_of(name, prometheus)), PATIENCE_SECONDS)


def values_of(name: str, prometheus: Prometheus) -> dict[str, float]:
    """Return the values of a panel by the names of its lines."""
    return {
        _legend(target, sample["metric"]): sample["value"]
        for target in PANELS[name]["targets"]
        for sample in prometheus.query(as_sent(target["expr"]))
    }


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels[name[1]], target["legendFormat"])


def test_variable_lists_the_processes(prometheus: Prometheus) -> None:
    (variable,) = written(FOLDER / "service.json")["templating"]["list"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    assert {sample["metric"][label] for sample in prometheus.query(metric)} == set(PROCESSES)


READ_BY_A_LOST_PROCESS = (
    "transfers: Oldest pending",
    "transfers: Pending",
    "transfers: Settled",
    "transfers: Imbalance",
    "transfers: Failures by reason",
    "service: Queue server",
    "service: Free disk",
    "jobs: Statements overdue",
    "jobs: Breaches",
    "jobs: Dead letters",
)


@pytest.mark.timeout(300)
def test_lost_process_is_down_and_leaves_no_healthy_figures(
    idle_bank: tuple[Stack, Prometheus], prometheus: Prometheus
) -> None:
    """This test is the last one, because the stack does not recover from it."""
    stack, _ = idle_bank
    for lost in ("scheduler", "settlement"):
        stack.kill(lost, signal.SIGSTOP)
    eventually(lambda: values_of("service: Processes", prometheus)["scheduler"] == 0)
    eventually(lambda: values_of("service: Settlement workers", prometheus) == {"": 0})

    def still_shown() -> list[str]:
        return [name for name in READ_BY_A_LOST_PROCESS if values_of(name, prometheus)]

    eventually(lambda: not still_shown(), FADING_SECONDS)
