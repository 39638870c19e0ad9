"""A database that cannot be written: 503 before anything is recorded, and normal operation afterwards."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import httpx2
import pytest
from pysqlite3 import dbapi2
from starlette.types import Message, Receive, Scope, Send

from core.storage.sqlite.engine import Database
from core.storage.sqlite.glance import Glance
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import PASSWORD, Api, Pair, Person, Start, locked, payment, refused, until
from tests.api.contract import Json

HOLD_TURN = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1] + ".write.lock", os.O_RDWR), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
HOLD_DATABASE = """
import sys
from pysqlite3 import dbapi2
connection = dbapi2.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def another_process(code: str, database: Database) -> Iterator[None]:
    """Another process that holds a lock in the meantime."""
    command = [sys.executable, "-c", code, str(database.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
    assert process.returncode == 0


async def people(api: Api, database: Database) -> tuple[Person, Json, Json]:
    """Ada, her account with 100.00 USD, and a second account of hers."""
    ada = await api.sign_up("ada")
    payer, payee = await ada.open(), await ada.open()
    builders.fund(database, UUID(payer["id"]), 10_000)
    return ada, payer, payee


@pytest.mark.parametrize("code", [HOLD_TURN, HOLD_DATABASE], ids=["the turn", "the database"])
async def test_a_lock_of_another_process_records_nothing_and_afterwards_all_works(
    start: Start, database: Database, code: str
) -> None:
    async with start(intake_seconds=0.5, sqlite_busy_ms=50) as api:
        ada, payer, payee = await people(api, database)
        before = builders.ledger(database)
        headers = {"Idempotency-Key": "k"}
        with another_process(code, database):
            writes = await asyncio.gather(
                ada.post("/transfers", payment(payer, payee), headers=headers),
                ada.post("/accounts", {"currency": "USD"}),
                api.client.post("/signup", json={"email": "eve@example.com", "password": PASSWORD}),
                api.client.post("/login", data={"username": ada.email, "password": PASSWORD}),
                api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token}),
            )
            for answer in writes:
                refused(answer, 503, "unavailable")
                assert answer.headers["retry-after"] == "1"
            assert (await ada.account(payer["id"]))["balance"] == 10_000  # reads still work
        assert builders.ledger(database) == before
        answer = await ada.post("/transfers", payment(payer, payee), headers=headers)
        assert answer.status_code == 202
        assert "idempotent-replayed" not in answer.headers
        assert (await api.client.post("/token/refresh", json={"refresh_token": ada.refresh_token})).status_code == 200


async def test_one_request_beyond_the_waiting_limit_is_rejected_at_once(start: Start, database: Database) -> None:
    async with start(intake_waiting=4) as api:
        ada, payer, payee = await people(api, database)
        with locked(database):
            calls = [asyncio.ensure_future(ada.post("/transfers", payment(payer, payee))) for _ in range(6)]
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=4)
            refused(next(iter(done)).result(), 503, "unavailable")
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status_code for answer in answers) == [202] * 4 + [503] * 2


async def test_a_full_disk_is_answered_503_until_it_has_room(
    api: Api, ada: Person, pair: Pair, database: Database
) -> None:
    connection: Any = api.runtime.database.writer.raw_connection().driver_connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    accepted, answer = 0, None
    for _ in range(500):
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 1, description="x" * 140))
        if answer.status_code != 202:
            break
        accepted += 1
    assert answer is not None
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert (await ada.account(pair.payer["id"]))["available"] == 10_000 - accepted
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()
    await ada.pay(pair.payer, pair.payee, 1)
    assert len(builders.rows(database, "SELECT id FROM transfers WHERE kind = 'transfer'")) == accepted + 1


async def test_a_read_only_database_is_answered_503(api: Api, ada: Person, pair: Pair) -> None:
    connection: Any = api.runtime.database.writer.raw_connection().driver_connection
    connection.execute("PRAGMA query_only = ON")
    refused(await ada.post("/transfers", payment(pair.payer, pair.payee)), 503, "unavailable")
    connection.execute("PRAGMA query_only = OFF")
    await ada.pay(pair.payer, pair.payee)


class TestACommitThatFails:
    """A reference to a missing row, written with each transfer and checked only at COMMIT, makes it fail."""

    BREAK = (
        "CREATE TABLE broken (user_id INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER no_commit AFTER INSERT ON transfers BEGIN INSERT INTO broken VALUES (999999); END",
    )
    NO_FENCE = "CREATE TRIGGER no_fence BEFORE UPDATE ON fences BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"

    def run(self, database: Database, *statements: str) -> None:
        with unit_of_work(database) as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    async def test_is_answered_unavailable_if_the_fence_succeeded(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        self.run(database, *self.BREAK)
        headers = {"Idempotency-Key": "k"}
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=headers)
        refused(answer, 503, "unavailable")
        assert (await ada.account(pair.payer["id"]))["available"] == 10_000

    async def test_is_answered_with_an_unknown_outcome_if_the_fence_failed_and_a_retry_tells(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        self.run(database, *self.BREAK, self.NO_FENCE)
        headers = {"Idempotency-Key": "k"}
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=headers)
        refused(answer, 503, "outcome_unknown")
        assert answer.headers["retry-after"] == "1"
        self.run(database, "DROP TRIGGER no_commit")
        again = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=headers)
        assert again.status_code == 202
        assert "idempotent-replayed" not in again.headers


async def test_a_failed_read_is_answered_503(api: Api, ada: Person, database_file: Path) -> None:
    await api.runtime.database.async_reader.dispose()  # an open connection would still read the renamed file
    database_file.rename(database_file.with_name("away.db"))
    answer = await ada.get("/accounts")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


class TestWhatWasRecorded:
    """A failed read after a commit must not claim that nothing was recorded: clients would submit it again."""

    @pytest.fixture
    async def lost(self, api: Api, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """The database file disappears as soon as something has been committed."""
        assert pair, "made before the file disappears"
        path = api.runtime.database.path
        away = path.with_suffix(".away")
        await api.runtime.database.async_reader.dispose()
        with monkeypatch.context() as patched:
            patched.setattr(
                "api.runtime.intake.hit", lambda point: path.rename(away) if point == "accept.after_commit" else None
            )
            yield
        away.rename(path)

    @pytest.mark.usefixtures("lost")
    async def test_is_answered_202_even_if_its_end_cannot_be_read(self, ada: Person, pair: Pair) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee), headers={"Prefer": "wait=0"})
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")

    @pytest.mark.usefixtures("lost")
    async def test_is_stated_if_the_answer_has_to_be_read(self, ada: Person) -> None:
        answer = await ada.post("/accounts", {"currency": "USD"})
        refused(answer, 503, "outcome_unknown")
        assert "It was recorded" in answer.json()["detail"]
        refused(await ada.get("/accounts"), 503, "unavailable")


async def test_no_reading_session_is_kept_until_a_client_reads_its_answer(api: Api, ada: Person) -> None:
    pool: Any = api.runtime.database.async_reader.sync_engine.pool
    in_use: list[int] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def note_and_send(message: Message) -> None:
            in_use.append(pool.checkedout())
            await send(message)

        await api.app(scope, receive, note_and_send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(watched), base_url="http://giro.test") as client:
        answer = await client.get("/accounts", headers={"Authorization": f"Bearer {ada.token}"})
    assert answer.status_code == 200
    assert set(in_use) == {0}


async def test_a_job_whose_file_cannot_be_written_does_not_affect_its_group(
    api: Api, ada: Person, operator: Person, pair: Pair, database: Database
) -> None:
    with unit_of_work(database) as connection:
        gone = builders.add_user(connection, "gone@example.com")
    builders.deactivate(database, gone)
    api.runtime.settings.erasures_path.mkdir()  # a folder in place of the list
    with locked(database):
        erased = asyncio.ensure_future(operator.post(f"/operator/users/{gone.public_id}/erase"))
        paid = asyncio.ensure_future(ada.post("/transfers", payment(pair.payer, pair.payee)))
        await until(lambda: len(api.runtime.intake._jobs) == 2)
    refused(await erased, 503, "unavailable")
    assert (await paid).status_code == 202


async def test_a_batch_is_answered_503_if_users_cannot_be_looked_up(
    ada: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dbapi2.OperationalError("disk I/O error")
    broken.sqlite_errorname = "SQLITE_IOERR_READ"
    body = {"mode": "independent", "transfers": [payment(pair.payer, pair.payee)]}
    with monkeypatch.context() as patched:
        patched.setattr(Glance, "identity", Mock(side_effect=broken))
        refused(await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "k"}), 503, "unavailable")
    assert (await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "k"})).status_code == 202
