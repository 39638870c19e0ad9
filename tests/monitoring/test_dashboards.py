"""Grafana's dashboards: written from their tables, known to Grafana's schema, and with an answer to every question."""

import json
import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

import core
from core.processes.run import PROCESSES
from deploy.grafana.boards import TAG
from deploy.grafana.dashboards import BOARDS, FOLDER, texts
from deploy.grafana.panels import PROMETHEUS
from tests.flows.stack import Stack
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.traffic import Traffic
from tests.tidy.test_documented import measured
from tests.waiting import eventually

HOME = Path(core.__file__).parent.parent
PROVISIONING = HOME / "deploy" / "grafana" / "provisioning"
FILES = sorted(FOLDER.glob("*.json"))
COLUMNS = 24
PATIENCE_SECONDS = 60
"""For an expression to have a value: jobs that the settings below make frequent have run within seconds."""

FAILED = 'giro_transfers_settled_total{status="failed"}'
VARIABLES = {"$__rate_interval": "10s", "$__interval": "1s", "$process": ".+"}
FADING_SECONDS = 90
"""A rate is shown for as long as its window reaches back to when something was counted."""

FREQUENT = {"verify_hours": 0.002, "checkpoint_minutes": 0.05, "sweep_age_seconds": 0.5, "silent_seconds": 600}


def written(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def panels_of(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in written(path)["panels"] if panel["type"] != "row"]


def named(panel: dict[str, Any], path: Path) -> str:
    return f"{path.stem}: {panel['title']}"


ELSEWHERE = {"giro_disk_size_bytes"}
"""What is of use to alerts alone."""

PANELS = {named(panel, path): panel for path in FILES for panel in panels_of(path)}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)


# --- as written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_what_is_committed_is_what_the_tables_say(path: Path) -> None:
    assert path.read_text() == texts()[path], "run `make dashboards`"


def test_there_are_no_dashboards_but_those_of_the_tables() -> None:
    assert {path.stem for path in FILES} == {board.name for board in BOARDS}


@every_file
def test_grafanas_schema_knows_everything_that_a_dashboard_says(path: Path) -> None:
    register_default_plugins()
    typed = Dashboard.from_json(written(path))
    assert json.loads(json.dumps(typed, cls=JSONEncoder)) == written(path)


@every_file
def test_a_dashboard_has_a_stable_address_shows_the_last_hour_and_leads_to_the_others(path: Path) -> None:
    dashboard = written(path)
    assert dashboard["uid"] == f"giro-{path.stem}"
    assert (dashboard["time"], dashboard["refresh"]) == ({"from": "now-1h", "to": "now"}, "10s")
    assert dashboard["editable"] is False
    assert TAG in dashboard["tags"]
    assert [(link["type"], link["tags"], link["keepTime"]) for link in dashboard["links"]] == [
        ("dashboards", [TAG], True)
    ]


@every_file
def test_panels_have_numbers_of_their_own_and_do_not_lie_on_each_other(path: Path) -> None:
    panels = written(path)["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(set(numbers)) == len(numbers)
    places = [panel["gridPos"] for panel in panels]
    assert all(0 <= place["x"] < place["x"] + place["w"] <= COLUMNS for place in places)
    assert [(one, other) for one, other in combinations(places, 2) if _overlap(one, other)] == []


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@every_panel
def test_a_panel_says_what_it_shows_in_which_unit_and_what_to_do_when_it_is_bad(panel: dict[str, Any]) -> None:
    shows, _, bad = panel["description"].partition("\n\n**When it is bad:** ")
    assert len(shows) > 20
    assert len(bad) > 40
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit") or panel["options"]["yAxis"]["unit"]
    assert unit in {value for name, value in vars(units).items() if name[0].isupper()}


@every_panel
def test_a_panel_asks_the_provisioned_prometheus(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for source in (panel, *panel["targets"]):
        assert source["datasource"] == {"type": "prometheus", "uid": PROMETHEUS.uid}


@every_panel
def test_a_stat_has_colours_and_the_value_of_now_and_a_graph_an_axis_that_begins_somewhere(
    panel: dict[str, Any],
) -> None:
    if panel["type"] == "stat":
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [(target["instant"], target["range"]) for target in panel["targets"]] == [(True, False)] * len(
            panel["targets"]
        )
    elif panel["type"] == "timeseries":
        assert panel["fieldConfig"]["defaults"].get("min") == 0 or panel["title"] == "Clocks"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_panel_that_is_referred_to_exists(path: Path) -> None:
    """`*Title* on *Board*` and `*Title*` in a description name panels that somebody can find."""
    titles = {panel["title"] for panel in PANELS.values()} | {board.title.removeprefix("Giro: ") for board in BOARDS}
    for panel in panels_of(path):
        legends = {target["legendFormat"] for target in panel["targets"]} | OUTCOMES
        named_there = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", panel["description"]))
        assert named_there <= titles | legends, panel["title"]


OUTCOMES = {"sent", "coalesced", "failed"}


@pytest.mark.parametrize("metric", sorted(measured().keys() - ELSEWHERE))
def test_every_metric_of_giro_is_on_a_dashboard(metric: str) -> None:
    asked = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
    assert any(re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", expression) for expression in asked)


# --- as provisioned ----------------------------------------------------------------------------------------------


def provisioned(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROVISIONING / name).read_text())
    return content


def test_the_data_source_is_the_one_that_the_dashboards_name() -> None:
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert (source["uid"], source["type"], source["isDefault"]) == (PROMETHEUS.uid, PROMETHEUS.type_val, True)


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    scraped = yaml.safe_load((HOME / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_the_dashboards_are_read_from_where_they_are_mounted_and_cannot_be_changed_there() -> None:
    (provider,) = provisioned("dashboards/giro.yml")["providers"]
    assert (provider["folder"], provider["options"]["path"]) == ("Giro", "/etc/grafana/dashboards")
    assert (provider["editable"], provider["disableDeletion"], provider["allowUiUpdates"]) == (False, True, False)


# --- in use ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def idle_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Prometheus]]:
    """A service that nobody has used yet, and a Prometheus that watches it."""
    assert shutil.which("prometheus"), "this needs Prometheus on the PATH"
    stack = Stack(tmp_path_factory.mktemp("stack"), measured=False, scraped=True, **FREQUENT)
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
    """The Prometheus, once everything has happened that the panels show, and while transfers go on."""
    stack, prometheus = idle_bank
    traffic = Traffic(stack)
    traffic.refused_in_several_ways()
    traffic.logged_in_with_a_wrong_password()
    traffic.looked_at_by_an_operator()
    traffic.months_pass()
    traffic.failed_at_settlement()
    eventually(lambda: prometheus.query(FAILED))  # a rate begins with the second event: the first makes the series
    traffic.failed_at_settlement()
    with traffic:
        yield prometheus


def as_sent(expression: str) -> str:
    """An expression as Grafana sends it, its variables filled in."""
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
def test_a_bank_that_nobody_has_used_shows_no_panel_without_data(
    panel: dict[str, Any], target: dict[str, Any], idle_bank: tuple[Stack, Prometheus]
) -> None:
    """Where nothing has happened a panel shows 0, or a gap where there is nothing to be measured."""
    _, prometheus = idle_bank
    assert eventually(lambda: prometheus.query(as_sent(target["expr"])), PATIENCE_SECONDS), panel["title"]


@pytest.mark.timeout(300)
@every_query
def test_every_expression_has_a_value(panel: dict[str, Any], target: dict[str, Any], prometheus: Prometheus) -> None:
    """At least one number. What is none (NaN) is drawn as a gap, and the panel's description says when."""
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
def test_a_panel_shows_what_has_happened(
    name: str, is_right: Callable[[dict[str, float]], bool], prometheus: Prometheus
) -> None:
    eventually(lambda: is_right(values_of(name, prometheus)), PATIENCE_SECONDS)


def values_of(name: str, prometheus: Prometheus) -> dict[str, float]:
    """What a panel shows, by what its lines are called."""
    return {
        _legend(target, sample["metric"]): sample["value"]
        for target in PANELS[name]["targets"]
        for sample in prometheus.query(as_sent(target["expr"]))
    }


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels[name[1]], target["legendFormat"])


def test_the_variable_lists_the_processes(prometheus: Prometheus) -> None:
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
def test_a_lost_process_is_down_and_leaves_no_figure_behind_that_looks_well(
    idle_bank: tuple[Stack, Prometheus], prometheus: Prometheus
) -> None:
    """The last one, as the stack does not get over it."""
    stack, _ = idle_bank
    for lost in ("scheduler", "settlement"):
        stack.kill(lost, signal.SIGSTOP)
    eventually(lambda: values_of("service: Processes", prometheus)["scheduler"] == 0)
    eventually(lambda: values_of("service: Settlement workers", prometheus) == {"": 0})

    def still_shown() -> list[str]:
        return [name for name in READ_BY_A_LOST_PROCESS if values_of(name, prometheus)]

    eventually(lambda: not still_shown(), FADING_SECONDS)
