"""Several API processes on one port: one bank, one set of metrics, and the death of one process goes unnoticed."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx2
import pytest

from api.throttling.tally import ANSWER_SECONDS
from tests.flows.stack import Stack, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

REQUESTS = 40
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "data" / "run").mkdir(parents=True)
    stack = Stack(
        folder,
        measured=False,
        api_processes=3,
        metrics_port_api=free_port(),
        throttle_first_seconds=PATIENCE_SECONDS,
        refusal_seconds=0,  # a held refusal would look like one that waits for the queue server
    )
    try:
        yield stack.start()
    finally:
        stack.close()


def scraped(stack: Stack) -> str:
    port = stack.environment["GIRO_METRICS_PORT_API"]
    return httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text


def answers(stack: Stack) -> int:
    """Number of requests for the greeting, according to the metrics."""
    found = re.search(r'giro_http_request_duration_seconds_count\{.*route="/".*\} (\d+)', scraped(stack))
    return int(found[1]) if found else 0


def greet(stack: Stack) -> None:
    """Send a request over a new connection, so that any process may accept it."""
    answer = httpx2.get(f"{stack.url}/", trust_env=False, headers={"Connection": "close"})
    assert answer.status_code == 200


def test_transfer_settles_in_every_api_process(stack: Stack) -> None:
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    for _ in range(5):
        assert ada.poll_to_end(ada.submit(payer, payee).json()["id"]) == "completed"
    assert (ada.balance(payer), ada.balance(payee)) == (0, 500)


def test_one_metrics_port_counts_answers_of_all_processes(stack: Stack) -> None:
    before = answers(stack)
    for _ in range(REQUESTS):
        greet(stack)
    eventually(lambda: answers(stack) == before + REQUESTS)


def log_in(stack: Stack, name: str) -> httpx2.Response:
    """Try a wrong password over a new connection."""
    form = {"username": f"{name}@example.com", "password": "a wrong one"}
    # A request that arrives while all processes are dead waits for the first one that is started again.
    return httpx2.post(f"{stack.url}/login", data=form, trust_env=False, headers={"Connection": "close"}, timeout=40)


def test_password_guesses_are_limited_across_processes(stack: Stack) -> None:
    answers = [log_in(stack, "ada") for _ in range(16)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 6
    # Each process has its own share of a rate, in memory.
    assert '"anonymous";q=100;w=60' in answers[0].headers["ratelimit-policy"]


def test_restarted_processes_keep_limiting_password_guesses(stack: Stack) -> None:
    for name in ("api", "api-2", "api-3"):
        dead = stack.kill(name)
        eventually(lambda name=name, dead=dead: stack.pid_of(name) != dead)
    assert [log_in(stack, "ada").status_code for _ in range(6)] == [429] * 6


def test_password_guesses_are_limited_while_the_queue_server_hangs(stack: Stack) -> None:
    stack.kill("valkey", signal.SIGSTOP)
    try:
        answers = [log_in(stack, "grace") for _ in range(60)]
    finally:
        stack.kill("valkey", signal.SIGCONT)
    statuses = [answer.status_code for answer in answers]
    assert 10 <= statuses.count(401) <= 3 * 10, "each process counts alone"
    assert statuses.count(401) + statuses.count(429) == 60
    assert median(answer.elapsed.total_seconds() for answer in answers) < ANSWER_SECONDS, (
        "few requests wait for the queue server"
    )


def test_dead_api_process_is_restarted_and_keeps_its_counts(stack: Stack) -> None:
    greet(stack)
    before = eventually(lambda: answers(stack))
    dead = stack.kill("api-2")
    for _ in range(REQUESTS):
        greet(stack)
    eventually(lambda: stack.pid_of("api-2") != dead)
    eventually(lambda: answers(stack) == before + REQUESTS)
    live = [path.name for path in (stack.data / "run").rglob("gauge_live*")]
    assert live
    assert not [name for name in live if name.endswith(f"_{dead}.db")]


def test_api_processes_stop_together_and_leave_nothing(stack: Stack) -> None:
    pids = [stack.pid_of(name) for name in ("api", "api-2", "api-3")]
    assert stack.stop() == 0
    assert {path.name for path in (stack.data / "run").iterdir()} <= {"reserve"}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)


def test_counts_of_an_earlier_run_are_deleted_at_the_start(stack: Stack, tmp_path: Path) -> None:
    stack.start()
    stack.supervisor.kill()
    stack.supervisor.wait()
    assert list((stack.data / "run").glob("metrics.*/*"))
    stack.start()
    assert answers(stack) == 0
    assert stack.stop() == 0
