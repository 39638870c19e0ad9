"""The bank whose rows the schema tests try to change."""

import pytest

from core.domain.transfers import TransferStatus
from core.services.transfers import cancelling
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import WHOLE_TRANSFERS, Bank, accepted, freeze, from_ada_to_bob, rows, settle_all


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    """A bank with a transfer of every status, and legs."""
    cancelled = accepted(database, from_ada_to_bob(bank, idempotency_key="cancelled"))
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    accepted(database, from_ada_to_bob(bank, idempotency_key="failed"))
    freeze(database, bank.bob_account)
    settle_all(database)
    accepted_before_the_freeze = rows(
        database, f"SELECT status FROM {WHOLE_TRANSFERS} WHERE idempotency_key = 'failed'"
    )
    assert accepted_before_the_freeze == [{"status": TransferStatus.FAILED.value}]
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE accounts SET status = 'active', freeze_scope = NULL")
    accepted(database, from_ada_to_bob(bank, idempotency_key="pending", description="for lunch"))
    return bank
