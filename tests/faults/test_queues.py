"""A running service whose queue is broken in every way: it starts, accepts, settles within a second, and stops."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest

from tests.flows.stack import Client, Stack
from tests.queue_faults import FAULTS, QueueServer
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

TRANSFERS = 40
SETTLED_SECONDS = 1.0
QUIET_LINES = 2
"""Lines about the queue that each process may write: the test lasts less than two minutes."""


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[QueueServer]:
    queue = QueueServer(tmp_path)
    yield queue
    queue.close()


@pytest.fixture
def stack(tmp_path: Path, queue: QueueServer) -> Iterator[Stack]:
    stack = Stack(tmp_path, measured=False)
    stack.environment["REDIS_URL"] = queue.url
    yield stack
    stack.close()


def seconds_to_settle(ada: Client, payer: str, payee: str) -> float:
    """Submit a transfer, wait for its end, and return the seconds from its acceptance to its settlement."""
    answer = ada.submit(payer, payee, 1, Prefer="wait=5")
    assert answer.status_code in (200, 201), answer.text
    transfer = answer.json()
    assert transfer["status"] == "completed"
    accepted_at, settled_at = (datetime.fromisoformat(transfer[name]) for name in ("created_at", "settled_at"))
    return (settled_at - accepted_at).total_seconds()


@pytest.mark.parametrize("fault", FAULTS)
def test_service_starts_accepts_settles_and_stops_with_a_broken_queue(
    stack: Stack, queue: QueueServer, fault: str
) -> None:
    queue.fault(fault)
    stack.start()
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=100_000), ada.open_account()
    seconds = sorted(seconds_to_settle(ada, payer, payee) for _ in range(TRANSFERS))
    print(f"{fault}: median {median(seconds):.3f} s, longest {seconds[-1]:.3f} s")
    assert median(seconds) < SETTLED_SECONDS  # a busy machine delays single ones
    assert ada.balance(payee) == TRANSFERS
    for process in ("api", "settlement", "jobs", "scheduler"):
        lines = [line for line in stack.logged("queue_away") if line["process"] == process]
        assert 0 <= len(lines) <= QUIET_LINES, lines
    assert [line["process"] for line in stack.logged("queue_away")].count("settlement") >= 1
    assert "Traceback" not in stack.log_text("up")
    assert stack.stop() == 0
    assert not stack.logged("child_killed")


def test_service_uses_a_queue_that_comes_back(stack: Stack, queue: QueueServer) -> None:
    queue.fault("away")
    stack.start()
    ada = stack.sign_up(role="operator")
    payer, payee = ada.open_account(funds=1000), ada.open_account()
    eventually(lambda: ada.get("/health").json()["checks"]["queue"]["status"] == "degraded")
    queue.heal()
    eventually(lambda: ada.get("/health").json()["checks"]["queue"]["status"] == "ok")
    eventually(lambda: seconds_to_settle(ada, payer, payee) < 0.08)
