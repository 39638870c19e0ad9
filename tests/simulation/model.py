"""The model: a small, independent implementation of the bank's rules that predicts the result of every step.

It uses no code of the ledger. Amounts are minor units. Names identify accounts and people, the sequence identifies a
transfer, and the code identifies a refusal or failure.
"""

from dataclasses import dataclass, field

CUSTOMERS_MOST = 9 * 10**15
EXTERNALS_MOST = 9 * 10**18
BANK = "the bank"
"""The submitter of deposits and withdrawals."""


class Refused(Exception):
    """A refusal: the request changes nothing. The argument is the code."""


@dataclass(frozen=True)
class Order:
    """A request to move money, with its submitter and key. A deposit has no payer, a withdrawal has no payee."""

    by: str
    payer: str | None
    payee: str | None
    amount: int
    currency: str | None = None
    key: str | None = None

    @property
    def kind(self) -> str:
        return "deposit" if self.payer is None else "withdrawal" if self.payee is None else "transfer"

    @property
    def said(self) -> tuple[object, ...]:
        """Return the values that two requests under one key must share."""
        return self.kind, self.payer, self.payee, self.amount, self.currency


@dataclass
class Account:
    """An account; one without an owner is the external account of its currency."""

    owner: str | None
    currency: str
    balance: int = 0
    limit: int = 0
    frozen: str | None = None
    closed: bool = False


@dataclass
class Transfer:
    """An accepted transfer and its status."""

    order: Order
    payer: str
    payee: str
    status: str = "pending"
    failure: str | None = None


@dataclass(frozen=True)
class Accepted:
    """The answer to an order that is accepted now or was accepted before."""

    sequence: int
    replayed: bool


@dataclass
class Book:
    """The whole bank."""

    accounts: dict[str, Account]
    next_sequence: int
    inactive: set[str] = field(default_factory=set)
    transfers: dict[int, Transfer] = field(default_factory=dict)
    legs: list[tuple[int, str, int, int]] = field(default_factory=list)
    """Sequence, account, amount and balance after it, in the order of posting."""

    # --- actions of customers ---

    def accept(self, order: Order) -> Accepted:
        """Accept an order, or replay the answer of its key; raises Refused."""
        if (known := self._bound(order)) is not None:
            if self.transfers[known].order.said != order.said:
                raise Refused("idempotency_key_reused")
            return Accepted(known, replayed=True)
        payer, payee = self._sides(order)
        try:
            self._check(payer, payee, order.amount, held=self.reserved(payer))
        except Refused as refusal:
            raise Refused(self._told(order, str(refusal))) from None
        sequence, self.next_sequence = self.next_sequence, self.next_sequence + 1
        self.transfers[sequence] = Transfer(order, payer, payee)
        return Accepted(sequence, replayed=False)

    def cancel(self, by: str, sequence: int) -> None:
        """Cancel a pending transfer; raises Refused."""
        transfer = self.transfers[sequence]
        if by != transfer.order.by:
            owners = {self.accounts[transfer.payer].owner}
            if transfer.status == "completed":
                owners.add(self.accounts[transfer.payee].owner)
            raise Refused("transfer_not_cancellable" if by in owners else "transfer_not_found")
        if transfer.status in ("completed", "failed"):
            raise Refused("transfer_not_cancellable")
        transfer.status = "cancelled"

    def close(self, by: str, name: str) -> None:
        """Close an account that is empty and has no pending transfers in either direction; raises Refused."""
        account = self.accounts[name]
        if account.owner != by:
            raise Refused("account_not_found")
        if account.closed:
            return
        if account.frozen:
            raise Refused("account_frozen")
        if any(name in (transfer.payer, transfer.payee) for transfer in self.pending().values()):
            raise Refused("account_has_pending")
        if account.balance:
            raise Refused("account_not_empty")
        account.closed = True

    # --- actions of operators ---

    def freeze(self, name: str, scope: str | None) -> None:
        """Freeze an account in a scope, or unfreeze it (None); raises Refused."""
        self._open_one(name).frozen = scope

    def set_limit(self, name: str, limit: int) -> None:
        """Set the overdraft limit of an account; raises Refused."""
        account = self._open_one(name)
        if account.balance < -limit:
            raise Refused("limit_in_use")
        account.limit = limit

    def set_active(self, person: str, *, active: bool) -> None:
        """Deactivate or reactivate a user."""
        (self.inactive.discard if active else self.inactive.add)(person)

    # --- actions of the worker ---

    def settle(self, most: int) -> None:
        """Settle pending transfers in order of acceptance, at most `most` of them."""
        for sequence, transfer in list(self.pending().items())[:most]:
            transfer.status, transfer.failure = "completed", self._why_not(transfer)
            if transfer.failure is not None:
                transfer.status = "failed"
                continue
            for name, amount in ((transfer.payer, -transfer.order.amount), (transfer.payee, transfer.order.amount)):
                account = self.accounts[name]
                account.balance += amount
                self.legs.append((sequence, name, amount, account.balance))

    # --- queries ---

    def pending(self) -> dict[int, Transfer]:
        """Return the pending transfers by sequence, in order."""
        return {number: transfer for number, transfer in self.transfers.items() if transfer.status == "pending"}

    def reserved(self, name: str) -> int:
        """Return the sum that an account's pending transfers reserve."""
        return sum(transfer.order.amount for transfer in self.pending().values() if transfer.payer == name)

    # --- rules ---

    def _bound(self, order: Order) -> int | None:
        """Return the transfer of a key. Each user has separate keys."""
        if order.key is None:
            return None
        mine = (order.by, order.key)
        return next((n for n, known in self.transfers.items() if (known.order.by, known.order.key) == mine), None)

    def _sides(self, order: Order) -> tuple[str, str]:
        if order.payer is not None and order.payer == order.payee:
            raise Refused("same_account")
        if order.payer is not None and order.payee is not None and self.accounts[order.payer].owner != order.by:
            raise Refused("account_not_found")
        named = [name for name in (order.payer, order.payee) if name is not None]
        if order.payer is not None:
            self._check_currency(order, order.payer)
            self._check_payer(order.payer, order.amount, held=self.reserved(order.payer))
        if order.payee is not None:
            self._check_currency(order, order.payee)
        external = f"outside {self.accounts[named[0]].currency}"
        return order.payer or external, order.payee or external

    def _why_not(self, transfer: Transfer) -> str | None:
        if self.accounts[transfer.payer].owner in self.inactive:
            return "owner_inactive"
        try:
            self._check(transfer.payer, transfer.payee, transfer.order.amount, held=0)
        except Refused as refusal:
            return str(refusal)
        return None

    def _check(self, payer: str, payee: str, amount: int, *, held: int) -> None:
        self._check_payer(payer, amount, held=held)
        source, target = self.accounts[payer], self.accounts[payee]
        if source.currency != target.currency:
            raise Refused("currency_mismatch")
        if target.closed:
            raise Refused("payee_closed")
        if target.frozen == "all":
            raise Refused("payee_frozen")
        if target.balance + amount > (CUSTOMERS_MOST if target.owner else EXTERNALS_MOST):
            raise Refused("balance_limit_exceeded")

    def _check_currency(self, order: Order, name: str) -> None:
        if order.currency and self.accounts[name].currency != order.currency:
            raise Refused("currency_mismatch")

    def _check_payer(self, payer: str, amount: int, *, held: int) -> None:
        source = self.accounts[payer]
        if source.closed:
            raise Refused("account_closed")
        if source.frozen:
            raise Refused("account_frozen")
        lowest = -source.limit if source.owner else -EXTERNALS_MOST
        if source.balance - held - amount < lowest:
            raise Refused("insufficient_funds" if source.owner else "balance_limit_exceeded")

    def _told(self, order: Order, code: str) -> str:
        """Return a refusal as the submitter is told it: only owners and operators learn the state of a payee."""
        if code not in ("payee_closed", "payee_frozen"):
            return code
        assert order.payee is not None
        may_know = order.payer is None or self.accounts[order.payee].owner == order.by
        return code.replace("payee", "account") if may_know else "payee_cannot_receive"

    def _open_one(self, name: str) -> Account:
        if self.accounts[name].closed:
            raise Refused("account_closed")
        return self.accounts[name]
