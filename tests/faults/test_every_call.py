"""The n-th call to the disk fails: every n where that takes seconds, and a sample of the others.

`make faults-all` tries every n of every call.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import core
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import accepted, from_ada_to_bob, settle_all
from tests.faults.every.operation import DONE, TRIES, UNAVAILABLE, Operation, Said
from tests.faults.every.operations import OPERATIONS
from tests.faults.every.operations.commands import giro
from tests.faults.every.shim import why_impossible
from tests.old_ledger import upgrade

HOME = Path(core.__file__).parents[1]
IMPOSSIBLE = why_impossible()
can_fail = pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))
pytestmark = [pytest.mark.compiler, pytest.mark.timeout(600)]

EVERY_OUTCOME = {"done", "unavailable", "outcome_unknown", "killed", "not reached"}
SAMPLE = {"accept": 25, "settle": 25, "start": 70, "backup": 120}
"""Operation → only each call with this distance is tried here."""


def outcomes(*options: str) -> Counter[str]:
    """Run trials, which must have no findings, and count their outcomes."""
    command = [sys.executable, "-m", "tests.faults.every", "--json", "--quiet", *options]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    (result,) = json.loads(done.stdout)
    assert result["findings"] == []
    counted: Counter[str] = Counter()
    for row in result["outcomes"]:
        counted.update({word: figure for word, figure in row.items() if isinstance(figure, int)})
    assert counted.total() == result["trials"] > 0
    return counted


@can_fail
def test_every_failed_sync_of_an_acceptance_is_answered_truthfully() -> None:
    assert outcomes("--operation", "accept", "--call", "sync").keys() == EVERY_OUTCOME


@can_fail
def test_every_failed_sync_of_a_settlement_is_answered_truthfully() -> None:
    assert outcomes("--operation", "settle", "--call", "sync").keys() == EVERY_OUTCOME


@can_fail
def test_start_survives_every_failed_truncation() -> None:
    assert outcomes("--operation", "start", "--call", "truncate")["killed"] > 0


@can_fail
@pytest.mark.parametrize("operation", ["accept", "settle", "start", "backup"])
def test_sampled_faults_of_every_kind_are_survived(operation: str) -> None:
    found = outcomes("--operation", operation, "--step", str(SAMPLE[operation]))
    assert found["killed"] > 0
    assert found["unavailable"] > 0


@can_fail
def test_sampled_faults_of_a_migration_leave_a_state_that_it_commits() -> None:
    assert outcomes("--operation", "migrate", "--step", "70")["killed"] > 0


# --- the judges ------------------------------------------------------------------------------------------------------


@contextmanager
def prepared(name: str, settings: Settings) -> Iterator[tuple[Operation, Any]]:
    """Prepare the data folder of an operation."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    yield OPERATIONS[name], OPERATIONS[name].prepare(settings)


@pytest.fixture
def here(clean_environment: pytest.MonkeyPatch, settings: Settings) -> Settings:
    """The settings of a test, in the environment too, for commands."""
    clean_environment.setenv("GIRO_DATA_DIR", str(settings.data_dir))
    return settings


@pytest.mark.parametrize("name", ["settle", "migrate", "backup", "start"])
def test_what_was_said_to_be_done_and_was_not_is_found(name: str, here: Settings) -> None:
    with prepared(name, here) as (operation, facts):
        said: list[Said] = [{"what": DONE}]
        assert operation.judge(here, facts, said)


def test_lost_doubled_and_refused_transfers_are_found(here: Settings) -> None:
    with prepared("accept", here) as (operation, bank):
        database = Database(here)
        transfer = accepted(database, from_ada_to_bob(bank, 1, idempotency_key="a"))
        database.close()
        lost: Said = {"what": DONE, "key": "b", "id": str(uuid4())}
        refused: Said = {"what": UNAVAILABLE, "key": "a"}
        doubled: Said = {"what": DONE, "key": "a", "id": str(uuid4())}
        found = operation.judge(here, bank, [lost, *[refused] * TRIES])
        assert [finding.split()[0] for finding in found] == ["a", "b", "b,"]
        assert operation.judge(here, bank, [doubled])
        assert operation.judge(here, bank, [doubled | {"id": str(transfer.id)}]) == []


def test_half_a_migration_is_found(here: Settings) -> None:
    with prepared("migrate", here) as (operation, facts):
        upgrade(here, "0008")
        assert "the ledger is in no state that the migration commits" in operation.judge(here, facts, [])


def test_migration_of_a_trial_commits_several_times(here: Settings) -> None:
    with prepared("migrate", here) as (_, facts):
        assert len(facts.states) == 5


def test_ledger_that_lost_money_after_the_start_is_found(here: Settings) -> None:
    with prepared("start", here) as (operation, facts):
        database = Database(here)
        settle_all(database, batch=2)
        with database.writer.begin() as connection:
            connection.exec_driver_sql("UPDATE accounts SET balance = balance - 1 WHERE kind = 'customer'")
        database.close()
        assert any("balance_is_sum_of_legs" in finding for finding in operation.judge(here, facts, []))


def test_torn_backup_with_a_manifest_is_found(here: Settings) -> None:
    with prepared("backup", here) as (operation, facts):
        giro(lambda *_, **__: None, "backup")
        (path,) = here.backups_path.glob("giro-*.db")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert any("cannot be restored" in finding for finding in operation.judge(here, facts, []))
