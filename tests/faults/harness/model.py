"""A ledger in a few lines: it computes the correct result of transfers in their order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Leg = tuple[int, str, int, int]
"""Sequence of the transfer, account, amount (negative for a debit), and the balance after it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A transfer as the database stores it, or as the model computes it. Amounts are minor units."""

    sequence: int
    id: str
    key: str | None
    payer: str
    payee: str
    amount: int
    status: str


def replay(rows: Iterable[Row], outside: str) -> tuple[dict[str, int], list[Leg], dict[int, str]]:
    """Execute the transfers one after the other. `outside` is the external account, whose balance may be negative.

    Returns all balances, all legs, and the status of each transfer. Cancelled transfers stay cancelled.
    """
    balances: dict[str, int] = {}
    legs: list[Leg] = []
    statuses: dict[int, str] = {}
    for row in rows:
        statuses[row.sequence] = _end(row, balances, outside)
        if statuses[row.sequence] == "completed":
            for account, amount in ((row.payer, -row.amount), (row.payee, row.amount)):
                balances[account] = balances.get(account, 0) + amount
                legs.append((row.sequence, account, amount, balances[account]))
    return balances, legs, statuses


def _end(row: Row, balances: Mapping[str, int], outside: str) -> str:
    if row.status == "cancelled":
        return "cancelled"
    covered = row.payer == outside or balances.get(row.payer, 0) >= row.amount
    return "completed" if covered else "failed"
