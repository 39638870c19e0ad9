"""The report of a verification: the rules, and where they are broken."""

from collections import Counter
from dataclasses import dataclass, field

from core.domain.isolation import Isolation
from core.domain.scars import ScarView
from core.domain.verification import Breach, Scope

MOST_BREACHES = 100
"""Breaches listed for each rule; the rest are only counted."""

RULES = {
    "currency_sums_to_zero": "All balances of a currency, its external account's included, sum to 0; so do all legs.",
    "balance_is_sum_of_legs": "A balance is the sum of its account's legs.",
    "balance_within_limit": "No balance is outside its account's limits, nor was it after any leg, by the limit at "
    "that time.",
    "limit_was_set": "An account's overdraft limit is the last one that the audit log records.",
    "balance_after_recomputes": "Each leg's balance_after is the previous balance plus its amount.",
    "chain_is_whole": "Each leg names the previous leg of the same account, and the account names the last.",
    "transfer_chain_is_whole": "Each transfer names the previous one from its account, and the account names the last.",
    "time_never_goes_back": "No leg is posted, and no transfer is accepted, earlier than the previous one.",
    "legs_match_transfer": "Legs come as one debit and one credit that agree with a completed transfer.",
    "completed_has_legs": "Every completed transfer has its two legs, and no other transfer has any.",
    "ending_is_whole": "An ended transfer has one ending with its time, with a reason if it failed, and with its payer "
    "unless it completed; and there are no other endings.",
    "lanes_go_on": "Numbers and times go on after the newest transfer and the newest leg, and settling goes on at the "
    "oldest pending transfer.",
    "batch_is_whole": "A batch has all its transfers, without a gap, and those of an atomic batch end alike; no other "
    "transfer failed with a batch.",
    "statements_follow": "An account's statements are numbered from 1, and each begins where the previous one ended.",
    "statement_recomputes": "The figures of a statement are those of its account's legs in the month.",
    "run_counts_statements": "A closed month has as many statements as were counted when they were made.",
    "reserved_is_pending": "The reserved amount of an account is the sum of its pending debits, and it counts them.",
    "totals_are_running": "An account, and each 128th of its legs, has the number of its legs and the sum of its "
    "credits so far.",
    "keys_are_unique": "No two transfers of a user were accepted with one idempotency key.",
    "values_are_integers": "Every amount, balance, time and row id is stored as an integer, every text as a text.",
    "schema_is_whole": "Every table, index and trigger exists as the migrations made it, and no other trigger exists.",
    "file_is_sound": "SQLite finds its own structures intact, and no row refers to a missing row.",
    "blocks_are_whole": "Blocks follow each other, and every leg and every ending is in exactly one of them.",
    "block_recomputes": "Each block's hash is that of the previous block, its legs and its endings.",
    "anchor_holds": "Each anchor is signed with the bank's key, and the ledger has the block that it names.",
    "scar_is_signed": "Each scar is signed with the bank's key.",
}


@dataclass(slots=True)
class Report:
    """The extent of a verification, and its findings."""

    scope: Scope = Scope.FULL
    most: int | None = None
    """Breaches listed for each rule; None for the usual number."""
    isolation: Isolation | None = None
    """The accounts that are set apart; None if no account is."""
    accounts: int = 0
    transfers: int = 0
    """Transfers that this verification has read; with scope `recent` only new ones."""
    transactions: int = 0
    blocks: int = 0
    anchors: int = 0
    height: int | None = None
    """The newest block that was verified, and its hash."""
    head_hash: bytes | None = None
    anchored_height: int | None = None
    """The highest block that an anchor names."""
    breaches: list[Breach] = field(default_factory=list)
    isolated: list[Breach] = field(default_factory=list)
    """Breaches in isolated accounts, which halt nothing, and their number."""
    isolated_count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Breaches of each broken rule, those not listed included."""
    scars: list[ScarView] = field(default_factory=list)
    """All scars of the ledger, which are reported for ever."""
    warnings: list[str] = field(default_factory=list)
    """Findings that an operator should look at, but that break no rule."""

    @property
    def holds(self) -> bool:
        """True when no rule is broken, except in isolated accounts."""
        return not self.counts

    @property
    def all_breaches(self) -> int:
        """The number of all breaches, in isolated accounts too."""
        return self.counts.total() + self.isolated_count

    def add(
        self,
        rule: str,
        detail: str,
        *,
        account: int | None = None,
        transfer: int | None = None,
        block: int | None = None,
    ) -> None:
        """Record a place where a rule is broken, and the rows that it names."""
        assert rule in RULES
        breach = Breach(rule, detail, account, transfer, block)
        if self.isolation is not None and self.isolation.covers(breach):
            self.isolated_count += 1
            if len(self.isolated) < MOST_BREACHES:
                self.isolated.append(breach)
            return
        self.counts[rule] += 1
        if self.counts[rule] <= (self.most or MOST_BREACHES):
            self.breaches.append(breach)
