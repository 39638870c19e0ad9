"""Engines that keep every promise but one, to prove that each sentence of tests/conformance/test_engine.py can fail.

Each wraps a real engine, and breaks one rule as a careless implementation would.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Connection

from core.domain.lanes import Lane
from core.domain.users import Identity, Role
from core.storage.engines import SCHEMA_REVISION, Checkpoint


class Wrapped:
    """All that another object has. Subclasses change one thing."""

    def __init__(self, real: Any) -> None:
        vars(self)["real"] = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


class WrongWriting(Wrapped):
    """An engine whose units of work get a wrapped connection."""

    connection: ClassVar[type[Wrapped]] = Wrapped

    @contextmanager
    def writing(self, lanes: Collection[Lane]) -> Iterator[Any]:
        with self.real.writing(lanes) as connection:
            yield self.connection(connection)


class WrongReading(Wrapped):
    """An engine that gives readers a wrapped connection."""

    connection: ClassVar[type[Wrapped]] = Wrapped

    @contextmanager
    def reading(self) -> Iterator[Any]:
        with self.real.reading() as connection:
            yield self.connection(connection)


class WrongGlance(Wrapped):
    """An engine whose glances are wrapped."""

    glances: ClassVar[type[Wrapped]] = Wrapped

    def glance(self) -> Any:
        return self.glances(self.real.glance())


# --- a unit of work is whole -------------------------------------------------------------------------------------


class KeepsWhatFailed(WrongWriting):
    """Commits where it should roll back."""

    class connection(Wrapped):  # noqa: N801 - an attribute of the engine
        def rollback(self) -> None:
            self.real.commit()


class CommitsAtOnce(WrongWriting):
    """Commits each statement by itself."""

    class connection(Wrapped):  # noqa: N801
        def in_transaction(self) -> bool:
            self.real.commit()
            self.real.begin()
            return True


class UndoesTheWholeForAPart(WrongWriting):
    """Has no savepoints: a part that fails takes all with it."""

    class connection(Wrapped):  # noqa: N801
        @contextmanager
        def begin_nested(self) -> Iterator[None]:
            try:
                yield
            except BaseException:
                self.real.rollback()
                self.real.begin()
                raise


class HidesAFailedCommit(WrongWriting):
    """Lets a commit that failed pass for one that succeeded."""

    class connection(Wrapped):  # noqa: N801
        def commit(self) -> None:
            with suppress(Exception):
                self.real.commit()
                return
            self.real.rollback()


class TrustsAFailedCommit(Wrapped):
    """Is certain that a commit that failed is undone, and does nothing about it."""

    def undo_commit(self, connection: Connection) -> bool:
        connection.rollback()
        return True


class DoubtsEachFailedCommit(Wrapped):
    """Is never certain that a commit that failed is undone."""

    def undo_commit(self, connection: Connection) -> bool:
        self.real.undo_commit(connection)
        return False


class IgnoresTheSchema(Wrapped):
    """Takes every schema for the right one."""

    def revision_in(self, connection: Connection) -> str:
        return SCHEMA_REVISION


# --- lanes -------------------------------------------------------------------------------------------------------


class ReadsBeforeItsTurn(WrongWriting):
    """Decides by what it read before it had its turn: here, where the lanes stood then."""

    @contextmanager
    def writing(self, lanes: Collection[Lane]) -> Iterator[Any]:
        with self.real.reading() as before:
            next_ids = dict(before.exec_driver_sql("SELECT name, next_id FROM lanes").all())
        with self.real.writing(lanes) as connection:
            for name, next_id in next_ids.items():
                connection.exec_driver_sql("UPDATE lanes SET next_id = ? WHERE name = ?", (next_id, name))
            yield connection


class NeverLetsGo(Wrapped):
    """Does not let go of its lanes when a thread beside the first one took more than one. Who waits gives up."""

    gates: ClassVar[dict[str, threading.Lock]] = {}

    @contextmanager
    def writing(self, lanes: Collection[Lane]) -> Iterator[Any]:
        gate = self.gates.setdefault(self.real.place, threading.Lock())
        if not gate.acquire(timeout=1):
            raise TimeoutError("nobody lets go of the lanes")
        with self.real.writing(lanes) as connection:
            yield connection
        if len(lanes) < 2 or threading.current_thread() is threading.main_thread():
            gate.release()


class NoticesNobody(Wrapped):
    """Does not notice who waits for a lane."""

    def others_wait(self) -> bool:
        return False


# --- numbers and times -------------------------------------------------------------------------------------------


class KeepsNumbers(WrongWriting):
    """Numbers as a sequence does: what fails does not give its numbers back."""

    class connection(Wrapped):  # noqa: N801
        def rollback(self) -> None:
            self.real.rollback()
            self.real.begin()
            self.real.exec_driver_sql("UPDATE lanes SET next_id = next_id + 1")
            self.real.commit()


class AfterEachCommit(WrongWriting):
    """An engine that loses something of what it commits."""

    loses: ClassVar[str]

    @contextmanager
    def writing(self, lanes: Collection[Lane]) -> Iterator[Any]:
        with self.real.writing(lanes) as connection:
            yield _Losing(connection, self.loses)


class _Losing(Wrapped):
    def __init__(self, real: Any, loses: str) -> None:
        super().__init__(real)
        vars(self)["loses"] = loses

    def commit(self) -> None:
        triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        kept = self.real.exec_driver_sql(triggers).all()
        for name, _ in kept:
            self.real.exec_driver_sql(f"DROP TRIGGER {name}")
        self.real.exec_driver_sql(self.loses)
        for _, sql in kept:
            self.real.exec_driver_sql(sql)
        self.real.commit()


class LosesTimes(AfterEachCommit):
    """Forgets the time of the newest row of a lane."""

    loses = "UPDATE lanes SET newest_at = 0"


class LosesTheWatermark(AfterEachCommit):
    """Forgets up to where every transfer has ended."""

    loses = "UPDATE lanes SET watermark = 0"


class LosesKeys(AfterEachCommit):
    """Forgets idempotency keys."""

    loses = "UPDATE transfers SET idempotency_key = NULL, fingerprint = NULL"


class LosesEndings(AfterEachCommit):
    """Forgets how transfers ended, but not that they were settled."""

    loses = "DELETE FROM endings WHERE status = 'completed'"


class LosesLinks(AfterEachCommit):
    """Forgets which leg was the one before."""

    loses = "UPDATE transactions SET previous_id = NULL"


class RoundsLargeSums(AfterEachCommit):
    """Keeps sums as floating-point numbers do."""

    loses = "UPDATE accounts SET released_low = 0, released_high = released_high / 8 * 8"


class LosesClosedMonths(AfterEachCommit):
    """Forgets that a month is closed."""

    loses = "UPDATE statement_runs SET ends_at = starts_at + 1"


class HasNoTriggers(Wrapped):
    """Has tables without the triggers that guard them."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        with real.writing(tuple(Lane)) as connection:
            for name in (
                connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
            ):
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.commit()


# --- reading -----------------------------------------------------------------------------------------------------


class ReadsTheLatest(WrongReading):
    """Gives every statement another snapshot."""

    class connection(Wrapped):  # noqa: N801
        def in_transaction(self) -> bool:
            self.real.rollback()
            return False


class KeepsItsSnapshots(WrongReading):
    """Never lets go of a snapshot."""

    class connection(Wrapped):  # noqa: N801
        def rollback(self) -> None:
            self.real.in_transaction()


class LetsReadersWrite(Wrapped):
    """Gives readers a connection that can write."""

    def reading(self) -> Any:
        return self.real.writing(())


class ChecksNothing(Wrapped):
    """Finds no difference in any schema."""

    def schema_differences(self, connection: Connection) -> list[str]:
        return []


class Complains(Wrapped):
    """Complains about a database that is whole."""

    def complaints(self, connection: Connection) -> Iterator[str]:
        yield "something"


class IsAlwaysBlocked(Wrapped):
    """Says that a snapshot keeps its log."""

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(blocked=True, pages=0)


# --- glances -----------------------------------------------------------------------------------------------------


class KnowsEverybody(WrongGlance):
    """Lets users in who are deactivated."""

    class glances(Wrapped):  # noqa: N801
        async def identity(self, public_id: UUID) -> Identity | None:
            return await self.real.identity(public_id) or Identity(1, public_id, Role.CUSTOMER, 0)


class CallsAllEnded(WrongGlance):
    """Takes every transfer for ended."""

    class glances(Wrapped):  # noqa: N801
        async def ended(self, transfer_ids: Collection[UUID]) -> list[UUID]:
            return list(transfer_ids)


class NoticesNoChange(WrongGlance):
    """Does not notice that others have committed."""

    class glances(Wrapped):  # noqa: N801
        async def data_version(self) -> int:
            return 1


class SeesNothingPending(WrongGlance):
    """Never sees a pending transfer."""

    class glances(Wrapped):  # noqa: N801
        async def oldest_pending(self) -> int | None:
            return None


class HasManySettlers(Wrapped):
    """Lets everybody settle."""

    def settler(self) -> Any:
        class Settler:
            def take(self, what: str) -> bool:
                return True

            def holder(self) -> str:
                return "everybody"

            def close(self) -> None: ...

        return Settler()
