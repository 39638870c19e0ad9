"""Direct reads from the database file, without the service's code."""

import sqlite3
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.builders import WHOLE_ACCOUNTS, WHOLE_TRANSFERS


class Eye:
    """Reads committed rows: accounts by name, and transfers from sequence `first`."""

    def __init__(self, path: Path, names: dict[int, str], *, first: int) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._names = names
        self._first = first
        self._ids: dict[int, UUID] = {}

    def close(self) -> None:
        self._connection.close()

    def id_of(self, sequence: int) -> UUID:
        if sequence not in self._ids:
            row = self._connection.execute("SELECT public_id FROM transfers WHERE id = ?", (sequence,)).fetchone()
            self._ids[sequence] = UUID(bytes=row[0])
        return self._ids[sequence]

    def accounts(self) -> dict[str, tuple[Any, ...]]:
        rows = self._connection.execute(
            f"SELECT id, balance, reserved, overdraft_limit, status, freeze_scope FROM {WHOLE_ACCOUNTS}"
        )
        return {self._names[row[0]]: row[1:] for row in rows}

    def transfers(self) -> list[tuple[Any, ...]]:
        rows = self._connection.execute(
            "SELECT id, kind, from_account_id, to_account_id, amount, submitted_by, idempotency_key, status, "
            f"failure_code FROM {WHOLE_TRANSFERS} WHERE id >= ? ORDER BY id",
            (self._first,),
        )
        return [(row[0], row[1], self._names[row[2]], self._names[row[3]], *row[4:]) for row in rows]

    def legs(self) -> list[tuple[int, str, int, int]]:
        rows = self._connection.execute(
            "SELECT transfer_id, account_id, amount, balance_after FROM transactions "
            "WHERE transfer_id >= ? ORDER BY id",
            (self._first,),
        )
        return [(row[0], self._names[row[1]], row[2], row[3]) for row in rows]

    def lanes(self) -> tuple[int, int, int]:
        """Return the sequence of the next transfer, the row id of the next leg, and the watermark of settling."""
        ((accept, _), (leg, watermark)) = self._connection.execute(
            "SELECT next_id, watermark FROM lanes ORDER BY name"
        ).fetchall()
        return accept, leg, watermark

    def times(self) -> list[tuple[int, int]]:
        """Return when each transfer was created and ended, in order of acceptance; all must have ended."""
        return self._connection.execute(f"SELECT created_at, settled_at FROM {WHOLE_TRANSFERS} ORDER BY id").fetchall()
