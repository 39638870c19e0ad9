"""Giro itself, as its users run it: every process of `giro up`, with a separate folder and port."""

import asyncio
import json
import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pysqlite3 import dbapi2 as sqlite

from tests.benchmarks import service
from tests.benchmarks.load import Payer, Progress, write_payers
from tests.benchmarks.service import Connection, at_a_rate
from tests.flows.stack import Client, Stack
from tests.unthrottled import UNTHROTTLED

FUNDS = 10**12
VERIFY_SECONDS = 1200
"""A ledger of millions of transfers takes minutes."""


class Giro:
    """A service with funded users. One of them has many accounts and submits in bulk.

    Close it even if starting it failed.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.stack = Stack(folder, measured=False, **UNTHROTTLED | settings)

    def start(self, people: int, accounts: int) -> "Giro":
        """Run the service, and open accounts."""
        self._run()
        operator = self.stack.sign_up("operator")
        persons = [self.stack.sign_up() for _ in range(people)]
        self._let_pay([Payer(_funded(person, operator), _token(person)) for person in persons])
        self._company = self.stack.sign_up()
        self._accounts = [_funded(self._company, operator) for _ in range(accounts)]
        _funded(self._company, operator, wait=20)
        return self

    def resume(self, owner: str, accounts: Sequence[str]) -> "Giro":
        """Run the service on an existing ledger, in which one user owns funded accounts."""
        self._run()
        self._company, self._accounts = self.stack.log_in(owner), list(accounts)
        self._let_pay([Payer(account, _token(self._company)) for account in accounts])
        return self

    @cached_property
    def ledger(self) -> Any:
        """A connection that reads the ledger's file, with the same library as all other code here."""
        return sqlite.connect(f"file:{self.stack.data / 'banking.db'}?mode=ro", uri=True)

    def _run(self) -> None:
        self.stack.start()
        self.port = self.stack.port

    def _let_pay(self, payers: Sequence[Payer]) -> None:
        self.payers = write_payers(self._folder / "payers", payers)
        self.singles = [service.Payer(_headers(payer.token), payer.account) for payer in payers]

    def progress(self) -> Progress:
        """Read the ledger's file directly, which never makes the service wait."""
        newest, watermark = self.ledger.execute(
            "SELECT accept.next_id - 1, settle.watermark FROM lanes accept CROSS JOIN lanes settle "
            "WHERE accept.name = 'accept' AND settle.name = 'settle'"
        ).fetchone()
        return Progress(newest, newest - watermark)

    def path_of(self, sequence: int) -> str:
        """Return the path of the transfer with a sequence."""
        found = self.ledger.execute("SELECT public_id FROM transfers WHERE id = ?", (sequence,)).fetchone()
        return f"/transfers/{UUID(bytes=found[0])}"

    def submit_in_bulk(self, bodies: list[bytes], connections: int) -> None:
        """Send each body once, over `connections` connections; if told to wait, wait and send it again."""
        asyncio.run(self._send(list(bodies), connections))

    def bulk_bodies(self, transfers: int, size: int, *, hot: bool) -> list[bytes]:
        """Write the requests beforehand, so that this time is not measured."""
        return [self._body(size, hot=hot) for _ in range(transfers // size)]

    def latencies(self, rate: float, seconds: float, *, sample: int = 1) -> list[float]:
        """Return the milliseconds from a transfer's 202 to the answer that it has ended, at `rate` transfers a second.

        Only one transfer in `sample` is polled: at a high rate, polling each would double the load.
        """
        return asyncio.run(at_a_rate(self.port, self.singles, int(rate * seconds), rate=rate, sample=sample))

    def check(self) -> None:
        """Raise AssertionError unless the ledger verifies with the service's own command."""
        done = self.stack.giro("verify", seconds=VERIFY_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        if "ledger" in self.__dict__:
            self.ledger.close()
        self.stack.close()

    async def _send(self, bodies: list[bytes], connections: int) -> None:
        token = _token(self._company)

        async def client() -> None:
            connection = await Connection.open(self.port)
            while bodies:
                body = bodies.pop()
                headers = _headers(token) + f"Idempotency-Key: {uuid4().hex}\r\n".encode()
                while (answer := await connection.ask("POST /transfers/bulk", headers, body))[0] == 503:
                    await asyncio.sleep(0.1)
                assert answer[0] == 202, answer[1][:300]
                assert json.loads(answer[1])["refused"] == 0, answer[1][:300]
            connection.close()

        await asyncio.gather(*(client() for _ in range(connections)))

    def _body(self, size: int, *, hot: bool) -> bytes:
        return json.dumps({"mode": "independent", "transfers": [self._line(hot=hot) for _ in range(size)]}).encode()

    def _line(self, *, hot: bool) -> dict[str, object]:
        payer, payee = random.sample(self._accounts, 2)
        if hot and random.random() < 0.5:  # one account pays or is paid in half of the transfers
            other = random.choice(self._accounts[1:])
            payer, payee = random.sample([self._accounts[0], other], 2)
        return {"from_account_id": payer, "to_account_id": payee, "amount": random.randint(1, 99)}


def _headers(token: str) -> bytes:
    return f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n".encode()


def _token(person: Client) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


def _funded(person: Client, operator: Client, *, wait: int = 0) -> str:
    account = person.open_account()
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    answer = operator.post("/deposits", {"to_account_id": account, "amount": FUNDS}, **headers)
    assert answer.status_code in {200, 202}, answer.text
    return account
