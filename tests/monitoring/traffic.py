"""All kinds of events within a minute, so that every panel has data."""

import signal
import threading
from datetime import UTC, datetime
from typing import Self
from uuid import UUID, uuid4

from core.clock import to_us
from core.domain.statements import Period
from core.settings import load_settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.flows.stack import Stack
from tests.waiting import eventually

PAUSE_SECONDS = 0.2
SMALL_DOCUMENTS = {"document_rows": 2, "documents_pending": 1}
"""Settings of the service, with which three transactions are a large document."""
LAST_MONTH = Period.of(datetime.now(UTC), UTC).preceding


class Traffic:
    """One method for each kind of event. Inside the context, Ada also makes payments continuously."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.operator = stack.sign_up("operator")
        self.ada = stack.sign_up()
        self.account = self.ada.open_account(funds=1_000_000)
        self.other = self.ada.open_account()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._pay_on, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _pay_on(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            self.ada.submit(self.account, self.other, 1, Prefer="wait=2")
            self.ada.submit(self.other, self.other)

    def make_refused_requests(self) -> None:
        euros = self.ada.open_account(currency="EUR")
        for payer, payee, code in (
            (self.account, self.account, "same_account"),
            (self.account, str(uuid4()), "account_not_found"),
            (self.account, euros, "currency_mismatch"),
            (self.other, self.account, "insufficient_funds"),
        ):
            assert self.ada.submit(payer, payee).json()["code"] == code

    def failed_at_settlement(self) -> None:
        """Freeze the payer while settlement is stopped; the sweep must wake settlement later.

        Call it only while no payments are made: a worker that is stopped during one keeps the database's lock.
        """
        swept = len(self.stack.logged("transfers_overdue"))
        doomed = self.ada.open_account(funds=1000)
        self.stack.kill("settlement", signal.SIGSTOP)
        transfer = self.ada.submit(doomed, self.other).json()["id"]
        assert self.operator.post(f"/operator/accounts/{doomed}/freeze", {"scope": "debit"}).status_code == 200
        eventually(lambda: len(self.stack.logged("transfers_overdue")) > swept)
        self.stack.kill("settlement", signal.SIGCONT)
        assert self.ada.poll_to_end(transfer) == "failed"

    def fail_a_log_in(self) -> None:
        answer = self.stack.client.post("/login", data={"username": "nobody@example.com", "password": "a wrong one"})
        assert answer.status_code == 401

    def read_as_an_operator(self) -> None:
        for path in ("users", "accounts", "queue", "dead-letters", "statement-runs", "verification", "audit"):
            assert self.operator.get(f"/operator/{path}").status_code == 200

    def months_pass(self) -> None:
        """Make the service close the last month and make its statements, and request one that no run contains."""
        self._opened_last_month(self.account)
        eventually(lambda: self._statement_of(self.account)["status"] == "final")
        late = self.ada.open_account()
        self._opened_last_month(late)
        assert self.ada.post(f"/accounts/{late}/statements", {"month": str(LAST_MONTH)}).status_code == 202
        eventually(lambda: self._statement_of(late)["status"] == "final")

    def ask_for_documents(self) -> None:
        """Have a small document drawn by the API, a large one by a job, and another one refused.

        The service must run with `SMALL_DOCUMENTS`.
        """
        few = f"/accounts/{self.ada.open_account(funds=5)}/statement"
        many = f"/accounts/{self.account}/statement"
        for _ in range(3):
            assert self.ada.submit(self.account, self.other, 1, Prefer="wait=20").json()["status"] == "completed"
        assert self.ada.get(few, Accept="text/csv").status_code == 200
        large = self.ada.get(many, Accept="text/csv")
        assert large.status_code == 202
        assert self.ada.get(many, Accept="application/pdf").json()["code"] == "too_many_documents"
        eventually(lambda: self.ada.get(large.headers["location"]).status_code == 200)

    def _opened_last_month(self, account: str) -> None:
        database = Database(load_settings(_env_file=None, data_dir=self.stack.data))
        with unit_of_work(database) as connection:
            values = (to_us(LAST_MONTH.starts_at(UTC)), UUID(account).bytes)
            connection.exec_driver_sql("UPDATE accounts SET created_at = ? WHERE public_id = ?", values)
        database.close()

    def _statement_of(self, account: str) -> dict[str, object]:
        statement: dict[str, object] = self.ada.get(f"/accounts/{account}/statement?month={LAST_MONTH}").json()
        return statement
