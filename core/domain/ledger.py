"""The ledger's decisions: which transfers settle, into which legs, and which fail for what reason.

Pure: balances and transfers in, legs and failures out. The same rules refuse a transfer when it is accepted
and fail it when it is settled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.domain.accounts import AccountKind, AccountStatus, FreezeScope
from core.domain.errors import ErrorCode
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND


@dataclass(slots=True, kw_only=True)
class LedgerAccount:
    """An account as the ledger sees it, in one unit of work. Amounts are minor units."""

    id: int
    kind: AccountKind
    currency: str
    status: AccountStatus
    freeze_scope: FreezeScope | None
    balance: int
    reserved: int
    """The debits of its pending transfers."""
    overdraft_limit: int
    last_transaction_id: int | None
    owner_active: bool = True

    @property
    def floor(self) -> int:
        """The balance that no debit may pass."""
        return -EXTERNAL_BALANCE_BOUND if self.kind is AccountKind.EXTERNAL else -self.overdraft_limit

    @property
    def ceiling(self) -> int:
        """The balance that no credit may pass."""
        return EXTERNAL_BALANCE_BOUND if self.kind is AccountKind.EXTERNAL else CUSTOMER_BALANCE_BOUND

    @property
    def can_pay(self) -> bool:
        """False for a frozen account of either scope and for a closed one."""
        return self.status is AccountStatus.ACTIVE

    @property
    def can_receive(self) -> bool:
        """True also for an account frozen for debits only."""
        return self.status is AccountStatus.ACTIVE or self.freeze_scope is FreezeScope.DEBIT


@dataclass(frozen=True, slots=True)
class PendingTransfer:
    """A transfer that waits to be settled."""

    id: int
    from_account_id: int
    to_account_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of an executed transfer: a transaction to be written."""

    id: int
    transfer_id: int
    account_id: int
    amount: int
    """Minor units; negative for a debit."""
    balance_after: int
    previous_id: int | None
    """The account's leg before this one."""


FAILURES = frozenset(
    {
        ErrorCode.OWNER_INACTIVE,
        ErrorCode.ACCOUNT_CLOSED,
        ErrorCode.ACCOUNT_FROZEN,
        ErrorCode.INSUFFICIENT_FUNDS,
        ErrorCode.BALANCE_LIMIT_EXCEEDED,
    }
)
"""Why a transfer that was accepted can fail: what may have changed since. Its accounts and their currency have not."""


@dataclass(slots=True)
class Settlement:
    """What becomes of a batch: its legs, and the reason of each transfer that fails."""

    legs: list[Leg]
    completed: list[PendingTransfer]
    failed: list[tuple[PendingTransfer, ErrorCode]]


def refusal(payer: LedgerAccount, payee: LedgerAccount, amount: int, *, spoken_for: int) -> ErrorCode | None:
    """Find the first reason, in the published order of precedence, why `amount` cannot go from payer to payee.

    `spoken_for` is what other transfers hold of the payer's funds: all that is reserved when a transfer is
    accepted; nothing when it is settled, since what was accepted before it has been settled before it.
    Credits that are still pending never count.
    """
    if payer.id == payee.id:
        return ErrorCode.SAME_ACCOUNT
    if payer.currency != payee.currency:
        return ErrorCode.CURRENCY_MISMATCH
    if not payer.can_pay:
        return _why_not(payer)
    if not payee.can_receive:
        return _why_not(payee)
    if payer.balance - spoken_for - amount < payer.floor:
        external = payer.kind is AccountKind.EXTERNAL
        return ErrorCode.BALANCE_LIMIT_EXCEEDED if external else ErrorCode.INSUFFICIENT_FUNDS
    if payee.balance + amount > payee.ceiling:
        return ErrorCode.BALANCE_LIMIT_EXCEEDED
    return None


def settle(
    transfers: Iterable[PendingTransfer], accounts: Mapping[int, LedgerAccount], *, next_leg_id: int
) -> Settlement:
    """Execute transfers in the order given, each seeing the balances that those before it left.

    Every transfer ends: with a debit and a credit leg, or with a reason. Its reservation is released either way.
    `accounts` (row id → account) holds both sides of every transfer and is changed in place; legs are numbered
    from `next_leg_id` on.
    """
    settlement = Settlement([], [], [])
    for transfer in transfers:
        payer, payee = accounts[transfer.from_account_id], accounts[transfer.to_account_id]
        payer.reserved -= transfer.amount
        reason = ErrorCode.OWNER_INACTIVE if not payer.owner_active else None
        reason = reason or refusal(payer, payee, transfer.amount, spoken_for=0)
        if reason is not None:
            settlement.failed.append((transfer, reason))
            continue
        for account, amount in ((payer, -transfer.amount), (payee, transfer.amount)):
            account.balance += amount
            settlement.legs.append(
                Leg(next_leg_id, transfer.id, account.id, amount, account.balance, account.last_transaction_id)
            )
            account.last_transaction_id = next_leg_id
            next_leg_id += 1
        settlement.completed.append(transfer)
    return settlement


def _why_not(account: LedgerAccount) -> ErrorCode:
    return ErrorCode.ACCOUNT_CLOSED if account.status is AccountStatus.CLOSED else ErrorCode.ACCOUNT_FROZEN
