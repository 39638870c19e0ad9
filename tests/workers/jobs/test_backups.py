"""The backup job: it makes a backup when one is due, deletes old ones, and reports failures."""

from pathlib import Path

import pytest
from dramatiq.brokers.redis import RedisBroker

from core.services.backups import making, manifests
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import bank_of_two, rows
from tests.time_travel import Clock
from workers.jobs.backups import BACK_UP, back_up


def kept(settings: Settings) -> list[Path]:
    return [path for path, _ in manifests.kept(settings.backups_path)]


def with_others(settings: Settings, **others: object) -> Settings:
    return settings.model_copy(update=others)


def test_message_makes_a_backup_whatever_its_content(
    settings: Settings, database: Database, broker: RedisBroker
) -> None:
    bank_of_two(database, ada_has=500)
    broker.get_actor(BACK_UP)("forged", unknown=1)
    (path,) = kept(settings)
    assert path.parent == settings.data_dir / "backups"
    assert manifests.read_manifest(path).counts["transfers"] == 1


def test_one_backup_is_made_when_the_newest_is_old(settings: Settings, database: Database, clock: Clock) -> None:
    for _ in range(3):
        back_up(database, settings)
        clock.advance(hours=1)
    assert len(kept(settings)) == 1
    clock.advance(hours=21)
    back_up(database, settings)
    assert len(kept(settings)) == 2


def test_manual_backup_counts(settings: Settings, database: Database) -> None:
    making.make(settings, database, settings.backups_path, lambda step, done, of: None)
    back_up(database, settings)
    assert len(kept(settings)) == 1


def test_oldest_backups_are_deleted_above_the_limit(settings: Settings, database: Database, clock: Clock) -> None:
    made = []
    for _ in range(4):
        back_up(database, with_others(settings, backup_keep=2))
        made.append(kept(settings)[-1])
        clock.advance(hours=24)
    assert kept(settings) == made[2:]


def test_no_backup_is_made_if_backups_are_off(settings: Settings, database: Database) -> None:
    back_up(database, with_others(settings, backup_hours=0.0))
    assert not settings.backups_path.exists()


def test_backups_go_to_the_configured_folder(settings: Settings, database: Database, tmp_path: Path) -> None:
    elsewhere = with_others(settings, backup_dir=tmp_path / "elsewhere")
    back_up(database, elsewhere)
    assert [path.parent for path in kept(elsewhere)] == [tmp_path / "elsewhere"]


def test_failed_backup_deletes_nothing_and_is_parked_after_repeated_failures(
    settings: Settings, database: Database, broker: RedisBroker, clock: Clock
) -> None:
    bank_of_two(database, ada_has=500)
    broker.get_actor(BACK_UP)()
    before = kept(settings)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET released_low = 1 WHERE kind = 'customer'")
    clock.advance(hours=24)
    for _ in range(3):
        broker.get_actor(BACK_UP)()
    assert kept(settings) == before
    (letter,) = rows(database, "SELECT actor, error FROM dead_letters WHERE parked_at IS NOT NULL")
    assert letter["actor"] == BACK_UP
    assert "LedgerBroken" in letter["error"]


@pytest.mark.parametrize("keep", [1, 3])
def test_newest_good_backup_always_exists(settings: Settings, database: Database, clock: Clock, keep: int) -> None:
    for number in range(4):
        back_up(database, with_others(settings, backup_keep=keep))
        assert len(kept(settings)) == min(number + 1, keep)
        clock.advance(hours=24)
