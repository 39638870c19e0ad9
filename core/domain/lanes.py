"""The lanes of writing: work that would decide by, or change, the same things waits in the same lane."""

from enum import StrEnum


class Lane(StrEnum):
    """A lane admits one unit of work at a time. Work that needs both lanes takes ACCEPT first.

    - ACCEPT alone: accepting transfers, what a user may have pending, issuing cards and changing keys.
    - SETTLE alone: settling and cancelling.
    - Both: what accepting and settling decide by. Opening, freezing, limiting and closing accounts, a user's access to
      them, closing a month, isolating and resealing.
    - Neither: log-ins and tokens, other acts on cards, documents, statements of closed months, verifications, dead
      letters, and entries of the audit log alone.
    """

    ACCEPT = "accept"
    """Guards the order of transfers, their keys, and the funds that they reserve."""
    SETTLE = "settle"
    """Guards balances, legs, the ends of transfers, and the chain of blocks."""
