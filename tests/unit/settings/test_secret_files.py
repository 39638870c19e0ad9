"""Settings from files: found, read, and never ignored silently."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import SecretStr

from core.security.secrets import Secrets
from core.settings import load_settings
from tests.unit.settings.complaints import complaint

LONG_SECRET = "x" * 32


@pytest.fixture(autouse=True)
def _clean(clean_environment: pytest.MonkeyPatch) -> None:
    """Every test here starts without variables, in an empty folder."""


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which systemd gives a service its credentials."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


@pytest.fixture
def container_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder in which a container gets its secrets."""
    folder = tmp_path / "run" / "secrets"
    folder.mkdir(parents=True)
    monkeypatch.setattr("core.settings.secret_files.CONTAINER_SECRETS", folder)
    return folder


@pytest.mark.parametrize("folder", ["credentials", "container_secrets"])
def test_any_setting_can_come_from_a_file_which_is_named_as_its_source(
    folder: str, request: pytest.FixtureRequest
) -> None:
    place: Path = request.getfixturevalue(folder)
    card_key = f"1:{LONG_SECRET}"
    texts = {"jwt_secret": LONG_SECRET, "giro_card_keys": card_key, "redis_url": "redis://elsewhere", "giro_port": "81"}
    for name, text in texts.items():
        (place / name).write_text(f"{text}\n")
    settings = load_settings()
    assert settings.jwt_secret is not None
    assert settings.card_keys is not None
    assert (settings.jwt_secret.get_secret_value(), settings.card_keys.get_secret_value()) == (LONG_SECRET, card_key)
    assert (Secrets(settings).queue_url(), settings.port) == ("redis://elsewhere", 81)
    sources = settings.sources()
    assert {name: sources[name] for name in ("jwt_secret", "card_keys", "redis_url", "port")} == {
        "jwt_secret": str(place / "jwt_secret"),
        "card_keys": str(place / "giro_card_keys"),
        "redis_url": str(place / "redis_url"),
        "port": str(place / "giro_port"),
    }
    assert sources["host"] == "default"


def test_the_environment_and_the_dotenv_file_have_precedence_over_a_file(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"giro_port": "1", "giro_host": "::1", "giro_log_level": "error"}.items():
        (credentials / name).write_text(value)
    Path(".env").write_text("GIRO_PORT=2\nGIRO_HOST=::2\n")
    monkeypatch.setenv("GIRO_PORT", "3")
    settings = load_settings()
    assert (settings.port, settings.host, settings.log_level) == (3, "::2", "error")
    sources = settings.sources()
    assert (sources["port"], sources["host"]) == ("environment", ".env")
    assert sources["log_level"] == str(credentials / "giro_log_level")


def test_an_empty_variable_does_not_hide_a_file(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (credentials / "jwt_secret").write_text(LONG_SECRET)
    monkeypatch.setenv("JWT_SECRET", "")
    assert load_settings().jwt_secret == SecretStr(LONG_SECRET)


def test_credentials_have_precedence_over_a_containers_secrets(credentials: Path, container_secrets: Path) -> None:
    (credentials / "giro_port").write_text("1")
    (container_secrets / "giro_port").write_text("2")
    (container_secrets / "giro_host").write_text("::1")
    settings = load_settings()
    assert (settings.port, settings.host) == (1, "::1")


def test_a_file_that_is_a_link_is_followed(credentials: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(LONG_SECRET)
    (credentials / "jwt_secret").symlink_to(tmp_path / "elsewhere")
    assert load_settings().jwt_secret == SecretStr(LONG_SECRET)


@pytest.mark.parametrize("name", ["JWT_SECRET", "giro_jwt_secret", "card_keys", "giro_prot", "somebody_elses"])
def test_files_with_other_names_are_ignored(container_secrets: Path, name: str) -> None:
    (container_secrets / name).write_text("x")
    assert set(load_settings().sources().values()) == {"default"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "JWT_SECRET: cannot read {path} (Is a directory)"),
        (lambda path: path.symlink_to("nowhere"), "JWT_SECRET: cannot read {path} (No such file or directory)"),
        (lambda path: path.write_bytes(b"\xff" * 40), "JWT_SECRET: {path} is not text"),
        (lambda path: path.write_text("\n"), "JWT_SECRET: {path} is empty"),
        (lambda path: path.write_text("hunter2"), "JWT_SECRET: needs at least 32 bytes"),
    ],
    ids=["a folder", "a link to nowhere", "no text", "empty", "too short"],
)
def test_a_secret_that_cannot_be_read_stops_the_start(
    credentials: Path, make: Callable[[Path], object], words: str
) -> None:
    make(credentials / "jwt_secret")
    assert complaint() == words.format(path=credentials / "jwt_secret")


def test_a_secret_without_read_permission_stops_the_start(
    credentials: Path, container_secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (credentials / "jwt_secret").write_text(LONG_SECRET)
    monkeypatch.setattr(Path, "read_text", refuse)  # tests may run as root, which can read everything
    assert complaint() == f"JWT_SECRET: cannot read {credentials / 'jwt_secret'} (Permission denied)"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    monkeypatch.setattr(Path, "lstat", refuse)
    assert complaint().endswith(f": cannot read the folder {container_secrets} (Permission denied)")


def refuse(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
