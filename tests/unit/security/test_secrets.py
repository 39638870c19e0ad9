"""Secrets: from settings, or from files that are made only at the first use."""

import stat
from pathlib import Path

import pytest

from core.security.fingerprints import fingerprints
from core.security.secrets import KeptSecret, Secrets
from core.settings import Settings, SettingsError, load_settings
from tests.unit.cli.test_cli import giro

NAMES = {"jwt_secret", "card_keys", "card_index_key", "anchor_key"}


@pytest.fixture
def unset(settings: Settings, tmp_path: Path) -> Settings:
    """Settings without any secret, and with a file for the queue's password."""
    return load_settings(
        _env_file=None,
        data_dir=settings.data_dir,
        redis_url="redis://redis",
        redis_password_file=tmp_path / "queue" / "password",
    )


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_reading_every_property_of_the_settings_makes_no_file(unset: Settings, tmp_path: Path) -> None:
    names = [name for name in dir(Settings) if not name.startswith(("_", "model_"))]
    values = [getattr(unset, name) for name in names]
    assert unset.database_path in values
    assert list(tmp_path.iterdir()) == []


def test_looking_for_a_secret_makes_no_file(unset: Settings, tmp_path: Path) -> None:
    secrets = Secrets(unset)
    assert secrets.anchor_key.find() is None
    assert fingerprints(secrets) == {}
    with pytest.raises(SettingsError, match=r"cannot read .*anchor_key \(No such file or directory\)"):
        secrets.anchor_key.read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["settings", "status"])
def test_commands_that_only_read_make_no_secret(
    database: None, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setenv("GIRO_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("GIRO_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    assert giro(command).exit_code == 0
    assert not (tmp_path / "password").exists()
    assert not settings.secrets_dir.exists()


def test_missing_secrets_are_made_once_and_only_the_owner_can_read_them(unset: Settings, tmp_path: Path) -> None:
    Secrets(unset).make_missing()
    made = {path.name: path.read_text() for path in files(tmp_path)}
    assert made.keys() == NAMES | {"password"}
    assert len(set(made.values())) == len(made)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)} == {0o600}
    Secrets(unset).make_missing()
    assert {path.name: path.read_text() for path in files(tmp_path)} == made


@pytest.mark.parametrize("name", ["card_index_key", "anchor_key"])
def test_a_file_without_a_key_is_an_error_that_names_it(unset: Settings, name: str) -> None:
    secret: KeptSecret = getattr(Secrets(unset), name)
    secret.path.parent.mkdir(parents=True)
    secret.path.write_text("x" * 31)
    with pytest.raises(SettingsError, match=rf"{name} holds no key of 32 bytes; restore it from a backup"):
        secret.read_or_make()
    secret.path.write_bytes(b"\xff" * 40)
    with pytest.raises(SettingsError, match=rf"cannot read .*{name} \(it is not text\)"):
        secret.find()


def test_a_secret_that_cannot_be_made_is_an_error_that_names_its_file(unset: Settings) -> None:
    secret = Secrets(unset).anchor_key
    secret.path.parent.parent.mkdir(parents=True)
    secret.path.parent.touch()
    with pytest.raises(SettingsError, match=r"cannot make .*anchor_key \(File exists\)"):
        secret.read_or_make()


def test_a_replaced_secret_is_read_by_all_processes(unset: Settings) -> None:
    mine, other = Secrets(unset).card_keys, Secrets(unset).card_keys
    assert mine.read_or_make() == other.read_or_make()
    mine.replace("2:" + "y" * 32)
    assert other.read() == mine.read() == "2:" + "y" * 32
