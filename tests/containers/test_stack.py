"""The whole stack in containers: it starts on the first try, stays up, and loses nothing whatever is killed.

All tests use one stack, from its first start to its last, and run in the order of this file.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from rich.console import Console

from core.cli.demo import demonstrate
from core.cli.demo_clients import OPERATOR, PASSWORD
from core.cli.demo_service import Service
from tests.containers.compose import GIRO, HEAL_SECONDS, SERVICES, Compose
from tests.waiting import eventually

pytestmark = [pytest.mark.container, pytest.mark.timeout(2400)]

TRANSFERS = 100
STATEMENT = ("period", "opening_balance", "closing_balance", "transaction_count", "transactions")
"""The fields of an unfinished month's statement that do not depend on the clock."""
PAUSE_SECONDS = 0.05
ALERT_SECONDS = 180
"""An alert waits for half a minute before it fires."""
STANDBY = "standing_by"


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    compose = Compose(tmp_path_factory.mktemp("project"))
    try:
        yield compose
    finally:
        compose.close()


class Customer:
    """A signed-up user whose client keeps retrying."""

    def __init__(self, compose: Compose, email: str) -> None:
        self._compose = compose
        self._email = email
        self._headers: dict[str, str] = {}

    def ask(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Repeat a request until the answer is not "later"."""

        def answer() -> httpx2.Response | None:
            try:
                if not self._headers:
                    form = {"username": self._email, "password": PASSWORD}
                    tokens = self._compose.client.post("/login", data=form).json()
                    self._headers = {"Authorization": f"Bearer {tokens['access_token']}"}
                headers = self._headers | request.get("headers", {})
                got = self._compose.client.request(method, path, **request | {"headers": headers})
            except (httpx2.TransportError, KeyError):
                return None
            return got if got.status_code not in {502, 503} else None

        return eventually(answer, HEAL_SECONDS)

    def account(self) -> dict[str, Any]:
        account: dict[str, Any] = self.ask("GET", "/accounts").json()["items"][0]
        return account


@contextmanager
def traffic(payer: Customer, payee_account: str) -> Iterator[list[str]]:
    """Make transfers of one cent, one after the other, while the block runs; yield the ids of the accepted ones."""
    accepted: list[str] = []
    source, stop = payer.account()["id"], threading.Event()

    def send() -> None:
        while not stop.is_set():
            body = {"from_account_id": source, "to_account_id": payee_account, "amount": 1}
            answer = payer.ask("POST", "/transfers", json=body, headers={"Idempotency-Key": str(uuid4())})
            assert answer.status_code == 202, answer.text
            accepted.append(answer.json()["id"])
            stop.wait(PAUSE_SECONDS)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield accepted
    finally:
        stop.set()
        sender.join(2 * HEAL_SECONDS)


def assert_all_complete(customer: Customer, transfers: list[str]) -> None:
    def still_pending() -> list[str]:
        return [one for one in transfers if customer.ask("GET", f"/transfers/{one}").json()["status"] != "completed"]

    eventually(lambda: not still_pending(), HEAL_SECONDS)


def verify(compose: Compose) -> None:
    said = compose.do("exec", "-T", "api", "giro", "verify")
    assert "every rule holds" in said


def ask_prometheus(compose: Compose, path: str) -> Any:
    return httpx2.get(f"http://127.0.0.1:{compose.ports['prometheus']}/api/v1/{path}", trust_env=False).json()["data"]


def firing(compose: Compose) -> set[str]:
    """Return the alerts that fire in Prometheus."""
    return {
        alert["labels"]["alertname"]
        for alert in ask_prometheus(compose, "alerts")["alerts"]
        if alert["state"] == "firing"
    }


def told(compose: Compose) -> set[str]:
    """Return the alerts that have reached Alertmanager."""
    url = f"http://127.0.0.1:{compose.ports['alertmanager']}/api/v2/alerts"
    return {alert["labels"]["alertname"] for alert in httpx2.get(url, trust_env=False).json()}


def complaints_of_migrate(compose: Compose, uid: str, *options: str) -> list[str]:
    """Run a migration for a user, check that it fails, and return its output."""
    refused = compose.run("run", "--rm", "-T", *options, "migrate", GIRO_UID=uid)
    assert refused.returncode == 2
    return [line for line in refused.stderr.splitlines() if line.startswith("giro: ")]


def fields_of(status: str) -> dict[str, str]:
    """Read the `status` of a process below /proc."""
    return dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)


# --- the first start ---------------------------------------------------------------------------------------------


def test_service_refuses_to_run_as_root(compose: Compose) -> None:
    compose.build()
    (line,) = complaints_of_migrate(compose, "0")
    assert line.startswith("giro: GIRO_UID must not be 0: the service never runs as root.")


def test_folder_that_cannot_change_owner_is_refused_with_reason_and_advice(compose: Compose) -> None:
    first, second = complaints_of_migrate(compose, "1234", "--cap-drop", "CHOWN")
    assert first.startswith("giro: cannot give /app/data to 1234:")
    assert "(Operation not permitted)" in first
    assert f"/app/data belongs to {(compose.folder / 'data').stat().st_uid}:" in second
    assert "chown -R 1234:" in second
    assert "GIRO_UID" in second


def test_folder_of_another_user_changes_to_the_chosen_owner(compose: Compose) -> None:
    assert compose.run("run", "--rm", "-T", "migrate", GIRO_UID="1234").returncode == 0
    assert {path.stat().st_uid for path in (compose.folder / "data").iterdir()} == {1234}


def test_migration_command_has_no_root_rights(compose: Compose) -> None:
    entry = ("--entrypoint", "python", "migrate", "-m", "core.processes.data_owner", f"{compose.owner}:{compose.owner}")
    status = fields_of(compose.do("run", "--rm", "-T", *entry, "cat", "/proc/self/status"))
    assert status["Uid"].split() == status["Gid"].split() == [str(compose.owner)] * 4
    assert status["Groups"].split() == []
    assert [int(status[rights], 16) for rights in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    assert status["NoNewPrivs"] == "1"


def test_fresh_clone_starts_with_one_command(compose: Compose) -> None:
    started = time.monotonic()
    compose.up()
    print(f"\nfrom `up` to all healthy, images built: {time.monotonic() - started:.1f} s")
    (migrated,) = compose.containers("migrate")
    assert (migrated["State"], migrated["ExitCode"]) == ("exited", 0)
    assert {path.stat().st_uid for path in (compose.folder / "data").rglob("*")} == {compose.owner}
    secrets = list((compose.folder / "data" / "secrets").rglob("*"))
    made = {path.name for path in secrets if path.is_file()}
    assert made == {"jwt_secret", "card_keys", "card_index_key", "anchor_key", "password"}
    assert {oct(path.stat().st_mode & 0o777) for path in secrets if path.is_file()} == {"0o600"}


def test_only_the_api_is_public_and_dashboards_are_on_loopback(compose: Compose) -> None:
    config = json.loads(compose.do("config", "--format", "json"))
    published = {name: service.get("ports", []) for name, service in config["services"].items()}
    assert {name for name, ports in published.items() if ports} == {"api", "prometheus", "alertmanager", "grafana"}
    for name in ("prometheus", "alertmanager", "grafana"):
        assert [port["host_ip"] for port in published[name]] == ["127.0.0.1"]


@pytest.mark.parametrize("service", GIRO)
def test_giros_processes_have_only_needed_rights(compose: Compose, service: str) -> None:
    fields = fields_of(compose.do("exec", "-T", service, "cat", "/proc/1/status"))
    assert fields["Uid"].split() == [str(compose.owner)] * 4
    assert int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert compose.run("exec", "-T", service, "sh", "-c", "touch /app/x /opt/giro/x /etc/x").returncode != 0
    assert "giro" in compose.do("exec", "-T", service, "cat", "/proc/1/cmdline")


@pytest.mark.parametrize("service", SERVICES)
def test_no_long_running_container_runs_as_root(compose: Compose, service: str) -> None:
    fields = fields_of(compose.do("exec", "-T", service, "cat", "/proc/1/status"))
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapBnd"], 16) == 0


def test_image_contains_no_tests_data_or_compiler(compose: Compose) -> None:
    look = """
import importlib.util, pathlib, shutil
print([name for name in ("tests", "pytest", "hatchling") if importlib.util.find_spec(name)])
print([name for name in ("gcc", "cc", "make") if shutil.which(name)])
print([path.name for path in pathlib.Path("/app").iterdir()])
"""
    assert compose.do("exec", "-T", "api", "python", "-c", look).split("\n")[:3] == ["[]", "[]", "['data']"]


# --- functions ---------------------------------------------------------------------------------------------------


def test_demo_runs_in_the_containers(compose: Compose, tmp_path: Path) -> None:
    service = Service(compose.url, compose.giro(), compose.environment)
    with (tmp_path / "said").open("w") as said:
        status = demonstrate(service, TRANSFERS, tmp_path / "statements", Console(file=said, width=200))
    assert status == 0, (tmp_path / "said").read_text()
    assert len(list((tmp_path / "statements").iterdir())) == 8


def test_prometheus_scrapes_every_process_and_loads_the_rules(compose: Compose) -> None:
    def processes() -> set[str]:
        targets = ask_prometheus(compose, "targets")["activeTargets"]
        return {
            target["labels"]["process"]
            for target in targets
            if target["health"] == "up" and "process" in target["labels"]
        }

    eventually(lambda: processes() == {"api", "settlement", "jobs", "scheduler"})
    assert ask_prometheus(compose, "rules")["groups"]
    assert ask_prometheus(compose, "alertmanagers")["activeAlertmanagers"]


def test_the_dashboards_are_provisioned(compose: Compose) -> None:
    health = httpx2.get(f"http://127.0.0.1:{compose.ports['grafana']}/api/health", trust_env=False)
    assert health.json()["database"] == "ok"
    mounted = compose.do("exec", "-T", "grafana", "ls", "/etc/grafana/dashboards", "/etc/grafana/provisioning")
    for name in ("transfers.json", "service.json", "jobs.json", "datasources", "dashboards"):
        assert name in mounted


# --- recovery ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [name for name in SERVICES if name not in ("alertmanager", "grafana")])
def test_killed_container_restarts_and_loses_nothing(compose: Compose, service: str) -> None:
    ada, grace = Customer(compose, "ada@example.com"), Customer(compose, "grace@example.com")
    before = [customer.account()["balance"] for customer in (ada, grace)]
    (container,) = compose.containers(service)
    with traffic(ada, grace.account()["id"]) as sent:
        eventually(lambda: len(sent) >= 5, HEAL_SECONDS)
        compose.kill(container)
        compose.wait_until_healthy()
        again = len(sent) + 5
        eventually(lambda: len(sent) >= again, HEAL_SECONDS)
    assert_all_complete(ada, sent)
    after = [customer.account()["balance"] for customer in (ada, grace)]
    assert after == [before[0] - len(sent), before[1] + len(sent)]
    verify(compose)


def test_process_1_restarts_a_killed_process(compose: Compose) -> None:
    before = compose.log("jobs").count("child_started")
    find = "for d in /proc/[0-9]*; do grep -qa workers.main $d/cmdline && kill -9 ${d#/proc/}; done"
    compose.run("exec", "-T", "jobs", "sh", "-c", find)
    eventually(lambda: compose.log("jobs").count("child_started") == before + 1, HEAL_SECONDS)
    compose.wait_until_healthy()


def test_standby_worker_takes_over_when_the_first_dies(compose: Compose) -> None:
    ada, grace = Customer(compose, "ada@example.com"), Customer(compose, "grace@example.com")
    compose.up("--no-recreate", "--scale", "worker=2")
    first, second = sorted(compose.containers("worker"), key=lambda container: container["Name"])

    def log_of(container: dict[str, Any]) -> str:
        return compose.do("logs", "--no-color", "--no-log-prefix", "--index", container["Name"][-1], "worker")

    eventually(lambda: STANDBY in log_of(second), HEAL_SECONDS)
    took_over = log_of(second).count("taking_over")
    # The second worker runs until after Docker has restarted the first one.
    compose.kill(first)
    eventually(lambda: log_of(second).count("taking_over") > took_over, HEAL_SECONDS)
    with traffic(ada, grace.account()["id"]) as sent:
        eventually(lambda: len(sent) >= 5, HEAL_SECONDS)
    assert_all_complete(ada, sent)
    compose.up("--no-recreate", "--scale", "worker=1")


def test_lost_worker_raises_an_alert_and_pending_transfers_settle_after_its_return(compose: Compose) -> None:
    ada, grace = Customer(compose, "ada@example.com"), Customer(compose, "grace@example.com")
    compose.do("stop", "worker")
    body = {"from_account_id": ada.account()["id"], "to_account_id": grace.account()["id"], "amount": 1}
    transfer = ada.ask("POST", "/transfers", json=body).json()
    assert transfer["status"] == "pending"
    eventually(lambda: "SettlementWorkerLost" in told(compose), ALERT_SECONDS)
    compose.do("start", "worker")
    assert_all_complete(ada, [transfer["id"]])
    eventually(lambda: "SettlementWorkerLost" not in firing(compose), ALERT_SECONDS)


def test_data_survives_down_and_up(compose: Compose) -> None:
    people = [Customer(compose, email) for email in ("ada@example.com", "grace@example.com", OPERATOR)]

    def look() -> list[Any]:
        ada, grace, operator = people
        found: list[Any] = [operator.ask("GET", "/operator/users").json()]
        for customer in (ada, grace):
            account = customer.account()
            found += [account, customer.ask("GET", f"/accounts/{account['id']}/transactions").json()["items"]]
            statement = customer.ask("GET", f"/accounts/{account['id']}/statement").json()
            found.append({name: statement[name] for name in STATEMENT})
        return found

    before = look()
    compose.down()
    compose.up()
    assert look() == before
    verify(compose)


def test_image_alone_migrates_and_serves_the_same_data(compose: Compose) -> None:
    compose.down()
    alone = ("-e", "REDIS_URL=", "-e", "GIRO_REDIS_PASSWORD_FILE=", "-p", f"127.0.0.1:{compose.ports['api']}:8000")
    compose.do("run", "--detach", "--no-deps", *alone, "migrate", "up")
    ada = Customer(compose, "ada@example.com")
    source, target = ada.account()["id"], Customer(compose, "grace@example.com").account()["id"]
    body = {"from_account_id": source, "to_account_id": target, "amount": 1}
    answer = ada.ask("POST", "/transfers", json=body, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    compose.down()
