"""docker-compose.yml and Dockerfile against the code: names, times and ports that have to agree."""

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
PARTS = ("api", "worker", "jobs", "scheduler")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_every_variable_of_compose_that_looks_like_a_setting_is_one_or_is_known_to_the_settings() -> None:
    asked = set(re.findall(r"\$\{(GIRO_[A-Z_]+)", COMPOSE.read_text()))
    settings = {variable(name) for name in Settings.model_fields}
    assert asked - settings == OF_COMPOSE.keys()


def test_every_variable_that_compose_sets_is_a_setting(services: dict[str, Any]) -> None:
    settings = {variable(name) for name in Settings.model_fields}
    for part in (*PARTS, "migrate"):
        assert services[part]["environment"].keys() <= settings


def test_the_metrics_ports_are_those_that_prometheus_scrapes(services: dict[str, Any]) -> None:
    defaults, scraped = load_settings(_env_file=None), (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    for name in PROCESSES:
        port = services["api"]["environment"][variable(f"metrics_port_{name}")]
        assert int(port) == getattr(defaults, f"metrics_port_{name}")
        assert f"port: {port}," in scraped


def test_docker_waits_longer_than_the_supervisor_and_than_a_worker_drains(
    services: dict[str, Any], tmp_path: Path
) -> None:
    graces = sum(child.grace_seconds for child in service_children(load_settings(data_dir=tmp_path, redis_url=None)))
    for part in PARTS:
        assert float(services[part]["stop_grace_period"].removesuffix("s")) > max(graces, STOP_MS / 1000)


def test_every_service_is_contained_limited_watched_and_started_again(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        once = name == "migrate"
        assert service["restart"] == ("no" if once else "unless-stopped"), name
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile, "the parts of Giro have the image's"
    assert {name for name, service in services.items() if "healthcheck" not in service} == set(PARTS)


def test_only_the_container_that_migrates_starts_as_root_and_with_as_few_rights_as_it_needs(
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


def test_the_folders_that_the_queue_mounts_are_made_before_docker_makes_them_roots(services: dict[str, Any]) -> None:
    mounted = {volume.split(":")[0] for volume in services["redis"]["volumes"]}
    assert mounted == {f"./data/{name}" for name in QUEUE_FOLDERS}


def test_everything_of_giro_waits_for_the_migration_and_the_queue(services: dict[str, Any]) -> None:
    for part in PARTS:
        assert services[part]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }


def test_no_secret_stands_in_the_file() -> None:
    for line in COMPOSE.read_text().splitlines():
        if re.match(r"\s*(JWT_SECRET|REDIS_PASSWORD|GIRO_CARD\w+):", line):
            assert re.search(r":\s*\$\{\w+:-\}$", line), line


def test_who_has_the_password_of_the_queue_can_use_its_keys_and_no_more(services: dict[str, Any]) -> None:
    script = services["redis"]["command"][-1]
    assert "requirepass" not in script, "it would leave every command and every key open"
    may = r'user default reset on ">.*" ~dramatiq\* ~giro:\* \+@all -@admin -@dangerous \+keys'
    assert any(re.fullmatch(may, line.strip()) for line in script.splitlines()), script
