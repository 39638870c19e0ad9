"""Row ids, and public ids: UUIDs in order of time, so that a unique index over them grows at its end."""

from uuid import UUID, uuid5

import uuid_utils

NEWEST = 2**63 - 1
"""The largest row id: a list that starts below it starts at the newest row."""

_TRANSACTIONS = UUID("9a1f4c52-7d3e-5b86-8c1d-3f0a6be2d4c7")


def new_id() -> UUID:
    """Make a UUIDv7 (RFC 9562): a time in milliseconds, then random bits."""
    return UUID(bytes=new_id_bytes())


def new_id_bytes() -> bytes:
    """Make a UUIDv7 in its stored form of 16 bytes. A UUID object would take longer to make than the id."""
    return uuid_utils.uuid7().bytes


def transaction_id(transaction: int) -> UUID:
    """Derive a transaction's public id (a UUIDv5) from its row id. So a leg stores no public id and needs no index."""
    return uuid5(_TRANSACTIONS, str(transaction))
