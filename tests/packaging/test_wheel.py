"""A wheel of this checkout, in a new environment, away from the checkout."""

import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import core

HOME = Path(core.__file__).parent.parent
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
SECONDS = 600

pytestmark = pytest.mark.whole_service


def run(*words: str | Path, folder: Path) -> str:
    """Run a command in a folder, without this process's environment of Python and Giro, and return its output."""
    mine = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIRO_", "VIRTUAL_ENV"))
    }
    done = subprocess.run(words, cwd=folder, env=mine, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    build = (*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    run(sys.executable, *build, HOME, folder=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(folder: Path, wheel: Path) -> Path:
    """The folder of programs of a new environment with the locked libraries and the wheel."""
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    programs = folder / "venv" / "bin"
    locked = ("--require-hashes", "--no-deps", "-r", str(HOME / "requirements.lock"))
    run(programs / "python", *PIP, "install", *locked, folder=folder)
    run(programs / "python", *PIP, "install", "--no-deps", wheel, folder=folder)
    return programs


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_metadata_names_version_licence_and_python(wheel: Path) -> None:
    found = metadata(wheel)
    assert (found["Name"], found["Version"]) == (core.DISTRIBUTION, core.VERSION)
    assert (found["License-Expression"], found["License-File"]) == ("Apache-2.0", "LICENSE")
    assert found["Requires-Python"] == ">=3.12"
    assert "Typing :: Typed" in found.get_all("Classifier", [])


def test_wheel_contains_the_product_and_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"{core.DISTRIBUTION.replace('-', '_')}-{core.VERSION}.dist-info"
    assert {name.split("/")[0] for name in names} == {"api", "core", "migrations", "workers", info}
    assert {"api/py.typed", "core/py.typed", "workers/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    assert [name for name in names if "test" in name or name.endswith(".pyc")] == []


def test_libraries_of_the_wheel_are_compatible(environment: Path, folder: Path) -> None:
    assert "No broken requirements" in run(environment / "python", "-m", "pip", "check", folder=folder)


def test_version_is_printed(environment: Path, folder: Path) -> None:
    assert run(environment / "giro", "--version", folder=folder).strip() == f"giro {core.VERSION}"


def test_demo_runs_from_the_installed_wheel(environment: Path, folder: Path) -> None:
    said = run(environment / "giro", "demo", folder=folder)
    assert re.search(r"every rule holds", " ".join(said.split())), said
