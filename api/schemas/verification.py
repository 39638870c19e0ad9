"""The result of the last verification of the ledger."""

from datetime import datetime
from typing import Self

from pydantic import Field

from api.schemas.base import Out
from core.domain.verification import Breach, Scope, VerificationView


class BreachOut(Out):
    """One place where a rule is broken."""

    rule: str = Field(examples=["balance_is_sum_of_legs"])
    detail: str

    @classmethod
    def of(cls, breach: Breach) -> Self:
        """Show a breach."""
        return cls(rule=breach.rule, detail=breach.detail)


class VerificationOut(Out):
    """The last verification. Before the first one, every field except `breaches` is null."""

    holds: bool | None = Field(description="True when no rule is broken.")
    scope: Scope | None = Field(
        description="`recent`: only changes since the previous verification, and every balance."
    )
    started_at: datetime | None
    finished_at: datetime | None
    accounts: int | None
    transfers: int | None
    transactions: int | None
    height: int | None = Field(description="The newest block that was verified.")
    head_hash: str | None = Field(description="The hash of that block: 64 hex digits.")
    anchored_height: int | None = Field(description="The newest block that an anchor names.")
    breach_count: int | None
    breaches: list[BreachOut] = Field(description="Up to 100 of each broken rule.")

    @classmethod
    def of(cls, last: VerificationView | None) -> Self:
        """Show the last verification."""
        return cls(
            holds=last.holds if last else None,
            scope=last.scope if last else None,
            started_at=last.started_at if last else None,
            finished_at=last.finished_at if last else None,
            accounts=last.accounts if last else None,
            transfers=last.transfers if last else None,
            transactions=last.transactions if last else None,
            height=last.height if last else None,
            head_hash=last.head_hash.hex() if last and last.head_hash else None,
            anchored_height=last.anchored_height if last else None,
            breach_count=last.breach_count if last else None,
            breaches=[BreachOut.of(breach) for breach in last.breaches] if last else [],
        )
