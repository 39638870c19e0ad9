"""The words that the history is written in: what people, operators and the bank itself do.

An account is named after its owner, as in `ada:usd`. The bank's own account of a currency is `outside USD`, and
`unknown` names nothing that exists. Amounts are minor units.
"""

from dataclasses import dataclass
from typing import NamedTuple

from core.domain.batches import BatchMode
from core.domain.transfers import TransferKind

BANK = "bank"
"""The bank itself, which orders transfers that no person orders."""

OLGA = "olga"
"""The operator."""

Outcome = str | tuple[str, ...]
"""The result of an act: one word or code, or one for each transfer that it orders or ends."""

DONE, ACCEPTED, CANCELLED, ROLLED_BACK = "done", "accepted", "cancelled", "rolled back"


class Step(NamedTuple):
    """One act, the time in UTC at which it happens, and its outcome."""

    at: str
    act: "Act"
    outcome: Outcome


def day(date: str, *steps: tuple[str, "Act", Outcome]) -> tuple[Step, ...]:
    """Make the steps of one day from times, acts and outcomes."""
    return tuple(Step(f"{date} {time}", act, outcome) for time, act, outcome in steps)


def completed(count: int) -> tuple[str, ...]:
    """Return the outcome of a settlement in which transfers complete."""
    return ("completed",) * count


# --- people and accounts -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignUp:
    """People become customers, in one unit of work."""

    people: tuple[str, ...]

    def __init__(self, *people: str) -> None:
        object.__setattr__(self, "people", people)


@dataclass(frozen=True, slots=True)
class Hire:
    """The bank makes a person an operator."""

    person: str


@dataclass(frozen=True, slots=True)
class Deactivate:
    """The operator takes a person's access away."""

    person: str


@dataclass(frozen=True, slots=True)
class Reactivate:
    """The operator gives a person access again."""

    person: str


@dataclass(frozen=True, slots=True)
class PayOut:
    """The operator withdraws the money of a person who leaves."""

    person: str


@dataclass(frozen=True, slots=True)
class Erase:
    """The operator erases a person, whose accounts are then closed."""

    person: str


@dataclass(frozen=True, slots=True)
class LimitPending:
    """The operator sets how many transfers of a person may be pending. None: as many as the settings say."""

    person: str
    limit: int | None


@dataclass(frozen=True, slots=True)
class Open:
    """The owner opens an account, and may have at most `most` of them."""

    account: str
    currency: str
    most: int = 10


@dataclass(frozen=True, slots=True)
class Close:
    """The owner closes an account."""

    account: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """The operator freezes an account for `debit` or for `all`."""

    account: str
    scope: str


@dataclass(frozen=True, slots=True)
class Unfreeze:
    """The operator makes a frozen account active again."""

    account: str


@dataclass(frozen=True, slots=True)
class LimitOverdraft:
    """The operator sets how far below 0 an account may go."""

    account: str
    amount: int


# --- money -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A person, an operator or the bank orders a transfer. A later step can name it if it has a name."""

    kind: TransferKind
    by: str
    payer: str | None
    payee: "str | Number | None"
    amount: int
    text: str | None
    key: str | None
    currency: str | None
    name: str | None


class Number(NamedTuple):
    """A payee who is named by the number of the account."""

    account: str

    def __str__(self) -> str:
        return f"number of {self.account}"


def pay(
    payer: str,
    payee: str | Number,
    amount: int,
    text: str | None = None,
    *,
    by: str | None = None,
    key: str | None = None,
    currency: str | None = None,
    name: str | None = None,
) -> Order:
    """Order a transfer between two accounts. The payer's owner orders it, unless `by` names another person."""
    return Order(
        kind=TransferKind.TRANSFER,
        by=by or owner_of(payer),
        payer=payer,
        payee=payee,
        amount=amount,
        text=text,
        key=key,
        currency=currency,
        name=name,
    )


def deposit(
    payee: str, amount: int, text: str | None = None, *, by: str = BANK, key: str | None = None, name: str | None = None
) -> Order:
    """Order a deposit."""
    return Order(
        kind=TransferKind.DEPOSIT,
        by=by,
        payer=None,
        payee=payee,
        amount=amount,
        text=text,
        key=key,
        currency=None,
        name=name,
    )


def withdraw(payer: str, amount: int, text: str | None = None, *, by: str = BANK, name: str | None = None) -> Order:
    """Order a withdrawal."""
    return Order(
        kind=TransferKind.WITHDRAWAL,
        by=by,
        payer=payer,
        payee=None,
        amount=amount,
        text=text,
        key=None,
        currency=None,
        name=name,
    )


def owner_of(account: str) -> str:
    """Return the person whom an account belongs to."""
    return account.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Together:
    """Requests that arrive at the same time, and are accepted in one unit of work."""

    orders: tuple[Order, ...]


def together(*orders: Order) -> Together:
    """Make the requests that arrive at the same time."""
    return Together(orders)


@dataclass(frozen=True, slots=True)
class Batch:
    """A person submits many transfers in one request."""

    mode: BatchMode
    key: str
    lines: tuple[Order, ...]


def independent(key: str, *lines: Order) -> Batch:
    """Submit a batch whose lines do not depend on each other."""
    return Batch(BatchMode.INDEPENDENT, key, lines)


def atomic(key: str, *lines: Order) -> Batch:
    """Submit a batch whose lines complete together or not at all."""
    return Batch(BatchMode.ATOMIC, key, lines)


@dataclass(frozen=True, slots=True)
class Cancel:
    """A person cancels a transfer."""

    by: str
    transfer: str


@dataclass(frozen=True, slots=True)
class Settle:
    """The bank settles at most `batch` transfers in a unit of work, in `units` of these or until none is pending."""

    batch: int
    units: int | None = None


@dataclass(frozen=True, slots=True)
class CloseMonths:
    """The bank closes the months that are over, and makes their statements."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An act whose unit of work fails before its commit and is rolled back."""

    act: "Order | Together | Batch | Cancel | Settle"


Act = (
    SignUp
    | Hire
    | Deactivate
    | Reactivate
    | PayOut
    | Erase
    | LimitPending
    | Open
    | Close
    | Freeze
    | Unfreeze
    | LimitOverdraft
    | Order
    | Together
    | Batch
    | Cancel
    | Settle
    | CloseMonths
    | Interrupted
)
