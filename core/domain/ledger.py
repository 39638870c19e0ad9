"""The ledger's decisions: which transfers complete, with which legs, and which fail, for which reason.

Pure functions: they take balances and transfers and return legs and failures. The same rules refuse a transfer at
acceptance and fail it at settlement.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, Protocol
from uuid import UUID

from core.domain.accounts import AccountError, AccountKind, AccountStatus, FreezeScope
from core.domain.batches import BatchError
from core.domain.errors import ErrorCode
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND
from core.domain.transfers import TransferError


@dataclass(slots=True, kw_only=True)
class LedgerAccount:
    """An account as the ledger sees it, in one unit of work. Amounts are minor units."""

    id: int
    kind: AccountKind
    currency: str
    status: AccountStatus
    freeze_scope: FreezeScope | None
    balance: int
    overdraft_limit: int
    last_transaction_id: int | None
    released: int = 0
    """The sum of all transfers from it that have ended. Unlike a balance, it can exceed 64 bits."""
    reserved: int = 0
    """The debits of its pending transfers. Only acceptance reads it, and the following fields only settlement."""
    owner_active: bool = True
    released_count: int = 0
    """The number of transfers from it that have ended."""
    leg_count: int = 0
    """The number of its legs so far."""
    credits: int = 0
    """The sum of its credits so far. Unlike a balance, it can exceed 64 bits."""

    def isolate(self) -> None:
        """Let it neither pay nor receive, whatever its row says, because the ledger is broken there."""
        if self.status is not AccountStatus.CLOSED:
            self.status, self.freeze_scope = AccountStatus.FROZEN, FreezeScope.ALL

    @property
    def floor(self) -> int:
        """The lowest balance that a debit may leave."""
        return -EXTERNAL_BALANCE_BOUND if self.kind is AccountKind.EXTERNAL else -self.overdraft_limit

    @property
    def ceiling(self) -> int:
        """The highest balance that a credit may leave."""
        return EXTERNAL_BALANCE_BOUND if self.kind is AccountKind.EXTERNAL else CUSTOMER_BALANCE_BOUND

    @property
    def can_pay(self) -> bool:
        """False for a closed account, and for a frozen account of either scope."""
        return self.status is AccountStatus.ACTIVE

    @property
    def can_receive(self) -> bool:
        """True for an active account, and for an account that is frozen for debits only."""
        return self.status is AccountStatus.ACTIVE or self.freeze_scope is FreezeScope.DEBIT


@dataclass(slots=True)
class PartyAccount:
    """An account that transfers name as payer or payee, in the unit of work that accepts them.

    It changes with each transfer that is accepted, so that the next one sees what the others have reserved.
    """

    ledger: LedgerAccount
    public_id_bytes: bytes
    account_number: str
    owner_id: int | None
    reserved: int
    """The sum of all transfers that were ever accepted from it. Unlike a balance, it can exceed 64 bits."""
    reserved_count: int
    """The number of transfers that were ever accepted from it."""
    last_transfer_id: int | None
    """Sequence of the last one."""

    def reserve(self, amount: int, sequence: int) -> None:
        """Reserve the funds of one more transfer."""
        self.ledger.reserved += amount
        self.reserved += amount
        self.reserved_count += 1
        self.last_transfer_id = sequence

    @property
    def public_id(self) -> UUID:
        """The public id, made on demand: most accounts that are read for a batch do not need it."""
        return UUID(bytes=self.public_id_bytes)


class Order(Protocol):
    """The fields of a pending transfer that settlement needs."""

    @property
    def sequence(self) -> int: ...

    @property
    def from_account_id(self) -> int: ...

    @property
    def to_account_id(self) -> int: ...

    @property
    def amount(self) -> int: ...


class Leg(NamedTuple):
    """One side of an executed transfer: a transaction, as it is stored."""

    id: int
    transfer_id: int
    account_id: int
    amount: int
    """Minor units; negative for a debit."""
    balance_after: int
    posted_at: int
    """Microseconds since the epoch."""
    previous_id: int | None
    """The account's previous leg."""


class Milestone(NamedTuple):
    """The running totals of an account up to one of its legs: the same as `LedgerAccount` had after it."""

    account_id: int
    transaction_id: int
    posted_at: int
    """Microseconds since the epoch."""
    leg_count: int
    credits: int
    """Minor units."""


MILESTONE = 128
"""Each leg whose number in its account is a multiple of this is a milestone. Migration 0011 has a copy."""

FAILURES = frozenset(
    {
        TransferError.OWNER_INACTIVE,
        BatchError.FAILED,
        AccountError.CLOSED,
        AccountError.FROZEN,
        TransferError.PAYEE_CLOSED,
        TransferError.PAYEE_FROZEN,
        TransferError.INSUFFICIENT_FUNDS,
        TransferError.BALANCE_LIMIT_EXCEEDED,
    }
)
"""Why an accepted transfer can fail: because of what may have changed since. Accounts and currency cannot change."""


@dataclass(slots=True)
class Settlement:
    """The result of a settlement: legs, milestones, and the reason of each failed transfer by its sequence."""

    legs: list[Leg] = field(default_factory=list)
    milestones: list[Milestone] = field(default_factory=list)
    failed: dict[int, ErrorCode] = field(default_factory=dict)


def refusal(payer: LedgerAccount, payee: LedgerAccount, amount: int, *, spoken_for: int) -> ErrorCode | None:
    """Find the first reason, in the published order of precedence, why `amount` cannot go from payer to payee.

    Returns None if it can. The payer comes first, so that only a payer with the funds learns anything of the payee.
    """
    return debit_refusal(payer, amount, spoken_for=spoken_for) or credit_refusal(payer, payee, amount)


def debit_refusal(payer: LedgerAccount, amount: int, *, spoken_for: int) -> ErrorCode | None:
    """Find the first reason why a payer cannot pay `amount` to anybody.

    `spoken_for` is the part of the payer's funds that other transfers hold, in minor units: all reserved funds at
    acceptance, and 0 at settlement, because all earlier transfers have been settled by then. Pending credits never
    count.
    """
    if not payer.can_pay:
        return AccountError.CLOSED if payer.status is AccountStatus.CLOSED else AccountError.FROZEN
    if payer.balance - spoken_for - amount < payer.floor:
        external = payer.kind is AccountKind.EXTERNAL
        return TransferError.BALANCE_LIMIT_EXCEEDED if external else TransferError.INSUFFICIENT_FUNDS
    return None


def credit_refusal(payer: LedgerAccount, payee: LedgerAccount, amount: int) -> ErrorCode | None:
    """Find the first reason why a payee cannot receive `amount` from a payer who can pay it."""
    if payer.id == payee.id:
        return TransferError.SAME_ACCOUNT
    if payer.currency != payee.currency:
        return TransferError.CURRENCY_MISMATCH
    if not payee.can_receive:
        return TransferError.PAYEE_CLOSED if payee.status is AccountStatus.CLOSED else TransferError.PAYEE_FROZEN
    if payee.balance + amount > payee.ceiling:
        return TransferError.BALANCE_LIMIT_EXCEEDED
    return None


def settle(
    orders: Sequence[Order],
    accounts: Mapping[int, LedgerAccount],
    *,
    next_leg_id: int,
    posted_at: int,
    atomic: Iterable[tuple[int, int]] = (),
) -> Settlement:
    """Execute transfers in the given order. Each transfer sees the balances that the earlier ones left.

    Every transfer ends, either with a debit and a credit leg or with a reason. Its reservation is released either way.
    `accounts` (row id → account) holds both sides of every transfer and is changed in place. Legs are numbered
    from `next_leg_id` and posted at `posted_at` (µs). `atomic` lists groups that complete together or not at all, each
    by its first and its last sequence, in order. If one transfer of a group fails, the others fail with `batch_failed`.
    """
    execution, start = _Execution(accounts, next_leg_id, posted_at), 0
    for first, last in atomic:
        begin = bisect_left(orders, first, start, key=_sequence)
        end = bisect_right(orders, last, begin, key=_sequence)
        execution.execute_each(orders[start:begin])
        execution.execute_together(orders[begin:end])
        start = end
    execution.execute_each(orders[start:])
    return execution.settlement


_sequence = attrgetter("sequence")


class _Execution:
    """The accounts during a settlement, and the result so far."""

    def __init__(self, accounts: Mapping[int, LedgerAccount], next_leg_id: int, posted_at: int) -> None:
        self.settlement = Settlement()
        self._accounts = accounts
        self._next_leg_id = next_leg_id
        self._posted_at = posted_at

    def execute_each(self, orders: Iterable[Order]) -> None:
        """Execute transfers that do not depend on each other."""
        for order in orders:
            if (reason := self._execute(order)) is not None:
                self.settlement.failed[order.sequence] = reason

    def execute_together(self, orders: Sequence[Order]) -> None:
        """Execute transfers that complete together. If one of them fails, undo the others and fail them all."""
        touched = [self._accounts[side] for order in orders for side in (order.from_account_id, order.to_account_id)]
        before = [(account, _posted(account)) for account in touched]
        leg_count, milestones = len(self.settlement.legs), len(self.settlement.milestones)
        next_leg_id = self._next_leg_id
        tried, reason = 0, None
        while reason is None and tried < len(orders):
            reason = self._execute(orders[tried])
            tried += 1
        if reason is None:
            return
        for account, posted in before:
            account.balance, account.last_transaction_id, account.leg_count, account.credits = posted
        del self.settlement.legs[leg_count:]
        del self.settlement.milestones[milestones:]
        self._next_leg_id = next_leg_id
        for untried in orders[tried:]:
            _release(self._accounts[untried.from_account_id], untried.amount)
        self.settlement.failed |= {order.sequence: BatchError.FAILED for order in orders}
        self.settlement.failed[orders[tried - 1].sequence] = reason

    def _execute(self, order: Order) -> ErrorCode | None:
        """Post both legs of a transfer, or return the reason why it fails. Its reservation is released either way."""
        amount = order.amount
        payer, payee = self._accounts[order.from_account_id], self._accounts[order.to_account_id]
        _release(payer, amount)
        if not payer.owner_active:
            return TransferError.OWNER_INACTIVE
        reason = refusal(payer, payee, amount, spoken_for=0)
        if reason is not None:
            return reason
        self._post(order.sequence, payer, -amount)
        self._post(order.sequence, payee, amount)
        return None

    def _post(self, transfer_id: int, account: LedgerAccount, amount: int) -> None:
        leg_id, account.balance = self._next_leg_id, account.balance + amount
        self.settlement.legs.append(
            Leg(leg_id, transfer_id, account.id, amount, account.balance, self._posted_at, account.last_transaction_id)
        )
        account.last_transaction_id, self._next_leg_id = leg_id, leg_id + 1
        account.leg_count += 1
        if amount > 0:
            account.credits += amount
        if account.leg_count % MILESTONE == 0:
            self.settlement.milestones.append(
                Milestone(account.id, leg_id, self._posted_at, account.leg_count, account.credits)
            )


def _release(payer: LedgerAccount, amount: int) -> None:
    """Release the reservation of a transfer that ends."""
    payer.released += amount
    payer.released_count += 1


def _posted(account: LedgerAccount) -> tuple[int, int | None, int, int]:
    """Return all that posting a leg changes: balance, last leg, number of legs, sum of credits."""
    return account.balance, account.last_transaction_id, account.leg_count, account.credits
