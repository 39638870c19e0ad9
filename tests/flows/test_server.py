"""Behaviour that only a real server shows: bytes on the wire, log lines about them, and metrics of each process."""

import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from httpx2 import Response
from prometheus_client.parser import text_string_to_metric_families

from tests.flows.stack import Stack
from tests.waiting import eventually
from workers.metrics.gauges import HELP

pytestmark = pytest.mark.whole_service

SCRAPED = True
"""Its processes serve their metrics."""

EVERYWHERE = {
    "giro_build_info",
    "giro_heartbeat_timestamp_seconds",
    "giro_clock_timestamp_seconds",
    "giro_unhandled_exceptions_total",
    "giro_lock_wait_duration_seconds_bucket",
    "giro_commit_duration_seconds_bucket",
    "giro_database_errors_total",
    "python_info",
    "process_open_fds",
}
MESSAGES = {
    "dramatiq_messages_total",
    "dramatiq_messages_inprogress",
    "dramatiq_message_duration_seconds_bucket",
}
MEASURED_BY = {
    "api": {
        "giro_http_request_duration_seconds_bucket",
        "giro_transfers_accepted_total",
        "giro_transfers_refused_total",
        "giro_accept_latency_seconds_bucket",
        "giro_accept_group_size_bucket",
        "giro_accept_duration_seconds_bucket",
        "giro_intake_waiting",
        "giro_login_failures_total",
        "giro_wakeups_total",
    },
    "settlement": {
        "giro_settlement_active",
        "giro_transfers_settled_total",
        "giro_settlement_batch_size_bucket",
        "giro_settlement_duration_seconds_bucket",
        "giro_transfer_lifetime_seconds_bucket",
        *MESSAGES,
    },
    "jobs": {
        "giro_statements_made_total",
        "giro_statement_group_duration_seconds_bucket",
        "giro_checkpoint_duration_seconds_bucket",
        "giro_checkpoints_blocked_total",
        *MESSAGES,
    },
    # Nothing is shipped here.
    "scheduler": {*HELP, "giro_sweep_wakeups_total"} - {"giro_backup_shipped_timestamp_seconds"},
}


def test_head_is_answered_like_get_without_a_body(stack: Stack) -> None:
    got, head = stack.client.get("/health/live"), stack.client.head("/health/live")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    assert stack.client.get("/health/live").status_code == 200, "the connection must still work"
    assert "Traceback" not in stack.log_text("up")


def test_request_with_an_incomplete_body_does_nothing(stack: Stack) -> None:
    body = b'{"email": "half@example.com", "password": "correct horse battery"}'
    head = (
        f"POST /signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(head.encode() + body)
    answer = stack.client.post("/signup", json={"email": "half@example.com", "password": "correct horse battery"})
    assert answer.status_code == 201, "the incomplete request must not create a user"
    assert "Traceback" not in stack.log_text("up")


def test_pipelined_requests_are_answered_in_order(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.index(b"200 OK") < answers.index(b"404 Not Found")


def scraped(stack: Stack, process: str) -> dict[str, float]:
    """Return the metrics of a process by name, summed over all labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(stack.scrape(process)):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


Paying = Callable[[], Response]


@pytest.fixture(scope="module")
def pay(stack: Stack) -> Paying:
    """Make a transfer and wait for its end. One transfer has been made already."""
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()

    def submit() -> Response:
        return ada.submit(payer, payee, Prefer="wait=20")

    assert submit().json()["status"] == "completed"
    return submit


@pytest.mark.parametrize("process", MEASURED_BY)
def test_every_process_serves_its_metrics(stack: Stack, pay: Paying, process: str) -> None:
    wanted = EVERYWHERE | MEASURED_BY[process]
    eventually(lambda: wanted <= scraped(stack, process).keys())  # the first verification may still be running


def test_each_process_counts_one_transfer_once(stack: Stack, pay: Paying) -> None:
    latency, lifetime = "giro_accept_latency_seconds_count", "giro_transfer_lifetime_seconds_count"
    accepted, ended = scraped(stack, "api")[latency], scraped(stack, "settlement")[lifetime]
    assert pay().json()["status"] == "completed"
    assert scraped(stack, "api")[latency] == accepted + 1
    eventually(lambda: scraped(stack, "settlement")[lifetime] == ended + 1)


def test_healthy_service_reports_that_it_is_healthy(stack: Stack, pay: Paying) -> None:
    assert scraped(stack, "settlement")["giro_settlement_active"] == 1
    shown = eventually(lambda: (now := scraped(stack, "scheduler"))["giro_pending_transfers"] == 0 and now)
    wrong = ("imbalance_minor_units", "ledger_ahead_seconds", "dead_letters", "statements_overdue_seconds")
    assert [shown[f"giro_{name}"] for name in wrong] == [0, 0, 0, 0]
    assert shown["giro_queue_up"] == 1


def test_audit_log_has_the_address_of_a_local_proxy_that_is_not_trusted(stack: Stack) -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.66, 203.0.113.9", "X-Forwarded-Proto": "https"}
    answer = stack.client.post("/login", data={"username": "x@example.com", "password": "wrong"}, headers=forwarded)
    assert answer.status_code == 401
    shown = stack.giro("operator", "audit", "--action", "log_in_failed").stdout
    assert ("203.0.113.9" in shown, "192.0.2.66" in shown, "127.0.0.1" in shown) == (False, False, True)


# --- addresses and permissions -----------------------------------------------------------------------------------


def test_data_folder_is_private(stack: Stack, pay: Paying) -> None:
    assert stack.giro("backup").returncode == 0
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in [stack.data, *stack.data.rglob("*")]}
    names = {path.name for path in found}
    assert {"banking.db", "banking.db-wal", "banking.db-shm", "backups", "secrets", "jwt_secret", "run"} <= names
    assert {path.suffix for path in found} >= {".lock", ".sock", ".db", ".json"}
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077} == {}


def listening(port: int) -> set[str]:
    """Return the addresses with a listener on a port, in the kernel's notation."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {line[1].partition(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


def test_metrics_have_their_own_ports_on_loopback_by_default(stack: Stack) -> None:
    assert stack.client.get("/metrics").json()["code"] == "not_found"
    ports = [*stack.metrics_ports.values(), stack.port]
    assert {port: listening(port) for port in ports} == {port: {"0100007F"} for port in ports}


NO_HTTP = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n",
]


@pytest.mark.parametrize("sent", NO_HTTP)
def test_refusal_of_malformed_http_reveals_neither_server_nor_input(stack: Stack, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as client:
        client.sendall(sent)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"server" not in names
    problem = json.loads(body)
    assert (problem["code"], problem["detail"]) == ("malformed_request", "This is not a well-formed HTTP/1.1 request.")
    assert problem.keys() == {"type", "title", "status", "detail", "code", "request_id"}


def test_no_answer_names_the_server(stack: Stack) -> None:
    for method, path in (("GET", "/"), ("GET", "/nothing"), ("DELETE", "/transfers"), ("GET", "/docs")):
        assert "server" not in stack.client.request(method, path).headers
