"""What the last verification of the ledger found."""

from datetime import datetime
from typing import Self

from pydantic import Field

from api.schemas.base import Out
from core.models import Verification
from core.services.verification import breaches_of


class BreachOut(Out):
    """One place where a rule does not hold."""

    rule: str = Field(examples=["balance_is_sum_of_legs"])
    detail: str


class VerificationOut(Out):
    """The last verification. Before the first one every field but `breaches` is null."""

    holds: bool | None = Field(description="True when no rule is broken.")
    started_at: datetime | None
    finished_at: datetime | None
    accounts: int | None
    transfers: int | None
    transactions: int | None
    breach_count: int | None
    breaches: list[BreachOut] = Field(description="Up to 100 of each broken rule.")

    @classmethod
    def of(cls, last: Verification | None) -> Self:
        """Show the last verification."""
        return cls(
            holds=last.breaches == 0 if last else None,
            started_at=last.started_at if last else None,
            finished_at=last.finished_at if last else None,
            accounts=last.accounts if last else None,
            transfers=last.transfers if last else None,
            transactions=last.transactions if last else None,
            breach_count=last.breaches if last else None,
            breaches=[BreachOut(rule=rule, detail=detail) for rule, detail in breaches_of(last)] if last else [],
        )
