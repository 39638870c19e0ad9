"""Shipping: whatever happens to the follower, a restore has everything that was shipped, up to a commit."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

import core
from core.cli import apply_migrations
from core.cli.console import the_bank
from core.security.secrets import Secrets
from core.services.backups import making, manifests, restoring, shipments
from core.services.backups.following import Follower, follow
from core.services.backups.manifests import BackupError
from core.services.backups.restoring import Restored
from core.services.verification import verify
from core.settings import Settings
from core.storage.sqlite import log as followed_log
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint, wal_bytes
from tests.builders import WHOLE_TRANSFERS, Bank, accepted, from_ada_to_bob, rows, settle_all
from tests.conftest import JWT_SECRET
from tests.tampering import forget_erasure

KEY = "a key of backups that is long enough to be one"
LEDGER = f"SELECT id, status, amount FROM {WHOLE_TRANSFERS} ORDER BY id"


def quiet(*_facts: object) -> None:
    pass


@pytest.fixture(params=[None, KEY], ids=["plain", "sealed"])
def here(request: pytest.FixtureRequest, settings: Settings, bank: Bank) -> Settings:
    Secrets(settings).anchor_key.read_or_make()
    return settings.model_copy(update={"backup_key": request.param and SecretStr(request.param)})


@pytest.fixture
def start(here: Settings, database: Database) -> Iterator[Callable[[], Follower]]:
    """Start followers, one after the other."""
    running: list[Follower] = []

    def started() -> Follower:
        for other in running:
            other._log.close()
        running.append(Follower(here, database, here.backups_path, quiet))
        running[-1].begin(quiet)
        return running[-1]

    yield started
    for follower in running:
        follower._log.close()


def pay(database: Database, bank: Bank, times: int = 1) -> None:
    for _ in range(times):
        accepted(database, from_ada_to_bob(bank, 1))
    settle_all(database)


def restore(here: Settings, folder: Path, *, file: Path | None = None, until: int | None = None) -> Restored:
    """Restore a backup, by default the newest, to another folder."""
    folder.mkdir()
    there = moved(here, folder)
    file = file or manifests.kept(here.backups_path)[-1][0]
    return restoring.restore(there, file, the_bank(), quiet, public_key=None, until=until)


def moved(here: Settings, folder: Path) -> Settings:
    secret = SecretStr(Secrets(here).anchor_key.read())
    url = here.database_url.replace(str(here.data_dir), str(folder))
    return here.model_copy(update={"data_dir": folder, "database_url": url, "anchor_key": secret})


def restored_equals(here: Settings, database: Database, folder: Path, **options: object) -> Restored:
    done = restore(here, folder, **options)  # type: ignore[arg-type]
    copy = Database(moved(here, folder))
    assert rows(copy, LEDGER) == rows(database, LEDGER)
    assert verify(copy).holds
    copy.close()
    return done


Start = Callable[[], Follower]


def test_a_restore_has_what_was_shipped_and_not_what_came_later(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path
) -> None:
    follower = start()
    for _ in range(3):
        pay(database, bank, 2)
        follower.ship()
    assert restored_equals(here, database, tmp_path / "a").shipments == 3
    shipped = rows(database, LEDGER)
    pay(database, bank)
    restore(here, tmp_path / "b")
    assert rows(Database(moved(here, tmp_path / "b")), LEDGER) == shipped


def test_nothing_is_shipped_twice(here: Settings, database: Database, bank: Bank, start: Start) -> None:
    follower = start()
    pay(database, bank)
    follower.ship()
    series, _ = manifests.kept(here.backups_path)[-1][1].last_capture or ("", 0)
    before = shipments.paths_of(here.backups_path, series, after=0)
    follower.ship()
    assert shipments.paths_of(here.backups_path, series, after=0) == before
    assert len(before) == 1


def test_a_newer_backup_is_continued_by_the_same_series(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path
) -> None:
    follower = start()
    pay(database, bank)
    follower.ship()
    pay(database, bank)
    newer, _ = making.make(here, database, here.backups_path, quiet)
    assert restored_equals(here, database, tmp_path / "a", file=newer).shipments == 0
    pay(database, bank)
    follower.ship()
    assert restored_equals(here, database, tmp_path / "b", file=newer).shipments == 1
    oldest = manifests.kept(here.backups_path)[0][0]
    assert restored_equals(here, database, tmp_path / "c", file=oldest).shipments == 2


def test_the_log_begins_again_between_shipments(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_log, "AUTOCHECKPOINT_PAGES", 50)
    follower, salts = start(), set()
    for _ in range(6):
        pay(database, bank, 5)
        follower.ship()
        salts.add(shipments.newest(here.backups_path).salts)  # type: ignore[union-attr]
    assert len(salts) > 2, "the log began again"
    assert restored_equals(here, database, tmp_path / "a").shipments == 6


@pytest.mark.parametrize("pages", [1, 2000])
def test_checkpoints_of_others_never_lose_a_page(
    here: Settings,
    database: Database,
    bank: Bank,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pages: int,
) -> None:
    monkeypatch.setattr(followed_log, "AUTOCHECKPOINT_PAGES", pages)  # from which the follower makes its own
    follower = start()
    for _ in range(4):
        for _ in range(3):
            pay(database, bank, 3)
            with closing(sqlite3.connect(database.path, timeout=0)) as other:
                for mode in ("PASSIVE", "TRUNCATE"):
                    other.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        follower.ship()
    assert restored_equals(here, database, tmp_path / "a").shipments == 4


def test_a_migration_between_shipments_is_shipped(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path
) -> None:
    follower = start()
    pay(database, bank)
    follower.ship()
    forget_erasure(database.path)
    with closing(sqlite3.connect(database.path, isolation_level=None)) as raw:
        for table in ("dead_letters", "verifications", "blocks", "batches"):
            raw.execute(f"DROP TABLE {table}")
        raw.execute("UPDATE alembic_version SET version_num = '0005'")
    follower.ship()
    with pytest.raises(BackupError, match="is at migration 0005"):
        restore(here, tmp_path / "a")
    apply_migrations(here)
    follower.ship()
    pay(database, bank)
    follower.ship()
    assert restored_equals(here, database, tmp_path / "b").shipments == 4


def test_a_checkpoint_is_left_to_a_running_follower(here: Settings, database: Database, bank: Bank) -> None:
    lock = followed_log.follower_lock(database.path)
    assert lock.take("a follower")
    pay(database, bank)
    checkpoint(database)
    assert wal_bytes(database) > 0
    lock.close()
    checkpoint(database)
    assert wal_bytes(database) == 0


def test_a_follower_continues_the_series_after_a_restart(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path
) -> None:
    follower = start()
    pay(database, bank)
    follower.ship()
    pay(database, bank)
    start().ship()
    assert len(manifests.kept(here.backups_path)) == 1
    assert restored_equals(here, database, tmp_path / "a").shipments == 2


def test_a_log_that_began_again_without_a_follower_begins_a_new_series(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path
) -> None:
    follower = start()
    pay(database, bank)
    follower.ship()
    follower._log.close()
    pay(database, bank)
    checkpoint(database)
    pay(database, bank)
    start()
    pay(database, bank)
    start().ship()
    assert len(manifests.kept(here.backups_path)) >= 2
    restored_equals(here, database, tmp_path / "a")


# --- tampering ---


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def redate(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"pages":', b'"pages":1', 1))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (flip, "does not match its digest"),
        (redate, "does not match its signature"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "does not match its digest"),
        (lambda path: path.rename(path.with_name(f"{int(path.stem) + 1}.shipment")), "is missing"),
        (lambda path: path.write_bytes(b"\n".join([path.read_bytes().split(b"\n")[0], b"{}", b""])), "digest"),
    ],
)
def test_a_tampered_shipment_is_refused_and_named(
    here: Settings,
    database: Database,
    bank: Bank,
    start: Start,
    tmp_path: Path,
    tamper: Callable[[Path], object],
    said: str,
) -> None:
    follower, paths = start(), []
    series = follower._series
    for _ in range(3):
        pay(database, bank)
        follower.ship()
        paths = shipments.paths_of(here.backups_path, series, after=0)
    tamper(paths[1])
    with pytest.raises(BackupError, match=said) as caught:
        restore(here, tmp_path / "a")
    assert f"--until {paths[0].stem}" in str(caught.value)
    assert restore(here, tmp_path / "b", until=int(paths[0].stem)).shipments == 1


# --- kills ---

FOLLOW = """
import sys, threading
from core import failpoints
from core.services.backups.following import follow
from core.settings import load_settings
from core.storage.sqlite.engine import Database

settings = load_settings(_env_file=None)
follow(settings, Database(settings), settings.backups_path, 0.1, threading.Event(), progress=lambda *_: None,
       shipped=lambda header, *_: print(header.tick, flush=True))
"""


@pytest.mark.processes
@pytest.mark.parametrize("place", ["ship.before_backup", "ship.captured", "ship.before_name", "ship.after_name"])
def test_a_follower_killed_anywhere_loses_nothing_that_was_shipped(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path, place: str
) -> None:
    follower = start()
    pay(database, bank)
    follower.ship()
    shipped = rows(database, LEDGER)
    follower._log.close()
    if place == "ship.before_backup":  # the log begins again, so the next follower needs a new series
        pay(database, bank)
        checkpoint(database)
    environment = {
        "GIRO_DATA_DIR": str(here.data_dir),
        "PYTHONPATH": str(Path(core.__file__).parents[1]),
        "JWT_SECRET": JWT_SECRET,
        "GIRO_FAILPOINTS": f"{place}=exit",
    }
    if here.backup_key:
        environment["GIRO_BACKUP_KEY"] = KEY
    pay(database, bank)
    code = FOLLOW.replace("settings = load", f"failpoints.arm('{place}=exit')\nsettings = load")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    restore(here, tmp_path / "a")
    found = rows(Database(moved(here, tmp_path / "a")), LEDGER)
    assert found[: len(shipped)] == shipped
    start().ship()
    restored_equals(here, database, tmp_path / "b")


def test_two_followers_are_refused(here: Settings, database: Database) -> None:
    lock = followed_log.follower_lock(database.path)
    assert lock.take("the first one")
    with pytest.raises(BackupError, match="is followed already"):
        follow(here, database, here.backups_path, 1, threading.Event(), progress=quiet, shipped=quiet)
    lock.close()


def test_shipments_that_no_backup_needs_are_deleted(
    here: Settings, database: Database, bank: Bank, start: Start, tmp_path: Path
) -> None:
    follower = start()
    for _ in range(3):
        pay(database, bank)
        follower.ship()
    made, _ = making.make(here, database, here.backups_path, quiet)
    pay(database, bank)
    follower.ship()
    assert shipments.prune(here.backups_path, None) == 0
    making.prune(here.backups_path, 1, made)
    assert shipments.prune(here.backups_path, None) == 3
    assert restored_equals(here, database, tmp_path / "a").shipments == 1
