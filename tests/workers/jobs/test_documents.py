"""The jobs that make large documents: in fair order, once, and only while their owners want them."""

import asyncio
import os
import signal
import stat
from typing import Any
from uuid import UUID

import pytest
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import new_id
from core.services import accounts
from core.services.statements import documents, reading
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, Person, accepted, add_document, from_ada_to_bob, rows, settle_all
from tests.months import BANK, UTC_ZONE
from tests.time_travel import Clock
from workers.jobs.documents import DOCUMENTS_QUEUE, FORGET_DOCUMENTS, MAKE_DOCUMENT
from workers.schedule import send_due

CSV, PDF = "text/csv", "application/pdf"


@pytest.fixture
def bank(clock: Clock, database: Database, bank: Bank) -> Bank:
    """A bank in which Ada has paid Bob 1, 2 and 3."""
    for amount in (1, 2, 3):
        accepted(database, from_ada_to_bob(bank, amount))
    settle_all(database)
    return bank


async def ask(
    database: Database, settings: Settings, person: Person, account: UUID, media_type: str = CSV
) -> dict[str, Any]:
    """Ask for the document of the current month, and return its row."""
    async with AsyncSession(database.async_reader) as session:
        found = await accounts.get(session, user_id=person.id, account_id=account)
        month = await reading.of_month(session, account=found, period=None, zone=UTC_ZONE, bank=BANK)
    await database.async_reader.dispose()
    new = documents.wanted(settings, user_id=person.id, month=month, media_type=media_type)
    with unit_of_work(database) as connection:
        document = documents.ask(connection, settings, new)
    return rows(database, "SELECT * FROM documents WHERE public_id = ?", document.bytes)[0]


@pytest.fixture
async def asked(database: Database, settings: Settings, bank: Bank) -> dict[str, Any]:
    """A document that Ada has asked for."""
    return await ask(database, settings, bank.ada, bank.ada_account)


def made(database: Database) -> list[int]:
    return [row["id"] for row in rows(database, "SELECT id FROM documents WHERE made_at IS NOT NULL ORDER BY id")]


def files(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.documents_path.iterdir()) if settings.documents_path.exists() else []


def file_of(row: dict[str, Any]) -> str:
    return str(UUID(bytes=row["public_id"]))


def sent(database: Database, broker: RedisBroker) -> list[int]:
    """Send what is due, and take the row ids in the messages for documents out of the queue, as a worker does."""
    send_due(database, broker, UTC_ZONE)
    kept = broker.client.hvals(f"dramatiq:{DOCUMENTS_QUEUE}.msgs")
    ids = broker.client.lrange(f"dramatiq:{DOCUMENTS_QUEUE}", 0, -1)
    assert len(kept) == len(ids)
    by_id = {message.options["redis_message_id"]: message.args[0] for message in map(Message.decode, kept)}
    broker.flush(DOCUMENTS_QUEUE)
    return [by_id[one.decode()] for one in ids]


def test_message_makes_the_document_in_a_private_file(
    database: Database, settings: Settings, broker: RedisBroker, asked: dict[str, Any]
) -> None:
    before = REGISTRY.get_sample_value("giro_document_duration_seconds_count", {"maker": "job"}) or 0
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    (path,) = settings.documents_path.iterdir()
    assert path.name == file_of(asked)
    assert path.read_bytes().startswith(b"type,sequence")
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    assert made(database) == [asked["id"]]
    assert REGISTRY.get_sample_value("giro_document_duration_seconds_count", {"maker": "job"}) == before + 1


def test_message_delivered_twice_makes_the_document_once(
    database: Database, settings: Settings, broker: RedisBroker, asked: dict[str, Any]
) -> None:
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    (path,) = settings.documents_path.iterdir()
    first = path.stat().st_mtime_ns
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert path.stat().st_mtime_ns == first


@pytest.mark.parametrize("arguments", [(), (0,), (2**63,), ("1",), (True,), (999,)], ids=repr)
def test_forged_message_makes_nothing(
    database: Database, settings: Settings, broker: RedisBroker, asked: dict[str, Any], arguments: tuple[Any, ...]
) -> None:
    broker.get_actor(MAKE_DOCUMENT)(*arguments)
    assert (made(database), files(settings), rows(database, "SELECT id FROM dead_letters")) == ([], [], [])


def test_expired_document_is_not_made(
    database: Database, settings: Settings, broker: RedisBroker, asked: dict[str, Any], clock: Clock
) -> None:
    clock.advance(hours=12)
    assert sent(database, broker) == []
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert (made(database), files(settings)) == ([], [])


def test_lost_message_is_sent_again(database: Database, broker: RedisBroker, asked: dict[str, Any]) -> None:
    assert sent(database, broker) == [asked["id"]]
    assert sent(database, broker) == [asked["id"]]
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert sent(database, broker) == []


def test_round_has_one_document_of_each_user(database: Database, broker: RedisBroker, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        for _ in range(4):
            add_document(connection, bank.ada, bank.ada_account, new_id())
        add_document(connection, bank.bob, bank.bob_account, new_id())
    ids = {
        row["id"]: row["owner_id"] for row in rows(database, "SELECT id, owner_id FROM documents WHERE made_at IS NULL")
    }
    of_ada = [row for row, owner in ids.items() if owner == bank.ada.id]
    of_bob = [row for row, owner in ids.items() if owner == bank.bob.id]
    assert sent(database, broker) == [of_ada[0], *of_bob]


def test_parked_document_does_not_block_the_others_of_its_user(
    database: Database, broker: RedisBroker, bank: Bank
) -> None:
    with unit_of_work(database) as connection:
        for _ in range(2):
            add_document(connection, bank.ada, bank.ada_account, new_id())  # `{}` is no statement
    first, second = (row["id"] for row in rows(database, "SELECT id FROM documents ORDER BY id"))
    for _ in range(3):
        assert sent(database, broker) == [first]
        broker.get_actor(MAKE_DOCUMENT)(first)
    assert len(rows(database, "SELECT id FROM dead_letters WHERE parked_at IS NOT NULL")) == 1
    assert sent(database, broker) == [second]


@pytest.mark.processes
def test_killed_drawing_counts_as_a_failure_and_the_next_message_makes_the_document(
    database: Database,
    settings: Settings,
    broker: RedisBroker,
    asked: dict[str, Any],
    own_drawing: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reading, "draw", end_the_process)
        broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert (made(database), files(settings)) == ([], [])
    assert [row["attempts"] for row in rows(database, "SELECT attempts FROM dead_letters")] == [1]
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert made(database) == [asked["id"]]


def end_the_process(*_ignored: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_file_that_cannot_be_written_postpones_the_document(
    database: Database, settings: Settings, broker: RedisBroker, asked: dict[str, Any]
) -> None:
    settings.documents_path.write_text("in the place of the folder")
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert (made(database), rows(database, "SELECT id FROM dead_letters")) == ([], [])
    settings.documents_path.unlink()
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert made(database) == [asked["id"]]


def test_document_whose_owner_is_erased_while_it_is_drawn_leaves_no_file(
    database: Database, settings: Settings, broker: RedisBroker, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def erase(_failpoint: str) -> None:
        with unit_of_work(database) as connection:
            documents.forget_all_of(connection, settings.documents_path, asked["owner_id"])
        settings.documents_path.joinpath(file_of(asked)).write_text("written by the job after the erasure")

    monkeypatch.setattr(documents, "hit", erase)
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    assert (rows(database, "SELECT id FROM documents"), files(settings)) == ([], [])


async def test_user_keeps_only_the_newest_documents(
    database: Database, settings: Settings, broker: RedisBroker, bank: Bank, clock: Clock
) -> None:
    few = settings.model_copy(update={"documents_kept": 2})
    asked = [
        await ask(database, settings, bank.ada, bank.ada_account, media_type)
        for media_type in (CSV, PDF, "application/xml")
    ]
    of_bob = await ask(database, settings, bank.bob, bank.bob_account)

    for row in (of_bob, *asked):
        clock.advance(seconds=1)
        await asyncio.to_thread(documents.make, database, few, row["id"])
    assert made(database) == sorted(row["id"] for row in (of_bob, *asked[1:]))
    assert files(settings) == sorted(map(file_of, (of_bob, *asked[1:])))


def test_expired_documents_and_files_without_a_document_are_deleted(
    database: Database, settings: Settings, broker: RedisBroker, bank: Bank, asked: dict[str, Any], clock: Clock
) -> None:
    broker.get_actor(MAKE_DOCUMENT)(asked["id"])
    stray = settings.documents_path / str(new_id())
    draft = settings.documents_path / f"{new_id()}.0123456789abcdef"
    stray.touch()
    draft.touch()
    broker.get_actor(FORGET_DOCUMENTS)()
    assert files(settings) == [file_of(asked)]
    clock.advance(hours=12)
    broker.get_actor(FORGET_DOCUMENTS)()
    assert (files(settings), rows(database, "SELECT id FROM documents")) == ([], [])
