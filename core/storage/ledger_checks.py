"""Checks of the whole ledger that take one SQL statement each."""

import json
from collections.abc import Collection

from sqlalchemy import Connection

from core.storage.rows import HALF, joined
from core.storage.sql import Statement

_DOUBLED_KEYS = Statement(
    "SELECT idempotency_key, submitted_by, count(*) FROM transfers WHERE idempotency_key IS NOT NULL "
    "GROUP BY idempotency_key, submitted_by HAVING count(*) > 1"
)
_OVERDRAFT_LIMITS = Statement(
    "SELECT a.id, a.overdraft_limit, e.details FROM accounts a "
    "LEFT JOIN (SELECT object_id, max(id) AS id FROM audit_entries WHERE action = 'overdraft_limit_set' "
    "GROUP BY object_id) newest ON newest.object_id = a.public_id LEFT JOIN audit_entries e ON e.id = newest.id "
    "WHERE a.overdraft_limit IS DISTINCT FROM 0 OR e.id IS NOT NULL ORDER BY a.id"
)
# In two halves: before it comes back to 0, a sum may exceed 64 bits.
_BALANCES = Statement(
    f"SELECT currency, sum(balance / {HALF}), sum(balance % {HALF}) FROM accounts WHERE id NOT IN (:without*) "
    "GROUP BY currency"
)


def doubled_keys(connection: Connection) -> list[tuple[str, int, int]]:
    """Find idempotency keys with more than one transfer: key, user's row id, transfers. Empty in an intact ledger."""
    return [(row[0], row[1], row[2]) for row in _DOUBLED_KEYS.run(connection)]


def unset_overdraft_limits(connection: Connection) -> list[tuple[int, int, int]]:
    """Find accounts whose overdraft limit is not the last one in the audit log: row id, limit, the one in the log."""
    found = (
        (row_id, limit, 0 if details is None else dict(json.loads(details)).get("after") or 0)
        for row_id, limit, details in _OVERDRAFT_LIMITS.run(connection)
    )
    return [(row_id, limit, was_set) for row_id, limit, was_set in found if limit != was_set]


def imbalances(connection: Connection, *, without: Collection[int] = ()) -> dict[str, int]:
    """Sum all balances of each currency, in minor units, without some accounts; reads every account."""
    # A list cannot be empty. No row has the id 0.
    found = _BALANCES.run(connection, without=[0, *without])
    return {currency: joined(int(high), int(low)) for currency, high, low in found}
