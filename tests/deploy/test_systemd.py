"""The systemd unit: it is valid, sandboxed, and consistent with the settings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

import core
from core.processes.parts import service_children
from core.settings import Settings, variable
from tests.deploy.programs import program

UNIT = Path(core.__file__).parent.parent / "deploy" / "systemd" / "giro.service"
EXPOSURE = 1.2
"""The exposure of the unit by `systemd-analyze security`: 0 is safest, 10 is fully exposed."""


def values(directive: str) -> list[str]:
    return re.findall(rf"^{directive}=(.*)$", UNIT.read_text(), re.MULTILINE)


def systemd_analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [program("systemd-analyze", "systemd"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with this machine's Giro in place of the one in /opt."""
    unit = tmp_path / UNIT.name
    giro = Path(sys.executable).parent / "giro"
    text, count = re.subn(r"^ExecStart=\S+", f"ExecStart={giro}", UNIT.read_text(), flags=re.MULTILINE)
    assert (count, giro.exists()) == (1, True)
    unit.write_text(text)
    return unit


@pytest.mark.systemd
def test_systemd_accepts_the_unit(installed: Path) -> None:
    found = systemd_analyze("verify", "--man=no", str(installed))
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.systemd
def test_exposure_of_the_unit_does_not_grow(installed: Path) -> None:
    found = systemd_analyze("security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(installed))
    assert found.returncode == 0, found.stdout[-300:] + found.stderr


def test_systemd_waits_longer_than_the_longest_stop() -> None:
    (seconds,) = values("TimeoutStopSec")
    settings = Settings(_env_file=None, shutdown_seconds=60)  # type: ignore[call-arg]
    assert int(seconds) > sum(child.grace_seconds for child in service_children(settings))


def test_every_secret_can_be_a_credential() -> None:
    given = {value.partition(":")[0] for value in values("LoadCredential")}
    secrets = {
        variable(name).lower() for name, field in Settings.model_fields.items() if SecretStr in annotations_of(field)
    }
    assert given == secrets
    assert len(secrets) == 8


def annotations_of(field: object) -> set[object]:
    """Return all types inside a field's annotation."""
    found, waiting = set[object](), [getattr(field, "annotation", None)]
    while waiting:
        item = waiting.pop()
        found.add(item)
        waiting.extend(getattr(item, "__args__", ()))
    return found
