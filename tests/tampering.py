"""Changes to a ledger without Giro, like those of an attacker who can write its file."""

import re
import runpy
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import core
from core.domain.blocks import Block, BlockKind, Sealer, cancellation
from core.domain.transfers import Terms
from core.storage.rows import HALF
from core.storage.sqlite.engine import Database
from core.storage.transfers import TERMS

BEFORE_ERASURE = (
    f"""
    CREATE TEMPORARY TABLE old_transfers AS
    SELECT {TERMS}, coalesce(status, 'pending') AS status, ended_at AS settled_at, failure_code
    FROM transfers LEFT JOIN endings USING (id)
    """,
    f"""
    CREATE TEMPORARY TABLE old_accounts AS
    SELECT id, public_id, owner_id, account_number, kind, currency, status, freeze_scope, balance, overdraft_limit,
        last_transaction_id, last_transfer_id, created_at, closed_at,
        (reserved_high - released_high) * {HALF} + reserved_low - released_low AS reserved
    FROM accounts JOIN reservations ON account_id = id
    """,
    *(
        f"DROP TABLE {table}"
        for table in ("transfers", "endings", "accounts", "reservations", "lanes", "milestones", "clocks", "documents")
    ),
    *(f"DROP TABLE {table}" for table in ("scars", "isolations")),
    "DROP INDEX ix_transactions_waypoints",
    "DROP INDEX ix_users_pending_limit",
    "ALTER TABLE users DROP COLUMN pending_limit",
    "DROP TRIGGER users_stay_erased",
    "ALTER TABLE users DROP COLUMN erased_at",
)
"""Take migrations 0009 to 0017 back, but for the tables of accounts and of transfers."""

TOTALS_FIT = """
    UPDATE accounts SET (leg_count, credits_low) = (
        SELECT count(*), coalesce(sum(amount) FILTER (WHERE amount > 0), 0) FROM transactions
        WHERE account_id = accounts.id
    )
"""
"""Make the running totals of a small ledger fit its legs again. It has no milestones."""

LANES_FIT = """
    UPDATE lanes SET (next_id, newest_at, watermark) = (
        SELECT coalesce(max(id), 0) + 1, coalesce(max(at), 0), iif(lanes.name = 'accept', 0, (
            SELECT coalesce(min(id) FILTER (WHERE id NOT IN (SELECT id FROM endings)) - 1, max(id), 0) FROM transfers
        )) FROM (
            SELECT 'accept' AS name, id, created_at AS at FROM transfers UNION ALL
            SELECT 'settle', id, posted_at FROM transactions
        ) written WHERE written.name = lanes.name
    )
"""
"""Make the lanes of a small ledger go on after its rows again."""

LEG = "id, transfer_id, account_id, amount, balance_after, posted_at, previous_id"


@contextmanager
def unguarded(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database file without triggers, CHECKs and foreign keys. It must not be open elsewhere."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA ignore_check_constraints=ON")
        raw.execute("PRAGMA foreign_keys=OFF")
        triggers = raw.execute("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        yield raw
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for _, table, sql in triggers:
            if table in tables:  # restored, as an attacker would
                raw.execute(sql)


def forget_erasure(path: Path) -> None:
    """Take a schema back to before users could be erased, for tests of migrations. It must not be open elsewhere."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for statement in BEFORE_ERASURE:
            raw.execute(statement)
        first = runpy.run_path(str(Path(core.__file__).parents[1] / "migrations" / "versions" / "0001_spine.py"))
        for statement in first["STATEMENTS"]:
            if re.search(r"(TABLE|\bON) (accounts|transfers)\b", statement):
                raw.execute(statement)
        for table in ("accounts", "transfers"):
            columns = ", ".join(name for _, name, *_ in raw.execute(f"PRAGMA table_info(old_{table})"))
            raw.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table} ORDER BY id")


def tamper(database: Database, *statements: str) -> None:
    """Run statements that must each change something. The next use of `database` opens it again."""
    database.close()
    with unguarded(database.path) as raw:
        for statement in statements:
            assert raw.execute(statement).rowcount != 0, f"changed nothing: {statement}"


def forget_types(database: Database, table: str) -> None:
    """Make a table accept values of any type: not STRICT any more, as an older SQLite would have created it."""
    database.close()
    with unguarded(database.path) as raw:
        raw.execute("PRAGMA writable_schema=ON")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')') WHERE name = ?", (table,))
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, ' INTEGER', ' BLOB') WHERE name = ?", (table,))
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, '\tid BLOB', '\tid INTEGER')")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, ' id BLOB', ' id INTEGER')")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, 'account_id BLOB', 'account_id INTEGER')")


def recompute_chain(database: Database) -> None:
    """Recompute the hash of every block from its current content, as an attacker who knows the format can."""
    database.close()
    with unguarded(database.path) as raw:
        before: Block | None = None
        kept = raw.execute(
            "SELECT height, kind, first_leg_id, leg_count, first_sequence, last_sequence, ending_count, made_at, hash "
            "FROM blocks ORDER BY height"
        ).fetchall()
        for row in kept:
            before = _made(raw, Block(row[0], BlockKind(row[1]), *row[2:]), before)
            raw.execute(
                "UPDATE blocks SET first_leg_id = ?, leg_count = ?, ending_count = ?, hash = ? WHERE height = ?",
                (before.first_leg_id, before.leg_count, before.ending_count, before.hash, before.height),
            )


def _made(raw: sqlite3.Connection, block: Block, before: Block | None) -> Block:
    span = "id BETWEEN ? AND ?"
    if block.kind is BlockKind.SETTLEMENT:
        span += " AND status <> 'cancelled'"
    endings = raw.execute(
        f"SELECT status, ended_at, failure_code, {TERMS} FROM transfers JOIN endings USING (id) WHERE {span} "
        "ORDER BY id",
        (block.first_sequence, block.last_sequence),
    ).fetchall()
    if block.kind is BlockKind.CANCELLATION:
        assert before is not None
        return cancellation(before, Terms(*endings[0][3:]), endings[0][1])
    sealer = Sealer()
    sealer.add_legs(
        raw.execute(
            f"SELECT {LEG} FROM transactions WHERE transfer_id BETWEEN ? AND ? ORDER BY id",
            (block.first_sequence, block.last_sequence),
        )
    )
    for row in endings:
        sealer.add_ending(Terms(*row[3:]), *row[:3])
    return sealer.seal(
        block.kind,
        before,
        first_sequence=block.first_sequence,
        last_sequence=block.last_sequence,
        made_at=block.made_at,
    )
