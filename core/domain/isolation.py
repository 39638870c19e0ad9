"""Isolation: the accounts that a breach concerns are set apart, so that the others can go on."""

from dataclasses import dataclass, field

from core.domain.verification import Breach

BLOCK_RULES = frozenset({"blocks_are_whole", "block_recomputes", "anchor_holds"})
"""Rules about the evidence, not about the money."""

NEVER = frozenset({"file_is_sound", "schema_is_whole", "values_are_integers", "scar_is_signed"})
"""Rules whose breach concerns the whole ledger, even if it names a row."""

Status = tuple[str, str | None]
"""An account's status, and the scope in which it is frozen."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """The accounts that are set apart, and what was known to be broken when they were."""

    accounts: dict[int, Status] = field(default_factory=dict)
    """The isolated accounts by row id, and the status that each had before."""
    transfers: frozenset[int] = frozenset()
    """Sequences of the transfers that breaches named."""
    known: frozenset[str] = frozenset()
    """Details of the breaches of blocks and anchors. They contain the present hash, so a further change is new."""
    sums: dict[str, int] = field(default_factory=dict)
    """What the balances of all other accounts sum to, by currency: it cannot change while these accounts do not."""

    def covers(self, breach: Breach) -> bool:
        """Return whether a breach lies in or next to an isolated account. Any other breach is a new one."""
        if breach.rule in NEVER:
            return False
        if breach.account in self.accounts or breach.transfer in self.transfers:
            return True
        return breach.rule in BLOCK_RULES and breach.detail in self.known
