"""The minimal cost of Giro's promises: the same tables, rules and hashes, with statements in one loop.

It has no HTTP, no queue and no layers, and one process owns the file. The difference to it is the cost of a service.
"""

import time
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2 as sqlite

from core.domain.blocks import Block, BlockKind, Ending, Sealer
from core.domain.ledger import MILESTONE
from core.domain.transfers import Terms, TransferRequest
from core.ids import new_id_bytes
from core.storage.rows import HALF

BATCH = 1000
LIMIT = 9_000_000_000_000_000
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "recursive_triggers=ON",
    "wal_autocheckpoint=2000",
    "cache_size=-65536",
)


class RawLedger:
    """An existing file with accounts."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite.connect(str(path), isolation_level=None)
        for pragma in PRAGMAS:
            self._db.execute(f"PRAGMA {pragma}").fetchall()

    def accept(self, orders: list[TransferRequest]) -> None:
        """Accept or refuse orders, one batch per transaction."""
        for start in range(0, len(orders), BATCH):
            self._in_transaction(self._accept, orders[start : start + BATCH])

    def settle(self) -> int:
        """Settle all pending transfers, one batch per transaction, and return their number."""
        total = 0
        while settled := self._in_transaction(self._settle):
            total += settled
        return total

    def check(self) -> None:
        """Raise AssertionError unless the balances sum to zero, equal their legs, and nothing is pending."""
        one = (
            "SELECT sum(balance), (SELECT count(*) FROM endings WHERE status <> 'completed'), "
            "(SELECT count(*) FROM transfers) - (SELECT count(*) FROM endings) FROM accounts"
        )
        assert self._db.execute(one).fetchone() == (0, 0, 0)
        off = (
            "SELECT count(*) FROM accounts a WHERE a.balance <> "
            "coalesce((SELECT t.balance_after FROM transactions t WHERE t.id = a.last_transaction_id), 0)"
        )
        assert self._db.execute(off).fetchone() == (0,)

    def close(self) -> None:
        self._db.close()

    def _in_transaction(self, work: Any, *values: Any) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            done = work(*values)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return done

    def _accept(self, orders: list[TransferRequest]) -> None:
        keys = [(order.idempotency_key, order.submitted_by) for order in orders]
        known = f"""SELECT t.fingerprint FROM (VALUES {",".join(["(?, ?)"] * len(keys))}) wanted CROSS JOIN transfers t
            ON t.idempotency_key = wanted.column1 AND t.submitted_by = wanted.column2"""
        used = self._db.execute(known, [part for key in keys for part in key]).fetchall()
        assert not used, "every key of the benchmark is new"
        accounts = self._accounts("public_id", {side.bytes for o in orders for side in (o.payer, o.payee)})  # type: ignore[union-attr]
        sequence, newest_at, _ = self._lane("accept")
        now = max(newest_at, time.time_ns() // 1000)
        rows, payers = [], {}
        for order in orders:
            payer, payee = accounts[order.payer.bytes], accounts[order.payee.bytes]  # type: ignore[union-attr]
            free = payer["balance"] - (payer["reserved"] - payer["released"]) + payer["overdraft_limit"]
            if payer["owner_id"] != order.submitted_by or not _may_move(payer, payee, order.amount, free):
                continue
            rows.append(
                (sequence, new_id_bytes(), "transfer", payer["id"], payee["id"], order.amount, payer["currency"],
                 order.description, order.submitted_by, order.request_id, order.idempotency_key, order.fingerprint, 1,
                 payer["last_transfer_id"], now)
            )  # fmt: skip
            payer["reserved"] += order.amount
            payer["reserved_count"] += 1
            payer["last_transfer_id"], sequence = sequence, sequence + 1
            payers[payer["id"]] = payer
        self._db.executemany(f"INSERT INTO transfers ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * 15)})", rows)
        self._db.executemany(
            "UPDATE reservations SET reserved_count = ?, reserved_high = ?, reserved_low = ?, last_transfer_id = ? "
            "WHERE account_id = ?",
            [
                (payer["reserved_count"], *divmod(payer["reserved"], HALF), payer["last_transfer_id"], row_id)
                for row_id, payer in payers.items()
            ],
        )
        self._db.execute("UPDATE lanes SET next_id = ?, newest_at = ? WHERE name = 'accept'", (sequence, now))

    def _settle(self) -> int:
        leg_id, ended_at, watermark = self._lane("settle")
        pending = self._db.execute(
            f"SELECT {', '.join(COLUMNS)} FROM transfers t WHERE id > ? "
            "AND NOT EXISTS (SELECT 1 FROM endings e WHERE e.id = t.id) ORDER BY id LIMIT ?",
            (watermark, BATCH),
        ).fetchall()
        if not pending:
            return 0
        accounts = self._accounts("id", {side for row in pending for side in row[3:5]})
        now = max(ended_at, self._lane("accept")[1], time.time_ns() // 1000)
        legs, milestones, endings = [], [], []
        for row in pending:
            payer, payee, amount = accounts[row[3]], accounts[row[4]], row[5]
            payer["released"] += amount
            payer["released_count"] += 1
            free = payer["balance"] + payer["overdraft_limit"]
            if not (payer["is_active"] and _may_move(payer, payee, amount, free)):
                endings.append(Ending(Terms._make(row), "failed", now, "insufficient_funds"))
                continue
            for account, change in ((payer, -amount), (payee, amount)):
                account["balance"] += change
                legs.append(
                    (leg_id, row[0], account["id"], change, account["balance"], now, account["last_transaction_id"])
                )
                account["last_transaction_id"], leg_id = leg_id, leg_id + 1
                account["leg_count"] += 1
                account["credits"] += max(change, 0)
                if account["leg_count"] % MILESTONE == 0:
                    milestones.append(_milestone(account, now))
            endings.append(Ending(Terms._make(row), "completed", now, None))
        self._write(legs, endings, list(accounts.values()), now)
        self._db.executemany(f"INSERT INTO milestones ({MILESTONES}) VALUES (?, ?, ?, ?, ?, ?)", milestones)
        # Nothing here cancels, so that what has ended is a prefix.
        self._db.execute(
            "UPDATE lanes SET next_id = ?, newest_at = ?, watermark = ? WHERE name = 'settle'",
            (leg_id, now, pending[-1][0]),
        )
        return len(pending)

    def _write(self, legs: list[Any], endings: list[Ending], accounts: list[dict[str, Any]], now: int) -> None:
        self._db.executemany("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?)", legs)
        if legs:
            self._db.execute(
                "INSERT INTO endings (id, status, ended_at) SELECT transfer_id, 'completed', ? FROM transactions "
                "WHERE id >= ? AND amount < 0 ORDER BY id",
                (now, legs[0][0]),
            )
        self._db.executemany(
            "INSERT INTO endings (id, status, ended_at, failure_code, payer_id) VALUES (?, 'failed', ?, ?, ?)",
            [(terms.sequence, now, reason, terms.from_account_id) for terms, _, _, reason in endings if reason],
        )
        self._db.executemany(
            "UPDATE accounts SET balance = ?, last_transaction_id = ?, released_count = ?, released_high = ?, "
            "released_low = ?, leg_count = ?, credits_high = ?, credits_low = ? WHERE id = ?",
            [
                (
                    *(a["balance"], a["last_transaction_id"], a["released_count"], *divmod(a["released"], HALF)),
                    *(a["leg_count"], *divmod(a["credits"], HALF), a["id"]),
                )
                for a in accounts
            ],
        )
        head = self._db.execute(f"SELECT {BLOCK} FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
        sealer = Sealer()
        sealer.add_legs(legs)
        sealer.add_endings(endings)
        first, last = endings[0].terms.sequence, endings[-1].terms.sequence
        previous = Block(head[0], BlockKind(head[1]), *head[2:])
        block = sealer.seal(BlockKind.SETTLEMENT, previous, first_sequence=first, last_sequence=last, made_at=now)
        marks = ", ".join("?" * 9)
        self._db.execute(f"INSERT INTO blocks ({BLOCK}) VALUES ({marks})", (*block.outline, block.hash))

    def _lane(self, name: str) -> Any:
        """Read a lane: the number with which it goes on, the time of its newest row, and its watermark."""
        query = "SELECT next_id, newest_at, watermark FROM lanes WHERE name = ?"
        return self._db.execute(query, (name,)).fetchone()

    def _accounts(self, column: str, wanted: set[Any]) -> dict[Any, dict[str, Any]]:
        """Read accounts by one of their columns, and whether their owners are active. Sums have their halves joined."""
        marks = ", ".join("?" * len(wanted))
        cursor = self._db.execute(
            "SELECT a.*, r.*, coalesce(u.is_active, 1) is_active FROM accounts a "
            "JOIN reservations r ON r.account_id = a.id LEFT JOIN users u ON u.id = a.owner_id "
            f"WHERE a.{column} IN ({marks})",
            list(wanted),
        )
        names = [name for name, *_ in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in rows:
            for total in ("reserved", "released", "credits"):
                row[total] = row[f"{total}_high"] * HALF + row[f"{total}_low"]
        return {row[column]: row for row in rows}


COLUMNS = (
    "id", "public_id", "kind", "from_account_id", "to_account_id", "amount", "currency", "description", "submitted_by",
    "request_id", "idempotency_key", "fingerprint", "answer_version", "previous_id", "created_at",
)  # fmt: skip
BLOCK = "height, kind, first_leg_id, leg_count, first_sequence, last_sequence, ending_count, made_at, hash"
MILESTONES = "account_id, transaction_id, posted_at, leg_count, credits_high, credits_low"


def _milestone(account: dict[str, Any], posted_at: int) -> tuple[int, ...]:
    """Return the running totals of an account up to its newest leg."""
    newest = account["last_transaction_id"]
    return (account["id"], newest, posted_at, account["leg_count"], *divmod(account["credits"], HALF))


def _may_move(payer: dict[str, Any], payee: dict[str, Any], amount: int, free: int) -> bool:
    """Check a transfer: two different accounts, one currency, both open, enough funds, and room for them."""
    return (
        payer["id"] != payee["id"]
        and payer["currency"] == payee["currency"]
        and payer["status"] == "active"
        and (payee["status"] == "active" or payee["freeze_scope"] == "debit")
        and amount <= free
        and payee["balance"] + amount <= LIMIT
    )
