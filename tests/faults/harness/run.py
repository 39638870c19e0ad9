"""One run: start a service, run clients and the nemesis against it, repair it, wait, and check."""

import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import httpx2

from tests.faults.disks import Disk
from tests.faults.harness.checks import CHECKS, Ledger, read_ledger
from tests.faults.harness.clients import Client, Lister, Reader, Teller
from tests.faults.harness.elle import export
from tests.faults.harness.health import SILENT_SECONDS, Watcher, detections, tells_the_truth
from tests.faults.harness.history import History, Submission
from tests.faults.harness.nemesis import Nemesis
from tests.faults.harness.plan import QUIET_SECONDS, make_lasting_plan, make_plan
from tests.flows.stack import Client as Person
from tests.flows.stack import Stack
from tests.unthrottled import UNTHROTTLED
from tests.waiting import eventually

TELLERS = 3
ACCOUNTS = 6
FUNDS = 100_000
"""Minor units on each account."""
ELLE = "history.edn"
"""The file with the history for Elle, in the folder of a run."""
RECOVERED = 10
"""Number of transfers that must be submitted and end after the last fault before the clients stop."""
DISK_MEGABYTES = 96
"""Size of the disk with the data, where one can be mounted."""
HEALED_WITHIN_SECONDS = 60
"""Time limit after the last fault for everything to end."""

SETTINGS = {
    "access_token_seconds": 86_400,
    "intake_seconds": 2,
    "silent_seconds": SILENT_SECONDS,
    "sqlite_busy_ms": 1_000,
    "verify_hours": 0.002,  # every seven seconds: the ledger must verify during the run as well
    "checkpoint_minutes": 0.05,
    "settlement_batch": 50,
    "disk_free_mb": 16,  # more than the write-ahead log gives back on a full disk
}


@dataclass(slots=True)
class Result:
    """The result of a run."""

    seed: int
    kills: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    """How the service's processes ended, according to its supervisor."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from a kill until the end of a transfer that was submitted after it."""
    detections: dict[str, list[float]] = field(default_factory=dict)
    """Fault → seconds until health named it."""
    health_answers: int = 0
    ready_answers: int = 0
    """How many of them said that transfers can be accepted."""
    pages: int = 0
    transfers: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)
    """Check → its findings."""

    @property
    def holds(self) -> bool:
        return not any(self.findings.values())


def run(seed: int, kills: int, folder: Path, lasting: int = 0) -> Result:
    """Run one plan on a separate service below `folder`, and leave the records there.

    After `kills` kills and as many other faults, `lasting` faults follow, one after the other.
    """
    started = time.monotonic()
    result, history = Result(seed, kills), History()
    failpoints, disk = folder / "failpoints", _disk(folder)
    stack = Stack(folder, measured=False, **UNTHROTTLED | SETTINGS)
    stack.environment["GIRO_FAILPOINTS"] = f"@{failpoints}"
    try:
        stack.start()
        person, accounts = _bank(stack, history)
        nemesis = Nemesis(stack, failpoints, seed, disk)
        with _watched(stack, nemesis, result), _clients(stack, person, accounts, history, seed) as clients:
            for plan in (make_plan(seed, kills), make_lasting_plan(seed, lasting)):
                nemesis.carry_out(plan)
                nemesis.heal()
                healed_at = time.monotonic()
                result.findings["recovers"] = result.findings.get("recovers") or _wait_for_recovery(nemesis, history)
            time.sleep(QUIET_SECONDS if lasting else 0)
            _stop(clients)
        result.findings["ends_in_time"] = _wait_for_the_end(stack, healed_at)
        if not result.findings["recovers"] + result.findings["ends_in_time"]:
            _resolve(stack, person, history)
            _repeat(stack, person, history, random.Random(seed))
        result.findings["verify"] = _verify(stack)
        ledger = read_ledger(stack.data / "banking.db")
        result.findings |= {check.__name__: check(history, ledger) for check in CHECKS}
        _fill(result, nemesis, history, ledger, stack)
    finally:
        stack.close()
        _keep(folder, history, result)
        if disk is not None:
            disk.close()
    result.seconds = time.monotonic() - started
    return result


def _bank(stack: Stack, history: History) -> tuple[Person, list[str]]:
    """Create one user who owns all the accounts, so that one page shows all of them, and fund each account."""
    operator, person = stack.sign_up("operator"), stack.sign_up()
    accounts = [person.open_account() for _ in range(ACCOUNTS)]
    for account in accounts:
        body = {"to_account_id": account, "amount": FUNDS}
        answer = operator.post("/deposits", body, Prefer="wait=30")
        assert answer.status_code == 200
        history.deposits.add(answer.json()["id"])
    return person, accounts


@contextmanager
def _clients(stack: Stack, person: Person, accounts: list[str], history: History, seed: int) -> Iterator[list[Client]]:
    clients: list[Client] = [
        Teller(f"teller-{number}", stack.url, person.headers, history, accounts, random.Random(f"{seed}-{number}"))
        for number in range(TELLERS)
    ]
    clients.append(Reader(stack.url, person.headers, history, len(accounts), FUNDS * len(accounts)))
    clients.append(Lister(stack.url, person.headers, history, accounts))
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        _stop(clients)


def _disk(folder: Path) -> Disk | None:
    """A small disk for the data; None if none can be mounted, and then the faults of disks are left out."""
    if Disk.is_possible():
        with suppress(subprocess.CalledProcessError):
            return Disk(folder / "data", DISK_MEGABYTES)
    return None


@contextmanager
def _watched(stack: Stack, nemesis: Nemesis, result: Result) -> Iterator[None]:
    """Ask for health meanwhile, and compare its answers with the faults."""
    watcher = Watcher(stack.url, stack.data)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()
        result.health_answers = len(watcher.answers)
        result.ready_answers = sum(answer.ready for answer in watcher.answers)
        result.detections = detections(watcher.answers, nemesis.spans)
        result.findings["health_tells_the_truth"] = tells_the_truth(watcher.answers, nemesis.spans)


def _stop(clients: list[Client]) -> None:
    for client in clients:
        client.stop(within=HEALED_WITHIN_SECONDS)
    for client in clients:
        client.join(2 * HEALED_WITHIN_SECONDS)


def _wait_for_recovery(nemesis: Nemesis, history: History) -> list[str]:
    """Wait until the clients are served again."""
    healed_at = time.monotonic()

    def served() -> bool:
        nemesis.keep_running()
        later = [item for item in history.submissions[-1000:] if item.invoked_at >= healed_at and item.ended_at]
        return len(later) >= RECOVERED

    try:
        eventually(served, HEALED_WITHIN_SECONDS)
    except AssertionError:
        return [f"clients were not served within {HEALED_WITHIN_SECONDS} s after the last fault"]
    return []


def _pending(stack: Stack) -> int | None:
    """Count the pending transfers in the file; None while the service is not ready."""
    try:
        if stack.client.get("/health/ready").status_code != 200:
            return None
    except httpx2.TransportError:
        return None
    return sum(row.status == "pending" for row in read_ledger(stack.data / "banking.db").rows)


def _wait_for_the_end(stack: Stack, healed_at: float) -> list[str]:
    seconds = HEALED_WITHIN_SECONDS - (time.monotonic() - healed_at)
    try:
        eventually(lambda: _pending(stack) == 0, seconds)
    except AssertionError:
        return [f"{HEALED_WITHIN_SECONDS} s after the last fault, pending transfers: {_pending(stack)}"]
    return []


def _resolve(stack: Stack, person: Person, history: History) -> None:
    """Look up the outcome of every submission whose client does not know it."""
    for submission in history.submissions:
        if submission.outcome == "unknown":
            items = person.get(f"/transfers?idempotency_key={submission.key}").json()["items"]
            submission.resolved, submission.doubtful = True, False
            submission.id = items[0]["id"] if items else None


def _repeat(stack: Stack, person: Person, history: History, dice: random.Random) -> None:
    """Repeat some of the accepted requests, now that no fault is active."""
    accepted = [submission for submission in history.submissions if submission.id is not None]
    for submission in dice.sample(accepted, k=min(100, len(accepted))):
        order = (submission.payer, submission.payee, submission.amount)
        answer = person.submit(*order, **{"Idempotency-Key": submission.key})
        if answer.status_code != 202:
            history.problems.append(f"{submission.key}, sent again, was answered {answer.status_code}: {answer.text}")
        submission.bodies.add(answer.content)


def _verify(stack: Stack) -> list[str]:
    done = stack.giro("verify")
    complaints = [] if done.returncode == 0 else [done.stdout + done.stderr]
    return complaints + [f"{line['rule']}: {line['detail']}" for line in stack.logged("ledger_breach")]


def _fill(result: Result, nemesis: Nemesis, history: History, ledger: Ledger, stack: Stack) -> None:
    result.faults, result.pages, result.transfers = nemesis.done, history.pages, len(ledger.rows)
    result.outcomes = Counter(map(_outcome, history.submissions))
    for line in stack.logged("child_died"):
        result.deaths[f"{line['child']} {line.get('signal', line.get('exit_status'))}"] += 1
    result.recoveries = [
        seconds for moment, _ in nemesis.kills if (seconds := _recovery(moment, history.submissions)) is not None
    ]


def _outcome(submission: Submission) -> str:
    if submission.resolved:
        return "unknown, then " + ("found" if submission.id else "missing")
    if submission.refused:
        return f"refused: {submission.refused}"
    return submission.outcome if submission.id else "not recorded"


def _recovery(moment: float, submissions: list[Submission]) -> float | None:
    """Seconds from a moment until the end of a transfer that was submitted after it."""
    ends = (item.ended_at for item in submissions if item.ended_at is not None and item.invoked_at >= moment)
    first = min(ends, default=None)
    return None if first is None else first - moment


def _keep(folder: Path, history: History, result: Result) -> None:
    """Save the records, so that a finding can be investigated."""
    text = partial(json.dumps, default=lambda value: sorted(item.decode() for item in value))
    lines = [text(asdict(submission)) for submission in history.submissions]
    (folder / "history.jsonl").write_text(os.linesep.join(lines))
    (folder / ELLE).write_text(export(history))
    if not result.holds:
        shutil.copytree(folder / "data", folder / "kept", ignore=shutil.ignore_patterns("filling", "run"))
    (folder / "findings.json").write_text(json.dumps(result.findings, indent=2))
