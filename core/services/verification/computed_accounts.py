"""The accounts as computed from their legs alone. A verification keeps a few numbers of each in memory."""

from array import array
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from core.domain.accounts import AccountKind
from core.domain.blocks import LegRow
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND
from core.domain.transfers import Terms
from core.services.verification.report import Report
from core.services.verification.running_totals import RunningTotals
from core.storage import ledger_rows as rows
from core.storage.ledger_rows import AccountRow, OverdraftLimits

MOST_MISSING = 1000
"""Row ids that may be missing between two accounts. Accounts are never deleted; memory grows with the highest id."""

UNKNOWN = -1
"""Marks a leg or a transfer that a recent verification has not read yet; 0 means that it does not exist."""


@dataclass(slots=True)
class _Facts:
    """The facts of accounts that never change, by row id, from 1 on."""

    kinds: list[str]
    currencies: list[str]
    """A few strings that many accounts share, so eight bytes each."""


class ComputedAccounts:
    """Every account up to the leg and the transfer just read. Takes 72 bytes per account and nothing per leg."""

    def __init__(self, report: Report, *, from_start: bool) -> None:
        self._report = report
        self._first = 0 if from_start else UNKNOWN
        self._facts = _Facts([""], [""])
        self._words: dict[str, str] = {}
        self._totals, self._balances = array("q", [0]), array("q", [0])
        self._last_legs, self._last_transfers = array("q", [0]), array("q", [0])
        self._overdrafts: dict[int, OverdraftLimits] = {}
        self._running = RunningTotals(report) if from_start else None
        self._last_time = self._last_accepted = 0
        self.strangers: set[int] = set()
        """Accounts that legs name and that do not exist."""

    # --- reading along ---------------------------------------------------------------------------------------

    def currency(self, connection: Connection, account_id: int) -> str | None:
        """Return the currency of an account; None if it does not exist."""
        return self._facts.currencies[account_id] or None if self._knows(connection, account_id) else None

    def post(self, connection: Connection, leg: LegRow) -> None:
        """Process the next leg."""
        leg_id, transfer, account, amount, balance_after, posted_at, previous_id = leg
        place = {"account": account, "transfer": transfer}
        if posted_at < self._last_time:
            self._report.add(
                "time_never_goes_back", f"leg {leg_id} was posted {self._last_time - posted_at} µs too early", **place
            )
        self._last_time = max(self._last_time, posted_at)
        if not self._knows(connection, account):
            self.strangers.add(account)
            return
        if self._last_legs[account] == UNKNOWN:
            self._meet(connection, account, before=leg_id, previous_id=previous_id)
        # Computed from the balance that the previous leg states, so that one wrong leg is not blamed on all later ones.
        expected = self._balances[account] + amount
        if balance_after != expected:
            self._report.add("balance_after_recomputes", f"leg {leg_id} says {balance_after}, not {expected}", **place)
        if (previous_id or 0) != self._last_legs[account]:
            last = self._last_legs[account] or None
            self._report.add("chain_is_whole", f"leg {leg_id} names {previous_id} before it, not {last}", **place)
        self._check_overdraft(connection, leg)
        self._last_legs[account], self._balances[account] = leg_id, balance_after
        if self._running is not None:
            self._running.add(connection, leg)
        try:
            self._totals[account] += amount
        except OverflowError:
            self._report.add(
                "balance_is_sum_of_legs", f"account {account}: its legs pass 64 bits at leg {leg_id}", **place
            )

    def send(self, connection: Connection, terms: Terms) -> None:
        """Process the next transfer, which links to the previous one from the same account."""
        if terms.created_at < self._last_accepted:
            early = self._last_accepted - terms.created_at
            self._report.add(
                "time_never_goes_back",
                f"transfer {terms.sequence} was accepted {early} µs too early",
                transfer=terms.sequence,
            )
        self._last_accepted = max(self._last_accepted, terms.created_at)
        payer, named = terms.from_account_id, terms.previous_id or 0
        if not self._knows(connection, payer):
            return
        last = self._last_transfers[payer]
        if last == UNKNOWN:
            last = named if _is_earlier_transfer(connection, payer, named, terms.sequence) else 0
        if named != last:
            self._report.add(
                "transfer_chain_is_whole",
                f"transfer {terms.sequence} names {terms.previous_id} before it, not {last or None}",
                account=payer,
                transfer=terms.sequence,
            )
        self._last_transfers[payer] = terms.sequence

    # --- the accounts as they are ----------------------------------------------------------------------------

    def check(self, connection: Connection, account: AccountRow, pending: tuple[int, int]) -> int:
        """Compare an account with the legs and transfers read; returns the sum of its legs, in minor units.

        `pending` is the sum of its pending debits, and their number.
        """
        values = (account.balance, account.overdraft_limit, *account.counts)
        if any(type(value) is not int for value in values):
            self._report.add("values_are_integers", f"account {account.id} has {values}", account=account.id)
            return 0
        if not self._knows(connection, account.id):
            raise rows.Disordered(f"account {account.id} is found among all others, but not by its id")
        if self._last_legs[account.id] == UNKNOWN:
            self._meet(connection, account.id, before=None, previous_id=account.last_transaction_id)
        total, last_leg = self._totals[account.id], self._last_legs[account.id] or None
        say = partial(self._report.add, account=account.id)
        if account.balance != total:
            say("balance_is_sum_of_legs", f"account {account.id}: {account.balance}, legs sum to {total}")
        if account.last_transaction_id != last_leg:
            say("chain_is_whole", f"account {account.id} ends at {account.last_transaction_id}, not {last_leg}")
        self._check_last_transfer(connection, account)
        floor, ceiling = _bounds(account.kind, account.overdraft_limit)
        if not floor <= account.balance <= ceiling:
            say("balance_within_limit", f"account {account.id}: {account.balance} is not from {floor} to {ceiling}")
        if account.held != pending:
            told = f"{account.held} reserved (amount, number), {pending} pending"
            say("reserved_is_pending", f"account {account.id}: {told}")
        if self._running is not None:
            self._running.check(account)
        return total

    def check_milestones(self, connection: Connection) -> None:
        """Compare the number of milestones with that of the legs read, once all of them are read."""
        if self._running is not None:
            self._running.check_number(connection)

    def _check_last_transfer(self, connection: Connection, account: AccountRow) -> None:
        last, named = self._last_transfers[account.id], account.last_transfer_id
        if last == UNKNOWN:
            last = named or 0 if _is_earlier_transfer(connection, account.id, named or 0, None) else 0
        if (named or 0) != last:
            self._report.add(
                "transfer_chain_is_whole",
                f"account {account.id} ends at {named}, not {last or None}",
                account=account.id,
            )

    # --- inside ----------------------------------------------------------------------------------------------

    def _knows(self, connection: Connection, account_id: int) -> bool:
        """Return whether an account exists. Accounts opened in the meantime are read when they are first met."""
        while not 0 < account_id < len(self._totals):
            opened = rows.account_facts(connection, after=len(self._totals) - 1)
            if not opened or account_id <= 0:
                return False
            for row_id, kind, currency in opened:
                missing = row_id + 1 - len(self._totals)
                if not 0 < missing <= MOST_MISSING:
                    raise rows.Disordered(f"account {row_id} comes after account {len(self._totals) - 1}")
                self._grow(missing)
                self._facts.kinds[row_id] = self._words.setdefault(kind, kind)
                self._facts.currencies[row_id] = self._words.setdefault(currency, currency)
        return bool(self._facts.kinds[account_id])

    def _grow(self, by: int) -> None:
        if self._running is not None:
            self._running.grow(by)
        for facts in (self._facts.kinds, self._facts.currencies):
            facts.extend([""] * by)
        for numbers, start in (
            (self._totals, 0),
            (self._balances, 0),
            (self._last_legs, self._first),
            (self._last_transfers, self._first),
        ):
            numbers.extend([start] * by)

    def _meet(self, connection: Connection, account: int, *, before: int | None, previous_id: int | None) -> None:
        """Start an account where the last verification left it: at the leg that it continues from."""
        leg = rows.leg(connection, previous_id) if previous_id else None
        if previous_id is None or leg is None or leg[0] != account or (before is not None and previous_id >= before):
            previous_id, leg = 0, (account, 0)
        self._last_legs[account] = previous_id
        self._balances[account] = self._totals[account] = leg[1]

    def _check_overdraft(self, connection: Connection, leg: LegRow) -> None:
        leg_id, transfer, account, _amount, balance, *_ = leg
        kind = self._facts.kinds[account]
        floor, ceiling = _bounds(kind, 0)
        if floor <= balance <= ceiling:
            return
        if kind == AccountKind.CUSTOMER and balance < 0:
            # Overdraft limits are read only when they matter, and once more in case one was raised since.
            for _ in range(2):
                if account in self._overdrafts and balance >= -self._overdrafts[account].at(leg_id):
                    return
                self._overdrafts[account] = rows.overdraft_limits(connection, account)
            if balance >= -self._overdrafts[account].at(leg_id):
                return
            floor = -self._overdrafts[account].at(leg_id)
        self._report.add(
            "balance_within_limit",
            f"leg {leg_id} leaves {balance}, which is not from {floor} to {ceiling}",
            account=account,
            transfer=transfer,
        )


def _bounds(kind: str, overdraft_limit: int) -> tuple[int, int]:
    """Return the lowest and the highest balance that an account may have, in minor units."""
    if kind == AccountKind.EXTERNAL:
        return -EXTERNAL_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND
    return -overdraft_limit, CUSTOMER_BALANCE_BOUND


def _is_earlier_transfer(connection: Connection, payer: int, named: int, sequence: int | None) -> bool:
    return (sequence is None or named < sequence) and rows.payer(connection, named) == payer
