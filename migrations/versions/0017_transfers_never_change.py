"""Transfers that never change, with their endings in a table of their own.

Revision: 0017, after 0016

The rows of accounts and transfers move in chunks, each with its own commit. If this is interrupted, it continues after
the last chunk when it runs again. Nothing else can write meanwhile (see revision 0016), and the old tables stay as they
are until the last transaction, which puts the new ones in their place.

The index of the idempotency keys does not move: it has the same entries for the new table, because each transfer keeps
its row id. Its keys are random, so adding them one after the other would take several times as long as all the rest,
and sorting them all takes memory that grows with the ledger (this SQLite never sorts in files).
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from alembic import op
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, IntegrityError

revision = "0017"
down_revision = "0016"

KEPT = (
    "id, public_id, owner_id, account_number, kind, currency, status, freeze_scope, balance, overdraft_limit, "
    "last_transaction_id, created_at, closed_at, leg_count, credits_high, credits_low"
)
TERMS = (
    "id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, request_id, "
    "idempotency_key, fingerprint, answer_version, previous_id, created_at"
)
HALF = 10**9


class Move(NamedTuple):
    """The queries of one old table whose rows move."""

    table: str
    last: str
    """The last row id."""
    moved: str
    """The last row id that has moved."""
    chunk: str
    """The row ids after one, and at most so many."""
    statements: tuple[str, ...]
    """What moves the rows after one id and up to another."""


ACCOUNTS = Move(
    table="accounts",
    last="SELECT ifnull(max(id), 0) FROM accounts",
    moved="SELECT ifnull(max(id), 0) FROM new_accounts",
    chunk="SELECT id FROM accounts WHERE id > ? ORDER BY id LIMIT ?",
    statements=(
        f"INSERT INTO new_accounts ({KEPT}) SELECT {KEPT} FROM accounts WHERE id > ?1 AND id <= ?2 ORDER BY id",
        f"""
        INSERT INTO reservations (account_id, reserved_count, reserved_high, reserved_low, last_transfer_id)
        SELECT id, pending_count, reserved / {HALF}, reserved % {HALF}, last_transfer_id
        FROM accounts WHERE id > ?1 AND id <= ?2 ORDER BY id
        """,
    ),
)

TRANSFERS = Move(
    table="transfers",
    last="SELECT ifnull(max(id), 0) FROM transfers",
    moved="SELECT ifnull(max(id), 0) FROM new_transfers",
    chunk="SELECT id FROM transfers WHERE id > ? ORDER BY id LIMIT ?",
    statements=(
        f"INSERT INTO new_transfers ({TERMS}) SELECT {TERMS} FROM transfers WHERE id > ?1 AND id <= ?2 ORDER BY id",
        # A damaged row that is pending and has a time or a failure gets an ending too, which a CHECK then rejects.
        """
        INSERT INTO endings (id, status, ended_at, failure_code, payer_id)
        SELECT id, status, settled_at, failure_code, iif(status = 'completed', NULL, from_account_id)
        FROM transfers WHERE id > ?1 AND id <= ?2
            AND (status <> 'pending' OR settled_at IS NOT NULL OR failure_code IS NOT NULL)
        ORDER BY id
        """,
    ),
)

LANES = (
    """
    INSERT INTO lanes (name, next_id, newest_at, watermark)
    SELECT 'accept', ifnull(max(id), 0) + 1, ifnull((SELECT created_at FROM transfers ORDER BY id DESC LIMIT 1), 0), 0
    FROM transfers
    """,
    """
    INSERT INTO lanes (name, next_id, newest_at, watermark)
    SELECT 'settle', ifnull(max(id), 0) + 1,
        ifnull((SELECT posted_at FROM transactions ORDER BY id DESC LIMIT 1), 0),
        ifnull((SELECT min(id) - 1 FROM transfers WHERE status = 'pending'), (SELECT ifnull(max(id), 0) FROM transfers))
    FROM transactions
    """,
)

REPLACE = (
    "DROP TABLE transfers",
    "ALTER TABLE new_transfers RENAME TO transfers",
    "DROP TABLE accounts",
    "ALTER TABLE new_accounts RENAME TO accounts",
)

TRIGGERS = (
    """CREATE TRIGGER transfers_never_change BEFORE UPDATE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer never changes'); END""",
    """CREATE TRIGGER transfers_stay BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer is never deleted'); END""",
)

CONTENT = """
    SELECT count(*), ifnull(sum(
        length(public_id) + length(request_id) + length(CAST(ifnull(description, '') AS BLOB))
        + length(CAST(ifnull(idempotency_key, '') AS BLOB)) + ifnull(length(fingerprint), 0)), 0)
    FROM transfers WHERE id > ?
"""
OF_TRANSFER, OF_ACCOUNT, SPARE, OTHERS = 115, 400, 1.15, 64_000_000
"""Bytes that a moved transfer needs besides its texts: numbers, row ids and the index of public ids. Bytes of a moved
account. The factor by which pages are larger than their content. Bytes for the log and everything else."""


def upgrade() -> None:
    """Move the rows, and put the new tables in the place of the old ones."""
    connection, steps = op.get_bind(), op.get_context().opts["steps"]
    # A short move needs one transaction, like other migrations, and fails as a whole.
    if max(_number(connection, ACCOUNTS.last), _number(connection, TRANSFERS.last)) > steps.rows:
        done, of = _number(connection, TRANSFERS.moved), _number(connection, TRANSFERS.last)
        steps.progress(TRANSFERS.table, done=done, of=of)
        _require_sound(connection)
        _require_room(connection)
    _move(connection, ACCOUNTS)
    _move(connection, TRANSFERS)
    for statement in LANES:
        op.execute(statement)
    _replace(connection)
    for statement in TRIGGERS:
        op.execute(statement)


def _number(connection: Connection, query: str) -> int:
    number: int = connection.exec_driver_sql(query).scalar_one()
    return number


def _require_room(connection: Connection) -> None:
    """Raise CommandError if the disk has too little free space for the rows that have not moved yet."""
    file = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar_one()
    unused = _number(connection, "PRAGMA freelist_count") * _number(connection, "PRAGMA page_size")
    transfers, content = connection.exec_driver_sql(CONTENT, (_number(connection, TRANSFERS.moved),)).one()
    accounts = _number(connection, ACCOUNTS.last) - _number(connection, ACCOUNTS.moved)
    needed = OTHERS + int(SPARE * (content + OF_TRANSFER * transfers + OF_ACCOUNT * accounts)) - unused
    disk = os.statvfs(file)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise CommandError(
            f"moving {transfers} transfers needs {_megabytes(needed)} MB of free disk space at {file}, and "
            f"{_megabytes(free)} MB are free; nothing was changed: make room, and run `giro migrate` again"
        )


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)


def _require_sound(connection: Connection) -> None:
    """Raise CommandError if the old tables are damaged, unless they were checked before the first commit."""
    if _number(connection, ACCOUNTS.moved) > 0:
        return
    try:
        found = list(_complaints(connection))
    except DatabaseError as error:  # a page that SQLite cannot read
        found = [str(error.orig)]
    if found:
        raise CommandError(f"the ledger is damaged: {found[0]}; nothing was changed, and the version before still runs")


def _complaints(connection: Connection) -> Iterator[str]:
    """Let SQLite check the old tables and all references, and return its complaints."""
    for move in (ACCOUNTS, TRANSFERS):
        for (word,) in connection.exec_driver_sql(f"PRAGMA quick_check({move.table})"):
            if word != "ok":
                yield " ".join(word.split())
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to a missing row of {parent}"


def _move(connection: Connection, move: Move) -> None:
    """Move the rest of a table in chunks, with a commit after each but the last."""
    steps = op.get_context().opts["steps"]
    done, of = _number(connection, move.moved), _number(connection, move.last)
    while done < of:
        numbers = connection.exec_driver_sql(move.chunk, (done, steps.rows)).scalars().all()
        for statement in move.statements:
            _move_chunk(connection, move.table, statement, numbers)
        done = numbers[-1]
        if done < of:
            steps.commit()
            steps.progress(move.table, done=done, of=of)


def _move_chunk(connection: Connection, table: str, statement: str, numbers: Sequence[int]) -> None:
    """Move the rows of some ids. Raises CommandError that names the first row which cannot move."""
    try:
        connection.exec_driver_sql(statement, (numbers[0] - 1, numbers[-1]))
    except IntegrityError:
        for number in numbers:
            try:
                connection.exec_driver_sql(statement, (number - 1, number))
            except IntegrityError as error:
                raise CommandError(
                    f"row {number} of {table} is damaged ({error.orig}); nothing is lost: once the row is repaired, "
                    "`giro migrate` continues there"
                ) from error
        raise


def _replace(connection: Connection) -> None:
    """Put the new tables in the place of the old ones, and keep the index of the idempotency keys."""
    index = connection.exec_driver_sql(
        "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master WHERE name = 'uq_transfers_idempotency_key'"
    ).one()
    # Overwriting the pages of the old tables with zeros would write them all to the log. The new tables have the same
    # content, so nothing stays in free pages that was deleted.
    overwrite = _number(connection, "PRAGMA secure_delete")
    connection.exec_driver_sql("PRAGMA secure_delete=OFF")
    # SQLite forgets the index, and drops the old table without it. Afterwards it learns of the same pages again.
    _change_schema(connection, "DELETE FROM sqlite_master WHERE name = ?", (index.name,))
    for statement in REPLACE:
        connection.exec_driver_sql(statement)
    _change_schema(connection, "INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", tuple(index))
    connection.exec_driver_sql(f"PRAGMA secure_delete={overwrite}")


def _change_schema(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    """Change SQLite's own table of the schema, and let SQLite read it again."""
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    connection.exec_driver_sql(statement, values)
    connection.exec_driver_sql("PRAGMA writable_schema=RESET")
