"""Throttles: delays after failed guesses, rates for users and routes, and the headers that report both."""

import re
from typing import Any

import httpx2
import pytest
from fakeredis import FakeRedis, FakeServer
from prometheus_client import REGISTRY
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api.throttling.guesses import FORGET_US, GUESSED_AT, Guess
from api.throttling.rates import MONEY, Buckets, Policy, network_of, policy_of
from core.domain.errors import Unavailable
from core.domain.throttles import Rate
from core.domain.users import Role
from core.security.passwords import Passwords
from tests.api.conftest import PASSWORD, Api, Pair, Person, Start, join, masked, payment, refused
from tests.api.contract import Contract
from tests.api.test_every_answer import counted
from tests.time_travel import Clock

WRONG = "wrong horse battery"
ITEM = r'"[a-z-]+";q=[1-9]\d*;w=[1-9]\d*'
STANDING = r'"[a-z-]+";r=\d+;t=[1-9]\d*'


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed, in order."""
    seen: list[str] = []
    verify = Passwords.verify

    def watched(self: Passwords, password: str, kept: str | None) -> bool:
        seen.append(password)
        return verify(self, password, kept)

    monkeypatch.setattr(Passwords, "verify", watched)
    return seen


async def log_in(
    api: Api, name: str, password: str = WRONG, client: httpx2.AsyncClient | None = None
) -> httpx2.Response:
    form = {"username": f"{name}@example.com", "password": password}
    return await (client or api.client).post("/login", data=form)


async def fail(api: Api, times: int, name: str = "ada", client: httpx2.AsyncClient | None = None) -> None:
    for _ in range(times):
        refused(await log_in(api, name, client=client), 401, "unauthenticated")


def limited(answer: httpx2.Response, policy: str, seconds: int) -> None:
    """Assert that an answer comes from a throttle and states how long to wait."""
    refused(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == str(seconds)
    assert f'"{policy}";r=0;t={seconds}' in answer.headers["ratelimit"].split(", ")
    assert re.search(rf'"{policy}";q=[1-9]\d*;w=[1-9]\d*', answer.headers["ratelimit-policy"])


def standing(answer: httpx2.Response) -> dict[str, int]:
    """The remaining quota that an answer states, by policy."""
    policies, limits = answer.headers["ratelimit-policy"].split(", "), answer.headers["ratelimit"].split(", ")
    assert all(re.fullmatch(ITEM, item) for item in policies), policies
    assert all(re.fullmatch(STANDING, item) for item in limits), limits
    assert [item.partition(";")[0] for item in policies] == [item.partition(";")[0] for item in limits]
    return {item.split('"')[1]: int(re.findall(r"r=(\d+)", item)[0]) for item in limits}


def from_address(api: Api, address: str, trusted: str = "127.0.0.1") -> httpx2.AsyncClient:
    """A client that connects from an address, through the middleware that uvicorn puts around the application."""
    app = ProxyHeadersMiddleware(api.app, trusted_hosts=trusted)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, client=(address, 40_000)), base_url="http://giro.test"
    )


FEW = {"throttle_account_tries": 3, "throttle_address_tries": 5, "throttle_longest_seconds": 8}


class TestLoggingIn:
    async def test_waits_twice_as_long_after_each_failure_beyond_the_free_ones(
        self, start: Start, clock: Clock
    ) -> None:
        async with start(**FEW) as api:
            await fail(api, 3)
            for seconds in (1, 2, 4, 8, 8):
                limited(await log_in(api, "ada"), "log-in-account", seconds)
                clock.advance(seconds=seconds)
                await fail(api, 1)

    async def test_rejects_even_the_right_password_during_a_wait_without_hashing_it(
        self, start: Start, clock: Clock, hashed: list[str]
    ) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            await fail(api, 3)
            hashed.clear()
            for _ in range(20):
                limited(await log_in(api, "ada", PASSWORD), "log-in-account", 1)
            assert hashed == []
            clock.advance(seconds=1)
            assert (await log_in(api, "ada", PASSWORD)).status_code == 200

    async def test_never_locks_a_user_out(self, start: Start, clock: Clock) -> None:
        async with start(**FEW | {"throttle_address_tries": 0}) as api:
            await api.sign_up("ada")
            for _ in range(30):
                await log_in(api, "ada")
                clock.advance(seconds=8)
            assert (await log_in(api, "ada", PASSWORD)).status_code == 200

    async def test_answers_known_and_unknown_users_alike(self, start: Start, clock: Clock) -> None:
        async with start(**FEW | {"throttle_address_tries": 0, "limit_anonymous": "off"}) as api:
            await api.sign_up("ada")
            for _ in range(6):
                known, unknown = await log_in(api, "ada"), await log_in(api, "nobody")
                assert masked(known) == masked(unknown)
                for answer in (known, unknown):
                    del answer.headers["x-request-id"]
                assert known.headers == unknown.headers
            assert known.status_code == 429

    async def test_answers_known_and_unknown_users_alike_that_many_networks_try(
        self, start: Start, clock: Clock
    ) -> None:
        bounds = {"throttle_account_everywhere_tries": 2, "throttle_address_tries": 0, "limit_anonymous": "off"}
        async with start(**FEW | bounds) as api:
            await api.sign_up("ada")
            for last in range(4):
                async with from_address(api, f"203.0.113.{last}") as client:
                    known, unknown = [await log_in(api, name, client=client) for name in ("ada", "nobody")]
                assert masked(known) == masked(unknown)
                for answer in (known, unknown):
                    del answer.headers["x-request-id"]
                assert known.headers == unknown.headers
            assert known.status_code == 429

    async def test_reveals_failures_of_others_only_once_it_must_wait(self, start: Start) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            for password in (WRONG, PASSWORD):
                assert standing(await log_in(api, "ada", password)).keys() == {"anonymous", "log-in-address"}

    async def test_counts_an_account_by_the_address_as_it_is_looked_up(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            for name in ("ada", "ADA", "Ada"):
                await fail(api, 1, name)
            limited(await log_in(api, "aDa"), "log-in-account", 1)

    async def test_does_not_delay_others(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await api.sign_up("grace")
            await fail(api, 3, "ada")
            limited(await log_in(api, "ada"), "log-in-account", 1)
            assert (await log_in(api, "grace", PASSWORD)).status_code == 200

    async def test_does_not_wait_for_failures_of_another_network(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            async with from_address(api, "203.0.113.9") as stranger:
                await fail(api, 3, client=stranger)
                limited(await log_in(api, "ada", PASSWORD, stranger), "log-in-account", 1)
            assert (await log_in(api, "ada", PASSWORD)).status_code == 200

    async def test_waits_for_an_account_that_many_networks_try(self, start: Start, clock: Clock) -> None:
        async with start(**FEW | {"throttle_account_everywhere_tries": 6}) as api:
            await api.sign_up("ada")
            for last in range(6):
                async with from_address(api, f"203.0.113.{last}") as client:
                    await fail(api, 1, client=client)
            limited(await log_in(api, "ada", PASSWORD), "log-in-everywhere", 1)
            clock.advance(seconds=1)
            assert (await log_in(api, "ada", PASSWORD)).status_code == 200
            await fail(api, 1)  # its owner's success has not cleared what others have tried
            limited(await log_in(api, "ada"), "log-in-everywhere", 2)

    async def test_waits_at_an_address_that_tries_many_accounts(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            for number in range(5):
                await fail(api, 1, f"customer-{number}")
            limited(await log_in(api, "ada", PASSWORD), "log-in-address", 1)
            async with from_address(api, "203.0.113.9") as elsewhere:
                assert (await log_in(api, "ada", PASSWORD, elsewhere)).status_code == 200

    async def test_forgets_the_failures_of_an_account_after_success_but_not_those_of_the_address(
        self, start: Start, clock: Clock
    ) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            await fail(api, 2)
            assert standing(await log_in(api, "ada", PASSWORD))["log-in-address"] == 3
            await fail(api, 2)
            assert standing(await log_in(api, "ada", PASSWORD))["log-in-address"] == 1
            await fail(api, 1)
            limited(await log_in(api, "ada", PASSWORD), "log-in-address", 1)

    async def test_forgets_failures_with_time(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await fail(api, 2)
            clock.advance(microseconds=2 * FORGET_US[Guess.LOG_IN_ACCOUNT])
            await fail(api, 3)
            limited(await log_in(api, "ada"), "log-in-account", 1)

    async def test_does_not_count_failures_of_the_bank(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            with monkeypatch.context() as patch:
                patch.setattr(type(api.runtime.intake), "run", unavailable)
                for _ in range(9):
                    refused(await log_in(api, "ada"), 503, "unavailable")
            assert standing(await log_in(api, "ada", PASSWORD))["log-in-address"] == 5

    async def test_does_not_count_invalid_requests(self, start: Start) -> None:
        async with start(**FEW) as api:
            for _ in range(9):
                refused(await api.client.post("/login", data={"username": "ada@example.com"}), 422, "validation_failed")
            await fail(api, 1)

    async def test_can_be_turned_off(self, start: Start) -> None:
        async with start(throttle_account_tries=0, throttle_address_tries=0, limit_anonymous="off") as api:
            for _ in range(60):
                answer = await log_in(api, "ada")
            assert answer.status_code == 401
            assert "ratelimit" not in answer.headers


async def unavailable(*_: Any, **__: Any) -> None:
    raise Unavailable


class TestOtherGuesses:
    async def test_of_existing_customers_wait_at_their_address(
        self, start: Start, clock: Clock, hashed: list[str]
    ) -> None:
        async with start(throttle_sign_up_tries=2) as api:
            await api.sign_up("ada")
            body = {"email": "ada@example.com", "password": PASSWORD}
            for _ in range(2):
                refused(await api.client.post("/signup", json=body), 409, "email_taken")
            limited(await api.client.post("/signup", json=body), "sign-up", 1)
            limited(await api.client.post("/signup", json=body | {"email": "new@example.com"}), "sign-up", 1)
            async with from_address(api, "203.0.113.9") as elsewhere:
                refused(await elsewhere.post("/signup", json=body), 409, "email_taken")

    async def test_do_not_include_many_sign_ups_from_one_address(self, start: Start) -> None:
        async with start(throttle_sign_up_tries=1) as api:
            for number in range(4):
                body = {"email": f"customer-{number}@example.com", "password": PASSWORD}
                answer = await api.client.post("/signup", json=body)
                assert (answer.status_code, standing(answer)["sign-up"]) == (201, 1)

    async def test_of_the_current_password_wait_for_the_logged_in_user(self, start: Start, clock: Clock) -> None:
        async with start(throttle_account_tries=2) as api:
            ada, grace = await api.sign_up("ada"), await api.sign_up("grace")
            wrong = {"current_password": WRONG, "new_password": "another horse battery"}
            for _ in range(2):
                refused(await ada.post("/users/me/password", wrong), 401, "unauthenticated")
            right = wrong | {"current_password": PASSWORD}
            limited(await ada.post("/users/me/password", right), "password", 1)
            assert (await grace.post("/users/me/password", right)).status_code == 204
            clock.advance(seconds=1)
            assert (await ada.post("/users/me/password", right)).status_code == 204

    async def test_of_refresh_tokens_wait_at_their_address(self, start: Start, clock: Clock) -> None:
        async with start(throttle_address_tries=2) as api:
            ada = await api.sign_up("ada")
            for _ in range(2):
                refused(await api.client.post("/token/refresh", json={"refresh_token": "x"}), 401, "unauthenticated")
            body = {"refresh_token": ada.refresh_token}
            limited(await api.client.post("/token/refresh", json=body), "refresh", 1)
            clock.advance(seconds=1)
            assert (await api.client.post("/token/refresh", json=body)).status_code == 200


class TestRates:
    async def test_are_separate_for_each_user_and_route(self, start: Start, database: Any, clock: Clock) -> None:
        async with start(limit_writes="2/10") as api:
            ada, grace = join(api, database, "ada"), join(api, database, "grace")
            for _ in range(2):
                await ada.open()
            limited(await ada.post("/accounts", {"currency": "USD"}), "writes", 5)
            await grace.open()
            refused(await ada.post("/cards", {"account_id": "x", "type": "debit"}), 422, "validation_failed")
            assert (await ada.get("/accounts")).status_code == 200
            clock.advance(seconds=5)
            await ada.open()

    async def test_of_money_are_off_by_default(self, ada: Person, pair: Pair) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 1))
        assert "ratelimit" not in answer.headers
        assert "ratelimit-policy" not in answer.headers

    async def test_of_reads_allow_a_hundred_requests_a_second_by_default(self, ada: Person) -> None:
        assert (await ada.get("/accounts")).headers["ratelimit-policy"] == '"reads";q=1000;w=10'

    @pytest.mark.parametrize(("setting", "policy"), [("limit_transfers", "transfers"), ("limit_reads", "reads")])
    async def test_of_reads_and_of_money_can_be_set(
        self, start: Start, database: Any, clock: Clock, setting: str, policy: str
    ) -> None:
        async with start(**{setting: "1/60"}) as api:
            ada = join(api, database, "ada")
            method, path = ("GET", "/transfers") if policy == "reads" else ("POST", "/transfers")
            assert standing(await ada.request(method, path)) == {policy: 0}
            limited(await ada.request(method, path), policy, 60)

    async def test_are_stated_in_every_answer(self, start: Start, database: Any, clock: Clock) -> None:
        async with start(limit_writes="9/9", limit_reads="9/9") as api:
            ada = join(api, database, "ada")
            answers = [
                await ada.post("/accounts", {"currency": "USD"}),
                await ada.post("/accounts", {"currency": "none"}),
                await ada.request("POST", "/accounts", content=b"{"),
                await ada.request("POST", "/accounts", json={}, headers={"Accept": "text/html"}),
            ]
            assert [answer.status_code for answer in answers] == [201, 422, 415, 406]
            assert [standing(answer)["writes"] for answer in answers] == [8, 7, 6, 5]
            assert answers[0].headers["ratelimit-policy"] == '"writes";q=9;w=9'
            assert answers[0].headers["ratelimit"] == '"writes";r=8;t=1'
            assert standing(await ada.request("HEAD", "/accounts")) == {"reads": 8}

    async def test_are_checked_after_the_token_and_before_everything_else(self, start: Start, database: Any) -> None:
        async with start(limit_writes="1/60") as api:
            ada = join(api, database, "ada")
            refused(await ada.post("/operator/users/x/deactivate"), 403, "forbidden")
            await ada.open()
            answer = await ada.request("POST", "/accounts", content=b"{", headers={"Accept": "text/html"})
            refused(answer, 429, "rate_limited")
            refused(await api.client.post("/accounts"), 401, "unauthenticated")

    async def test_limit_an_address_without_a_token(self, start: Start, clock: Clock) -> None:
        async with start(limit_anonymous="2/60") as api:
            await fail(api, 2)
            limited(await log_in(api, "grace"), "anonymous", 30)
            async with from_address(api, "203.0.113.9") as elsewhere:
                await fail(api, 1, client=elsewhere)

    async def test_are_divided_among_the_api_processes(self, start: Start, database: Any) -> None:
        async with start(limit_writes="8/10", api_processes=4) as api:
            answer = await join(api, database, "ada").post("/accounts", {"currency": "USD"})
            assert answer.headers["ratelimit-policy"] == '"writes";q=2;w=10'

    def test_remember_a_limited_number_of_clients(self) -> None:
        limit = Buckets(Policy.ANONYMOUS, Rate(1, 60), most=100)
        for number in range(1000):
            limit.take("/login", f"198.51.100.{number}")
        assert len(limit) == 100

    def test_apply_to_every_route(self, contract: Contract) -> None:
        found: dict[Any, set[str]] = {}
        for path, item in contract.document["paths"].items():
            for method, operation in item.items():
                policy = policy_of(path, {method.upper()}, signed_in="security" in operation)
                found.setdefault(policy, set()).add(f"{method} {path}")
                assert "429" in operation["responses"], f"{method} {path}"
        assert found[Policy.ANONYMOUS_READS] == {"get /", "get /health", "get /health/live", "get /health/ready"}
        assert found[Policy.TRANSFERS] == {f"post {path}" for path in MONEY}
        assert found[Policy.ANONYMOUS] == {"post /signup", "post /login", "post /token/refresh"}
        others = {Policy.ANONYMOUS_REFUSALS, Policy.DOCUMENT_ROWS}  # of no route, and counted by the routes themselves
        assert found.keys() == set(Policy) - others


class TestAClient:
    @pytest.mark.parametrize(
        ("address", "client"),
        [
            ("203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            (None, "unknown"),
        ],
    )
    def test_is_an_address_or_the_network_of_one_customer(self, address: str | None, client: str) -> None:
        assert network_of(address) == client

    async def test_of_ipv6_cannot_escape_with_another_address_of_its_network(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            for last in range(5):
                async with from_address(api, f"2001:db8::{last}") as client:
                    await fail(api, 1, f"customer-{last}", client=client)
            async with from_address(api, "2001:db8::ffff") as client:
                limited(await log_in(api, "ada", client=client), "log-in-address", 1)
            async with from_address(api, "2001:db8:0:1::1") as client:
                await fail(api, 1, client=client)

    @pytest.mark.parametrize(("peer", "escapes"), [("203.0.113.9", False), ("127.0.0.1", True)])
    async def test_cannot_escape_with_a_forged_header(
        self, start: Start, clock: Clock, peer: str, escapes: bool
    ) -> None:
        """The second case shows why the first one holds: only a trusted proxy can name another client."""
        async with start(**FEW) as api, from_address(api, peer) as client:
            for number in range(6):
                client.headers["X-Forwarded-For"] = f"192.0.2.{number}"
                answer = await log_in(api, f"customer-{number}", client=client)
            assert answer.status_code == (401 if escapes else 429)


class TestTheQueueServer:
    async def test_counts_for_all_processes_and_across_a_restart(self, start: Start, clock: Clock) -> None:
        server = FakeServer()
        async with start(queue=server, **FEW) as one, start(queue=server, **FEW) as other:
            await fail(one, 2)
            await fail(other, 1)
            limited(await log_in(one, "ada"), "log-in-account", 1)
            limited(await log_in(other, "ada"), "log-in-account", 1)
        async with start(queue=server, **FEW) as again:
            limited(await log_in(again, "ada"), "log-in-account", 1)

    async def test_can_be_unavailable_and_the_process_counts_alone(self, start: Start, clock: Clock) -> None:
        async with start(**FEW) as api:
            await api.sign_up("ada")
            await fail(api, 2)
            api.queue.connected = False
            await fail(api, 1)
            limited(await log_in(api, "ada", PASSWORD), "log-in-account", 1)
            clock.advance(seconds=1)
            assert (await log_in(api, "ada", PASSWORD)).status_code == 200
            await fail(api, 1)

    async def test_receives_no_address(self, api: Api) -> None:
        await fail(api, 1, "somebody")
        client = FakeRedis(server=api.queue)
        keys = client.keys("giro:throttle:*")
        assert sorted(re.sub("[0-9a-f]{32}$", "", key.decode()) for key in keys) == [
            "giro:throttle:log-in-account:",
            "giro:throttle:log-in-address:",
            "giro:throttle:log-in-everywhere:",
        ]
        assert all(client.pttl(key) > 0 for key in keys)


class TestTheRecord:
    async def test_of_delayed_guesses_is_an_entry_of_the_audit_log(
        self, start: Start, database: Any, clock: Clock
    ) -> None:
        async with start(**FEW) as api:
            operator = join(api, database, "operator", Role.OPERATOR)
            await fail(api, 3)
            for _ in range(7):
                await log_in(api, "ada")
            await api.runtime.refusals.flush()
            entries = (await operator.get("/operator/audit?action=access_refused")).json()["items"]
            assert [entry["details"] for entry in entries] == [{"status": 429, "route": "/login", "times": 7}]

    async def test_of_rates_is_only_a_count(self, start: Start, database: Any) -> None:
        labels = {"route": "/accounts", "policy": "writes"}
        before = counted("giro_throttled_total", **labels)
        async with start(limit_writes="1/60") as api:
            ada, operator = join(api, database, "ada"), join(api, database, "operator", Role.OPERATOR)
            await ada.open()
            for _ in range(3):
                refused(await ada.post("/accounts", {"currency": "USD"}), 429, "rate_limited")
            assert counted("giro_throttled_total", **labels) == before + 3
            await api.runtime.refusals.flush()
            assert (await operator.get("/operator/audit?action=access_refused")).json()["items"] == []

    async def test_of_guesses_is_exported_at_zero(self, api: Api) -> None:
        for route, guess in GUESSED_AT:
            assert REGISTRY.get_sample_value("giro_throttled_total", {"route": route, "policy": guess}) is not None
