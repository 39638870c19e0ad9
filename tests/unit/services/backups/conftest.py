"""The bank for the tests of backups."""

import pytest

from core.storage.sqlite.engine import Database
from tests.builders import Bank, accepted, from_ada_to_bob, settle_all


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    """A bank with a deposit, a completed transfer and a pending one."""
    accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    accepted(database, from_ada_to_bob(bank, 40))
    return bank
