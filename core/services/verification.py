"""Verification: reads the whole ledger and says which promises do not hold. It changes nothing."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.accounts import AccountKind
from core.models import Verification
from core.storage import verification as rows
from core.storage.engine import Database
from core.storage.statements import figures as compute
from core.storage.verification import AccountRow, LegRow, StatementRow

MOST_BREACHES = 100
"""Breaches listed of each rule; the rest is counted only."""

PROGRESS_EVERY = 1000

Progress = Callable[[int, int], None]
"""Told now and then how many legs have been read, and of how many."""

RULES = {
    "currency_sums_to_zero": "All balances of a currency, its external account's included, sum to 0.",
    "balance_is_sum_of_legs": "A balance is the sum of its account's legs.",
    "balance_within_limit": "A customer's balance is not below the overdraft limit.",
    "balance_after_recomputes": "Each leg's balance_after is the balance before it plus its amount.",
    "chain_is_whole": "Each leg names the leg before it of the same account, and the account names the last.",
    "time_never_goes_back": "No leg is posted before the one before it.",
    "legs_match_transfer": "Legs come as one debit and one credit that agree with a completed transfer.",
    "completed_has_legs": "Every completed transfer has its two legs, and no other transfer has any.",
    "statements_follow": "An account's statements are numbered from 1, and each begins where the one before it ended.",
    "statement_recomputes": "The figures of a statement are what its account's legs make of the month.",
    "run_counts_statements": "A closed month has as many statements as were made of it.",
    "reserved_is_pending": "What an account has reserved is the sum of its pending debits.",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a rule does not hold."""

    rule: str
    detail: str


@dataclass(slots=True)
class Report:
    """What a verification read, and what it found."""

    accounts: int = 0
    transfers: int = 0
    transactions: int = 0
    breaches: list[Breach] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Breaches of each broken rule, those not listed included."""

    @property
    def holds(self) -> bool:
        """True when no rule is broken."""
        return not self.counts

    def add(self, rule: str, detail: str) -> None:
        """Note that a rule is broken somewhere."""
        assert rule in RULES
        self.counts[rule] += 1
        if self.counts[rule] <= MOST_BREACHES:
            self.breaches.append(Breach(rule, detail))


@dataclass(slots=True)
class _Running:
    """An account as its legs alone make it, up to the leg just read."""

    total: int = 0
    """The sum of its legs."""
    balance_after: int = 0
    """What the last leg says."""
    last_leg: int | None = None


def verify(database: Database, progress: Progress = lambda done, of: None) -> Report:
    """Check every rule of `RULES` against one snapshot of the database."""
    report = Report()
    with database.reader.connect() as connection:
        report.accounts = rows.count(connection, "accounts")
        report.transfers = rows.count(connection, "transfers")
        report.transactions = rows.count(connection, "transactions")
        running = _check_legs(connection, report, progress)
        _check_accounts(connection, report, running)
        _check_statements(connection, report)
    return report


def keep(connection: Connection, report: Report, *, started_at: datetime) -> None:
    """Keep what a verification found, for operators to read."""
    rows.add(
        connection,
        started_at=started_at,
        finished_at=to_datetime(now_us()),
        accounts=report.accounts,
        transfers=report.transfers,
        transactions=report.transactions,
        breaches=report.counts.total(),
        details=json.dumps([[breach.rule, breach.detail] for breach in report.breaches]),
    )


def breaches_of(verification: Verification) -> list[tuple[str, str]]:
    """List what a verification that was kept has found: rule and detail of each breach."""
    return [(rule, detail) for rule, detail in json.loads(verification.details)]


async def last(session: AsyncSession) -> Verification | None:
    """Read what the last verification found; None before the first."""
    return await rows.last(session)


def _check_legs(connection: Connection, report: Report, progress: Progress) -> dict[int, _Running]:
    running: dict[int, _Running] = defaultdict(_Running)
    pairs, last_transfer, last_time = 0, 0, 0
    for debit, credit in _in_pairs(rows.legs(connection)):
        _check_pair(report, debit, credit)
        if debit.transfer_id <= last_transfer:
            report.add("legs_match_transfer", f"leg {debit.id}: transfer {debit.transfer_id} has legs already")
        last_transfer = max(last_transfer, debit.transfer_id)
        for leg in (debit, credit):
            if leg is not None:
                _check_leg(report, leg, running[leg.account_id], last_time)
                last_time = max(last_time, leg.posted_at)
        pairs += 1
        if pairs % PROGRESS_EVERY == 0:
            progress(2 * pairs, report.transactions)
    progress(report.transactions, report.transactions)
    completed = rows.completed_transfers(connection)
    if completed != pairs:
        report.add("completed_has_legs", f"{completed} transfers are completed, {pairs} have legs")
    return running


def _in_pairs(legs: Iterator[LegRow]) -> Iterator[tuple[LegRow, LegRow | None]]:
    yield from zip_longest(legs, legs)


def _check_pair(report: Report, debit: LegRow, credit: LegRow | None) -> None:
    if credit is None or credit.transfer_id != debit.transfer_id:
        report.add("legs_match_transfer", f"leg {debit.id}: transfer {debit.transfer_id} has one leg only")
        return
    if debit.status != "completed":
        report.add("completed_has_legs", f"transfer {debit.transfer_id} is {debit.status or 'missing'} and has legs")
    sides = (debit.account_id, debit.amount, credit.account_id, credit.amount)
    amount = debit.transfer_amount or 0
    if sides != (debit.from_account_id, -amount, debit.to_account_id, amount):
        report.add("legs_match_transfer", f"legs {debit.id} and {credit.id} say {sides}, unlike their transfer")


def _check_leg(report: Report, leg: LegRow, account: _Running, last_time: int) -> None:
    account.total += leg.amount
    # Counted on from what the leg before says, so that what one wrong leg shifts is not blamed on all after it.
    expected = account.balance_after + leg.amount
    if leg.balance_after != expected:
        report.add("balance_after_recomputes", f"leg {leg.id} says {leg.balance_after}, not {expected}")
    account.balance_after = leg.balance_after
    if leg.previous_id != account.last_leg:
        report.add("chain_is_whole", f"leg {leg.id} names {leg.previous_id} before it, not {account.last_leg}")
    if leg.posted_at < last_time:
        report.add("time_never_goes_back", f"leg {leg.id} was posted {last_time - leg.posted_at} µs too early")
    account.last_leg = leg.id


def _check_accounts(connection: Connection, report: Report, running: dict[int, _Running]) -> None:
    sums: Counter[str] = Counter()
    reserved = rows.reserved_by_account(connection)
    for account in rows.accounts(connection):
        sums[account.currency] += account.balance
        _check_account(report, account, running.pop(account.id, _Running()), reserved.get(account.id, 0))
    for stranger in running:
        report.add("chain_is_whole", f"account {stranger} has legs and does not exist")
    for currency, total in sums.items():
        if total != 0:
            report.add("currency_sums_to_zero", f"{currency}: the balances sum to {total}")


def _check_account(report: Report, account: AccountRow, running: _Running, reserved: int) -> None:
    if account.balance != running.total:
        report.add("balance_is_sum_of_legs", f"account {account.id}: {account.balance}, legs sum to {running.total}")
    if account.last_transaction_id != running.last_leg:
        report.add(
            "chain_is_whole", f"account {account.id} ends at {account.last_transaction_id}, not {running.last_leg}"
        )
    if account.kind == AccountKind.CUSTOMER and account.balance < -account.overdraft_limit:
        report.add("balance_within_limit", f"account {account.id}: {account.balance} < -{account.overdraft_limit}")
    if account.reserved != reserved:
        report.add("reserved_is_pending", f"account {account.id}: {account.reserved} reserved, {reserved} pending")


def _check_statements(connection: Connection, report: Report) -> None:
    """Make every statement anew, each account's newest month first, so that its chain is walked once."""
    found: Counter[int] = Counter()
    later: StatementRow | None = None
    for statement in rows.statements(connection):
        found[statement.run_id] += 1
        if later is not None and later.account_id != statement.account_id:
            _check_first_statement(report, later)
            later = None
        _check_statement(connection, report, statement, later)
        later = statement
    if later is not None:
        _check_first_statement(report, later)
    for run_id, period, counted in rows.runs(connection):
        if counted != found[run_id]:
            report.add("run_counts_statements", f"{period}: {counted} statements were made, {found[run_id]} are there")


def _check_statement(
    connection: Connection, report: Report, statement: StatementRow, later: StatementRow | None
) -> None:
    start = later.figures.opening_transaction_id if later else statement.last_transaction_id
    figures = compute(
        connection, statement.account_id, start=start, starts_at=statement.starts_at, ends_at=statement.ends_at
    )
    if figures != statement.figures:
        report.add("statement_recomputes", f"{_name(statement)} says {statement.figures}, the legs {figures}")
    if later and (statement.number, statement.run_id) != (later.number - 1, later.run_id - 1):
        report.add(
            "statements_follow", f"{_name(statement)} is number {statement.number}, before number {later.number}"
        )
    if later and statement.figures.closing_transaction_id != later.figures.opening_transaction_id:
        report.add("statements_follow", f"{_name(statement)} does not end where the one after it begins")


def _check_first_statement(report: Report, statement: StatementRow) -> None:
    if statement.number != 1 or statement.figures.opening_transaction_id is not None:
        report.add("statements_follow", f"{_name(statement)} is the first, and something came before it")


def _name(statement: StatementRow) -> str:
    return f"statement {statement.id} of account {statement.account_id}"
