"""docker-compose.yml and Dockerfile agree with the code: names, times and ports."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.processes.data_owner import QUEUE_FOLDERS
from core.processes.parts import PROCESSES, service_children
from core.settings import OF_COMPOSE, Settings, load_settings, variable
from workers.main import STOP_MS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DIGESTS = ROOT / "deploy/compose.digests.yml"
PARTS = ("api", "worker", "jobs", "scheduler")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_variables_of_compose_that_look_like_settings_are_known() -> None:
    asked = set(re.findall(r"\$\{(GIRO_[A-Z_]+)", COMPOSE.read_text()))
    settings = {variable(name) for name in Settings.model_fields}
    assert asked - settings == OF_COMPOSE.keys()


def test_every_variable_that_compose_sets_is_a_setting(services: dict[str, Any]) -> None:
    settings = {variable(name) for name in Settings.model_fields}
    for part in (*PARTS, "migrate"):
        assert services[part]["environment"].keys() <= settings | OF_COMPOSE.keys()


def test_prometheus_scrapes_the_metrics_ports(services: dict[str, Any]) -> None:
    defaults, scraped = load_settings(_env_file=None), (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    for name in PROCESSES:
        port = services["api"]["environment"][variable(f"metrics_port_{name}")]
        assert int(port) == getattr(defaults, f"metrics_port_{name}")
        assert f"port: {port}," in scraped


def test_docker_waits_longer_than_supervisor_and_worker_need_to_stop(services: dict[str, Any], tmp_path: Path) -> None:
    graces = sum(child.grace_seconds for child in service_children(load_settings(data_dir=tmp_path, redis_url=None)))
    for part in PARTS:
        assert float(services[part]["stop_grace_period"].removesuffix("s")) > max(graces, STOP_MS / 1000)


def test_every_service_is_sandboxed_limited_checked_and_restarted(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        once = name == "migrate"
        assert service["restart"] == ("no" if once else "unless-stopped"), name
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile, "Giro's services use the image's health check"
    assert {name for name, service in services.items() if "healthcheck" not in service} == set(PARTS)


def test_only_the_migration_container_starts_as_root_with_minimal_rights(
    services: dict[str, Any],
) -> None:
    owner = "${GIRO_UID:-1000}:${GIRO_GID:-1000}"
    for part in (*PARTS, "redis"):
        assert services[part]["user"] == owner
    migrate = services["migrate"]
    assert migrate["user"] == "0:0"
    assert migrate["entrypoint"] == ["python", "-m", "core.processes.data_owner", owner, "giro"]
    assert set(migrate["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"}
    assert [name for name, service in services.items() if "cap_add" in service] == ["migrate"]
    assert [name for name, service in services.items() if "privileged" in service] == []


def test_networks_keep_the_queue_the_metrics_and_the_public_apart(services: dict[str, Any]) -> None:
    on = {name: set(service.get("networks", ())) for name, service in services.items()}
    members = {network: {name for name in on if network in on[name]} for network in set().union(*on.values())}
    assert members == {
        "public": {"api"},
        "queue": {*PARTS, "redis"},
        "metrics": {*PARTS, "prometheus"},
        "monitoring": {"prometheus", "alertmanager", "grafana"},
    }
    assert services["migrate"]["network_mode"] == "none"
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert networks.keys() == members.keys()
    assert [name for name, network in networks.items() if network] == ["queue"]
    assert networks["queue"] == {"internal": True}


def test_every_port_is_published_on_the_machine_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 4
    for port in published:
        assert re.match(r"127\.0\.0\.1:\$|\$\{GIRO_PUBLISH:-127\.0\.0\.1:\d+\}:", port), port


def test_digests_pin_the_tags_of_every_image_of_others(services: dict[str, Any]) -> None:
    pinned = dict(re.findall(r"image: ([\w/]+):(\S+)@sha256:[0-9a-f]{64}\n", DIGESTS.read_text()))
    tags = dict(service["image"].split(":") for name, service in services.items() if "build" not in service)
    assert pinned == tags
    assert yaml.safe_load(DIGESTS.read_text())["services"].keys() == services.keys() - {*PARTS, "migrate"}


def test_folders_of_the_queue_exist_before_docker_creates_them_as_root(services: dict[str, Any]) -> None:
    mounted = {volume.split(":")[0] for volume in services["redis"]["volumes"]}
    assert mounted == {f"./data/{name}" for name in QUEUE_FOLDERS}


def test_giros_services_wait_for_the_migration_and_not_for_a_working_queue(services: dict[str, Any]) -> None:
    for part in PARTS:
        assert services[part]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_started"},
        }


def test_queue_keeps_nothing_on_disk(services: dict[str, Any]) -> None:
    """Nothing in it is needed, and a torn append-only file keeps the server from starting."""
    assert '--appendonly no --save ""' in services["redis"]["command"][-1]
    assert services["redis"]["read_only"] is True


def test_file_contains_no_secret() -> None:
    for line in COMPOSE.read_text().splitlines():
        if re.match(r"\s*(JWT_SECRET|REDIS_PASSWORD|GIRO_CARD\w+):", line):
            assert re.search(r":\s*\$\{\w+:-\}$", line), line


def test_queue_password_gives_access_only_to_giros_keys(services: dict[str, Any]) -> None:
    script = services["redis"]["command"][-1]
    assert "requirepass" not in script, "it would permit every command and every key"
    may = r'user default reset on ">.*" ~dramatiq\* ~giro:\* \+@all -@admin -@dangerous \+keys'
    assert any(re.fullmatch(may, line.strip()) for line in script.splitlines()), script
