"""Requests other than moving money: their effect on the services and on the model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from core.domain.accounts import FreezeScope
from core.services import accounts
from core.services.identity import operators
from core.services.transfers import cancelling as transfers_cancelling
from tests.builders import author
from tests.simulation.eye import Eye
from tests.simulation.model import BANK, Book
from tests.simulation.template import Template


@dataclass
class Act:
    """A request other than an order: its effect on the bank, and on the model."""

    name: str
    work: Callable[[Connection], Any]
    effect: Callable[[Book], None]


class Acts:
    """Creates acts on the accounts and people of a template, and on the transfers in the database."""

    def __init__(self, template: Template, eye: Eye, excluded: Path) -> None:
        self._template = template
        self._excluded = excluded
        self._eye = eye
        self._bank = author(template.people[BANK][0])

    def closing(self, account: str, owner: str) -> Act:
        """Let the owner close an account."""
        row_id, public_id = self._template.people[owner][0], self._template.accounts[account][1]

        def work(connection: Connection) -> None:
            accounts.close_account(connection, user_id=row_id, account_id=public_id)

        return Act("close", work, lambda book: book.close(owner, account))

    def cancelling(self, sequence: int, by: str) -> Act:
        row_id, public_id = self._template.people[by][0], self._eye.id_of(sequence)

        def work(connection: Connection) -> None:
            transfers_cancelling.cancel(connection, user_id=row_id, transfer_id=public_id)

        return Act("cancel", work, lambda book: book.cancel(by, sequence))

    def freezing(self, account: str, scope: str | None) -> Act:
        who, public_id = self._bank, self._template.accounts[account][1]

        def work(connection: Connection) -> None:
            if scope is None:
                operators.unfreeze(connection, who, public_id)
            else:
                operators.freeze(connection, who, public_id, FreezeScope(scope))

        return Act("freeze" if scope else "unfreeze", work, lambda book: book.freeze(account, scope))

    def limiting(self, account: str, limit: int) -> Act:
        who, public_id = self._bank, self._template.accounts[account][1]

        def work(connection: Connection) -> None:
            operators.set_overdraft_limit(connection, who, public_id, limit)

        return Act("limit", work, lambda book: book.set_limit(account, limit))

    def activating(self, person: str, *, active: bool) -> Act:
        who, public_id = self._bank, self._template.people[person][1]

        def work(connection: Connection) -> None:
            if active:
                operators.reactivate(connection, who, public_id)
            else:
                operators.deactivate(connection, who, self._excluded, public_id)

        return Act(
            "reactivate" if active else "deactivate",
            work,
            lambda book: book.set_active(person, active=active),
        )
