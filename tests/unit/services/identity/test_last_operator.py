"""The last active operator keeps its access. Nobody can take it, not even two requests at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from core.cli.console import the_bank
from core.domain.errors import ErrorCode, Part, Refusal
from core.domain.users import Role, UserError
from core.services.identity import operators
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Person, add_user, author, rows, user_row
from tests.unit.cli.test_cli import giro

Pair = tuple[Person, Person]

LISTED = Path("exclusions")
"""In the test's own folder."""


@pytest.fixture
def two(database: Database) -> Pair:
    """Two active operators."""
    with unit_of_work(database) as connection:
        return add_user(connection, role=Role.OPERATOR), add_user(connection, role=Role.OPERATOR)


def deactivate(database: Database, who: Person, by: Person | None = None) -> ErrorCode | None:
    """Deactivate a user; by default as the bank itself, as commands do. Return the refusal's code."""
    try:
        with unit_of_work(database) as connection:
            operators.deactivate(connection, author(by) if by else the_bank(), LISTED, who.public_id)
    except Refusal as refusal:
        refused_part = refusal.about
        code = refusal.code
    else:
        return None
    assert refused_part is Part.USER
    return code


def actives(database: Database, two: Pair) -> list[int]:
    return [user_row(database, each)["is_active"] for each in two]


def test_the_last_active_operator_cannot_be_deactivated_by_anybody(database: Database, two: Pair) -> None:
    last, other = two
    assert deactivate(database, other, by=last) is None
    for by in (last, other, None):
        assert deactivate(database, last, by) is UserError.LAST_OPERATOR
    assert actives(database, two) == [1, 0]
    assert [row["action"] for row in rows(database, "SELECT action FROM audit_entries")] == ["user_deactivated"]


def test_repeating_the_deactivation_of_another_operator_still_changes_nothing(database: Database, two: Pair) -> None:
    assert [deactivate(database, two[1]) for _ in range(2)] == [None, None]
    assert actives(database, two) == [1, 0]


def test_after_another_operator_is_back_the_first_can_be_deactivated(database: Database, two: Pair) -> None:
    deactivate(database, two[1])
    with unit_of_work(database) as connection:
        operators.reactivate(connection, the_bank(), two[1].public_id)
    assert deactivate(database, two[0]) is None
    assert actives(database, two) == [0, 1]


def test_customers_do_not_count_as_operators(database: Database, two: Pair) -> None:
    with unit_of_work(database) as connection:
        customer = add_user(connection)
    deactivate(database, two[1])
    assert deactivate(database, two[0]) is UserError.LAST_OPERATOR
    assert deactivate(database, customer) is None


def test_of_two_operators_who_are_deactivated_at_once_one_stays(
    database: Database, settings: Settings, two: Pair
) -> None:
    start = Barrier(2)

    def try_it(who: Person) -> ErrorCode | None:
        own = Database(settings)  # as two processes, for example the API and a command
        start.wait()
        try:
            return deactivate(own, who)
        finally:
            own.close()

    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(try_it, two)) == {None, UserError.LAST_OPERATOR}
    assert sorted(actives(database, two)) == [0, 1]


def test_the_command_reports_it_in_one_line(database: Database, two: Pair) -> None:
    assert giro("operator", "deactivate", str(two[0].public_id)).exit_code == 0
    result = giro("operator", "deactivate", str(two[1].public_id))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "(last_operator)" in result.stderr
