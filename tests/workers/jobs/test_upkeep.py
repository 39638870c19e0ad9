"""The jobs: verification, checkpoints, and deletion of old tokens."""

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from core.clock import now_us, to_datetime, to_us
from core.domain.errors import Unavailable
from core.ids import new_id
from core.settings import Settings
from core.storage import tokens
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import wal_bytes
from core.storage.unit_of_work import unit_of_work
from tests.builders import accepted, add_user, bank_of_two, from_ada_to_bob, rows, settle_all
from tests.time_travel import Clock
from workers.broker import _of_none
from workers.guard import Guard
from workers.jobs import JOBS, upkeep
from workers.jobs.job import Job


def test_verify_reports_a_good_ledger(database: Database, settings: Settings) -> None:
    bank_of_two(database, ada_has=500)
    assert upkeep.verify(database, settings).holds


def test_new_rows_are_verified_from_the_end_of_the_last_verification(database: Database, settings: Settings) -> None:
    bank = bank_of_two(database, ada_has=500)
    upkeep.verify(database, settings)
    accepted(database, from_ada_to_bob(bank))
    settle_all(database)
    for _ in range(2):
        assert upkeep.verify_recent(database, settings).holds
    found = rows(database, "SELECT scope, transactions, height FROM verifications ORDER BY id")
    assert [tuple(row.values()) for row in found] == [("full", 2, 1), ("recent", 2, 2), ("recent", 0, 2)]


def test_the_newest_block_is_anchored_once(database: Database, settings: Settings) -> None:
    bank_of_two(database, ada_has=500)
    for _ in range(2):
        upkeep.anchor(database, settings)
    (line,) = settings.anchor_path.read_text().splitlines()
    assert json.loads(line)["height"] == 1
    assert upkeep.verify(database, settings).anchors == 1


def test_unwritable_anchor_file_is_reported_and_stops_nothing(database: Database, settings: Settings) -> None:
    settings.anchor_path.mkdir()
    with capture_logs() as logs:
        upkeep.anchor(database, settings)
    (entry,) = [entry for entry in logs if entry["event"] == "anchor_not_written"]
    assert str(settings.anchor_path) in entry["path"]


def test_checkpoint_empties_the_log(database: Database, settings: Settings) -> None:
    bank_of_two(database, ada_has=500)
    assert wal_bytes(database) > 0
    upkeep.checkpoint(database, settings)
    assert wal_bytes(database) == 0


def test_checkpoints_are_timed_and_incomplete_ones_are_counted(settings: Settings, database_file: Path) -> None:
    impatient = Database(settings.model_copy(update={"sqlite_busy_ms": 0}))
    bank_of_two(impatient, ada_has=500)
    timed, blocked = "giro_checkpoint_duration_seconds_count", "giro_checkpoints_blocked_total"
    before = [REGISTRY.get_sample_value(name) or 0.0 for name in (timed, blocked)]
    with impatient.reader.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM accounts").all()  # from now on it keeps its snapshot
        upkeep.checkpoint(impatient, settings)
    upkeep.checkpoint(impatient, settings)
    assert [REGISTRY.get_sample_value(name) for name in (timed, blocked)] == [before[0] + 2, before[1] + 1]
    impatient.close()


def test_checkpoint_gives_up_on_a_reader_soon_and_keeps_the_writers_timeout(
    database: Database, settings: Settings
) -> None:
    bank_of_two(database, ada_has=500)
    with database.reader.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM accounts").all()
        begun = time.monotonic()
        upkeep.checkpoint(database, settings)
        assert time.monotonic() - begun < 2, "transfers wait during a checkpoint, and a backup reads for a long time"
    assert rows_of_writer(database, "PRAGMA busy_timeout") == [5000]


def rows_of_writer(database: Database, query: str) -> list[int]:
    with database.writer.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql(query)]


def test_only_expired_tokens_are_deleted(database: Database, settings: Settings) -> None:
    now = to_datetime(now_us())
    with unit_of_work(database) as connection:
        user = add_user(connection)
        for name, life in (("old", timedelta(seconds=-1)), ("young", timedelta(days=1))):
            tokens.add(
                connection,
                user_id=user.id,
                family=new_id(),
                digest=name.encode(),
                token_version=0,
                created_at=now,
                expires_at=now + life,
            )
    upkeep.forget_expired_tokens(database, settings)
    assert [row["digest"] for row in rows(database, "SELECT digest FROM refresh_tokens")] == [b"young"]


@pytest.mark.parametrize("job", [job.name for job in JOBS if not job.of_row])
def test_every_job_runs_from_a_message_whatever_its_content(broker: RedisBroker, job: str) -> None:
    broker.get_actor(job)("forged", unknown=1)


@pytest.mark.parametrize("error", [Unavailable, ZeroDivisionError])
def test_failed_job_is_not_repeated_before_its_next_time(database: Database, error: type[Exception]) -> None:
    def fail() -> None:
        raise error

    _of_none(Guard(database), Job(name="fails", work=fail), fail)()


def test_findings_of_a_verification_are_stored(database: Database, settings: Settings, clock: Clock) -> None:
    bank_of_two(database, ada_has=500)
    upkeep.verify(database, settings)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE accounts SET released_low = 7 WHERE kind = 'customer'")
    later = clock.advance(hours=24)
    upkeep.verify(database, settings)
    first, second = rows(database, "SELECT * FROM verifications ORDER BY id")
    assert (first["accounts"], first["transfers"], first["transactions"], first["breaches"]) == (3, 1, 2, 0)
    assert (first["details"], second["breaches"]) == ("[]", 2)
    assert second["started_at"] == second["finished_at"] == to_us(later)
    assert {rule for rule, *_ in json.loads(second["details"])} == {"reserved_is_pending"}
