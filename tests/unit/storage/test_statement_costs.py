"""The costs of a statement of a month with many legs, in steps of SQLite's virtual machine, which are exact."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime, to_us
from core.domain.ledger import MILESTONE
from core.domain.statements import BankDetails, Period
from core.services.statements import reading
from core.settings import Settings
from core.storage import accounts
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Person, add_user, open_account, rows
from tests.months import UTC_ZONE
from tests.unit.storage.test_list_costs import counted

LEGS = 100_000
PAGE = 50
FOR_A_LEG = 40
"""Steps along a chain."""
FOR_A_ROW = 300
"""Steps to a row of the answer and what it shows."""
FOR_THE_REST = 2000
MOST = 2 * MILESTONE * FOR_A_LEG + PAGE * FOR_A_ROW + FOR_THE_REST
BANK = BankDetails(name="Giro", address=None, bic=None)

# Ada's account gets 1 and pays 1 in turns, all in this month and one millisecond apart.
LAY_DOWN = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {legs})
    INSERT INTO transfers (id, public_id, kind, from_account_id, to_account_id, amount, currency, submitted_by,
        request_id, answer_version, created_at)
    SELECT n, randomblob(16), 'transfer', iif(n % 2, {bob}, {ada}), iif(n % 2, {ada}, {bob}), 1, 'USD', 1, 'r', 1,
        {start} + n * 1000
    FROM numbers ORDER BY n
"""
END = "INSERT INTO endings (id, status, ended_at) SELECT id, 'completed', created_at FROM transfers ORDER BY id"
POST = """
    INSERT INTO transactions (id, transfer_id, account_id, amount, balance_after, posted_at, previous_id)
    SELECT id, id, {ada}, iif(id % 2, 1, -1), id % 2, created_at, nullif(id - 1, 0) FROM transfers ORDER BY id
"""
LINK = "UPDATE accounts SET last_transaction_id = {legs}, leg_count = {legs}, credits_low = {legs} / 2 WHERE id = {ada}"
PASS = """
    INSERT INTO milestones SELECT account_id, posted_at, id, id, 0, (id + 1) / 2 FROM transactions
    WHERE id % {milestone} = 0
"""


class Ledger:
    """An account with a hundred thousand legs in one month, written by SQL as settlement would have left them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        start = to_us(Period.of(to_datetime(now_us()), UTC_ZONE).starts_at(UTC_ZONE))
        with unit_of_work(database) as connection:
            self.ada: Person = add_user(connection)
            self.account = open_account(connection, self.ada)
            open_account(connection, add_user(connection))
            query = "SELECT id FROM accounts WHERE owner_id = ?"
            ada = connection.exec_driver_sql(query, (self.ada.id,)).scalar_one()
            values = {"legs": LEGS, "ada": ada, "bob": ada + 1, "start": start, "milestone": MILESTONE}
            for statement in (LAY_DOWN, END, POST, LINK, PASS):
                connection.exec_driver_sql(statement.format(**values))
            connection.exec_driver_sql("UPDATE accounts SET created_at = ?", (start,))


@pytest.fixture(scope="module")
def laid_down(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("busy")
    shutil.copyfile(template_database, folder / "banking.db")
    database = Database(Settings(_env_file=None, data_dir=folder))
    yield Ledger(database)
    database.close()


@pytest.fixture
async def ledger(laid_down: Ledger) -> AsyncIterator[Ledger]:
    yield laid_down
    await laid_down.database.async_reader.dispose()


@pytest.mark.parametrize("start", [None, LEGS // 2])
async def test_a_page_of_the_current_statement_takes_few_steps_however_many_legs_the_month_has(
    ledger: Ledger, start: int | None
) -> None:
    with counted(ledger.database) as steps:
        async with AsyncSession(ledger.database.async_reader) as session:
            account = await accounts.get_owned(session, ledger.ada.id, ledger.account)
            assert account is not None
            month = await reading.of_month(session, account=account, period=None, zone=UTC_ZONE, bank=BANK)
            found = await reading.list_transactions(session, month, start=start, limit=PAGE)
    assert steps[0] <= MOST
    newest = start or LEGS
    assert [leg.id for leg in found] == list(range(newest, newest - PAGE, -1))
    statement = month.statement
    assert (statement.transaction_count, statement.opening_balance, statement.closing_balance) == (LEGS, 0, 0)
    assert (statement.total_credits, statement.total_debits) == (LEGS // 2, LEGS // 2)


async def test_a_span_in_the_middle_of_many_legs_takes_few_steps(ledger: Ledger) -> None:
    ends = [
        row["posted_at"]
        for row in rows(ledger.database, "SELECT posted_at FROM transactions WHERE id IN (33333, 77777) ORDER BY id")
    ]
    starts_at, ends_at = map(to_datetime, ends)
    with counted(ledger.database) as steps:
        async with AsyncSession(ledger.database.async_reader) as session:
            connection = await session.connection()
            found = await connection.run_sync(
                reading.running_totals.figures,
                account_id_of(ledger),
                starts_at=starts_at,
                ends_at=ends_at,
            )
    assert steps[0] <= MOST
    assert (found.opening_transaction_id, found.closing_transaction_id) == (33332, 77776)
    assert (found.transaction_count, found.total_credits, found.total_debits) == (44444, 22222, 22222)


def account_id_of(ledger: Ledger) -> int:
    row_id: int = rows(ledger.database, "SELECT id FROM accounts WHERE public_id = ?", ledger.account.bytes)[0]["id"]
    return row_id
