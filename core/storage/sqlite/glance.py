"""Look-ups that cost less than a thread would: one reading connection on the event loop's thread."""

from collections.abc import Collection
from itertools import batched
from typing import Any
from uuid import UUID

from core.domain.users import Identity, Role
from core.storage.sqlite.connections import Connections

_IDS_PER_QUERY = 500
_OLDEST_PENDING = """
    SELECT settle.watermark + 1 FROM lanes accept CROSS JOIN lanes settle
    WHERE accept.name = 'accept' AND settle.name = 'settle' AND accept.next_id > settle.watermark + 1
"""


class Glance:
    """A reading connection without a transaction: every look-up sees what is committed at that moment.

    A look-up by primary key takes some ten microseconds, a switch to a thread and back some hundreds.
    """

    def __init__(self, database: Connections) -> None:
        self._holder = database.reader.raw_connection()
        self._connection: Any = self._holder.driver_connection
        self._looked_at: int | None = None
        self._oldest_pending: int | None = None

    async def data_version(self) -> int:
        """Return a number that changes whenever another connection, of any process, has committed."""
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    async def oldest_pending(self) -> int | None:
        """Return the sequence of the oldest pending transfer; None if none is pending.

        This is the whole of what settling without a queue needs from a database. It costs some microseconds if nothing
        was committed since the last call.
        """
        version = await self.data_version()  # first: a commit between the two reads is seen by the next call
        if version != self._looked_at:
            row = self._connection.execute(_OLDEST_PENDING).fetchone()
            self._oldest_pending = row[0] if row else None
            self._looked_at = version
        return self._oldest_pending

    async def identity(self, public_id: UUID) -> Identity | None:
        """Read an active user; None if the user is deactivated or does not exist."""
        row = self._connection.execute(
            "SELECT id, role, token_version FROM users WHERE public_id = ? AND is_active = 1", (public_id.bytes,)
        ).fetchone()
        return Identity(row[0], public_id, Role(row[1]), row[2]) if row else None

    async def ended(self, transfer_ids: Collection[UUID]) -> list[UUID]:
        """Find which of these transfers are no longer pending."""
        found: list[UUID] = []
        for some in batched(transfer_ids, _IDS_PER_QUERY):
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT public_id FROM transfers t JOIN endings e ON e.id = t.id WHERE public_id IN ({marks})",
                tuple(item.bytes for item in some),
            )
            found += (UUID(bytes=row[0]) for row in rows.fetchall())
        return found

    async def close(self) -> None:
        """Close the connection."""
        self._holder.close()
