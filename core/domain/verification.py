"""Verifications of the ledger: their scopes and their results."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Scope(StrEnum):
    """How much of the ledger a verification reads."""

    FULL = "full"
    """The whole ledger, from the first leg on."""
    RECENT = "recent"
    """What was added after the last successful verification, and the current state of every account."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a rule is broken, with the rows that it names."""

    rule: str
    detail: str
    account: int | None = None
    """Row id of the account."""
    transfer: int | None = None
    """Sequence of the transfer."""
    block: int | None = None
    """Height of the block."""

    @property
    def places(self) -> dict[str, int]:
        """The rows that it names, by kind."""
        named = {"account": self.account, "transfer": self.transfer, "block": self.block}
        return {kind: row for kind, row in named.items() if row is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationView:
    """The stored result of a verification."""

    scope: Scope
    started_at: datetime
    finished_at: datetime
    accounts: int
    transfers: int
    """Transfers that it has read, as `transactions`."""
    transactions: int
    breach_count: int
    """All breaches, including those that are not listed."""
    breaches: tuple[Breach, ...]
    height: int | None
    """The newest block that was verified, and its hash."""
    head_hash: bytes | None
    anchored_height: int | None
    """The highest block that an anchor names."""

    @property
    def holds(self) -> bool:
        """True if no rule is broken."""
        return self.breach_count == 0
