"""The result of the last verification of the ledger."""

from datetime import datetime
from typing import Self

from pydantic import Field

from api.schemas.base import Out
from core.domain.verification import Breach, Scope, VerificationView


class BreachOut(Out):
    """One place where a rule is broken."""

    rule: str = Field(
        description="Name of the broken rule. Later versions may add rules.", examples=["balance_is_sum_of_legs"]
    )
    detail: str = Field(
        description="The place where the rule is broken, for people.",
        examples=["account 7: balance 100, sum of legs 90"],
    )
    account: int | None = Field(description="Row id of the account that is named, if one is.", examples=[7])
    transfer: int | None = Field(description="Sequence of the transfer that is named, if one is.", examples=[20533])
    block: int | None = Field(description="Height of the block that is named, if one is.", examples=[8120])

    @classmethod
    def of(cls, breach: Breach) -> Self:
        """Show a breach."""
        return cls(
            rule=breach.rule,
            detail=breach.detail,
            account=breach.account,
            transfer=breach.transfer,
            block=breach.block,
        )


class VerificationOut(Out):
    """The last verification. Before the first one, every field except `breaches` is null."""

    holds: bool | None = Field(description="True if no rule is broken.", examples=[True])
    scope: Scope | None = Field(
        description="`full`: the whole ledger. `recent`: only changes since the previous verification, and every "
        "balance.",
        examples=["full"],
    )
    started_at: datetime | None = Field(
        description="Time of the start: RFC 3339, in UTC.", examples=["2026-11-24T03:00:00.004512Z"]
    )
    finished_at: datetime | None = Field(
        description="Time of the end: RFC 3339, in UTC.", examples=["2026-11-24T03:00:01.660127Z"]
    )
    accounts: int | None = Field(description="Number of accounts that were verified.", examples=[412])
    transfers: int | None = Field(description="Number of transfers that were read.", examples=[20533])
    transactions: int | None = Field(description="Number of transactions that were read.", examples=[40210])
    height: int | None = Field(
        description="Number of the newest block that was verified. Null if there was no block.", examples=[8120]
    )
    head_hash: str | None = Field(
        description="Hash of that block: 64 hex digits. Null if there was no block.",
        examples=["9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"],
    )
    anchored_height: int | None = Field(
        description="Number of the newest block that an anchor names. Null if there was no anchor.", examples=[8096]
    )
    breach_count: int | None = Field(description="Number of places where a rule is broken.", examples=[0])
    breaches: list[BreachOut] = Field(
        description="The places where a rule is broken: 100 of each rule at most. Empty if all rules hold."
    )

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
