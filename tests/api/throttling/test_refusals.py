"""Refused requests of strangers: each network has a budget, and the machine itself has none."""

from typing import Any

import httpx2
import pytest

from core.storage.sqlite.glance import Glance
from tests.api.conftest import PASSWORD, Api, Start, join, refused
from tests.api.throttling.test_rates_and_guesses import from_address, limited
from tests.counting import counted
from tests.time_travel import Clock

STRANGER = "203.0.113.9"
BUDGET = {"limit_anonymous_refusals": "2/60"}
FORGED = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30." + "A" * 43}
REFUSED: list[tuple[int, str, str, dict[str, Any]]] = [
    (404, "GET", "/nothing", {}),
    (404, "GET", "/docs/assets/../../nothing", {}),
    (405, "DELETE", "/transfers", {}),
    (401, "GET", "/accounts", {}),
    (401, "GET", "/accounts", {"headers": FORGED}),
    (401, "POST", "/transfers", {"json": {}, "headers": FORGED}),
    (401, "POST", "/transfers/bulk", {"json": {}}),
    (413, "POST", "/transfers", {"content": b"x" * 70_000}),
    (414, "GET", "/" + "x" * 9000, {}),
    (431, "GET", "/accounts", {"headers": {"X-Long": "x" * 17_000}}),
    (422, "GET", "/accounts?" + "&" * 70, {}),
]


async def spend(client: httpx2.AsyncClient) -> None:
    for _ in range(2):
        assert (await client.get("/nothing")).status_code == 404


class TestAStranger:
    @pytest.mark.parametrize(("status", "method", "path", "more"), REFUSED)
    async def test_has_a_budget_for_every_kind_of_refusal(
        self, start: Start, clock: Clock, status: int, method: str, path: str, more: dict[str, Any]
    ) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            for _ in range(2):
                assert (await stranger.request(method, path, **more)).status_code == status
            limited(await stranger.request(method, path, **more), "anonymous-refusals", 30)
            async with from_address(api, "203.0.113.10") as other:
                assert (await other.request(method, path, **more)).status_code == status
            clock.advance(seconds=30)
            assert (await stranger.request(method, path, **more)).status_code == status

    async def test_has_one_budget_for_all_of_them(self, start: Start, clock: Clock) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            await stranger.get("/nothing")
            await stranger.get("/accounts", headers=FORGED)
            for _, method, path, more in REFUSED:
                limited(await stranger.request(method, path, **more), "anonymous-refusals", 30)

    async def test_is_refused_beyond_it_before_the_body_is_read_and_a_route_is_looked_for(
        self, start: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            await spend(stranger)

            async def nothing(*_: Any) -> None:
                raise AssertionError("the request went further")

            monkeypatch.setattr("api.server.request_bounds.RequestBounds.__call__", nothing)
            limited(await stranger.post("/transfers", content=b"x" * 60_000), "anonymous-refusals", 30)
            limited(await stranger.get("/nothing"), "anonymous-refusals", 30)

    async def test_can_still_log_in_sign_up_and_read_public_pages(self, start: Start, clock: Clock) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            await spend(stranger)
            body = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada"}
            assert (await stranger.post("/signup", json=body)).status_code == 201
            form = {"username": "ada@example.com", "password": PASSWORD}
            assert (await stranger.post("/login", data=form)).status_code == 200
            for path in ("/", "/health", "/health/ready", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
                assert (await stranger.get(path)).status_code == 200

    async def test_does_not_spend_it_on_calls_that_have_a_rate(self, start: Start, clock: Clock) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            for _ in range(3):
                answer = await stranger.post("/login", data={"username": "ada@example.com", "password": "x" * 12})
                assert answer.status_code == 401

    async def test_beyond_it_is_counted_without_a_path(self, start: Start, clock: Clock) -> None:
        labels = {"route": "none", "policy": "anonymous-refusals"}
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            await spend(stranger)
            before = counted("giro_throttled_total", **labels)
            await stranger.get("/nothing")
            assert counted("giro_throttled_total", **labels) == before + 1

    async def test_gets_no_body_after_head(self, start: Start, clock: Clock) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as stranger:
            await spend(stranger)
            answer = await stranger.head("/nothing")
            assert (answer.status_code, answer.content) == (429, b"")

    async def test_is_not_limited_if_the_setting_is_off(self, start: Start) -> None:
        async with start(limit_anonymous_refusals="off") as api, from_address(api, STRANGER) as stranger:
            for _ in range(5):
                refused(await stranger.get("/nothing"), 404, "not_found")


class TestAUser:
    async def test_is_never_refused_because_of_a_neighbour(self, start: Start, database: Any, clock: Clock) -> None:
        async with start(**BUDGET) as api, from_address(api, STRANGER) as client:
            await spend(client)
            ada = join(api, database, "ada")
            ada.client = client
            assert (await ada.get("/accounts")).status_code == 200
            for _ in range(3):
                refused(await ada.get(f"/accounts/{'0198c0de-0000-7000-8000-000000000000'}"), 404, "account_not_found")
                refused(await ada.post("/operator/users/x/deactivate"), 403, "forbidden")


async def test_a_forged_token_costs_no_database_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(Glance, "identity", lambda _self, user_id: read.append(user_id))
    for path in ("/accounts", "/transfers/bulk", "/health"):
        await api.client.request("GET" if "bulk" not in path else "POST", path, headers=FORGED)
    assert read == []


async def test_the_machine_itself_has_no_limit(start: Start, clock: Clock) -> None:
    async with start(**BUDGET) as api, from_address(api, "127.0.0.1") as client:
        for _ in range(4):
            refused(await client.get("/nothing"), 404, "not_found")
        for _ in range(2):
            await client.get("/nothing", headers={"X-Forwarded-For": STRANGER})
        limited(await client.get("/nothing", headers={"X-Forwarded-For": STRANGER}), "anonymous-refusals", 30)
