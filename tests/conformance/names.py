"""The people, accounts and transfers of a history, by name."""

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection

from core.domain.accounts import account_number
from core.domain.audit import Author
from core.domain.users import SYSTEM_USER_ID
from core.storage import accounts
from tests.conformance.acts import BANK, OLGA, Number
from tests.conformance.fixed_time import Moment

UNKNOWN = UUID(int=1)
"""An id of nothing."""
OUTSIDE = "outside "
"""The name of the bank's own account of a currency begins with this."""


@dataclass(slots=True)
class Names:
    """The ids that the names of a history have in the database that it is played in."""

    moment: Moment
    folder: Path
    """The folder for the files that services write."""
    users: dict[str, UUID] = field(default_factory=dict)
    row_ids: dict[str, int] = field(default_factory=lambda: {BANK: SYSTEM_USER_ID})
    """Row ids of the users."""
    accounts: dict[str, UUID] = field(default_factory=dict)
    transfers: dict[str, UUID] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        """The request id of everything in the present step."""
        return f"step-{self.moment.step}"

    def author(self, person: str = OLGA) -> Author:
        """Return the author of what a person does in the present step."""
        return Author(user_id=self.row_ids[person], request_id=self.request_id, address=None)

    def user(self, person: str) -> UUID:
        """Return a person's public id."""
        return UNKNOWN if person == "unknown" else self.users[person]

    def account(self, name: str) -> UUID:
        """Return an account's public id."""
        return UNKNOWN if name == "unknown" else self.accounts[name]

    def transfer(self, name: str) -> UUID:
        """Return the public id of a transfer that its order has named."""
        return UNKNOWN if name == "unknown" else self.transfers[name]

    def payee(self, connection: Connection, payee: str | Number | None) -> UUID | str | None:
        """Return a payee as a request names it: by public id, or by the number of the account."""
        if not isinstance(payee, Number):
            return None if payee is None else self.account(payee)
        view = accounts.read(connection, self.account(payee.account))
        return account_number(0) if view is None else view.account_number
