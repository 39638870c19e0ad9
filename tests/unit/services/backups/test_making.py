"""Backups: complete, verified and private, or absent."""

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import core
from core.domain.anchors import to_line
from core.files.locks import FileLock
from core.security.anchor_key import AnchorKey
from core.security.card_vault import CardVault
from core.security.secrets import Secrets
from core.services.backups import making, manifests
from core.services.backups.manifests import BackupError, LedgerBroken, Manifest, kept, read_manifest
from core.services.verification import verify
from core.services.verification.anchoring import anchor_head
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import WHOLE_TRANSFERS, Bank, accepted, from_ada_to_bob, issue_card, rows, settle_all
from tests.time_travel import Clock

SECRET = "a secret of cards that is long enough to be one"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


def make(
    settings: Settings, database: Database, folder: Path, progress: making.Progress = lambda step, done, of: None
) -> tuple[Path, Manifest]:
    return making.make(settings, database, folder, progress)


def names_in(folder: Path) -> set[str]:
    """The items in a folder, except the lock."""
    return {path.name for path in folder.iterdir()} - {".lock"}


def break_ledger(database: Database) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE accounts SET balance = balance + 1 WHERE kind = 'customer'")


def test_a_backup_is_a_separate_database_with_everything_that_was_committed(
    settings: Settings, database: Database, bank: Bank, folder: Path
) -> None:
    path, _ = make(settings, database, folder)
    copy = Database(making.settings_of(settings, path))
    query = f"SELECT id, status, amount FROM {WHOLE_TRANSFERS} ORDER BY id"
    assert rows(copy, query) == rows(database, query)
    assert [row["status"] for row in rows(copy, query)] == ["completed", "completed", "pending"]
    assert verify(copy).holds
    assert rows(copy, "PRAGMA journal_mode") == [{"journal_mode": "delete"}]
    assert names_in(folder) == {path.name, f"{path.stem}.json"}, "a single file, without -wal and -shm files"


def test_only_the_owner_can_read_a_backup(settings: Settings, database: Database, folder: Path) -> None:
    (settings.data_dir / "anchors.jsonl").touch()
    path, _ = make(settings, database, folder)
    files = [path, manifests.manifest_of(path), manifests.anchors_of(path)]
    assert [stat.S_IMODE(file.stat().st_mode) for file in [folder, *files]] == [0o700, 0o600, 0o600, 0o600]


def test_the_manifest_describes_the_backup(settings: Settings, database: Database, bank: Bank, folder: Path) -> None:
    path, manifest = make(settings, database, folder)
    assert read_manifest(path) == manifest
    assert manifest.file == path.name
    assert (manifest.size_bytes, manifest.sha256) == (path.stat().st_size, manifests.digest(path))
    assert manifest.schema_revision == database.schema_revision()
    assert manifest.head == {"transfer": 3, "transaction": 4, "audit_entry": 1}
    assert {name: manifest.counts[name] for name in ("users", "accounts", "transfers", "transactions")} == {
        "users": 3,
        "accounts": 3,
        "transfers": 3,
        "transactions": 4,
    }


def test_commits_during_a_copy_are_in_the_next_backup(
    settings: Settings, database: Database, bank: Bank, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.storage.sqlite.copying.STEP_PAGES", 1)
    steps = []

    def pay(step: str, done: int, of: int) -> None:
        if step == "Copying":
            steps.append(done)
            accepted(database, from_ada_to_bob(bank, 1))
            settle_all(database)

    path, manifest = make(settings, database, folder, pay)
    assert len(steps) > 10
    assert steps == sorted(steps), "it did not start again"
    assert manifest.counts["transfers"] == 3
    assert rows(Database(making.settings_of(settings, path)), "SELECT count(*) AS n FROM transfers") == [{"n": 3}]
    assert len(rows(database, "SELECT id FROM transfers")) == 3 + len(steps)


def test_a_copy_that_breaks_a_rule_gets_no_name(
    settings: Settings, database: Database, bank: Bank, folder: Path
) -> None:
    break_ledger(database)
    with pytest.raises(LedgerBroken, match="balance_is_sum_of_legs"):
        make(settings, database, folder)
    assert names_in(folder) == set()


def test_anchors_of_the_copied_blocks_are_copied_without_invalid_lines(
    settings: Settings, database: Database, bank: Bank, folder: Path
) -> None:
    assert anchor_head(database, AnchorKey(Secrets(settings).anchor_key.read_or_make()), settings.anchor_path)
    of_the_copy = settings.anchor_path.read_text()
    with settings.anchor_path.open("a") as file:
        file.write(to_line(AnchorKey(Secrets(settings).anchor_key.read_or_make()).sign(9999, bytes(32), 5)) + '\n{"bl')
    path, manifest = make(settings, database, folder)
    beside = manifests.anchors_of(path)
    assert beside.read_text() == of_the_copy
    assert manifest.anchors_sha256 == manifests.digest(beside)


def test_a_second_backup_at_once_in_one_folder_is_rejected(
    settings: Settings, database: Database, folder: Path
) -> None:
    folder.mkdir()
    lock = FileLock(folder / ".lock")
    assert lock.try_acquire()
    with pytest.raises(BackupError, match="another backup is being made"):
        make(settings, database, folder)
    lock.close()
    make(settings, database, folder)


# --- keys ---


def test_keys_are_named_by_fingerprints_and_are_in_no_part_of_a_backup(
    settings: Settings, database: Database, bank: Bank, folder: Path
) -> None:
    issue_card(database, CardVault(Secrets(settings)), bank.ada, bank.ada_account)
    assert Secrets(settings).anchor_key.read_or_make()
    path, manifest = make(settings, database, folder)
    assert manifest.keys.keys() == {"card_key_1", "card_index_key", "jwt_secret", "anchor_key"}
    secrets = [file.read_text().strip() for file in (settings.data_dir / "secrets").iterdir()]
    assert settings.jwt_secret is not None
    for secret in [*secrets, settings.jwt_secret.get_secret_value()]:
        for part in (path, manifests.manifest_of(path)):
            assert secret.rpartition(":")[2].encode() not in part.read_bytes()


def test_a_missing_key_is_not_made(settings: Settings, database: Database, folder: Path) -> None:
    unset = settings.model_copy(update={"jwt_secret": None})
    assert make(unset, database, folder)[1].keys == {}
    assert not (settings.data_dir / "secrets").exists()


def test_a_key_has_the_same_fingerprint_wherever_it_comes_from(
    settings: Settings, database: Database, folder: Path
) -> None:
    vault = CardVault(Secrets(settings))
    kept_here = make(settings, database, folder)[1].keys
    version, _, secret = vault.path.read_text().partition(":")
    given = settings.model_copy(update={"card_keys": type(settings.jwt_secret)(f"2:{SECRET},{version}:{secret}")})
    keys = make(given, database, folder)[1].keys
    assert keys["card_key_1"] == kept_here["card_key_1"] != keys["card_key_2"]


# --- failures and kills ---

MAKE = """
import sys, time
from core.services.backups import making, manifests
from core.settings import load_settings
from core.storage.sqlite.engine import Database

def report(step, done, of):
    if step == {step!r}:
        print("there", flush=True)
        time.sleep(600)

settings = load_settings(_env_file=None)
{before}
try:
    making.make(settings, Database(settings), settings.backups_path, report)
except manifests.BackupError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def start(settings: Settings) -> Callable[..., "subprocess.Popen[str]"]:
    """Start a process that makes a backup and stops at the given place."""

    def start_making(step: str = "", before: str = "") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", MAKE.format(step=step, before=before)],
            env={"GIRO_DATA_DIR": str(settings.data_dir), "PYTHONPATH": str(Path(core.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_making


@pytest.mark.processes
@pytest.mark.parametrize("step", ["Copying", "Checking pages", "Verifying"])
def test_a_killed_backup_leaves_no_named_file_and_the_next_one_cleans_up(
    settings: Settings, database: Database, bank: Bank, start: Callable[..., "subprocess.Popen[str]"], step: str
) -> None:
    with start(step) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        with pytest.raises(BackupError, match="another backup is being made"):
            make(settings, database, settings.backups_path)
        process.send_signal(signal.SIGKILL)
    (left,) = names_in(settings.backups_path)
    assert left.startswith(".making-")
    assert kept(settings.backups_path) == []
    path, _ = make(settings, database, settings.backups_path)
    assert names_in(settings.backups_path) == {path.name, f"{path.stem}.json"}


@pytest.mark.processes
@pytest.mark.parametrize("place", ["backup.before_names", "backup.between_names"])
def test_a_backup_killed_before_it_has_its_name_does_not_count(
    settings: Settings, database: Database, bank: Bank, start: Callable[..., "subprocess.Popen[str]"], place: str
) -> None:
    with start(before=f"from core import failpoints; failpoints.arm('{place}=exit')") as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert kept(settings.backups_path) == []
    path, _ = make(settings, database, settings.backups_path)
    assert [backup for backup, _ in kept(settings.backups_path)] == [path]
    assert names_in(settings.backups_path) == {path.name, f"{path.stem}.json"}


def test_a_full_disk_leaves_nothing_and_is_reported_in_one_line(
    settings: Settings, database: Database, bank: Bank, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    # The kernel stops a file from growing beyond this limit, as a full disk does.
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    with start(before=full) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("no backup was made in ")
    assert said.count("\n") == 1
    assert names_in(settings.backups_path) == set()
    assert verify(database).holds


def test_a_backup_that_would_leave_the_service_no_room_is_rejected(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    greedy = settings.model_copy(update={"disk_free_mb": 10**9})
    with pytest.raises(BackupError, match=r"MB free, and a backup needs 1000000000"):
        make(greedy, database, tmp_path / "backups")


def test_a_folder_that_cannot_be_made_is_reported_in_one_line(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="no backup was made in"):
        make(settings, database, tmp_path / "file" / "backups")


# --- kept backups ---


def test_backups_are_listed_oldest_first_and_other_files_are_ignored(
    settings: Settings, database: Database, folder: Path, clock: Clock
) -> None:
    made = []
    for _ in range(3):
        made.append(make(settings, database, folder)[0])
        clock.advance(hours=1)
    (folder / "giro-without-a-manifest.db").touch()
    (folder / "giro-odd.db").touch()
    (folder / "giro-odd.json").write_text('{"format": 2}')
    made[2].unlink()  # killed while it was named, or deleted by hand: a manifest alone is not a backup
    assert [path for path, _ in kept(folder)] == made[:2]


@pytest.mark.parametrize(
    ("age", "due"),
    [(timedelta(hours=23, minutes=59), False), (timedelta(hours=24), True), (timedelta(hours=-1), True)],
)
def test_the_next_backup_is_due_when_the_newest_is_old_or_from_the_future(
    settings: Settings, database: Database, folder: Path, clock: Clock, age: timedelta, due: bool
) -> None:
    assert making.is_due(folder, 24), "there is no backup yet"
    make(settings, database, folder)
    clock.advance(hours=age / timedelta(hours=1))
    assert making.is_due(folder, 24) is due


def test_a_backup_from_the_future_does_not_make_another_due_early(
    settings: Settings, database: Database, folder: Path, clock: Clock
) -> None:
    clock.advance(days=365)
    make(settings, database, folder)
    clock.advance(days=-365)
    make(settings, database, folder)
    assert not making.is_due(folder, 24)
    clock.advance(hours=24)
    assert making.is_due(folder, 24)


def test_only_the_newest_backups_are_kept_and_other_files_are_left_alone(
    settings: Settings, database: Database, folder: Path, clock: Clock
) -> None:
    (settings.data_dir / "anchors.jsonl").touch()
    made = []
    for _ in range(4):
        made.append(make(settings, database, folder)[0])
        clock.advance(hours=1)
    stranger = folder / "giro-stranger.db"
    stranger.touch()
    assert making.prune(folder, 2, made[-1]) == 2
    assert [path for path, _ in kept(folder)] == made[2:]
    assert stranger.exists()
    assert len(names_in(folder)) == 2 * 3 + 1


def test_the_newest_backup_is_kept_even_if_the_clock_went_back(
    settings: Settings, database: Database, folder: Path, clock: Clock
) -> None:
    for _ in range(3):
        clock.advance(hours=1)
        make(settings, database, folder)
    clock.advance(hours=-9)
    made, _ = make(settings, database, folder)
    assert making.prune(folder, 1, made) == 3
    assert [path for path, _ in kept(folder)] == [made]


@pytest.mark.parametrize("keep", [1, 7])
def test_nothing_is_deleted_until_there_are_too_many_backups(
    settings: Settings, database: Database, folder: Path, keep: int
) -> None:
    made, _ = make(settings, database, folder)
    assert making.prune(folder, keep, made) == 0
    assert len(kept(folder)) == 1


def test_the_manifest_is_plain_json(settings: Settings, database: Database, folder: Path) -> None:
    path, manifest = make(settings, database, folder)
    written = json.loads(manifests.manifest_of(path).read_text())
    assert written["format"] == 1
    assert written["sha256"] == manifest.sha256
