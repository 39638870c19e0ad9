"""Several API processes on one port: one bank, one set of figures, and one that dies is missed by nobody."""

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
        folder, measured=False, api_processes=3, metrics_port_api=free_port(), throttle_first_seconds=PATIENCE_SECONDS
    )
    try:
        yield stack.start()
    finally:
        stack.close()


def scraped(stack: Stack) -> str:
    port = stack.environment["GIRO_METRICS_PORT_API"]
    return httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text


def answers(stack: Stack) -> int:
    """Requests for the greeting, as far as the metrics know."""
    found = re.search(r'giro_http_request_duration_seconds_count\{.*route="/".*\} (\d+)', scraped(stack))
    return int(found[1]) if found else 0


def greet(stack: Stack) -> None:
    """Ask over a connection of its own, so that any process may take it."""
    answer = httpx2.get(f"{stack.url}/", trust_env=False, headers={"Connection": "close"})
    assert answer.status_code == 200


def test_a_transfer_settles_whichever_process_took_it(stack: Stack) -> None:
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    for _ in range(5):
        assert ada.poll_to_end(ada.submit(payer, payee).json()["id"]) == "completed"
    assert (ada.balance(payer), ada.balance(payee)) == (0, 500)


def test_what_each_of_them_has_answered_is_counted_on_one_metrics_port(stack: Stack) -> None:
    before = answers(stack)
    for _ in range(REQUESTS):
        greet(stack)
    eventually(lambda: answers(stack) == before + REQUESTS)


def log_in(stack: Stack, name: str) -> httpx2.Response:
    """Try a wrong password, over a connection of its own."""
    form = {"username": f"{name}@example.com", "password": "a wrong one"}
    # Who comes while all of them are dead waits for the first that is started again.
    return httpx2.post(f"{stack.url}/login", data=form, trust_env=False, headers={"Connection": "close"}, timeout=40)


def test_who_guesses_has_so_many_tries_at_all_of_them_together(stack: Stack) -> None:
    answers = [log_in(stack, "ada") for _ in range(16)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 6
    # Each of them has a share of a rate, in its own memory.
    assert '"anonymous";q=100;w=60' in answers[0].headers["ratelimit-policy"]


def test_who_guesses_is_held_by_those_that_have_just_started(stack: Stack) -> None:
    for name in ("api", "api-2", "api-3"):
        dead = stack.kill(name)
        eventually(lambda name=name, dead=dead: stack.pid_of(name) != dead)
    assert [log_in(stack, "ada").status_code for _ in range(6)] == [429] * 6


def test_who_guesses_is_held_while_the_queue_server_hangs_and_nobody_waits_for_it(stack: Stack) -> None:
    stack.kill("valkey", signal.SIGSTOP)
    try:
        answers = [log_in(stack, "grace") for _ in range(60)]
    finally:
        stack.kill("valkey", signal.SIGCONT)
    statuses = [answer.status_code for answer in answers]
    assert 10 <= statuses.count(401) <= 3 * 10, "each of them counts alone"
    assert statuses.count(401) + statuses.count(429) == 60
    assert median(answer.elapsed.total_seconds() for answer in answers) < ANSWER_SECONDS, "few have asked it"


def test_one_that_dies_is_started_again_and_its_counts_stay(stack: Stack) -> None:
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


def test_they_stop_together_and_leave_nothing(stack: Stack) -> None:
    pids = [stack.pid_of(name) for name in ("api", "api-2", "api-3")]
    assert stack.stop() == 0
    assert not list((stack.data / "run").iterdir())
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)


def test_what_an_earlier_run_has_counted_is_wiped_at_the_start(stack: Stack, tmp_path: Path) -> None:
    stack.start()
    stack.supervisor.kill()
    stack.supervisor.wait()
    assert list((stack.data / "run").glob("metrics.*/*"))
    stack.start()
    assert answers(stack) == 0
    assert stack.stop() == 0
