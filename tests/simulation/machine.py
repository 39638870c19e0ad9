"""Hypothesis plays every role: clients, operators, the queue, the clock, and the power switch of each process.

After every step the database must match the model exactly, and each answer must be the one that the model predicts.
At the end the queue loses everything, and the sweep alone must make sure that all pending transfers end.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.schemas.transfers import render_accepted
from core.domain.errors import GiroError
from core.domain.transfers import AcceptedTransfer, TransferKind, TransferRequest
from core.services.verification import verify
from tests.builders import transfer_request
from tests.simulation.acts import Act, Acts
from tests.simulation.eye import Eye
from tests.simulation.model import BANK, Accepted, Order, Refused
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
class Asked:
    """A request that waits in an intake or is answered."""

    api: Api
    what: Order | Act
    arrived: float
    task: Any


class Simulation(RuleBasedStateMachine):
    """One sequence of steps on one bank."""

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
        names = {row_id: name for name, (row_id, _) in self.template.accounts.items()}
        self.eye = Eye(settings.database_path, names, first=self.book.next_sequence)
        self.first_leg = self.eye.lanes()[1]
        self.acts = Acts(self.template, self.eye, settings.exclusions_path)
        self.answers: dict[int, bytes] = {}
        self.waiting: list[Asked] = []
        self.group: list[Asked] = []
        self.orders: list[Order] = []
        self.expected: list[tuple[Asked, object]] = []
        self.undisturbed = True
        """False once a message may be lost: then pending transfers may be without a wake-up until the next sweep."""

    def count(self, step: str) -> None:
        self.counts[step] += 1

    @initialize()
    def begins(self) -> None:
        self.count("sequences")

    # --- clients ---

    @rule(api=APIS, payer=PAYERS, payee=PAYEES, amount=AMOUNTS, key=KEYS, by=st.none() | PEOPLE)
    def order_a_transfer(self, api: int, payer: str, payee: str, amount: int, key: str | None, by: str | None) -> None:
        """The caller is usually the owner, and sometimes another user."""
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
        """Retry like a client that got no answer or lost it, perhaps in another API process."""
        self.order(api, self.orders[which % len(self.orders)])

    @precondition(lambda self: self.book.transfers)
    @rule(api=APIS, which=WHICH, by=st.none() | PEOPLE)
    def ask_to_cancel(self, api: int, which: int, by: str | None) -> None:
        sequence = list(self.book.transfers)[which % len(self.book.transfers)]
        self.ask(api, self.acts.cancelling(sequence, by or self.book.transfers[sequence].order.by))

    @rule(api=APIS, account=CUSTOMERS)
    def ask_to_close(self, api: int, account: str) -> None:
        owner = self.book.accounts[account].owner
        assert owner is not None
        self.ask(api, self.acts.closing(account, owner))

    # --- API processes ---

    @rule(api=APIS, meanwhile=MEANWHILE)
    def write_send_and_settle(self, api: int, meanwhile: list[str]) -> None:
        """The usual course; others may act before the wake-up reaches the queue."""
        self.count("good day")
        self.let_write(self.apis[api])
        self.undisturbed &= self.apis[api].send()
        if self.queue.messages:
            self.queue.messages.pop(0)
            self.queue.meanwhile = [self.others(self.workers[0], what) for what in meanwhile]
            self.let_settle(self.workers[0], 100, None, [])
            self.queue.meanwhile = []

    @rule(api=APIS, strike=STRIKES, meanwhile=MEANWHILE)
    def write(self, api: int, strike: str | None, meanwhile: list[str]) -> None:
        """One process writes its waiting group; others may act first."""
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
    def run_an_operator_command(self, account: str, person: str, what: tuple[str, Any]) -> None:
        name, value = what
        if name == "freeze":
            self.act(self.acts.freezing(account, value))
        elif name == "limit":
            self.act(self.acts.limiting(account, value))
        else:
            self.act(self.acts.activating(person, active=value))

    # --- the queue and its consumers ---

    @rule(which=WHICH, strike=STRIKES, unit=UNITS, batch=BATCHES, yields=st.booleans(), meanwhile=MEANWHILE)
    def deliver(
        self, which: int, strike: str | None, unit: int, batch: int, yields: bool, meanwhile: list[str]
    ) -> None:
        """Deliver any message. If the queue is empty, restart the worker, which then looks by itself.

        A message leaves the queue once it is processed, but not if the worker crashes.
        """
        self.count("deliver" if strike is None else f"deliver, {strike}")
        message = self.queue.messages.pop(which % len(self.queue.messages)) if self.queue.messages else None
        if message is None:
            self.workers[0].restart()
        self.undisturbed &= strike is None
        self.world.others_wait = yields
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

    @rule(seconds=st.sampled_from([0.5, 2.5, INTAKE_SECONDS + 1]))
    def pass_time(self, seconds: float) -> None:
        self.count("time passes")
        self.let_time_pass(seconds)

    @rule(seconds=st.sampled_from([400 * 86_400, -1, -3600, -40 * 86_400]))
    def set_the_clock(self, seconds: int) -> None:
        """A jump far forward also simulates a long downtime."""
        self.count("clock set")
        self.clock.set_wall(seconds)

    # --- invariants ---

    @invariant()
    def database_matches_the_model(self) -> None:
        assert self.eye.accounts() == {
            name: (
                account.balance,
                self.book.reserved(name),
                account.limit,
                "closed" if account.closed else "frozen" if account.frozen else "active",
                account.frozen,
            )
            for name, account in self.book.accounts.items()
        }
        assert self.eye.transfers() == [
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
        assert self.eye.legs() == self.book.legs
        ended = next(iter(self.book.pending()), self.book.next_sequence) - 1
        assert self.eye.lanes() == (self.book.next_sequence, self.first_leg + len(self.book.legs), ended)

    @invariant()
    def pending_transfers_have_a_wake_up(self) -> None:
        on_the_way = self.queue.messages or any(api.asked_to_wake for api in self.apis)
        if self.book.pending():
            assert on_the_way or not self.undisturbed
        elif not on_the_way and not self.queue.away and not self.queue.holds_a_key():
            self.undisturbed = True

    def teardown(self) -> None:
        try:
            self.finish_everything()
        finally:
            self.eye.close()
            for process in (*self.apis, *self.workers, self.scheduler, self.operator):
                process.end()
            self.world.loop.close()
            self._time.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def finish_everything(self) -> None:
        """Empty the queue and kill every process: the sweep finds all pending transfers, and each key replays."""
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
        assert not self.book.pending(), "the sweep must find all pending transfers"
        self.database_matches_the_model()
        self.times_run_forwards()
        report = verify(self.scheduler.database)
        assert report.breaches == []
        self.every_key_has_its_answer()

    def times_run_forwards(self) -> None:
        created = self.eye.times()
        assert [row[0] for row in created] == sorted(row[0] for row in created)
        assert all(begun <= ended for begun, ended in created)

    def every_key_has_its_answer(self) -> None:
        for transfer in list(self.book.transfers.values()):
            if transfer.order.key is not None:
                self.order(0, transfer.order)
                self.let_write(self.apis[0])

    # --- helpers ---

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
        """Let the process write a group, and check each answer against the model."""
        self.world.meanwhile[api] = [self.others(api, what) for what in meanwhile or []]
        group: list[Asked] = []
        expected: list[object] = []

        def begins() -> None:
            # The group contains exactly the requests that still wait when the turn comes.
            group.extend(self.waiting_in(api)[:GROUP])
            self.waiting = [asked for asked in self.waiting if asked not in group]

        def commits() -> None:
            in_order = sorted(group, key=lambda asked: isinstance(asked.what, Act))  # orders first; the sort is stable
            outcomes = {id(asked): self.predict(asked.what) for asked in in_order}
            expected.extend(outcomes[id(asked)] for asked in group)

        before = api.database
        api.write(effect=commits, begin=begins, strike=strike)
        if api.database is not before:  # it crashed: none of its requests gets an answer
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
            assert self.answers.setdefault(outcome.sequence, render_accepted(answer)) == render_accepted(answer)

    def came_to(self, asked: Asked) -> object:
        """Return the answer to a request in the model's terms."""
        assert asked.task.done(), "the request must be answered"
        error = asked.task.exception()
        if isinstance(error, GiroError):
            return str(error.code)
        if error is not None:
            raise error
        answer = asked.task.result()
        return Accepted(answer.sequence, answer.replayed) if isinstance(answer, AcceptedTransfer) else None

    def let_settle(self, worker: Worker, batch: int, strike: Strike | None, meanwhile: list[str]) -> None:
        self.world.meanwhile[worker] = [self.others(worker, what) for what in meanwhile]
        worker.settle(batch=batch, effect=lambda: self.book.settle(batch), strike=strike)

    def act(self, act: Act) -> None:
        """Run an operator's command."""
        self.count(act.name)
        expected: list[str | None] = []
        refused = self.operator.act(act.work, effect=lambda: expected.append(self.predict(act)))  # type: ignore[arg-type]
        if refused is not None:
            expected.append(self.predict(act))  # type: ignore[arg-type]
        assert expected == [refused], act.name

    def bury(self, api: Api) -> None:
        """Drop the requests that waited in a dead process: they get no answer."""
        for asked in self.waiting_in(api):
            asked.task.cancel()
        self.waiting = [asked for asked in self.waiting if asked.api is not api]
        self.undisturbed &= not api.asked_to_wake
        self.world.loop.catch_up()

    def let_time_pass(self, seconds: float) -> None:
        """Requests that wait for too long are refused, each at its own time."""
        self.clock.advance(seconds)
        self.world.loop.catch_up()
        late = [asked for asked in self.waiting if asked.arrived + INTAKE_SECONDS <= self.clock.elapsed]
        self.waiting = [asked for asked in self.waiting if asked not in late]
        assert all(self.came_to(asked) == UNAVAILABLE for asked in late)
        assert not any(asked.task.done() for asked in self.waiting)

    def others(self, waits: object, what: str) -> Callable[[], None]:
        """Return an action of others that happens while one process waits for its turn."""
        api = max((api for api in self.apis if api is not waits), key=lambda api: len(self.waiting_in(api)))
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
            "cancel": lambda: self.acts.cancelling(sequence, self.book.transfers[sequence].order.by),
            "freeze": lambda: self.acts.freezing(account, "debit"),
            "limit": lambda: self.acts.limiting(account, 0),
            "deactivate": lambda: self.acts.activating(owner, active=False),
        }
        self.act(acts[what]())
