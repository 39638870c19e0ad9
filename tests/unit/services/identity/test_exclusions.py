"""The list of excluded users: wherever the machine stops, a deactivated user is on it."""

from pathlib import Path

import pytest

from core.domain.audit import Author
from core.domain.errors import Unavailable
from core.files import exclusions
from core.services.identity import operators
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, user_row
from tests.builders import author as author_of

LISTED = Path("exclusions")
"""In the test's own folder."""


@pytest.fixture
def author() -> Author:
    return author_of(1)


def deactivate(database: Database, bank: Bank, author: Author) -> None:
    with unit_of_work(database) as connection:
        operators.deactivate(connection, author, LISTED, bank.ada.public_id)


def reactivate(database: Database, bank: Bank, author: Author) -> int:
    """Reactivate Ada, without `admit`, and return her token version."""
    with unit_of_work(database) as connection:
        return operators.reactivate(connection, author, bank.ada.public_id)


def admit(database: Database, bank: Bank, version: int) -> None:
    with unit_of_work(database) as connection:
        operators.admit(connection, LISTED, bank.ada.public_id, version)


def test_a_deactivated_user_is_on_the_list_before_the_commit(database: Database, bank: Bank, author: Author) -> None:
    with unit_of_work(database) as connection:
        operators.deactivate(connection, author, LISTED, bank.ada.public_id)
        assert exclusions.read(LISTED).users == (bank.ada.public_id,)


def test_a_list_that_cannot_be_written_leaves_the_user_active(database: Database, bank: Bank, author: Author) -> None:
    LISTED.mkdir()
    with pytest.raises(Unavailable, match="list of excluded users"):
        deactivate(database, bank, author)
    assert user_row(database, bank.ada)["is_active"] == 1


def test_a_reactivated_user_leaves_the_list_only_after_the_commit(
    database: Database, bank: Bank, author: Author
) -> None:
    deactivate(database, bank, author)
    version = reactivate(database, bank, author)
    assert exclusions.read(LISTED).users == (bank.ada.public_id,), "a crash now must leave her on the list"
    admit(database, bank, version)
    assert exclusions.read(LISTED).users == ()


def test_a_repeated_reactivation_takes_the_user_off_the_list(database: Database, bank: Bank, author: Author) -> None:
    deactivate(database, bank, author)
    reactivate(database, bank, author)
    admit(database, bank, reactivate(database, bank, author))
    assert exclusions.read(LISTED).users == ()


def test_a_user_who_is_deactivated_in_between_stays_on_the_list(database: Database, bank: Bank, author: Author) -> None:
    deactivate(database, bank, author)
    version = reactivate(database, bank, author)
    deactivate(database, bank, author)
    admit(database, bank, version)
    reactivate(database, bank, author)  # this is how uncommitted work of the same group looks
    admit(database, bank, version)
    assert exclusions.read(LISTED).users == (bank.ada.public_id,)
