"""A long migration commits in chunks, continues after an interruption, and ends with the same rows."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import core
from core.domain.errors import Unavailable
from core.failpoints import StruckError
from core.settings import Settings
from core.storage import engines
from core.storage import unit_of_work as units
from core.storage.engines import SCHEMA_REVISION, DatabaseError
from core.storage.sqlite import migrating
from core.storage.sqlite.engine import Database
from core.storage.sqlite.turnstile import Turnstile
from tests.old_ledger import REVISION, fill_old_ledger, head_of_rows, upgrade
from tests.unit.storage.long_migrations.ledgers import (
    BEFORE,
    BEGUN,
    CHUNK,
    CHUNKS,
    TRANSFERS,
    Content,
    content,
    moved,
    revision,
)


@pytest.mark.usefixtures("small_chunks")
def test_upgrade_in_chunks_ends_with_the_rows_of_one_transaction(
    settings: Settings, ledger: Path, at_once: Content
) -> None:
    with capture_logs() as lines:
        upgrade(settings, "head")
    assert content(ledger) == at_once
    told = [(line["table"], line["done"], line["of"]) for line in lines if line["event"] == "migration_progress"]
    assert told == [("transfers", done, TRANSFERS) for done in (0, 50, 100, 150, 200)]


def test_short_upgrade_commits_once(settings: Settings, ledger: Path, armed: Callable[[str | None], None]) -> None:
    armed("migrate.after_commit=raise")
    with capture_logs() as lines, pytest.raises(StruckError):
        upgrade(settings, "head")
    assert revision(ledger) == SCHEMA_REVISION
    assert "migration_progress" not in {line["event"] for line in lines}


@pytest.mark.parametrize("chunk", [5, 49, 229])
def test_upgrade_that_fails_after_each_commit_continues_after_it(
    settings: Settings,
    ledger: Path,
    at_once: Content,
    armed: Callable[[str | None], None],
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
) -> None:
    monkeypatch.setattr(migrating, "ROWS", chunk)
    armed("migrate.after_commit=raise")
    commits = 0
    while commits == 0 or revision(ledger) != SCHEMA_REVISION:
        with pytest.raises(StruckError):
            upgrade(settings, "head")
        commits += 1
    accounts, transfers = -(-6 // chunk) - 1, -(-TRANSFERS // chunk) - 1
    assert commits == accounts + transfers + 1
    assert content(ledger) == at_once


@pytest.mark.usefixtures("small_chunks")
def test_other_processes_get_their_turn_between_the_commits(settings: Settings, ledger: Path) -> None:
    """A follower of the log, for example, which alone can shorten it."""
    seen: set[object] = set()
    is_over = threading.Event()

    def take_turns() -> None:
        turnstile = Turnstile(ledger)
        while not is_over.is_set():
            with turnstile.turn():
                seen.add(revision(ledger))
        turnstile.close()

    other = threading.Thread(target=take_turns)
    other.start()
    upgrade(settings, "head")
    is_over.set()
    other.join()
    assert BEGUN in seen


def child(path: Path, failpoint: str) -> int:
    """Upgrade in another process, and return its exit status."""
    script = f"""
import sys
from pathlib import Path
from core.settings import load_settings
from core.storage.sqlite import migrating
from core.storage.sqlite.turnstile import Turnstile
from tests.old_ledger import upgrade
migrating.ROWS = {CHUNK}
upgrade(load_settings(_env_file=None, data_dir=Path({str(path.parent)!r})), "head")
"""
    environment = os.environ | {"GIRO_FAILPOINTS": failpoint}
    home = Path(core.__file__).parents[1]
    return subprocess.run([sys.executable, "-c", script], cwd=home, env=environment, check=False).returncode


@pytest.mark.processes
def test_upgrade_that_is_killed_after_each_commit_continues_after_it(ledger: Path, at_once: Content) -> None:
    for number in range(1, CHUNKS):
        assert child(ledger, "migrate.after_commit=exit") == -signal.SIGKILL
        assert (revision(ledger), moved(ledger)) == (BEGUN, number * CHUNK)
    assert child(ledger, "migrate.after_commit=exit") == -signal.SIGKILL
    assert content(ledger) == at_once


@pytest.mark.processes
def test_upgrade_that_is_killed_before_a_commit_loses_nothing(ledger: Path, at_once: Content) -> None:
    before = content(ledger)
    assert child(ledger, "migrate.before_commit=exit") == -signal.SIGKILL
    assert content(ledger) == before
    assert child(ledger, "migrate.after_commit=exit") == -signal.SIGKILL
    begun = content(ledger)
    assert child(ledger, "migrate.before_commit=exit") == -signal.SIGKILL
    assert content(ledger) == begun
    assert child(ledger, "") == 0
    assert content(ledger) == at_once


@pytest.mark.usefixtures("small_chunks")
def test_upgrade_that_begins_with_an_early_ledger_continues_too(
    settings: Settings, armed: Callable[[str | None], None]
) -> None:
    upgrade(settings, REVISION)
    fill_old_ledger(settings.database_path, TRANSFERS)
    armed("migrate.after_commit=raise:1")
    with pytest.raises(StruckError):
        upgrade(settings, "head")
    assert revision(settings.database_path) == BEGUN
    upgrade(settings, "head")
    assert revision(settings.database_path) == SCHEMA_REVISION
    stored, computed = head_of_rows(settings.database_path)
    assert stored == computed


# --- other versions of Giro ---


def test_earlier_version_refuses_a_database_whose_upgrade_has_begun(
    settings: Settings, begun: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(begun.path)
    for module in (engines, units):
        monkeypatch.setattr(module, "SCHEMA_REVISION", BEFORE)
    message = f"is at migration {BEGUN}, from a newer Giro; this one knows those up to {BEFORE}"
    with pytest.raises(DatabaseError, match=message):
        begun.require_schema()
    with pytest.raises(DatabaseError, match=message):
        upgrade(settings, "head")
    with pytest.raises(Unavailable), units.unit_of_work(begun):
        pytest.fail("an earlier version would write")
    assert content(begun.path) == before


def test_this_version_does_not_start_before_the_upgrade_is_finished(begun: Database) -> None:
    with pytest.raises(DatabaseError, match=f"is at migration {BEGUN}, this Giro needs {SCHEMA_REVISION}: run"):
        begun.require_schema()
    with pytest.raises(Unavailable), units.unit_of_work(begun):
        pytest.fail("it would write")
