"""A transfer reaches its end, whichever process dies meanwhile: real processes, a real queue, a real file."""

import concurrent.futures
import signal
import time

import pytest

from tests.flows.stack import Stack, is_alive
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

MEASURED = True
"""The code that its processes execute counts for the coverage."""


def test_transfer_is_accepted_as_pending_and_then_completes(stack: Stack) -> None:
    ada, grace = stack.sign_up(), stack.sign_up()
    payer, payee = ada.open_account(funds=500), grace.open_account()
    answer = ada.submit(payer, payee, 200)
    assert answer.status_code == 202
    assert answer.json()["status"] == "pending"
    assert ada.poll_to_end(answer.json()["id"]) == "completed"
    assert (ada.balance(payer), grace.balance(payee)) == (300, 200)


def test_waiting_client_gets_the_final_transfer(stack: Stack) -> None:
    ada = stack.sign_up()
    answer = ada.submit(ada.open_account(funds=500), ada.open_account(), Prefer="wait=20")
    assert answer.status_code == 200
    assert answer.json()["status"] == "completed"


def test_deposit_and_withdrawal_complete_like_a_transfer(stack: Stack) -> None:
    ada, operator = stack.sign_up(), stack.sign_up("operator")
    account = ada.open_account()
    deposit = operator.post("/deposits", {"to_account_id": account, "amount": 700}, Prefer="wait=20")
    withdrawal = operator.post("/withdrawals", {"from_account_id": account, "amount": 200}, Prefer="wait=20")
    assert [deposit.json()["status"], withdrawal.json()["status"]] == ["completed", "completed"]
    assert ada.balance(account) == 500


def test_logs_of_acceptance_and_settlement_have_the_same_request_id(stack: Stack) -> None:
    ada = stack.sign_up()
    answer = ada.submit(ada.open_account(funds=500), ada.open_account(), Prefer="wait=20")
    request_id = answer.headers["x-request-id"]
    for event in ("accepted", "settled"):
        lines = eventually(lambda event=event: [x for x in stack.logged(event) if request_id in x["request_ids"]])
        assert len(lines) == 1


def test_many_concurrent_clients_lose_no_money(stack: Stack) -> None:
    ada = stack.sign_up()
    accounts = [ada.open_account(funds=1000) for _ in range(4)]

    def send(number: int) -> str:
        answer = ada.submit(accounts[number % 4], accounts[(number + 1) % 4], 1 + number % 7)
        assert answer.status_code == 202
        transfer_id: str = answer.json()["id"]
        return transfer_id

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(200)))
    assert {ada.poll_to_end(transfer) for transfer in sent} == {"completed"}
    assert sum(map(ada.balance, accounts)) == 4000
    verified = stack.giro("verify")
    assert verified.returncode == 0, verified.stdout


def test_transfer_settles_after_the_embedded_queue_is_killed(stack: Stack) -> None:
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    stack.kill("valkey")
    answer = ada.submit(payer, payee)
    assert answer.status_code == 202
    assert ada.poll_to_end(answer.json()["id"]) == "completed"


def test_frozen_queue_neither_fails_nor_delays_an_acceptance(stack: Stack) -> None:
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    stack.kill("valkey", signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = [ada.submit(payer, payee, 1) for _ in range(5)]
        seconds = time.monotonic() - started
    finally:
        stack.kill("valkey", signal.SIGCONT)
    assert {answer.status_code for answer in answers} == {202}
    # A client of the queue times out after seconds. Five acceptances that wait for the queue would exceed this limit.
    assert seconds < 2
    assert {ada.poll_to_end(answer.json()["id"]) for answer in answers} == {"completed"}


@pytest.mark.parametrize("child", ["settlement", "scheduler", "api"])
def test_transfer_settles_after_a_process_is_killed_and_restarted(stack: Stack, child: str) -> None:
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    answer = ada.submit(payer, payee)
    killed = stack.kill(child)
    eventually(lambda: stack.pid_of(child) != killed and is_alive(stack.pid_of(child)))
    eventually(lambda: _answers(stack))
    assert ada.poll_to_end(answer.json()["id"]) == "completed"


def test_standby_worker_takes_over_when_the_first_dies(stack: Stack) -> None:
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    second = stack.run("worker", name="second")
    eventually(lambda: stack.logged("standing_by", "second"))
    stack.kill("settlement")
    eventually(lambda: stack.logged("taking_over", "second"))
    answer = ada.submit(payer, payee)
    assert ada.poll_to_end(answer.json()["id"]) == "completed"
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) == 0


def test_ledger_verifies_after_all_faults(stack: Stack) -> None:
    verified = stack.giro("verify")
    assert verified.returncode == 0, verified.stdout


def _answers(stack: Stack) -> bool:
    try:
        return stack.client.get("/health/ready").status_code == 200
    except Exception:
        return False
