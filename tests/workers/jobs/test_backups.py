"""The job that makes backups: one when it is due, no more than are kept, and a failure that is seen."""

from pathlib import Path

import pytest
from dramatiq.brokers.redis import RedisBroker

from core.services.backups import making
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import bank_of_two, rows
from tests.time_travel import Clock
from workers.jobs.backups import BACK_UP, back_up


def kept(settings: Settings) -> list[Path]:
    return [path for path, _ in making.kept(settings.backups_path)]


def with_others(settings: Settings, **others: object) -> Settings:
    return settings.model_copy(update=others)


def test_a_message_makes_a_backup_whatever_it_says(settings: Settings, database: Database, broker: RedisBroker) -> None:
    bank_of_two(database, ada_has=500)
    broker.get_actor(BACK_UP)("forged", unknown=1)
    (path,) = kept(settings)
    assert path.parent == settings.data_dir / "backups"
    assert making.read_manifest(path).counts["transfers"] == 1


def test_one_is_made_when_the_newest_is_old_however_often_it_is_looked(
    settings: Settings, database: Database, clock: Clock
) -> None:
    for _ in range(3):
        back_up(database, settings)
        clock.advance(hours=1)
    assert len(kept(settings)) == 1
    clock.advance(hours=21)
    back_up(database, settings)
    assert len(kept(settings)) == 2


def test_one_that_was_made_by_hand_counts(settings: Settings, database: Database) -> None:
    making.make(settings, database, settings.backups_path, lambda step, done, of: None)
    back_up(database, settings)
    assert len(kept(settings)) == 1


def test_older_ones_go_when_there_are_too_many(settings: Settings, database: Database, clock: Clock) -> None:
    made = []
    for _ in range(4):
        back_up(database, with_others(settings, backup_keep=2))
        made.append(kept(settings)[-1])
        clock.advance(hours=24)
    assert kept(settings) == made[2:]


def test_none_is_made_where_none_is_wanted(settings: Settings, database: Database) -> None:
    back_up(database, with_others(settings, backup_hours=0.0))
    assert not settings.backups_path.exists()


def test_they_go_where_the_setting_says(settings: Settings, database: Database, tmp_path: Path) -> None:
    elsewhere = with_others(settings, backup_dir=tmp_path / "elsewhere")
    back_up(database, elsewhere)
    assert [path.parent for path in kept(elsewhere)] == [tmp_path / "elsewhere"]


def test_one_that_fails_deletes_nothing_and_is_parked_when_it_keeps_failing(
    settings: Settings, database: Database, broker: RedisBroker, clock: Clock
) -> None:
    bank_of_two(database, ada_has=500)
    broker.get_actor(BACK_UP)()
    before = kept(settings)
    with database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET reserved = 1 WHERE kind = 'customer'")
    clock.advance(hours=24)
    for _ in range(3):
        broker.get_actor(BACK_UP)()
    assert kept(settings) == before
    (letter,) = rows(database, "SELECT actor, error FROM dead_letters WHERE parked_at IS NOT NULL")
    assert letter["actor"] == BACK_UP
    assert "LedgerBroken" in letter["error"]


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_good_one_is_there_at_every_moment(
    settings: Settings, database: Database, clock: Clock, keep: int
) -> None:
    for number in range(4):
        back_up(database, with_others(settings, backup_keep=keep))
        assert len(kept(settings)) == min(number + 1, keep)
        clock.advance(hours=24)
