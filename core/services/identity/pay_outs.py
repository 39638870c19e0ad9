"""Paying out the accounts of a user who will be erased: what is there, what prevents it, and sending the money away."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from core.domain.accounts import AccountStatus, AccountView
from core.domain.audit import Action, Author
from core.domain.errors import GiroError, Part, Refusal
from core.domain.pending import PendingBounds
from core.domain.transfers import AcceptedTransfer, TransferKind, TransferRequest
from core.domain.users import SYSTEM_USER_ID, UserError, UserView
from core.services.audit import write_down
from core.services.identity import operators
from core.services.transfers import accepting
from core.storage import accounts, cards, transfers, users

Payees = Mapping[str, UUID]
"""For each currency, the account that the money goes to. Money in other currencies is withdrawn."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a user has at the bank."""

    user: UserView
    accounts: tuple[AccountView, ...]
    """The accounts that are not closed, oldest first."""
    incoming: frozenset[int]
    """The row ids of those that a pending transfer will credit."""
    cards: int
    """Cards that are not cancelled."""

    @property
    def to_pay_out(self) -> list[AccountView]:
        """The accounts with money that no pending transfer will take."""
        return [account for account in self.accounts if account.balance - account.reserved > 0]

    @property
    def waiting(self) -> list[AccountView]:
        """The accounts with pending transfers."""
        return [account for account in self.accounts if account.reserved or account.id in self.incoming]

    @property
    def obstacles(self) -> list[tuple[AccountView, str]]:
        """The accounts that only a person can decide about, each with the reason."""
        frozen = [(each, "is frozen") for each in self.accounts if each.status is AccountStatus.FROZEN]
        return frozen + [(each, "has a debt") for each in self.accounts if each.balance < 0]


def holdings(connection: Connection, user_id: UUID) -> Holdings:
    """Read what a user has. Raises Refusal (`user_not_found`)."""
    user = users.find(connection, user_id)
    if user is None:
        raise Refusal(UserError.NOT_FOUND, about=Part.USER)
    found = [accounts.read(connection, account) for account in accounts.open_ids_of(connection, user.id)]
    still_open = tuple(account for account in found if account is not None)
    incoming = {account.id for account in still_open if transfers.one_is_on_its_way_to(connection, account.id)}
    return Holdings(user, still_open, frozenset(incoming), cards.count_live_of(connection, user.id))


def pay_out(
    connection: Connection, author: Author, user_id: UUID, payees: Payees, bounds: PendingBounds
) -> list[AcceptedTransfer]:
    """Order the transfers that empty a user's accounts, and record each. Money that is reserved already stays so.

    A deactivated user gets access again, because the accounts of a deactivated user cannot pay; `erase` needs a
    deactivated one, so the caller deactivates the user when the transfers have ended. Called again, this orders only
    what came in since. Raises the first refusal.
    """
    found = holdings(connection, user_id)
    if found.to_pay_out and not found.user.is_active:
        operators.reactivate(connection, author, user_id)
    orders = [_order(author, found.user, account, payees.get(account.currency)) for account in found.to_pay_out]
    accepted = [_accepted(outcome) for outcome in accepting.accept(connection, orders, bounds)]
    for transfer in accepted:
        write_down(
            connection,
            author,
            Action.ACCOUNT_PAID_OUT,
            transfer.from_account_id,
            transfer=str(transfer.id),
            amount=transfer.amount,
            currency=transfer.currency,
        )
    return accepted


def _order(author: Author, user: UserView, account: AccountView, payee: UUID | None) -> TransferRequest:
    """Make the order that empties an account: a transfer, or a withdrawal by the bank if there is no payee."""
    return TransferRequest(
        kind=TransferKind.TRANSFER if payee else TransferKind.WITHDRAWAL,
        submitted_by=user.id if payee else SYSTEM_USER_ID,
        payer=account.public_id,
        payee=payee,
        amount=account.balance - account.reserved,
        currency=account.currency,
        description="Account closed",
        idempotency_key=None,
        fingerprint=None,
        request_id=author.request_id,
    )


def _accepted(outcome: AcceptedTransfer | GiroError) -> AcceptedTransfer:
    if isinstance(outcome, GiroError):
        raise outcome
    return outcome
