"""Grafana's dashboards: the files match their tables and Grafana's schema, and every panel has an explanation."""

import json
import re
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
from deploy.grafana.boards import TAG
from deploy.grafana.dashboards import BOARDS, FOLDER, texts
from deploy.grafana.panels import PROMETHEUS
from tests.tidy.test_documented import measured

HOME = Path(core.__file__).parent.parent
PROVISIONING = HOME / "deploy" / "grafana" / "provisioning"
FILES = sorted(FOLDER.glob("*.json"))
COLUMNS = 24


def written(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def panels_of(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in written(path)["panels"] if panel["type"] != "row"]


def named(panel: dict[str, Any], path: Path) -> str:
    return f"{path.stem}: {panel['title']}"


ELSEWHERE = {"giro_disk_size_bytes"}
"""Metrics that only alerts use."""

PANELS = {named(panel, path): panel for path in FILES for panel in panels_of(path)}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
every_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_committed_files_match_the_tables(path: Path) -> None:
    assert path.read_text() == texts()[path], "run `make dashboards`"


def test_every_dashboard_file_has_a_table() -> None:
    assert {path.stem for path in FILES} == {board.name for board in BOARDS}


@every_file
def test_dashboard_fits_grafanas_schema(path: Path) -> None:
    register_default_plugins()
    typed = Dashboard.from_json(written(path))
    assert json.loads(json.dumps(typed, cls=JSONEncoder)) == written(path)


@every_file
def test_dashboard_has_a_stable_address_the_last_hour_and_links(path: Path) -> None:
    dashboard = written(path)
    assert dashboard["uid"] == f"giro-{path.stem}"
    assert (dashboard["time"], dashboard["refresh"]) == ({"from": "now-1h", "to": "now"}, "10s")
    assert dashboard["editable"] is False
    assert TAG in dashboard["tags"]
    assert [(link["type"], link["tags"], link["keepTime"]) for link in dashboard["links"]] == [
        ("dashboards", [TAG], True)
    ]


@every_file
def test_panels_have_unique_ids_and_do_not_overlap(path: Path) -> None:
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
def test_panel_has_a_description_a_unit_and_advice(panel: dict[str, Any]) -> None:
    shows, _, bad = panel["description"].partition("\n\n**When it is bad:** ")
    assert len(shows) > 20
    assert len(bad) > 40
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit") or panel["options"]["yAxis"]["unit"]
    assert unit in {value for name, value in vars(units).items() if name[0].isupper()}


@every_panel
def test_panel_uses_the_provisioned_prometheus(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for source in (panel, *panel["targets"]):
        assert source["datasource"] == {"type": "prometheus", "uid": PROMETHEUS.uid}


@every_panel
def test_stat_has_colours_and_the_current_value_and_graph_has_an_axis_minimum(
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
def test_panels_named_in_descriptions_exist(path: Path) -> None:
    """`*Title* on *Board*` and `*Title*` in a description name existing panels."""
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


def test_data_source_is_the_one_in_the_dashboards() -> None:
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert (source["uid"], source["type"], source["isDefault"]) == (PROMETHEUS.uid, PROMETHEUS.type_val, True)


def test_grafana_knows_how_often_prometheus_scrapes() -> None:
    scraped = yaml.safe_load((HOME / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_dashboards_are_provisioned_from_their_mount_and_read_only() -> None:
    (provider,) = provisioned("dashboards/giro.yml")["providers"]
    assert (provider["folder"], provider["options"]["path"]) == ("Giro", "/etc/grafana/dashboards")
    assert (provider["editable"], provider["disableDeletion"], provider["allowUiUpdates"]) == (False, True, False)
