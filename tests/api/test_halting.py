"""A ledger whose end was cut off: the first cancellation that finds it is rejected, and the finding is stored."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Connection

from core.domain.transfers import AcceptedTransfer, TransferStatus
from core.security.access_tokens import Claims
from core.services.verification import find_breach
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import Api, Person, Start, locked, refused, until
from tests.builders import Bank
from tests.tampering import tamper

RULES = ("blocks_are_whole", "lanes_go_on")


@pytest.fixture
def pending(database: Database, bank: Bank) -> AcceptedTransfer:
    """A pending transfer of Ada, in a ledger that has since lost its last legs."""
    transfer = builders.accepted(database, builders.from_ada_to_bob(bank))
    tamper(database, "DELETE FROM transactions WHERE id IN (1, 2)")
    return transfer


def signed_in(api: Api, person: builders.Person) -> Person:
    token = api.runtime.access_tokens.issue(Claims(person.public_id, 0))
    return Person(api.client, person.email, token, refresh_token="")


def kept(database: Database) -> list[tuple[int, bool]]:
    """Count the breaches of each stored verification, and return whether it names both rules of this ledger."""
    found = builders.rows(database, "SELECT breaches, details FROM verifications")
    return [(row["breaches"], all(rule in row["details"] for rule in RULES)) for row in found]


async def test_a_breach_found_by_a_cancellation_is_stored_although_the_cancellation_is_rolled_back(
    start: Start, database: Database, bank: Bank, pending: AcceptedTransfer
) -> None:
    async with start() as api:
        ada, path = signed_in(api, bank.ada), f"/transfers/{pending.id}/cancel"
        assert (await api.health())["checks"]["ledger"]["status"] == "ok"
        body = refused(await ada.post(path), 503, "unavailable")
        assert "does not verify" in body["detail"]
        assert kept(database) == [(2, True)]
        ledger = (await api.health())["checks"]["ledger"]
        assert (ledger["status"], ledger["breaches"]) == ("degraded", 2)
        refused(await ada.post(path), 503, "unavailable")
        assert kept(database) == [(2, True)], "it is stored once"
    assert builders.settle_all(database) == 0
    assert builders.status_of(database, pending) is TransferStatus.PENDING
    assert kept(database) == [(2, True)]


async def test_settlement_stays_halted_even_if_the_end_looks_whole_again(
    start: Start, database: Database, bank: Bank, pending: AcceptedTransfer
) -> None:
    async with start() as api:
        refused(await signed_in(api, bank.ada).post(f"/transfers/{pending.id}/cancel"), 503, "unavailable")
    tamper(
        database,
        "UPDATE blocks SET leg_count = 0 WHERE height = 1",
        "UPDATE lanes SET next_id = 1 WHERE name = 'settle'",
    )
    with database.reader.connect() as connection:
        assert find_breach(connection) is None
    assert builders.settle_all(database) == 0
    assert builders.status_of(database, pending) is TransferStatus.PENDING


async def test_a_breach_is_stored_even_if_another_request_breaks_the_group_that_found_it(
    start: Start, database: Database, bank: Bank, pending: AcceptedTransfer
) -> None:
    def break_down(_connection: Connection) -> None:
        raise ZeroDivisionError

    async with start() as api:
        ada, path = signed_in(api, bank.ada), f"/transfers/{pending.id}/cancel"
        with locked(database):
            cancelling = asyncio.ensure_future(ada.post(path))
            breaking = asyncio.ensure_future(api.runtime.intake.run(break_down))
            # Both wait for the lock, so they are in one group; it is rolled back, and each is written alone.
            await until(lambda: REGISTRY.get_sample_value("giro_intake_waiting") == 2)
        refused(await cancelling, 503, "unavailable")
        with pytest.raises(ZeroDivisionError):
            await breaking
    assert kept(database) == [(2, True)]
