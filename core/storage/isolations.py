"""Isolations in the database."""

import json

from sqlalchemy import Connection

from core.clock import now_us
from core.domain.isolation import Isolation

_CURRENT = "FROM isolations WHERE ended_at IS NULL ORDER BY id DESC LIMIT 1"


def current(connection: Connection) -> Isolation | None:
    """Read the isolation in effect; None if no account is isolated."""
    row = connection.exec_driver_sql(f"SELECT accounts, transfers, known, sums {_CURRENT}").first()
    if row is None:
        return None
    accounts, transfers, known, sums = map(json.loads, row)
    before = {int(row_id): (status, scope) for row_id, (status, scope) in accounts.items()}
    return Isolation(before, frozenset(transfers), frozenset(known), sums)


def accounts(connection: Connection) -> frozenset[int]:
    """Read the row ids of the isolated accounts. Settlement asks this in each unit of work."""
    row = connection.exec_driver_sql(f"SELECT accounts {_CURRENT}").first()
    return frozenset(map(int, json.loads(row[0]))) if row else frozenset()


def begin(connection: Connection, isolation: Isolation, *, by: int, reason: str) -> None:
    """Let an isolation take effect, instead of the one before."""
    end(connection)
    connection.exec_driver_sql(
        "INSERT INTO isolations (begun_at, begun_by, reason, accounts, transfers, known, sums) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            now_us(),
            by,
            reason,
            json.dumps(isolation.accounts),
            json.dumps(sorted(isolation.transfers)),
            json.dumps(sorted(isolation.known)),
            json.dumps(isolation.sums),
        ),
    )


def end(connection: Connection) -> None:
    """End the isolation in effect, if there is one."""
    connection.exec_driver_sql("UPDATE isolations SET ended_at = ? WHERE ended_at IS NULL", (now_us(),))
