"""Isolations in the database."""

import json

from sqlalchemy import Connection

from core.clock import now_us
from core.domain.isolation import Isolation
from core.storage.sql import Statement

_IN_EFFECT = "FROM isolations WHERE ended_at IS NULL ORDER BY id DESC LIMIT 1"
_CURRENT = Statement(f"SELECT accounts, transfers, known, sums {_IN_EFFECT}")
_ACCOUNTS = Statement(f"SELECT accounts {_IN_EFFECT}")
_BEGIN = Statement(
    "INSERT INTO isolations (begun_at, begun_by, reason, accounts, transfers, known, sums) "
    "VALUES (:begun_at, :begun_by, :reason, :accounts, :transfers, :known, :sums)"
)
_END = Statement("UPDATE isolations SET ended_at = :now WHERE ended_at IS NULL")


def current(connection: Connection) -> Isolation | None:
    """Read the isolation in effect; None if no account is isolated."""
    row = _CURRENT.run(connection).first()
    if row is None:
        return None
    accounts, transfers, known, sums = map(json.loads, row)
    before = {int(row_id): (status, scope) for row_id, (status, scope) in accounts.items()}
    return Isolation(before, frozenset(transfers), frozenset(known), sums)


def accounts(connection: Connection) -> frozenset[int]:
    """Read the row ids of the isolated accounts. Settlement asks this in each unit of work."""
    row = _ACCOUNTS.run(connection).first()
    return frozenset(map(int, json.loads(row[0]))) if row else frozenset()


def begin(connection: Connection, isolation: Isolation, *, by: int, reason: str) -> None:
    """Let an isolation take effect, instead of the one before."""
    end(connection)
    _BEGIN.run(
        connection,
        begun_at=now_us(),
        begun_by=by,
        reason=reason,
        accounts=json.dumps(isolation.accounts),
        transfers=json.dumps(sorted(isolation.transfers)),
        known=json.dumps(sorted(isolation.known)),
        sums=json.dumps(isolation.sums),
    )


def end(connection: Connection) -> None:
    """End the isolation in effect, if there is one."""
    _END.run(connection, now=now_us())
