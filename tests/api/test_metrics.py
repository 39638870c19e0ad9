"""Metrics of the API: few series for any input of clients, and each outcome under its name."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from api.server.observe import METHODS
from tests.api.conftest import Api, Person, payment, refused
from tests.counting import counted

HTTP = "giro_http_request_duration_seconds"


def requests() -> set[tuple[str, str, str]]:
    """The method, route and status of every series of requests."""
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for family in REGISTRY.collect()
        if family.name == HTTP
        for sample in family.samples
        if sample.name == f"{HTTP}_count"
    }


def made_up() -> Iterator[str]:
    """Invented words that no server knows."""
    for number in range(100):
        yield f"WORD{number}"


async def test_invented_methods_are_one_series(api: Api) -> None:
    before = requests()
    for method in made_up():
        assert (await api.client.request(method, "/transfers")).status_code == 405
    assert requests() - before <= {("other", "/transfers", "405"), ("other", "none", "405")}
    assert len(requests() - before) <= 1


async def test_invented_paths_are_one_series(api: Api) -> None:
    before = requests()
    for word in made_up():
        assert (await api.client.get(f"/{word}/{uuid4()}")).status_code == 404
        assert (await api.client.get(f"/docs/assets/{word}.js")).status_code == 404
    assert {route for _, route, _ in requests() - before} <= {"none", "/docs/assets/{name:path}"}


async def test_ids_in_a_path_are_not_labels(api: Api, ada: Person) -> None:
    before = requests()
    for _ in range(100):
        await ada.get(f"/transfers/{uuid4()}")
        await ada.get(f"/accounts/{uuid4()}/transactions")
        await ada.get(f"/accounts?limit={uuid4().int % 100 + 1}")
    assert requests() - before <= {
        ("GET", "/transfers/{transfer_id}", "404"),
        ("GET", "/accounts/{account_id}/transactions", "404"),
        ("GET", "/accounts", "200"),
    }


async def test_every_label_of_a_request_is_known(api: Api, ada: Person) -> None:
    await ada.get("/accounts")
    routes = {getattr(route, "path", "none") for route in api.app.routes} | {"none"}
    for method, route, status in requests():
        assert method in METHODS | {"other"}
        assert route in routes
        assert 0 <= int(status) < 600


@pytest.mark.parametrize("username", ["nobody@example.com", "joan@example.com"])
async def test_a_rejected_log_in_is_counted(api: Api, username: str) -> None:
    await api.sign_up("joan")
    before = counted("giro_login_failures_total")
    answer = await api.client.post("/login", data={"username": username, "password": "wrong horse battery"})
    assert answer.status_code == 401
    assert counted("giro_login_failures_total") == before + 1


async def test_a_successful_or_malformed_log_in_is_not_a_failure(api: Api) -> None:
    before = counted("giro_login_failures_total")
    joan = await api.sign_up("joan")
    assert (await api.client.post("/login", data={"username": joan.email})).status_code == 422
    assert counted("giro_login_failures_total") == before


async def test_a_transfer_is_counted_by_its_outcome(api: Api, ada: Person) -> None:
    accepted, refused = "giro_transfers_accepted_total", "giro_transfers_refused_total"
    before = counted(accepted), counted(refused, code="insufficient_funds")
    payer, payee = await ada.open(), await ada.open()
    assert (await ada.post("/transfers", payment(payer, payee))).status_code == 400
    assert (counted(accepted), counted(refused, code="insufficient_funds")) == (before[0], before[1] + 1)


@pytest.mark.parametrize("outcome", ["sent", "coalesced", "failed"])
async def test_outcomes_of_wakeups_are_exported_before_they_occur(api: Api, outcome: str) -> None:
    assert REGISTRY.get_sample_value("giro_wakeups_total", {"outcome": outcome}) is not None


@pytest.mark.parametrize("code", ["unavailable", "outcome_unknown", "internal_error"])
async def test_internal_failures_are_exported_before_they_occur(api: Api, code: str) -> None:
    assert REGISTRY.get_sample_value("giro_transfers_refused_total", {"code": code}) is not None


async def test_a_database_that_cannot_be_read_is_counted_by_its_error(
    api: Api, ada: Person, database_file: Path
) -> None:
    before = counted("giro_database_errors_total", error="SQLITE_CANTOPEN")
    await api.runtime.database.async_reader.dispose()  # an open connection would still read the renamed file
    away = database_file.rename(database_file.with_name("away.db"))
    refused(await ada.get("/accounts"), 503, "unavailable")
    away.rename(database_file)
    assert counted("giro_database_errors_total", error="SQLITE_CANTOPEN") == before + 1
    assert (await ada.get("/accounts")).status_code == 200
