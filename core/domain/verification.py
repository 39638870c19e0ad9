"""Scopes of a verification of the ledger."""

from enum import StrEnum


class Scope(StrEnum):
    """How much of the ledger a verification reads."""

    FULL = "full"
    """The whole ledger, from the first leg on."""
    RECENT = "recent"
    """What was added after the last successful verification, and the current state of every account."""
