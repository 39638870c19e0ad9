"""Public ids: UUIDs, time-ordered so that a unique index over them grows at its end."""

from uuid import UUID, uuid5

import uuid_utils

_TRANSACTIONS = UUID("9a1f4c52-7d3e-5b86-8c1d-3f0a6be2d4c7")


def new_id() -> UUID:
    """Make a UUIDv7 (RFC 9562): a millisecond clock, then random bits."""
    return UUID(bytes=new_id_bytes())


def new_id_bytes() -> bytes:
    """Make a UUIDv7 as it is stored, in 16 bytes: a UUID object costs more than the id."""
    return uuid_utils.uuid7().bytes


def transaction_id(transaction: int) -> UUID:
    """Name a transaction by its row id: a UUIDv5, derived, so that a leg stores no id of its own and needs no index."""
    return uuid5(_TRANSACTIONS, str(transaction))
