"""What a verification of the ledger looks at."""

from enum import StrEnum


class Scope(StrEnum):
    """How much of the ledger a verification reads."""

    FULL = "full"
    """All of it, from the first leg on."""
    RECENT = "recent"
    """What came after the last verification that held, and every account as it now stands."""
