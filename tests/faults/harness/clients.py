"""Clients that submit under their own keys and retry unanswered requests, and a reader that adds up balances."""

import random
import threading
import time
from itertools import cycle

import httpx2

from tests.faults.harness.history import History, ListRead, Submission

TIMEOUT_SECONDS = 4.0
PAUSE_SECONDS = 0.05
GIVE_UP_CHANCE = 0.05
REPEAT_CHANCE = 0.15
CANCEL_CHANCE = 0.08
OVERDRAW_CHANCE = 0.03
MOST_POLLS = 4


class Client(threading.Thread):
    """Repeats an action over its own connections until it is told to stop."""

    def __init__(self, name: str, url: str, headers: dict[str, str], history: History) -> None:
        super().__init__(name=name, daemon=True)
        self.history = history
        self._http = httpx2.Client(base_url=url, headers=headers, trust_env=False, timeout=TIMEOUT_SECONDS)
        self._stopping = threading.Event()
        self._give_up_at = float("inf")

    def stop(self, within: float) -> None:
        """Start nothing new; finish what has begun within `within` seconds."""
        self._give_up_at = time.monotonic() + within
        self._stopping.set()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.act()
        except Exception as error:  # a client that dies unnoticed would no longer put load on the service
            self.history.problems.append(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            self._http.close()

    def act(self) -> None:
        raise NotImplementedError

    def ask(self, method: str, path: str, **request: object) -> httpx2.Response | None:
        """Send a request once; None if there was no answer."""
        try:
            return self._http.request(method, path, **request)  # type: ignore[arg-type]
        except httpx2.TransportError:
            return None

    def has_time(self) -> bool:
        """Whether the client may still continue what it has begun."""
        return time.monotonic() < self._give_up_at


class Teller(Client):
    """Submits transfers between accounts, one at a time, and follows each until its end."""

    def __init__(
        self, name: str, url: str, headers: dict[str, str], history: History, accounts: list[str], dice: random.Random
    ) -> None:
        super().__init__(name, url, headers, history)
        self._accounts = accounts
        self._dice = dice
        self._count = 0

    def act(self) -> None:
        self._count += 1
        payer, payee = self._dice.sample(self._accounts, k=2)
        amount = 10**9 if self._dice.random() < OVERDRAW_CHANCE else self._dice.randint(1, 500)
        key = f"{self.name}-{self._count}"
        submission = Submission(key=key, payer=payer, payee=payee, amount=amount, invoked_at=time.monotonic())
        self.history.add(submission)
        self._submit(submission)
        if submission.id is None:
            return
        if self._dice.random() < REPEAT_CHANCE:
            self._attempt(submission)
        if self._dice.random() < CANCEL_CHANCE:
            answer = self.ask("POST", f"/transfers/{submission.id}/cancel")
            submission.cancelled = answer is not None and answer.status_code == 200
        self._watch(submission)

    def _submit(self, submission: Submission) -> None:
        """Retry until an answer settles the outcome; sometimes give up earlier."""
        while not self._attempt(submission) and self.has_time():
            if self._dice.random() < GIVE_UP_CHANCE:
                return
            time.sleep(PAUSE_SECONDS)

    def _attempt(self, submission: Submission) -> bool:
        submission.attempts += 1
        body = {
            "from_account_id": submission.payer,
            "to_account_id": submission.payee,
            "amount": submission.amount,
        }
        answer = self.ask("POST", "/transfers", json=body, headers={"Idempotency-Key": submission.key})
        if answer is None or answer.status_code >= 500:
            # A plain 503 promises that nothing was recorded; any other answer leaves the outcome unknown.
            submission.doubtful |= answer is None or answer.json()["code"] != "unavailable"
            return False
        if answer.status_code == 202:
            submission.answered_at = submission.answered_at or time.monotonic()
            submission.bodies.add(answer.content)
            submission.id = answer.json()["id"]
        else:
            submission.refused = answer.json()["code"]
        return True

    def _watch(self, submission: Submission) -> None:
        for _ in range(MOST_POLLS):
            answer = self.ask("GET", f"/transfers/{submission.id}", headers={"Prefer": "wait=1"})
            if answer is not None and answer.status_code == 200 and answer.json()["status"] != "pending":
                submission.status, submission.ended_at = answer.json()["status"], time.monotonic()
                return
            if answer is not None and answer.status_code == 404:
                self.history.problems.append(f"{submission.key} was accepted as {submission.id}, but does not exist")
                return
            if answer is None or answer.status_code != 200:
                time.sleep(PAUSE_SECONDS)


class Reader(Client):
    """Reads all accounts in one page, and adds up their balances."""

    def __init__(self, url: str, headers: dict[str, str], history: History, accounts: int, total: int) -> None:
        super().__init__("reader", url, headers, history)
        self._accounts = accounts
        self._total = total

    def act(self) -> None:
        answer = self.ask("GET", "/accounts", params={"limit": 100})
        if answer is None or answer.status_code != 200:
            time.sleep(PAUSE_SECONDS)
            return
        balances = [account["balance"] for account in answer.json()["items"]]
        self.history.pages += 1
        if len(balances) != self._accounts or sum(balances) != self._total:
            self.history.wrong_sums.append(f"{sum(balances)} on {len(balances)} accounts: {balances}")
        time.sleep(PAUSE_SECONDS / 2)


class Lister(Client):
    """Reads all transactions of one account after the other.

    Pages go from the newest to the oldest, and a transaction never changes. So the list is as it was at the first page.
    """

    def __init__(self, url: str, headers: dict[str, str], history: History, accounts: list[str]) -> None:
        super().__init__("lister", url, headers, history)
        self._accounts = cycle(accounts)

    def act(self) -> None:
        account, invoked_at = next(self._accounts), time.monotonic()
        transfers = self._transfers(account)
        self.history.lists.append(ListRead(account, invoked_at, time.monotonic(), transfers))
        time.sleep(PAUSE_SECONDS * 4)

    def _transfers(self, account: str) -> list[str] | None:
        """Read every page; None if one is not answered."""
        newest_first: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.ask("GET", f"/accounts/{account}/transactions", params={"limit": 100, **cursor})
            if answer is None or answer.status_code != 200:
                return None
            page = answer.json()
            newest_first += [item["transfer_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                return newest_first[::-1]
            cursor = {"cursor": page["next_cursor"]}
