"""Restoring: the whole ledger, into an empty folder, with the matching keys; otherwise nothing changes."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import core
from core.cli import apply_migrations
from core.cli.console import the_bank
from core.security.anchor_key import AnchorKey
from core.security.card_vault import CardKeyError, CardVault
from core.security.secrets import Secrets
from core.services.backups import making, manifests, restoring
from core.services.backups.manifests import BackupError, LedgerBroken, Manifest
from core.services.backups.restoring import Restored
from core.services.cards.keys import rotate
from core.services.verification import Anchors, verify
from core.services.verification.anchoring import anchor_head
from core.settings import Settings, load_settings
from core.storage.engines import SCHEMA_REVISION, DatabaseError
from core.storage.sqlite.engine import Database
from tests.builders import WHOLE_TRANSFERS, Bank, accepted, from_ada_to_bob, issue_card, rows, settle_all
from tests.conftest import JWT_SECRET
from tests.tampering import forget_erasure

OTHER = "another secret of thirty-two bytes and more"
LEDGER = f"SELECT id, status, amount FROM {WHOLE_TRANSFERS} ORDER BY id"


def quiet(_step: str, _done: int, _of: int) -> None:
    pass


@pytest.fixture
def made(settings: Settings, database: Database, bank: Bank, tmp_path: Path) -> Path:
    """A backup of that bank, with one card."""
    issue_card(database, CardVault(Secrets(settings)), bank.ada, bank.ada_account)
    anchor_head(database, AnchorKey(Secrets(settings).anchor_key.read_or_make()), settings.anchor_path)
    path, _ = making.make(settings, database, tmp_path / "backups", quiet)
    return path


@pytest.fixture
def empty(settings: Settings, made: Path, tmp_path: Path) -> Settings:
    """An empty data folder, with only the keys that were stored separately."""
    folder = tmp_path / "new"
    folder.mkdir(mode=0o700)
    (settings.data_dir / "secrets").rename(folder / "secrets")
    return moved(folder)


def moved(folder: Path, **others: object) -> Settings:
    """The settings of a new machine."""
    return load_settings(**{"_env_file": None, "data_dir": folder, "jwt_secret": JWT_SECRET} | others)


def restore(settings: Settings, file: Path, migrate: Callable[[Settings], None] | None = None) -> Restored:
    """Restore a backup. A missing signature or key is accepted here: test_tampering.py is about them."""
    unsigned = not (manifests.signature_of(file).exists() and Secrets(settings).anchor_key.path.exists())
    return restoring.restore(settings, file, the_bank(), quiet, migrate=migrate, unsigned=unsigned)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rewrite(path: Path, *statements: str, **manifest: object) -> None:
    """Change the content of a backup, and update its manifest to match. The signature is gone."""
    manifests.signature_of(path).unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for statement in statements:
            raw.execute(statement)
    changed = manifests.read_manifest(path).model_copy(update={"sha256": manifests.digest(path), **manifest})
    manifests.manifest_of(path).write_text(changed.model_dump_json())


def test_a_restored_ledger_equals_the_one_that_was_backed_up(database: Database, made: Path, empty: Settings) -> None:
    before = rows(database, LEDGER)
    assert restore(empty, made).warnings == []
    restored = Database(empty)
    assert rows(restored, LEDGER) == before
    assert verify(restored).holds
    assert verify(restored, anchors=Anchors.of(empty)).anchors == 1
    assert names_in(empty.data_dir) == {"banking.db", "anchors.jsonl", "secrets"}
    assert empty.database_path.stat().st_mode & 0o777 == 0o600


def test_a_restored_ledger_can_be_used(made: Path, empty: Settings, bank: Bank) -> None:
    restore(empty, made)
    restored = Database(empty)
    assert settle_all(restored) == 1
    accepted(restored, from_ada_to_bob(bank, 7))
    assert settle_all(restored) == 1
    assert verify(restored).holds


def test_a_restore_is_recorded_in_the_restored_ledger(made: Path, empty: Settings) -> None:
    restore(empty, made)
    entries = rows(Database(empty), "SELECT action, details FROM audit_entries ORDER BY id DESC LIMIT 1")
    assert entries[0]["action"] == "backup_restored"
    assert made.name in entries[0]["details"]


@pytest.mark.parametrize("name", ["banking.db", "banking.db-wal", "banking.db-shm", "banking.db-journal"])
def test_existing_data_is_not_overwritten(made: Path, empty: Settings, name: str) -> None:
    (empty.data_dir / name).write_text("what is left of a ledger")
    with pytest.raises(BackupError, match="exists: a backup is only restored to an empty data folder"):
        restore(empty, made)
    assert (empty.data_dir / name).read_text() == "what is left of a ledger"


def test_anchors_without_their_ledger_are_not_overwritten(made: Path, empty: Settings) -> None:
    anchors = empty.data_dir / "anchors.jsonl"
    anchors.write_text('{"block": 1}\n{"block": 2}\n')
    with pytest.raises(BackupError, match="it is evidence"):
        restore(empty, made)
    assert anchors.read_text().endswith('{"block": 2}\n')
    anchors.write_bytes(manifests.anchors_of(made).read_bytes())
    restore(empty, made)


# --- invalid backups ---


@pytest.mark.parametrize("part", [Path, manifests.anchors_of])
def test_a_backup_with_a_flipped_bit_is_rejected(made: Path, empty: Settings, part: Callable[[Path], Path]) -> None:
    content = bytearray(part(made).read_bytes())
    content[len(content) // 2] ^= 1
    part(made).write_bytes(content)
    with pytest.raises(BackupError, match="does not match its manifest"):
        restore(empty, made)
    assert names_in(empty.data_dir) == {"secrets"}


def test_a_truncated_backup_is_rejected(made: Path, empty: Settings) -> None:
    made.write_bytes(made.read_bytes()[:-4096])
    with pytest.raises(BackupError, match="does not match its manifest"):
        restore(empty, made)


def test_a_backup_with_changed_balances_is_rejected_even_if_its_manifest_matches(made: Path, empty: Settings) -> None:
    rewrite(made, "UPDATE accounts SET balance = balance + 1 WHERE kind = 'customer'")
    with pytest.raises(LedgerBroken, match="balance_is_sum_of_legs"):
        restore(empty, made)
    assert names_in(empty.data_dir) == {"secrets"}


def test_a_backup_with_damaged_pages_is_rejected_even_if_its_manifest_matches(made: Path, empty: Settings) -> None:
    content = bytearray(made.read_bytes())
    content[3 * 4096 : 4 * 4096] = bytes(4096)
    made.write_bytes(content)
    rewrite(made)
    with pytest.raises(LedgerBroken, match="is damaged"):
        restore(empty, made)
    assert names_in(empty.data_dir) == {"secrets"}


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot read the manifest"), ("{", "is not a manifest"), ("{}", "is not a manifest")]
)
def test_a_backup_without_a_manifest_is_rejected(made: Path, empty: Settings, text: str | None, said: str) -> None:
    manifests.manifest_of(made).unlink()
    if text is not None:
        manifests.manifest_of(made).write_text(text)
    with pytest.raises(BackupError, match=said):
        restore(empty, made)


# --- schemas ---


@pytest.mark.parametrize("migrate", [None, apply_migrations])
def test_a_backup_of_a_newer_giro_is_rejected(
    made: Path, empty: Settings, migrate: Callable[[Settings], None] | None
) -> None:
    rewrite(made, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="from a newer Giro"):
        restore(empty, made, migrate)


def test_an_older_backup_is_migrated_only_on_request(settings: Settings, made: Path, empty: Settings) -> None:
    forget_erasure(made)
    for table in ("dead_letters", "verifications", "blocks", "batches"):
        rewrite(made, f"DROP TABLE {table}")
    rewrite(made, "UPDATE alembic_version SET version_num = '0005'", schema_revision="0005", anchors_sha256=None)
    with pytest.raises(BackupError, match="at migration 0005: restore it with --migrate"):
        restore(empty, made)
    assert names_in(empty.data_dir) == {"secrets"}
    assert restore(empty, made, apply_migrations).migrated
    restored = Database(empty)
    assert restored.schema_revision() == SCHEMA_REVISION
    assert verify(restored).holds


# --- keys ---


def test_cards_without_their_keys_are_rejected_and_no_key_is_made(made: Path, empty: Settings) -> None:
    (empty.data_dir / "secrets").rename(empty.data_dir / "away")
    with pytest.raises(BackupError, match=r"there are 1 cards in .* and no card keys here"):
        restore(empty, made)
    assert names_in(empty.data_dir) == {"away"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("card_keys", "cannot be opened with card key version 1"),
        ("card_index_key", "the card index key is not the one"),
    ],
)
def test_cards_with_other_keys_are_rejected(made: Path, empty: Settings, name: str, said: str) -> None:
    other = OTHER if name == "card_index_key" else f"1:{OTHER}"
    with pytest.raises(CardKeyError, match=said):
        restore(moved(empty.data_dir, **{name: other}), made)
    assert names_in(empty.data_dir) == {"secrets"}


def test_a_backup_from_before_a_rotation_needs_the_older_key(database: Database, made: Path, empty: Settings) -> None:
    before = (empty.data_dir / "secrets" / "card_keys").read_text()
    rotate(database, CardVault(Secrets(moved(empty.data_dir))), the_bank(), lambda count, of: None)
    with pytest.raises(CardKeyError, match="key version 1, which is not among the card keys"):
        restore(empty, made)
    after = (empty.data_dir / "secrets" / "card_keys").read_text()
    (empty.data_dir / "secrets" / "card_keys").write_text(f"{after.strip()},{before}")
    restore(empty, made)


def test_a_ledger_without_cards_needs_no_keys(settings: Settings, database: Database, tmp_path: Path) -> None:
    path, _ = making.make(settings, database, tmp_path / "backups", quiet)
    new = moved(tmp_path / "new")
    new.data_dir.mkdir()
    restore(new, path)
    assert names_in(new.data_dir) == {"banking.db"}, "no key was made"


# --- kills ---

RESTORE = """
import time
from pathlib import Path
from core.cli.console import the_bank
from core.services.backups import restoring
from core.settings import load_settings

def report(step, done, of):
    if step == {step!r}:
        print("there", flush=True)
        time.sleep(600)

restoring.restore(load_settings(_env_file=None), Path({file!r}), the_bank(), report)
"""


@pytest.mark.processes
@pytest.mark.parametrize("step", ["Checking pages", "Verifying"])
def test_a_killed_restore_leaves_no_database_and_can_be_repeated(made: Path, empty: Settings, step: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RESTORE.format(step=step, file=str(made))],
        env={"GIRO_DATA_DIR": str(empty.data_dir), "PYTHONPATH": str(Path(core.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    assert not empty.database_path.exists()
    restore(empty, made)
    assert names_in(empty.data_dir) == {"banking.db", "anchors.jsonl", "secrets"}


def test_a_manifest_of_another_backup_is_rejected(
    settings: Settings, database: Database, made: Path, empty: Settings, bank: Bank
) -> None:
    shutil.copytree(empty.data_dir / "secrets", settings.data_dir / "secrets")
    accepted(database, from_ada_to_bob(bank, 1))
    other, manifest = making.make(settings, database, made.parent, quiet)
    assert isinstance(manifest, Manifest)
    for part in (manifests.manifest_of, manifests.signature_of):
        part(made).write_bytes(part(other).read_bytes())
    with pytest.raises(BackupError, match="does not match its manifest"):
        restore(empty, made)
