"""Backups that somebody has changed: each is refused before anything is restored."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.cli.console import the_bank
from core.security.anchor_key import AnchorKey
from core.security.secrets import Secrets
from core.services.backups import making, manifests, restoring
from core.services.backups.manifests import BackupError
from core.services.backups.restoring import Restored
from core.services.verification import verify
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import WHOLE_TRANSFERS, Bank, accepted, from_ada_to_bob, rows

KEY = "a key of backups that is long enough to be one"
OTHER = "another key, which is long enough to be a key"


def quiet(_step: str, _done: int, _of: int) -> None:
    pass


@pytest.fixture(params=[None, KEY], ids=["plain", "sealed"])
def sealed(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The settings of the bank, with a backup key or without one."""
    key = request.param
    return settings.model_copy(update={"backup_key": None if key is None else SecretStr(key)})


@pytest.fixture
def made(sealed: Settings, database: Database, bank: Bank) -> Path:
    """The newer one of two backups."""
    Secrets(sealed).anchor_key.read_or_make()
    making.make(sealed, database, sealed.backups_path, quiet)
    accepted(database, from_ada_to_bob(bank, 7))
    return making.make(sealed, database, sealed.backups_path, quiet)[0]


@pytest.fixture
def empty(sealed: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "new"
    (folder / "secrets").mkdir(parents=True)
    url = sealed.database_url.replace(str(sealed.data_dir), str(folder))
    return sealed.model_copy(update={"data_dir": folder, "database_url": url})


def restore(made: Path, sealed: Settings, empty: Settings, *, keys: bool = True, **options: bool) -> Restored:
    if keys:
        shutil.copytree(sealed.secrets_dir, empty.secrets_dir, dirs_exist_ok=True)
    return restoring.restore(empty, made, the_bank(), quiet, **options)


def older(made: Path) -> Path:
    return next(path for path, _ in manifests.kept(made.parent) if path != made)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lie_about(made: Path, **values: object) -> None:
    changed = manifests.read_manifest(made).model_copy(update=values)
    manifests.manifest_of(made).write_text(changed.model_dump_json())


def sign_with_another_key(made: Path) -> None:
    manifest = manifests.read_manifest(made)
    for part in (manifests.manifest_of, manifests.signature_of):
        part(made).unlink()
    manifests.write(made, manifest, AnchorKey(OTHER))


def replace_all_but_the_signature(made: Path) -> None:
    made.write_bytes(older(made).read_bytes())
    manifests.manifest_of(made).write_bytes(manifests.manifest_of(older(made)).read_bytes())


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit in the database": (flip, "does not match its manifest"),
    "a truncated database": (lambda made: made.write_bytes(made.read_bytes()[:-4096]), "does not match its manifest"),
    "a truncated database and its digest": (
        lambda made: (
            made.write_bytes(made.read_bytes()[:-4096]),
            lie_about(made, sha256=manifests.digest(made)),
        ),
        "does not match its signature",
    ),
    "an older database": (lambda made: made.write_bytes(older(made).read_bytes()), "does not match its manifest"),
    "an older backup under this name": (replace_all_but_the_signature, "does not match its signature"),
    "a manifest with another count": (
        lambda made: lie_about(made, counts={"cards": 0}),
        "does not match its signature",
    ),
    "a flipped bit in the manifest": (lambda made: flip(manifests.manifest_of(made)), "manifest|signature"),
    "a signature that is not one": (
        lambda made: manifests.signature_of(made).write_text("{}"),
        "is not a signature",
    ),
    "a signature of another backup": (
        lambda made: manifests.signature_of(made).write_bytes(manifests.signature_of(older(made)).read_bytes()),
        "does not match its signature",
    ),
    "a signature with another key": (sign_with_another_key, "is signed with another key"),
    "a missing signature": (lambda made: manifests.signature_of(made).unlink(), "is not signed"),
    "a missing manifest": (lambda made: manifests.manifest_of(made).unlink(), "cannot read the manifest"),
    "a missing database": (lambda made: made.unlink(), "cannot read"),
}


@pytest.mark.parametrize(("tamper", "said"), TAMPERED.values(), ids=TAMPERED.keys())
def test_a_tampered_backup_is_refused(
    made: Path, sealed: Settings, empty: Settings, tamper: Callable[[Path], object], said: str
) -> None:
    tamper(made)
    with pytest.raises(BackupError, match=said):
        restore(made, sealed, empty)
    assert {path.name for path in empty.data_dir.iterdir()} == {"secrets"}


def test_an_untouched_backup_is_restored(made: Path, sealed: Settings, empty: Settings, database: Database) -> None:
    assert restore(made, sealed, empty).warnings == []
    query = f"SELECT id, status, amount FROM {WHOLE_TRANSFERS} ORDER BY id"
    assert rows(Database(empty), query) == rows(database, query)
    assert verify(Database(empty)).holds


@pytest.mark.parametrize("tamper", [sign_with_another_key, lambda made: manifests.signature_of(made).unlink()])
def test_a_backup_without_a_trusted_signature_is_restored_only_on_request(
    made: Path, sealed: Settings, empty: Settings, tamper: Callable[[Path], object]
) -> None:
    tamper(made)
    (warning,) = restore(made, sealed, empty, unsigned=True).warnings
    assert "nothing but its folder vouches for it" in warning


def test_a_signature_that_does_not_fit_is_never_accepted(made: Path, sealed: Settings, empty: Settings) -> None:
    lie_about(made, giro="9.9")
    with pytest.raises(BackupError, match="does not match its signature"):
        restore(made, sealed, empty, unsigned=True)


def test_the_key_in_the_signature_is_not_trusted(made: Path, sealed: Settings, empty: Settings) -> None:
    with pytest.raises(BackupError, match="no key here can check the signature"):
        restore(made, sealed, empty, keys=False)


def test_a_sealed_backup_shows_nothing_and_needs_its_key(
    made: Path, sealed: Settings, empty: Settings, database: Database
) -> None:
    email = rows(database, "SELECT email FROM users WHERE email LIKE 'person%'")[0]["email"].encode()
    if sealed.backup_key is None:
        assert email in made.read_bytes()
        return
    assert made.name.endswith(".db.sealed")
    for path in made.parent.iterdir():
        assert email not in path.read_bytes()
        assert KEY.encode() not in path.read_bytes()
    assert manifests.read_manifest(made).keys.keys() == {"jwt_secret", "anchor_key", "backup_key"}
    with pytest.raises(BackupError, match="there is no backup key here"):
        restore(made, sealed, empty.model_copy(update={"backup_key": None}))
    with pytest.raises(BackupError, match="cannot be opened: it was sealed with another key"):
        restore(made, sealed, empty.model_copy(update={"backup_key": SecretStr(OTHER)}))
    assert {path.name for path in empty.data_dir.iterdir()} == {"secrets"}


def test_the_copy_that_is_not_sealed_stays_with_the_database_and_is_deleted(
    made: Path, sealed: Settings, database: Database
) -> None:
    seen: set[str] = set()

    def look(step: str, _done: int, _of: int) -> None:
        if step == "Verifying":
            seen.update(
                path.parent.parent.name for path in sealed.data_dir.rglob("giro-*.db") if path.parent != made.parent
            )

    making.make(sealed, database, made.parent, look)
    assert seen == {"data" if sealed.backup_key else "backups"}
    assert not list(sealed.data_dir.glob("*.sealing/*"))
