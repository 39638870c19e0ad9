"""Statements and their transactions with consistent figures, made without a database."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from core.domain.accounts import account_number
from core.domain.money import CUSTOMER_BALANCE_BOUND, MAX_AMOUNT
from core.domain.statements import BankDetails, Period, StatementStatus, StatementView
from core.domain.transactions import TransactionView
from core.domain.transfers import TransferKind

OCTOBER = Period(2026, 10)
BANK = BankDetails(name="Bank of Tests", address="1 Ledger Lane, 10117 Berlin", bic="TESTDEFFXXX")
ACCOUNT = UUID("01932d4e-0000-7000-8000-00000000000a")
STATEMENT = UUID("01932d4e-0000-7000-8000-00000000000b")

Month = tuple[StatementView, list[TransactionView]]


def month(
    amounts: Sequence[int] = (),
    *,
    opening: int = 100_000,
    currency: str = "EUR",
    descriptions: Sequence[str | None] = ("rent",),
    kinds: Sequence[TransferKind] = (TransferKind.TRANSFER,),
    time_zone: str = "Europe/Berlin",
    provisional: bool = False,
    **overrides: Any,
) -> Month:
    """Make the statement of a month with these amounts (negative for a debit), and its transactions, oldest first.

    Descriptions and kinds alternate. A provisional one was computed on the fourteenth day.
    """
    zone = ZoneInfo(time_zone)
    period = overrides.get("period", OCTOBER)
    starts_at, ends_at = period.starts_at(zone), period.ends_at(zone)
    made_at = starts_at + timedelta(days=13, hours=9, minutes=32) if provisional else ends_at + timedelta(hours=1)
    step = (min(made_at, ends_at) - starts_at) / (len(amounts) + 1)
    transactions = [
        TransactionView(
            id=1000 + position,
            account_id=ACCOUNT,
            transfer_id=UUID(int=5000 + position),
            kind=kinds[position % len(kinds)],
            amount=amount,
            balance_after=opening + sum(amounts[: position + 1]),
            related_account_id=UUID(int=7),
            related_account_number=account_number(100 + position % 3),
            description=descriptions[position % len(descriptions)],
            currency=currency,
            posted_at=starts_at + step * (position + 1),
            previous_id=None,
        )
        for position, amount in enumerate(amounts)
    ]
    values: dict[str, Any] = {
        "id": None if provisional else STATEMENT,
        "status": StatementStatus.PROVISIONAL if provisional else StatementStatus.FINAL,
        "number": None if provisional else 12,
        "account_id": ACCOUNT,
        "account_number": account_number(42),
        "holder": "Ada Lovelace",
        "bank": BANK,
        "period": period,
        "time_zone": time_zone,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "currency": currency,
        "opening_balance": opening,
        "closing_balance": opening + sum(amounts),
        "total_credits": sum(amount for amount in amounts if amount > 0),
        "total_debits": -sum(amount for amount in amounts if amount < 0),
        "transaction_count": len(amounts),
        "made_at": made_at,
    }
    return StatementView(**values | overrides), transactions


def busy(**overrides: Any) -> Month:
    """Make a month of several pages, with balances below and above zero."""
    return month([-84_000, -30_055, 250_000, -1_999, 4_550, -120, -73_310] * 9, **overrides)


MONTHS: dict[str, Month] = {
    "busy": busy(),
    "provisional": busy(provisional=True),
    "empty": month(),
    "no decimals": month([-84_000, 250_000], currency="JPY"),
    "three decimals": month([-1, 5, 999], currency="BHD", opening=-1_234_567),
    "four decimals": month([MAX_AMOUNT, -MAX_AMOUNT], currency="CLF", opening=CUSTOMER_BALANCE_BOUND - MAX_AMOUNT),
    "the lowest balance": month([MAX_AMOUNT] * 9, currency="JPY", opening=-CUSTOMER_BALANCE_BOUND),
    "totals of 19 digits": month([MAX_AMOUNT, -MAX_AMOUNT], total_credits=10**18, total_debits=10**18),
}
"""Months with unusual content for every format."""
