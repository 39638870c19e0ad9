"""Lock files that are installable everywhere, and a repository without unwanted files."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

import core

HOME = Path(core.__file__).parent.parent
TOGETHER = ["requirements.lock", "tests/requirements.lock", "tests/benchmarks/requirements.lock"]
"""The lock files of one environment."""
LOCK_FILES = [
    *TOGETHER,
    "tests/security/requirements.lock",
    "tests/clients/requirements.lock",
    "deploy/docs/requirements.lock",
]
LONGEST_MODULE = 500

git = pytest.mark.skipif(not (HOME / ".git").exists(), reason="not a git checkout")


def logical_lines(path: Path) -> list[str]:
    """Return the requirements of a lock file, with continued lines joined, without comments and blank lines."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    return [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]


@pytest.mark.parametrize("name", LOCK_FILES)
def test_every_requirement_is_one_version_with_a_hash(name: str) -> None:
    requirements = logical_lines(HOME / name)
    assert len(requirements) > 10
    for requirement in requirements:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==[^ ;]+( ;|--hash| )", requirement), requirement
        hashes = re.findall(r"--hash=(\S+)", requirement)
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in hashes), requirement


@pytest.mark.parametrize("name", LOCK_FILES)
def test_no_lock_file_names_a_host_or_an_option_of_an_index(name: str) -> None:
    text = (HOME / name).read_text()
    assert "://" not in text
    options = r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b"
    assert re.search(options, text, re.MULTILINE) is None
    assert " @ " not in text


def test_every_package_of_npm_is_one_version_with_a_hash_and_without_a_host() -> None:
    packages = json.loads((HOME / "tests/clients/package-lock.json").read_text())["packages"]
    del packages[""]
    assert len(packages) > 10
    for name, package in packages.items():
        assert package["version"], name
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_direct_packages_of_npm_are_pinned() -> None:
    package = json.loads((HOME / "tests/clients/package.json").read_text())
    versions = [*package["dependencies"].values(), *package["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


@pytest.mark.parametrize("name", LOCK_FILES)
def test_no_requirement_is_locked_twice(name: str) -> None:
    names = [re.split(r"[= ]", requirement)[0] for requirement in logical_lines(HOME / name)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(("name", "beside"), list(combinations(TOGETHER, 2)))
def test_lock_files_agree_on_common_packages(name: str, beside: str) -> None:
    one, other = (
        dict(re.match(r"([^=]+)==([^ ;]+)", requirement).groups() for requirement in logical_lines(HOME / path))  # type: ignore[union-attr]
        for path in (name, beside)
    )
    assert {name: (one[name], other[name]) for name in one.keys() & other.keys() if one[name] != other[name]} == {}


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=HOME, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (HOME / name).is_file()]


def ignored(path: str) -> bool:
    return subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=HOME, check=False).returncode == 0


@git
@pytest.mark.parametrize(
    "path",
    [
        "core/__pycache__/x.pyc",
        ".venv/bin/python",
        ".venv-security/bin/python",
        ".venv-clients/bin/python",
        ".venv-docs/bin/python",
        "build/giro.cdx.json",
        ".env",
        "banking.db",
        "data/banking.db",
        "data/banking.db-wal",
        "data/banking.db.write.lock",
        "data/secrets/jwt_secret",
        "data/run/valkey.sock",
        "tests/coverage/html/index.html",
        ".coverage",
        ".coverage.host.1",
        "ai_brain/notes.md",
        ".hypothesis/x",
        ".pytest_cache/x",
        ".mypy_cache/x",
        ".ruff_cache/x",
    ],
)
def test_private_files_are_ignored(path: str) -> None:
    assert ignored(path)


@git
@pytest.mark.parametrize(
    "path", ["data/.gitkeep", "core/settings/__init__.py", "tests/unit/test_money.py", "README.md"]
)
def test_project_files_are_not_ignored(path: str) -> None:
    assert not ignored(path)


@git
def test_no_ignored_file_is_in_git() -> None:
    assert [name for name in tracked() if ignored(name)] == []


@git
def test_modules_are_short() -> None:
    lengths = {name: len((HOME / name).read_text().splitlines()) for name in tracked("*.py")}
    assert lengths
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "jfrog" + ".io"]
"""Concatenated, so that this file does not contain the names itself."""


@git
def test_no_file_names_the_host_of_a_package_registry() -> None:
    named = []
    for name in tracked():
        text = (HOME / name).read_bytes().decode("utf-8", "replace")
        named += [f"{name}: {host}" for host in REGISTRIES if host in text]
    assert named == []
