"""Checks the running totals of accounts, and those of their milestones, against all legs."""

from array import array

from sqlalchemy import Connection

from core.domain.blocks import LegRow
from core.domain.ledger import MILESTONE
from core.services.verification.report import Report
from core.storage import running_totals as stored
from core.storage.ledger_rows import AccountRow
from core.storage.rows import HALF, joined


class RunningTotals:
    """The totals of every account up to the leg just read. Takes 24 bytes per account and nothing per leg."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._counts, self._highs, self._lows = array("q", [0]), array("q", [0]), array("q", [0])
        self._milestones = 0

    def grow(self, by: int) -> None:
        """Start this many accounts more, by row id."""
        for numbers in (self._counts, self._highs, self._lows):
            numbers.extend([0] * by)

    def add(self, connection: Connection, leg: LegRow) -> None:
        """Process the next leg of an account that is known here."""
        account, amount = leg[2], leg[3]
        self._counts[account] += 1
        if amount > 0:
            high, low = divmod(amount, HALF)
            self._highs[account] += high
            self._lows[account] += low
        if self._counts[account] % MILESTONE == 0:
            self._milestones += 1
            self._check_milestone(connection, leg)

    def check(self, account: AccountRow) -> None:
        """Compare the totals that an account stores."""
        says, added = (account.leg_count, account.credits), self._totals(account.id)
        if says != added:
            self._report.add(
                "totals_are_running", f"account {account.id} says {says}, its legs {added}", account=account.id
            )

    def check_number(self, connection: Connection) -> None:
        """Report milestones that no leg has made."""
        if (found := stored.count(connection)) != self._milestones:
            self._report.add("totals_are_running", f"there are {found} milestones, the legs make {self._milestones}")

    def _check_milestone(self, connection: Connection, leg: LegRow) -> None:
        says, added = stored.at_leg(connection, leg), self._totals(leg[2])
        if says != added:
            self._report.add(
                "totals_are_running", f"the milestone at leg {leg[0]} says {says}, the legs {added}", account=leg[2]
            )

    def _totals(self, account: int) -> tuple[int, int]:
        """Return the number of legs, and the sum of credits in minor units."""
        return self._counts[account], joined(self._highs[account], self._lows[account])
