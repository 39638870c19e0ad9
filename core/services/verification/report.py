"""What a verification finds: the rules, and where they are broken."""

from collections import Counter
from dataclasses import dataclass, field

from core.domain.verification import Scope

MOST_BREACHES = 100
"""Breaches listed of each rule; the rest is counted only."""

RULES = {
    "currency_sums_to_zero": "All balances of a currency, its external account's included, sum to 0; so do all legs.",
    "balance_is_sum_of_legs": "A balance is the sum of its account's legs.",
    "balance_within_limit": "No balance is outside of its account's limits, nor was it after any leg, by the limit of "
    "that time.",
    "limit_was_set": "An account's overdraft limit is the one that was set last, as the audit log has it.",
    "balance_after_recomputes": "Each leg's balance_after is the balance before it plus its amount.",
    "chain_is_whole": "Each leg names the leg before it of the same account, and the account names the last.",
    "transfer_chain_is_whole": "Each transfer names the one before it from the same account, which names the last.",
    "time_never_goes_back": "No leg is posted before the one before it, and no transfer is accepted so.",
    "legs_match_transfer": "Legs come as one debit and one credit that agree with a completed transfer.",
    "completed_has_legs": "Every completed transfer has its two legs, and no other transfer has any.",
    "ending_is_whole": "What has ended has one time, and one reason if it failed; what is pending has neither.",
    "batch_is_whole": "A batch has all its transfers, in one piece, and those of an atomic one end alike; no other "
    "transfer failed with one.",
    "statements_follow": "An account's statements are numbered from 1, and each begins where the one before it ended.",
    "statement_recomputes": "The figures of a statement are what its account's legs make of the month.",
    "run_counts_statements": "A closed month has as many statements as were made of it.",
    "reserved_is_pending": "What an account has reserved is the sum of its pending debits.",
    "keys_are_unique": "No two transfers of a user were accepted with one idempotency key.",
    "values_are_integers": "Every amount, balance, time and row id is stored as an integer, every text as a text.",
    "schema_is_whole": "Every table, index and trigger is there as the migrations made it, and no other trigger is.",
    "file_is_sound": "SQLite finds its own structures whole, and no row that points nowhere.",
    "blocks_are_whole": "Blocks follow each other, and every leg and every ending lies in exactly one of them.",
    "block_recomputes": "Each block's hash is that of the block before it, its legs and its endings.",
    "anchor_holds": "Each anchor is signed with the bank's key, and the ledger has the block that it names.",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One place where a rule does not hold."""

    rule: str
    detail: str


@dataclass(slots=True)
class Report:
    """What a verification read, and what it found."""

    scope: Scope = Scope.FULL
    accounts: int = 0
    transfers: int = 0
    """Read by this verification; with scope `recent` only what is new."""
    transactions: int = 0
    blocks: int = 0
    anchors: int = 0
    height: int | None = None
    """The newest block that was verified, and its hash."""
    head_hash: bytes | None = None
    anchored_height: int | None = None
    """The highest block that an anchor names."""
    breaches: list[Breach] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Breaches of each broken rule, those not listed included."""
    warnings: list[str] = field(default_factory=list)
    """What somebody should look at, and what breaks no rule."""

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
