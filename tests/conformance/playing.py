"""Plays a history through the services, and reads the end of it.

The player gets a database that is ready to use, and works with it only through the services and `core/storage`. It
contains no SQL, so that it can play on any engine.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection

from core import failpoints
from core.domain.batches import AcceptedBatch, BatchRequest
from core.domain.blocks import Block
from core.domain.errors import GiroError
from core.domain.pending import PendingBounds
from core.domain.transfers import AcceptedTransfer, TransferRequest, TransferStatus, TransferView
from core.failpoints import StruckError
from core.services.identity import pay_outs
from core.services.transfers import accepting, batches, cancelling, settlement
from core.services.verification import Breach, verify
from core.storage import accounts as stored_accounts
from core.storage import blocks
from core.storage import transfers as stored_transfers
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.conformance import acts
from tests.conformance.acts import ACCEPTED, CANCELLED, DONE, ROLLED_BACK, Act, Order, Outcome, Step
from tests.conformance.administering import administer
from tests.conformance.fixed_time import moments_from
from tests.conformance.names import Names
from tests.months import close_months, work_off

BOUNDS = PendingBounds(total=1000, per_user=1000, seconds=0)

NewDatabase = Callable[[], AbstractContextManager[Database]]
"""Makes an empty database at the newest migration, and opens it for a block of code."""


@dataclass(frozen=True, slots=True)
class Played:
    """The end of a history."""

    outcomes: list[Outcome]
    blocks: list[Block]
    accounts: dict[str, tuple[int, int]]
    """Balance and reserved funds of each account, in minor units."""
    breaches: list[Breach]
    """The findings of the verification."""


def play(new_database: NewDatabase, history: Sequence[Step], beginning: str, folder: Path) -> Played:
    """Play a history in a database that is made at its beginning. `folder` takes the files that services write."""
    with moments_from(beginning) as moment, new_database() as database:
        player = Player(database, Names(moment, folder))
        outcomes = [player.take(step) for step in history]
        with database.reader.connect() as connection:
            chain = list(blocks.read_all(connection, first=0, last=blocks.head(connection).height))
            balances = player.balances(connection)
        return Played(outcomes, chain, balances, verify(database).breaches)


class Player:
    """Plays one step after the other."""

    def __init__(self, database: Database, names: Names) -> None:
        self._database, self._names = database, names
        self._pending: list[UUID] = []
        """Ids of the pending transfers, in the order of acceptance."""
        self._answers: dict[tuple[str, str], AcceptedTransfer | AcceptedBatch] = {}
        """The first answer to each idempotency key of a person."""

    def take(self, step: Step) -> Outcome:
        """Take one step and return its outcome. That of a refusal is its code, and its line of an atomic batch."""
        self._names.moment.begin_step(step.at)
        try:
            return self._do(step.act)
        except GiroError as error:
            return error.code.value if error.line is None else f"{error.code.value} at {error.line}"

    def balances(self, connection: Connection) -> dict[str, tuple[int, int]]:
        """Read balance and reserved funds of each account, in minor units, by name."""
        views = {name: stored_accounts.read(connection, account) for name, account in self._names.accounts.items()}
        return {name: (view.balance, view.reserved) for name, view in views.items() if view is not None}

    @contextmanager
    def _work(self) -> Iterator[Connection]:
        """Begin a unit of work. It passes the same failpoint before its commit as those of the service."""
        with unit_of_work(self._database) as connection:
            yield connection
            failpoints.hit("accept.before_commit")

    @singledispatchmethod
    def _do(self, act: Act) -> Outcome:
        with self._work() as connection:
            administer(act, connection, self._names)
        return DONE

    # --- orders --------------------------------------------------------------------------------------------------

    @_do.register
    def _order(self, act: Order) -> Outcome:
        return self._accept([act])[0]

    @_do.register
    def _together(self, act: acts.Together) -> Outcome:
        return tuple(self._accept(act.orders))

    def _accept(self, orders: Sequence[Order]) -> list[str]:
        with self._work() as connection:
            requests = [self._request(connection, order, f".{place}") for place, order in enumerate(orders, 1)]
            answers = accepting.accept(connection, requests, BOUNDS)
        return [self._told(order, answer) for order, answer in zip(orders, answers, strict=True)]

    def _told(self, order: Order, answer: AcceptedTransfer | GiroError) -> str:
        if isinstance(answer, GiroError):
            return answer.code.value
        if answer.replayed:
            assert order.key, "only a request with a key can be replayed"
            assert replace(answer, replayed=False) == self._answers[order.by, order.key], "the first answer again"
            return "replayed"
        if order.key:
            self._answers[order.by, order.key] = answer
        self._keep(order, answer.id)
        return ACCEPTED

    @_do.register
    def _batch(self, act: acts.Batch) -> Outcome:
        by = act.lines[0].by
        with self._work() as connection:
            request = BatchRequest(
                mode=act.mode,
                submitted_by=self._names.row_ids[by],
                transfers=[self._request(connection, line) for line in act.lines],
                idempotency_key=act.key,
                fingerprint=_fingerprint(*act.lines),
            )
            answer = batches.accept(connection, request, BOUNDS)
        lines = tuple(ACCEPTED if isinstance(line, bytes) else line.value for line in answer.lines)
        if answer.replayed:
            first = self._answers[by, act.key]
            assert isinstance(first, AcceptedBatch), "the key of a batch"
            assert (answer.id, answer.lines) == (first.id, first.lines), "the first answer again"
            return ("replayed", *lines)
        if answer.id is not None:
            self._answers[by, act.key] = answer
        for order, line in zip(act.lines, answer.lines, strict=True):
            if isinstance(line, bytes):
                self._keep(order, UUID(bytes=line))
        return lines

    @_do.register
    def _pay_out(self, act: acts.PayOut) -> Outcome:
        author, person = self._names.author(), self._names.user(act.person)
        with self._work() as connection:
            orders = pay_outs.pay_out(connection, author, person, {}, BOUNDS)
        self._pending += [order.id for order in orders]
        return (ACCEPTED,) * len(orders)

    def _request(self, connection: Connection, order: Order, suffix: str = "") -> TransferRequest:
        return TransferRequest(
            kind=order.kind,
            submitted_by=self._names.row_ids[order.by],
            payer=None if order.payer is None else self._names.account(order.payer),
            payee=self._names.payee(connection, order.payee),
            amount=order.amount,
            currency=order.currency,
            description=order.text,
            idempotency_key=order.key,
            fingerprint=_fingerprint(order) if order.key else None,
            request_id=self._names.request_id + suffix,
        )

    def _keep(self, order: Order, transfer: UUID) -> None:
        """Remember an accepted transfer."""
        self._pending.append(transfer)
        if order.name:
            self._names.transfers[order.name] = transfer

    # --- ends ----------------------------------------------------------------------------------------------------

    @_do.register
    def _cancel(self, act: acts.Cancel) -> Outcome:
        transfer = self._names.transfer(act.transfer)
        with self._work() as connection:
            cancelling.cancel(connection, user_id=self._names.row_ids[act.by], transfer_id=transfer)
        self._pending = [waiting for waiting in self._pending if waiting != transfer]
        return CANCELLED

    @_do.register
    def _settle(self, act: acts.Settle) -> Outcome:
        units = iter(range(act.units or len(self._pending) + 1))
        count = settlement.settle_pending(
            self._database, batch=act.batch, lock_ms=1000, stop=lambda: next(units, None) is None
        )
        with self._database.reader.connect() as connection:
            views = [stored_transfers.read(connection, transfer) for transfer in self._pending]
        ended = [view for view in views if view is not None and view.status is not TransferStatus.PENDING]
        assert len(ended) == count, "every transfer that settlement counts has ended"
        self._pending = self._pending[count:]
        return tuple(_ending(view) for view in ended)

    @_do.register
    def _close_months(self, _act: acts.CloseMonths) -> Outcome:
        closed = close_months(self._database)
        return f"closed {closed}, made {work_off(self._database)} statements"

    @_do.register
    def _interrupted(self, act: acts.Interrupted) -> Outcome:
        failpoints.arm("accept.before_commit=raise,settle.before_commit=raise")
        try:
            return self._do(act.act)
        except StruckError:
            return ROLLED_BACK
        finally:
            failpoints.arm(None)


def _fingerprint(*orders: Order) -> bytes:
    """Digest a request. The same words in the history are the same request."""
    texts = [f"{order.kind} {order.payer} {order.payee} {order.amount} {order.text}" for order in orders]
    return sha256("\n".join(texts).encode()).digest()


def _ending(view: TransferView) -> str:
    """Return how a transfer ended: for a failure its code, and the line that made the others of its batch fail."""
    if view.failure_code is None:
        return view.status.value
    return view.failure_code.value if view.failed_index is None else f"{view.failure_code.value} by {view.failed_index}"
