"""The checks after a run: each returns its findings, an empty list if all is well."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tests.builders import WHOLE_TRANSFERS
from tests.faults.harness.history import History, Submission
from tests.faults.harness.model import Leg, Row, replay


@dataclass(frozen=True, slots=True)
class Ledger:
    """The content of the database file at the end."""

    rows: list[Row]
    """Transfers in the order of acceptance."""
    legs: list[Leg]
    balances: dict[str, int]
    outside: str
    """The external account, which deposits come from."""


def read_ledger(path: Path) -> Ledger:
    """Read the file directly, because the service's own answers are what is being checked."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")  # one snapshot
        accounts = dict(connection.execute("SELECT id, public_id FROM accounts"))
        names = {number: str(UUID(bytes=public_id)) for number, public_id in accounts.items()}
        outside = connection.execute("SELECT id FROM accounts WHERE kind = 'external'").fetchone()[0]
        transfers = connection.execute(
            "SELECT id, public_id, idempotency_key, from_account_id, to_account_id, amount, status "
            f"FROM {WHOLE_TRANSFERS} ORDER BY id"
        )
        rows = [
            Row(number, str(UUID(bytes=public_id)), key, names[payer], names[payee], amount, status)
            for number, public_id, key, payer, payee, amount, status in transfers
        ]
        legs = connection.execute("SELECT transfer_id, account_id, amount, balance_after FROM transactions ORDER BY id")
        balances = connection.execute("SELECT id, balance FROM accounts")
        return Ledger(
            rows,
            [(transfer, names[account], amount, after) for transfer, account, amount, after in legs],
            {names[number]: balance for number, balance in balances},
            names[outside],
        )


def follows_the_model(_history: History, ledger: Ledger) -> list[str]:
    """Replaying the transfers through the model gives the same balances, legs and final statuses."""
    balances, legs, statuses = replay(ledger.rows, ledger.outside)
    found = [
        f"transfer {row.sequence} is {row.status}, the model says {statuses[row.sequence]}"
        for row in ledger.rows
        if row.status != statuses[row.sequence]
    ]
    if sorted(legs) != sorted(ledger.legs):
        found.append(f"{len(ledger.legs)} legs, the model has {len(legs)}: {sorted({*legs} ^ {*ledger.legs})[:3]}")
    found += [
        f"account {account} has {balance}, the model says {balances.get(account, 0)}"
        for account, balance in ledger.balances.items()
        if balance != balances.get(account, 0)
    ]
    return found


def loses_and_doubles_nothing(history: History, ledger: Ledger) -> list[str]:
    """Each accepted transfer exists once, as ordered. No refused transfer exists, nor one that no client submitted."""
    rows = {row.key: row for row in ledger.rows if row.key is not None}
    submitted = {submission.key: submission for submission in history.submissions}
    found = []
    for submission in history.submissions:
        row = rows.get(submission.key)
        if submission.outcome == "ok" and (row is None or not _is_the_same(submission, row)):
            found.append(f"{submission.key} was accepted as {submission.id}; the ledger has {row}")
        if submission.outcome == "fail" and row is not None:
            found.append(f"{submission.key} was not recorded, its client was told; the ledger has {row}")
        if submission.outcome == "unknown":
            found.append(f"{submission.key} was never resolved")
    found += [f"the ledger has {row}, which no client submitted" for key, row in rows.items() if key not in submitted]
    if len(rows) != len([row for row in ledger.rows if row.key is not None]):
        found.append("several transfers have the same key")
    return found


def _is_the_same(submission: Submission, row: Row) -> bool:
    ordered = (submission.id, submission.payer, submission.payee, submission.amount)
    return ordered == (row.id, row.payer, row.payee, row.amount)


def answers_one_key_with_the_same_bytes(history: History, _ledger: Ledger) -> list[str]:
    """Every repetition of a request under its key gets the same body."""
    return [
        f"{submission.key} was answered with {len(submission.bodies)} bodies: {sorted(submission.bodies)[:2]}"
        for submission in history.submissions
        if len(submission.bodies) > 1
    ]


def respects_real_time_order(history: History, ledger: Ledger) -> list[str]:
    """A transfer that was accepted, or seen to have ended, before another was first submitted comes before it."""
    sequences = {row.key: row.sequence for row in ledger.rows if row.key is not None}
    known = [submission for submission in history.submissions if submission.key in sequences]
    seen = sorted((_seen_at(item), sequences[item.key], item.key) for item in known if _seen_at(item) is not None)
    found = []
    newest, next_seen = (0, ""), 0
    for later in sorted(known, key=lambda item: item.invoked_at):
        while next_seen < len(seen) and seen[next_seen][0] < later.invoked_at:
            newest = max(newest, seen[next_seen][1:])
            next_seen += 1
        if newest[0] > sequences[later.key]:
            found.append(f"{newest[1]} existed before {later.key} was submitted, but comes after it")
    return found


def _seen_at(submission: Submission) -> float | None:
    times = [moment for moment in (submission.answered_at, submission.ended_at) if moment is not None]
    return min(times, default=None)


def ends_everything(history: History, ledger: Ledger) -> list[str]:
    """No transfer is pending or failed (its funds were reserved), and each ended as its client saw."""
    rows = {row.key: row for row in ledger.rows if row.key is not None}
    found = [f"transfer {row.sequence} is {row.status}" for row in ledger.rows if row.status in ("pending", "failed")]
    for submission in history.submissions:
        row = rows.get(submission.key)
        said = "cancelled" if submission.cancelled else submission.status
        if row is not None and said not in (None, row.status):
            found.append(f"{submission.key} was seen as {said}, but is {row.status}")
    return found


def conserves_money(history: History, _ledger: Ledger) -> list[str]:
    """Every page that was read shows exactly the money that was deposited."""
    return history.wrong_sums


def matches_what_clients_saw(history: History, _ledger: Ledger) -> list[str]:
    """No client saw anything impossible."""
    return history.problems


CHECKS: Sequence[Callable[[History, Ledger], list[str]]] = (
    follows_the_model,
    loses_and_doubles_nothing,
    answers_one_key_with_the_same_bytes,
    respects_real_time_order,
    ends_everything,
    conserves_money,
    matches_what_clients_saw,
)
