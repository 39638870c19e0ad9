"""Hypothesis plays every part: clients, operators, the queue, the clock, and the power switch of each process.

After every step the database must say what the model says, to the last unit, and each answer must be the one that the
model predicts. At the end the queue has lost everything, and the sweep alone must bring all that is pending to an end.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection

from api.schemas.transfers import render_accepted
from core.domain.accounts import FreezeScope
from core.domain.errors import GiroError
from core.domain.transfers import AcceptedTransfer, TransferKind, TransferRequest
from core.services import accounts, operators, transfers
from core.services.verification import verify
from tests.builders import author, transfer_request
from tests.simulation.model import BANK, Accepted, Book, Order, Refused
from tests.simulation.processes import (
    AFTER_COMMIT,
    BEFORE_COMMIT,
    COMMIT_FAILS,
    GROUP,
    INTAKE_SECONDS,
    SWEEP_AGE_SECONDS,
    Api,
    Operator,
    Scheduler,
    Strike,
    Worker,
    World,
)
from tests.simulation.template import MAX_AMOUNT, Template

SHARED_MEMORY = Path("/dev/shm")
UNAVAILABLE = "unavailable"

APIS = st.integers(0, 1)
PAYERS = st.sampled_from(["ada", "ada", "bob", "ada's savings", "bob's vault", "eve"])
PAYEES = st.sampled_from(["bob", "ada", "ada's savings", "bob's vault", "eve"])
CUSTOMERS = st.sampled_from(["ada", "bob", "ada's savings", "bob's vault", "eve"])
PEOPLE = st.sampled_from(["ada", "bob", "eve"])
ACTS = st.sampled_from(
    [("freeze", "debit"), ("freeze", "all"), ("freeze", None), ("freeze", None)]
    + [("limit", limit) for limit in (0, 100, 300, 1000)]
    + [("active", False), ("active", True), ("active", True)]
)
AMOUNTS = st.integers(1, 400) | st.sampled_from([1, 300, 301, 500, 1000, MAX_AMOUNT])
KEYS = st.sampled_from([None, None, "k", "k", "l"])
WHICH = st.integers(0, 15)
STRIKES = st.sampled_from([None, None, None, None, BEFORE_COMMIT, AFTER_COMMIT, COMMIT_FAILS])
UNITS = st.integers(0, 2)
BATCHES = st.sampled_from([1, 2, 100])
MEANWHILE = st.lists(
    st.sampled_from(["write", "write and send", "settle", "cancel", "freeze", "limit", "deactivate", "wait"]),
    max_size=2,
)


@dataclass
class Act:
    """Anything but an order that somebody asks for: what it does to the bank, and to the model."""

    name: str
    work: Callable[[Connection], Any]
    effect: Callable[[Book], None]


@dataclass
class Asked:
    """A request that waits in an intake, or has its answer."""

    api: Api
    what: Order | Act
    arrived: float
    task: Any


class Simulation(RuleBasedStateMachine):
    """One sequence of steps, on one bank."""

    template: Template
    counts: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="giro-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        settings, self.book = self.template.copy(self.folder)
        self.world = World(settings)
        self.clock, self.queue = self.world.clock, self.world.queue
        self._time = self.clock.rules()
        self._time.__enter__()
        self.apis = [Api(self.world, "api"), Api(self.world, "api-2")]
        self.workers = [Worker(self.world, "worker"), Worker(self.world, "second worker")]
        self.scheduler = Scheduler(self.world, "scheduler")
        self.operator = Operator(self.world, "operator")
        self.eye = sqlite3.connect(f"file:{settings.database_path}?mode=ro", uri=True)
        self.first = self.book.next_sequence
        self.names = {row_id: name for name, (row_id, _) in self.template.accounts.items()}
        self.ids: dict[int, UUID] = {}
        self.answers: dict[int, bytes] = {}
        self.waiting: list[Asked] = []
        self.group: list[Asked] = []
        self.orders: list[Order] = []
        self.expected: list[tuple[Asked, object]] = []
        self.undisturbed = True
        """False once a message may have been lost: until the sweep has come, nobody need be on the way."""

    def count(self, step: str) -> None:
        self.counts[step] += 1

    @initialize()
    def begins(self) -> None:
        self.count("sequences")

    # --- clients ---

    @rule(api=APIS, payer=PAYERS, payee=PAYEES, amount=AMOUNTS, key=KEYS, by=st.none() | PEOPLE)
    def order_a_transfer(self, api: int, payer: str, payee: str, amount: int, key: str | None, by: str | None) -> None:
        """Mostly by the owner; now and then by somebody else."""
        owner = self.book.accounts[payer].owner
        assert owner is not None
        self.order(api, Order(by or owner, payer, payee, amount, key=key))

    @rule(api=APIS, payee=CUSTOMERS, amount=AMOUNTS, key=KEYS, currency=st.sampled_from([None, "USD", "EUR"]))
    def order_a_deposit(self, api: int, payee: str, amount: int, key: str | None, currency: str | None) -> None:
        self.order(api, Order(BANK, None, payee, amount, currency, key))

    @rule(api=APIS, payer=CUSTOMERS, amount=AMOUNTS, key=KEYS)
    def order_a_withdrawal(self, api: int, payer: str, amount: int, key: str | None) -> None:
        self.order(api, Order(BANK, payer, None, amount, key=key))

    @precondition(lambda self: self.orders)
    @rule(api=APIS, which=WHICH)
    def order_the_same_again(self, api: int, which: int) -> None:
        """As a client does that got no answer, or that lost it; perhaps from another process than before."""
        self.order(api, self.orders[which % len(self.orders)])

    @precondition(lambda self: self.book.transfers)
    @rule(api=APIS, which=WHICH, by=st.none() | PEOPLE)
    def ask_to_cancel(self, api: int, which: int, by: str | None) -> None:
        sequence = list(self.book.transfers)[which % len(self.book.transfers)]
        self.ask(api, self.cancelling(sequence, by or self.book.transfers[sequence].order.by))

    @rule(api=APIS, account=CUSTOMERS)
    def ask_to_close(self, api: int, account: str) -> None:
        owner = self.book.accounts[account].owner
        assert owner is not None
        row_id, public_id = self.template.people[owner][0], self.template.accounts[account][1]

        def work(connection: Connection) -> None:
            accounts.close_account(connection, user_id=row_id, account_id=public_id)

        self.ask(api, Act("close", work, lambda book: book.close(owner, account)))

    # --- API processes ---

    @rule(api=APIS)
    def write_send_and_settle(self, api: int) -> None:
        """As on every good day."""
        self.count("good day")
        self.let_write(self.apis[api])
        self.undisturbed &= self.apis[api].send()
        if self.queue.messages:
            self.queue.messages.pop(0)
            self.let_settle(self.workers[0], 100, None, [])

    @rule(api=APIS, strike=STRIKES, meanwhile=MEANWHILE)
    def write(self, api: int, strike: str | None, meanwhile: list[str]) -> None:
        """One process writes the group that waits in it; others may come first."""
        self.count("write" if strike is None else f"write, {strike}")
        self.let_write(self.apis[api], strike=Strike(strike) if strike else None, meanwhile=meanwhile)

    @rule(api=APIS)
    def send(self, api: int) -> None:
        self.count("send")
        self.undisturbed &= self.apis[api].send()

    @rule(api=APIS)
    def kill_an_api_process(self, api: int) -> None:
        self.count("kill")
        self.bury(self.apis[api])
        self.apis[api].restart()

    # --- operators ---

    @rule(account=CUSTOMERS, person=PEOPLE, what=ACTS)
    def have_an_operator_act(self, account: str, person: str, what: tuple[str, Any]) -> None:
        name, value = what
        if name == "freeze":
            self.act(self.freezing(account, value))
        elif name == "limit":
            self.act(self.limiting(account, value))
        else:
            self.act(self.activating(person, active=value))

    # --- the queue, and who listens to it ---

    @rule(which=WHICH, strike=STRIKES, unit=UNITS, batch=BATCHES, yields=st.booleans(), meanwhile=MEANWHILE)
    def deliver(
        self, which: int, strike: str | None, unit: int, batch: int, yields: bool, meanwhile: list[str]
    ) -> None:
        """Any message may come next; without one the worker is started anew, and looks of its own accord.

        A message is taken off the queue once it is worked off: not if the worker crashes.
        """
        self.count("deliver" if strike is None else f"deliver, {strike}")
        message = self.queue.messages.pop(which % len(self.queue.messages)) if self.queue.messages else None
        if message is None:
            self.workers[0].restart()
        self.undisturbed &= strike is None
        self.world.somebody_waits = yields
        self.let_settle(self.workers[0], batch, Strike(strike, unit) if strike else None, meanwhile)
        if message is not None and strike in (BEFORE_COMMIT, AFTER_COMMIT):
            self.queue.messages.append(message)

    @rule()
    def sweep(self) -> None:
        self.count("sweep")
        self.scheduler.sweep()

    @rule(what=st.sampled_from(["lose", "repeat", "reverse", "forge", "forget everything", "be away", "be back"]))
    def disturb_the_queue(self, what: str) -> None:
        self.count(f"queue: {what}")
        self.queue.suffer(what)
        self.undisturbed &= what in ("repeat", "reverse", "forge", "be back")

    # --- time ---

    @rule(seconds=st.sampled_from([0.5, 2.5, INTAKE_SECONDS + 1, -1, -3600, -40 * 86_400]))
    def have_time_pass_or_the_clock_set_back(self, seconds: float) -> None:
        if seconds > 0:
            self.count("time passes")
            self.let_time_pass(seconds)
        else:
            self.count("clock set back")
            self.clock.set_wall_back(-int(seconds))

    # --- what must hold ---

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        assert self.stored_accounts() == {
            name: (
                account.balance,
                self.book.reserved(name),
                account.limit,
                "closed" if account.closed else "frozen" if account.frozen else "active",
                account.frozen,
            )
            for name, account in self.book.accounts.items()
        }
        assert self.stored_transfers() == [
            (
                number,
                transfer.order.kind,
                transfer.payer,
                transfer.payee,
                transfer.order.amount,
                self.template.people[transfer.order.by][0],
                transfer.order.key,
                transfer.status,
                transfer.failure,
            )
            for number, transfer in self.book.transfers.items()
        ]
        assert self.stored_legs() == self.book.legs

    @invariant()
    def what_is_pending_has_somebody_on_the_way(self) -> None:
        on_the_way = self.queue.messages or any(api.asked_to_wake for api in self.apis)
        if self.book.pending():
            assert on_the_way or not self.undisturbed
        elif not on_the_way and not self.queue.away and not self.queue.holds_a_key():
            self.undisturbed = True

    def teardown(self) -> None:
        try:
            self.bring_to_an_end()
        finally:
            self.eye.close()
            for process in (*self.apis, *self.workers, self.scheduler, self.operator):
                process.end()
            self.world.loop.close()
            self._time.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def bring_to_an_end(self) -> None:
        """With the queue emptied and every process killed, the sweep finds what is pending, and each key its answer."""
        self.queue.away = False
        self.queue.forget_everything()
        for api in self.apis:
            self.bury(api)
            api.restart()
        self.let_time_pass(2 * SWEEP_AGE_SECONDS)
        self.scheduler.sweep()
        while self.queue.messages:
            self.queue.messages.pop()
            self.let_settle(self.workers[1], 100, None, [])
        assert not self.book.pending(), "the sweep has found all"
        self.the_database_says_what_the_model_says()
        self.times_run_forwards()
        report = verify(self.scheduler.database)
        assert report.breaches == []
        self.every_key_has_its_answer()

    def times_run_forwards(self) -> None:
        created = self.eye.execute("SELECT created_at, settled_at FROM transfers ORDER BY id").fetchall()
        assert [row[0] for row in created] == sorted(row[0] for row in created)
        assert all(begun <= ended for begun, ended in created)

    def every_key_has_its_answer(self) -> None:
        for transfer in list(self.book.transfers.values()):
            if transfer.order.key is not None:
                self.order(0, transfer.order)
                self.let_write(self.apis[0])

    # --- how ---

    def order(self, api: int, order: Order) -> None:
        self.count("order")
        self.orders.append(order)
        self.take_in(self.apis[api], order, self.request(order))

    def ask(self, api: int, act: Act) -> None:
        self.count(act.name)
        self.take_in(self.apis[api], act, act.work)

    def take_in(self, api: Api, what: Order | Act, task: Any) -> None:
        asked = Asked(api, what, self.clock.elapsed, api.take_in(task))
        if asked.task.done():
            assert self.came_to(asked) == UNAVAILABLE
            assert len(self.waiting_in(api)) == 8, "more than the intake has room for"
            return
        self.waiting.append(asked)

    def request(self, order: Order) -> TransferRequest:
        digest = blake2b(repr(order.said).encode(), digest_size=16).digest()
        return transfer_request(
            kind=TransferKind(order.kind),
            submitted_by=self.template.people[order.by][0],
            payer=self.template.accounts[order.payer][1] if order.payer else None,
            payee=self.template.accounts[order.payee][1] if order.payee else None,
            amount=order.amount,
            currency=order.currency,
            idempotency_key=order.key,
            fingerprint=digest if order.key else None,
        )

    def waiting_in(self, api: Api) -> list[Asked]:
        return [asked for asked in self.waiting if asked.api is api]

    def let_write(self, api: Api, *, strike: Strike | None = None, meanwhile: list[str] | None = None) -> None:
        """Have a group written, and hold each answer to what the model predicts."""
        self.world.meanwhile = [self.others(api, what) for what in meanwhile or []]
        group: list[Asked] = []
        expected: list[object] = []

        def begins() -> None:
            # Whoever still waits when the turn has come is in the group, and nobody else.
            group.extend(self.waiting_in(api)[:GROUP])
            self.waiting = [asked for asked in self.waiting if asked not in group]

        def commits() -> None:
            in_order = sorted(group, key=lambda asked: isinstance(asked.what, Act))  # orders first: it is stable
            outcomes = {id(asked): self.predict(asked.what) for asked in in_order}
            expected.extend(outcomes[id(asked)] for asked in group)

        before = api.database
        api.write(effect=commits, begin=begins, strike=strike)
        if api.database is not before:  # it crashed: nobody there gets an answer
            self.undisturbed = False
            self.bury(api)
            for asked in group:
                asked.task.cancel()
            return
        for asked, outcome in zip(group, expected or [UNAVAILABLE] * len(group), strict=True):
            self.hold_to(asked, outcome)

    def predict(self, what: Order | Act) -> object:
        try:
            if isinstance(what, Order):
                return self.book.accept(what)
            what.effect(self.book)
        except Refused as refusal:
            return str(refusal)
        return None

    def hold_to(self, asked: Asked, outcome: object) -> None:
        assert self.came_to(asked) == outcome, asked.what
        if isinstance(outcome, Accepted):
            answer = asked.task.result()
            self.ids[outcome.sequence] = answer.id
            assert self.answers.setdefault(outcome.sequence, render_accepted(answer)) == render_accepted(answer)

    def came_to(self, asked: Asked) -> object:
        """The answer to a request, in the model's words."""
        assert asked.task.done(), "an answer has come"
        error = asked.task.exception()
        if isinstance(error, GiroError):
            return str(error.code)
        if error is not None:
            raise error
        answer = asked.task.result()
        return Accepted(answer.sequence, answer.replayed) if isinstance(answer, AcceptedTransfer) else None

    def let_settle(self, worker: Worker, batch: int, strike: Strike | None, meanwhile: list[str]) -> None:
        self.world.meanwhile = [self.others(worker, what) for what in meanwhile]
        worker.settle(batch=batch, effect=lambda: self.book.settle(batch), strike=strike)

    def act(self, act: Act) -> None:
        """Have an operator's command run."""
        self.count(act.name)
        expected: list[str | None] = []
        refused = self.operator.act(act.work, effect=lambda: expected.append(self.predict(act)))  # type: ignore[arg-type]
        if refused is not None:
            expected.append(self.predict(act))  # type: ignore[arg-type]
        assert expected == [refused], act.name

    def bury(self, api: Api) -> None:
        """A process has ended: nobody whose request waited in it gets an answer."""
        for asked in self.waiting_in(api):
            asked.task.cancel()
        self.waiting = [asked for asked in self.waiting if asked.api is not api]
        self.undisturbed &= not api.asked_to_wake
        self.world.loop.catch_up()

    def let_time_pass(self, seconds: float) -> None:
        """Requests that have waited for too long are refused, each at its time."""
        self.clock.advance(seconds)
        self.world.loop.catch_up()
        late = [asked for asked in self.waiting if asked.arrived + INTAKE_SECONDS <= self.clock.elapsed]
        self.waiting = [asked for asked in self.waiting if asked not in late]
        assert all(self.came_to(asked) == UNAVAILABLE for asked in late)
        assert not any(asked.task.done() for asked in self.waiting)

    def others(self, waits: object, what: str) -> Callable[[], None]:
        """Something that others do while one process stands in line for its turn."""
        api = self.apis[0] if waits is self.apis[1] else self.apis[1]
        worker = self.workers[0] if waits is self.workers[1] else self.workers[1]
        pending = next(iter(self.book.pending()), None)
        transfer = self.book.transfers[pending] if pending else None
        sides = (transfer.payer, transfer.payee) if transfer else ()
        customers = [name for name in sides if self.book.accounts[name].owner]

        def do() -> None:
            self.count(f"meanwhile: {what}")
            if what in ("write", "write and send"):
                self.let_write(api)
                self.undisturbed &= what == "write" or api.send()
            elif what == "settle":
                self.let_settle(worker, 1, None, [])
            elif what == "wait":
                self.let_time_pass(INTAKE_SECONDS)
            elif pending is not None:
                self.act_on(what, pending, customers[0])

        return do

    def act_on(self, what: str, sequence: int, account: str) -> None:
        owner = self.book.accounts[account].owner
        assert owner is not None
        acts = {
            "cancel": lambda: self.cancelling(sequence, self.book.transfers[sequence].order.by),
            "freeze": lambda: self.freezing(account, "debit"),
            "limit": lambda: self.limiting(account, 0),
            "deactivate": lambda: self.activating(owner, active=False),
        }
        self.act(acts[what]())

    # --- acts ---

    def cancelling(self, sequence: int, by: str) -> Act:
        row_id, public_id = self.template.people[by][0], self.id_of(sequence)

        def work(connection: Connection) -> None:
            transfers.cancel(connection, user_id=row_id, transfer_id=public_id)

        return Act("cancel", work, lambda book: book.cancel(by, sequence))

    def freezing(self, account: str, scope: str | None) -> Act:
        who, public_id = author(self.template.people[BANK][0]), self.template.accounts[account][1]

        def work(connection: Connection) -> None:
            if scope is None:
                operators.unfreeze(connection, who, public_id)
            else:
                operators.freeze(connection, who, public_id, FreezeScope(scope))

        return Act("freeze" if scope else "unfreeze", work, lambda book: book.freeze(account, scope))

    def limiting(self, account: str, limit: int) -> Act:
        who, public_id = author(self.template.people[BANK][0]), self.template.accounts[account][1]

        def work(connection: Connection) -> None:
            operators.set_overdraft_limit(connection, who, public_id, limit)

        return Act("limit", work, lambda book: book.set_limit(account, limit))

    def activating(self, person: str, *, active: bool) -> Act:
        who, public_id = author(self.template.people[BANK][0]), self.template.people[person][1]
        change = operators.reactivate if active else operators.deactivate
        return Act(
            "reactivate" if active else "deactivate",
            lambda connection: change(connection, who, public_id),
            lambda book: book.set_active(person, active=active),
        )

    # --- looks ---

    def id_of(self, sequence: int) -> UUID:
        if sequence not in self.ids:
            row = self.eye.execute("SELECT public_id FROM transfers WHERE id = ?", (sequence,)).fetchone()
            self.ids[sequence] = UUID(bytes=row[0])
        return self.ids[sequence]

    def stored_accounts(self) -> dict[str, tuple[Any, ...]]:
        rows = self.eye.execute("SELECT id, balance, reserved, overdraft_limit, status, freeze_scope FROM accounts")
        return {self.names[row[0]]: row[1:] for row in rows}

    def stored_transfers(self) -> list[tuple[Any, ...]]:
        rows = self.eye.execute(
            "SELECT id, kind, from_account_id, to_account_id, amount, submitted_by, idempotency_key, status, "
            "failure_code FROM transfers WHERE id >= ? ORDER BY id",
            (self.first,),
        )
        return [(row[0], row[1], self.names[row[2]], self.names[row[3]], *row[4:]) for row in rows]

    def stored_legs(self) -> list[tuple[int, str, int, int]]:
        rows = self.eye.execute(
            "SELECT transfer_id, account_id, amount, balance_after FROM transactions "
            "WHERE transfer_id >= ? ORDER BY id",
            (self.first,),
        )
        return [(row[0], self.names[row[1]], row[2], row[3]) for row in rows]
