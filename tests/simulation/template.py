"""The bank that every sequence starts with: created once by the real services, and copied for each sequence."""

import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from core.domain.users import SYSTEM_USER_ID
from core.settings import Settings
from core.storage.engines import open_engine
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.simulation.model import BANK, CUSTOMERS_MOST, Account, Book

MAX_AMOUNT = 10**15
FUNDS = {
    "ada": ("ada", "USD", [1000]),
    "ada's savings": ("ada", "USD", []),
    "bob": ("bob", "USD", [500]),
    "bob's vault": ("bob", "USD", [MAX_AMOUNT] * 8 + [CUSTOMERS_MOST - 8 * MAX_AMOUNT - 300]),
    "eve": ("eve", "EUR", [300]),
}
"""Each account's owner, currency and deposits; the vault's balance is close to the maximum."""


@dataclass
class Template:
    """A closed database file, with the names of the rows in it."""

    settings: Settings
    book: Book
    people: dict[str, tuple[int, UUID]]
    """Row id and public id of each person."""
    accounts: dict[str, tuple[int, UUID]]

    def copy(self, folder: Path) -> tuple[Settings, Book]:
        """Copy the file to a new data folder; return its settings, and the model of its content."""
        settings = self.settings.model_copy(
            update={"data_dir": folder, "database_url": f"sqlite:///{folder}/banking.db"}
        )
        settings.database_path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.settings.database_path, settings.database_path)
        return settings, deepcopy(self.book)


def make_template(settings: Settings) -> Template:
    """Fill a migrated database, and close it."""
    database = open_engine(settings)
    people, accounts = {BANK: (SYSTEM_USER_ID, UUID(int=0))}, {}
    with unit_of_work(database) as connection:
        for name in ("ada", "bob", "eve"):
            person = builders.add_user(connection)
            people[name] = person.id, person.public_id
        opened = {
            name: builders.open_account(connection, people[owner][0], currency)
            for name, (owner, currency, _) in FUNDS.items()
        }
    for name, account in opened.items():
        for amount in FUNDS[name][2]:
            builders.fund(database, account, amount)
        accounts[name] = builders.account_row(database, account)["id"], account
    for currency in ("USD", "EUR"):
        row = builders.external_account(database, currency)
        accounts[f"outside {currency}"] = row["id"], UUID(bytes=row["public_id"])
    newest = builders.rows(database, "SELECT max(id) AS id FROM transfers")[0]["id"]
    checkpoint(database)
    database.close()
    return Template(settings, _book(newest + 1), people, accounts)


def _book(next_sequence: int) -> Book:
    accounts = {name: Account(owner, currency, sum(funds)) for name, (owner, currency, funds) in FUNDS.items()}
    for outside in ("USD", "EUR"):
        total = sum(account.balance for account in accounts.values() if account.currency == outside)
        accounts[f"outside {outside}"] = Account(None, outside, -total)
    return Book(accounts, next_sequence)
