"""Reading sessions, which users share fairly: nobody holds more than a quarter of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import await_only

from api.runtime.fair_line import FairLine, Gone
from core.storage.engines import Engine

OF_STRANGERS = 4
"""Sessions for callers without a token, who log in or sign up. Signed-in users cannot take them."""

WAITING, WAITING_EACH = 1024, 256
"""Reads that may wait in a line, and reads of one user or network among them."""

WAIT_SECONDS = 5.0


class Reading:
    """Opens the sessions of an API process.

    A user has at most a quarter of the sessions for users, and a network a quarter of those for strangers.
    """

    def __init__(self, database: Engine) -> None:
        self._engine = database.async_reader
        self.users = _line("reads", database.sessions - OF_STRANGERS)
        self.strangers = _line("log-ins", OF_STRANGERS)

    @asynccontextmanager
    async def session(self, who: int | str, gone: Gone | None = None) -> AsyncIterator[AsyncSession]:
        """Open a session that only reads, for a user's row id or a stranger's network.

        Each of its transactions begins with its first query, is one snapshot, and ends when the session is closed. The
        session has a place from the one to the other. The query raises Unavailable if there is no place in time, or if
        the client is `gone` before.
        """
        place = _Place(self.users if isinstance(who, int) else self.strangers, who, gone)
        try:
            async with AsyncSession(self._engine, sync_session_class=_FairSession, info={_PLACE: place}) as session:
                yield session
        finally:
            place.leave()  # also if closing failed


def _line(name: str, sessions: int) -> FairLine:
    return FairLine(
        name,
        at_once=sessions,
        each=sessions // 4,
        waiting=WAITING,
        waiting_each=WAITING_EACH,
        seconds=WAIT_SECONDS,
    )


_PLACE = "place"


class _Place:
    """A session's place in its line: taken and left any number of times."""

    def __init__(self, line: FairLine, who: int | str, gone: Gone | None) -> None:
        self._line = line
        self._who = who
        self._gone = gone
        self._is_taken = False

    async def take(self) -> None:
        await self._line.enter(self._who, self._gone)
        self._is_taken = True

    def leave(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._line.leave(self._who)


class _FairSession(Session):
    """A session that waits for its place before each transaction."""


@event.listens_for(_FairSession, "after_transaction_create")
def _take_place(session: Session, _transaction: SessionTransaction) -> None:
    await_only(session.info[_PLACE].take())


@event.listens_for(_FairSession, "after_transaction_end")
def _leave_place(session: Session, _transaction: SessionTransaction) -> None:
    session.info[_PLACE].leave()
