"""Accounts for the pure ledger, without a database."""

from typing import Any, NamedTuple

from core.domain.accounts import AccountKind, AccountStatus
from core.domain.ledger import LedgerAccount


class Pending(NamedTuple):
    """A pending transfer, with the fields that settlement reads."""

    sequence: int
    from_account_id: int
    to_account_id: int
    amount: int


def account(number: int, **overrides: Any) -> LedgerAccount:
    """Make an active customer's account in USD with a zero balance."""
    values: dict[str, Any] = {
        "id": number,
        "kind": AccountKind.CUSTOMER,
        "currency": "USD",
        "status": AccountStatus.ACTIVE,
        "freeze_scope": None,
        "balance": 0,
        "reserved": 0,
        "overdraft_limit": 0,
        "last_transaction_id": None,
    }
    return LedgerAccount(**values | overrides)


def external(number: int, **overrides: Any) -> LedgerAccount:
    """Make a currency's external account."""
    return account(number, kind=AccountKind.EXTERNAL, **overrides)
