"""A port of their own for operators: on the other one, their calls look like calls that do not exist."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from api.http.checks import CheckedRoute
from api.routes import ROUTERS
from core.domain.users import Role
from core.security.passwords import Passwords
from core.storage.sqlite.engine import Database
from tests.api.access import CALLS, OPERATOR
from tests.api.conftest import PASSWORD, Api, Person, Start, add_operator, join, masked, refused
from tests.counting import counted

OWN = 8100
FORM = {"username": "operator@example.com", "password": PASSWORD}
OPERATORS_CALLS = sorted(name for name, call in CALLS.items() if call.whose is OPERATOR)


@pytest.fixture
async def api(start: Start) -> AsyncIterator[Api]:
    """An application whose operators have a port of their own."""
    async with start(operator_port=OWN, throttle_account_tries=2, throttle_longest_seconds=1) as running:
        yield running


@pytest.fixture
def inside(api: Api) -> httpx2.AsyncClient:
    """A client on the operators' port."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api.app), base_url=f"http://giro.test:{OWN}")


@pytest.fixture
def outside(api: Api) -> httpx2.AsyncClient:
    """A client on the public port, where not every documented call exists."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api.app), base_url="http://giro.test")


async def log_in(client: httpx2.AsyncClient, password: str = PASSWORD) -> httpx2.Response:
    return await client.post("/login", data=FORM | {"password": password})


def same(one: httpx2.Response, other: httpx2.Response) -> bool:
    """True if two answers differ in nothing but their request ids."""
    return masked(one) == masked(other) and {**one.headers, "x-request-id": ""} == {**other.headers, "x-request-id": ""}


class TestTheCallsOfOperators:
    @pytest.mark.parametrize("name", OPERATORS_CALLS)
    async def test_look_on_the_public_port_like_calls_that_do_not_exist(
        self, api: Api, database: Database, outside: httpx2.AsyncClient, name: str
    ) -> None:
        method, _, path = name.partition(" ")
        path = re.sub(r"\{\w+\}", "0198c0de-0000-7000-8000-000000000000", path)
        operator = join(api, database, "operator", Role.OPERATOR)
        operator.client = outside
        for asking in (operator.request, outside.request):
            for tried in {method, "GET", "POST", "DELETE"}:
                answer = await asking(tried, path)
                refused(answer, 404, "not_found")
                assert same(answer, await asking(tried, "/nothing"))

    async def test_are_answered_on_their_own_port(
        self, inside: httpx2.AsyncClient, api: Api, database: Database
    ) -> None:
        operator = join(api, database, "operator", Role.OPERATOR)
        operator.client = inside
        assert (await operator.get("/operator/users")).status_code == 200
        refused(await operator.post("/deposits", {}), 422, "validation_failed")
        refused(await inside.get("/operator/users"), 401, "unauthenticated")
        refused(await operator.request("DELETE", "/operator/users"), 405, "method_not_allowed")

    async def test_are_counted_without_their_route(self, outside: httpx2.AsyncClient) -> None:
        labels = {"method": "GET", "route": "none", "status": "404"}
        before = counted("giro_http_request_duration_seconds_count", **labels)
        await outside.get("/operator/users")
        assert counted("giro_http_request_duration_seconds_count", **labels) == before + 1

    def test_share_no_path_with_calls_of_customers(self) -> None:
        """Otherwise the `Allow` of one would name the methods of the other."""
        kinds: dict[str, set[bool]] = {}
        for router in ROUTERS:
            for route in router.routes:
                if isinstance(route, CheckedRoute):
                    kinds.setdefault(route.path, set()).add(route.needs_operator)
        assert [path for path, found in kinds.items() if len(found) > 1] == []

    async def test_are_answered_on_every_port_by_default(self, start: Start, database: Database) -> None:
        async with start() as api:
            operator = join(api, database, "operator", Role.OPERATOR)
            assert (await operator.get("/operator/users")).status_code == 200


class TestTheLogInOfOperators:
    async def test_is_refused_on_the_public_port_like_a_wrong_password(
        self, api: Api, database: Database, inside: httpx2.AsyncClient
    ) -> None:
        add_operator(database)
        right = await log_in(api.client)
        refused(right, 401, "unauthenticated")
        assert masked(right) == masked(await log_in(api.client, "wrong horse battery"))
        assert (await log_in(inside)).status_code == 200

    async def test_takes_as_long_as_a_wrong_password(
        self, api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_operator(database)
        verified: list[str | None] = []
        verify = Passwords.verify

        def watched(self: Passwords, password: str, kept: str | None) -> bool:
            verified.append(kept)
            return verify(self, password, kept)

        monkeypatch.setattr(Passwords, "verify", watched)
        await log_in(api.client)
        assert verified == [None], "as for an address without an account"

    async def test_does_not_wait_because_of_guesses_on_the_public_port(
        self, api: Api, database: Database, inside: httpx2.AsyncClient
    ) -> None:
        add_operator(database)
        for _ in range(2):
            refused(await log_in(api.client, "wrong horse battery"), 401, "unauthenticated")
        refused(await log_in(api.client), 429, "rate_limited")
        assert (await log_in(inside)).status_code == 200

    async def test_of_a_customer_works_on_both_ports(self, api: Api, inside: httpx2.AsyncClient) -> None:
        await api.sign_up("ada")
        form = {"username": "ada@example.com", "password": PASSWORD}
        assert (await inside.post("/login", data=form)).status_code == 200


async def test_an_operators_refresh_token_is_unknown_on_the_public_port_and_stays_valid(
    api: Api, database: Database, inside: httpx2.AsyncClient
) -> None:
    add_operator(database)
    token = {"refresh_token": (await log_in(inside)).json()["refresh_token"]}
    answer = await api.client.post("/token/refresh", json=token)
    unknown = await api.client.post("/token/refresh", json={"refresh_token": "none that was ever given"})
    refused(answer, 401, "unauthenticated")
    assert masked(answer) == masked(unknown)
    assert (await inside.post("/token/refresh", json=token)).status_code == 200


async def test_details_of_health_are_shown_on_the_operators_port_only(
    api: Api, database: Database, inside: httpx2.AsyncClient
) -> None:
    operator = join(api, database, "operator", Role.OPERATOR)
    assert (await operator.get("/health")).json()["checks"] == {}
    operator.client = inside
    assert (await operator.get("/health")).json()["checks"] != {}
    assert (await inside.get("/health")).json()["checks"] == {}


async def test_a_request_cannot_name_the_port_that_it_came_to(
    api: Api, database: Database, outside: httpx2.AsyncClient
) -> None:
    operator: Person = join(api, database, "operator", Role.OPERATOR)
    operator.client = outside
    forged: dict[str, Any] = {"Host": f"giro.test:{OWN}", "X-Forwarded-Port": str(OWN), "Forwarded": f"host=x:{OWN}"}
    refused(await operator.get("/operator/users", headers=forged), 404, "not_found")
