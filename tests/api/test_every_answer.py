"""Rules for every answer: HEAD, trailing slashes, request ids, headers, and unexpected exceptions."""

import asyncio
import io
from typing import Any
from uuid import UUID

import httpx2
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from core.services.identity import users
from tests.api.conftest import PASSWORD, Api, Pair, Person, Start, parsed, payment, refused
from tests.api.contract import SECURITY_HEADERS
from tests.counting import counted

SECRET = "a secret that no answer may show"


async def body_on_the_wire(api: Api, method: str, path: str, **headers: str) -> bytes:
    """The body that the application sends. The client's transport would hide a body after HEAD."""
    sent: list[bytes] = []
    arriving = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not arriving:
            await asyncio.Event().wait()  # the client stays connected and sends nothing more
        return arriving.pop()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.append(message.get("body", b""))

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("giro.test", 80),
    }
    await api.app(scope, receive, send)
    return b"".join(sent)


class TestHead:
    @pytest.mark.parametrize(
        "path",
        ["/", "/health", "/users/me", "/nothing", "/login", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json"],
    )
    async def test_sends_no_byte_of_a_body(self, api: Api, ada: Person, path: str) -> None:
        for headers in ({}, {"Authorization": f"Bearer {ada.token}"}, {"X-Much": "x" * 17_000}):
            assert await body_on_the_wire(api, "HEAD", path, **headers) == b""
            assert await body_on_the_wire(api, "GET", path, **headers) != b""

    async def test_is_answered_like_get_without_a_body(self, ada: Person, pair: Pair) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        for path in (
            "/",
            "/health/live",
            "/users/me",
            "/accounts",
            f"/accounts/{pair.payer['id']}",
            f"/accounts/{pair.payer['id']}/transactions",
            "/transfers?limit=5",
            f"/transfers/{transfer['id']}",
            "/docs",
            "/docs/errors",
            "/docs/assets/swagger-ui.css",
            "/openapi.json",
        ):
            got, head = await ada.get(path), await ada.request("HEAD", path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers.keys() == got.headers.keys(), path
            for headers in (got.headers, head.headers):
                del headers["x-request-id"]
                headers.pop("ratelimit", None)  # each of the two requests is counted
            assert head.headers == got.headers, path

    async def test_of_an_error_is_answered_like_get_without_a_body(self, api: Api, ada: Person) -> None:
        for who, path in ((api.client, "/accounts"), (ada, "/accounts?x=1"), (ada, "/accounts/x"), (ada, "/nothing")):
            got, head = await who.request("GET", path), await who.request("HEAD", path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-type"] == "application/problem+json"

    async def test_with_an_entity_tag_is_answered_304(self, ada: Person, pair: Pair) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        tag = (await ada.request("HEAD", path)).headers["etag"]
        assert (await ada.request("HEAD", path, headers={"If-None-Match": tag})).status_code == 304


class TestATrailingSlash:
    @pytest.mark.parametrize("path", ["/users/me", "/accounts", "/transfers", "/health/live", "/docs", "/openapi.json"])
    async def test_changes_nothing_when_reading(self, ada: Person, path: str) -> None:
        without, one, two = await ada.get(path), await ada.get(f"{path}/"), await ada.get(f"{path}//")
        assert without.status_code == one.status_code == two.status_code == 200
        assert without.content == one.content == two.content

    async def test_changes_nothing_when_writing(self, api: Api, ada: Person, pair: Pair) -> None:
        body = {"email": "eve@example.com", "password": PASSWORD}
        assert (await api.client.post("/signup/", json=body)).status_code == 201
        form = {"username": "eve@example.com", "password": PASSWORD}
        assert (await api.client.post("/login/", data=form)).status_code == 200
        answer = await ada.post("/transfers/", payment(pair.payer, pair.payee))
        assert answer.status_code == 202
        assert (await ada.get(f"{answer.headers['location']}/")).json() == answer.json()
        assert (await ada.post(f"{answer.headers['location']}/cancel/")).status_code == 200

    async def test_is_kept_in_a_query_string(self, ada: Person, pair: Pair) -> None:
        page = (await ada.get("/transfers/?limit=1")).json()
        assert page["limit"] == 1


class TestTheRequestId:
    @pytest.mark.parametrize("sent", ["a", "order-66", "A.b_c:d-9", "x" * 128, "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"])
    async def test_is_ours_and_the_clients_is_next_to_it_if_it_is_plain(self, api: Api, sent: str) -> None:
        answer = await api.client.get("/nothing", headers={"X-Request-ID": sent})
        assert answer.headers["x-client-request-id"] == sent
        assert answer.headers["x-request-id"] == answer.json()["request_id"] != sent
        assert UUID(answer.headers["x-request-id"]).version == 7

    @pytest.mark.parametrize(
        "sent", [b"", b"x" * 129, b"a b", b"a,b", b"a\tb", b"<b>", b'"a"', b"\xe4", b"a/b", "é".encode(), b"a\n"[:2]]
    )
    async def test_stands_alone_if_the_clients_is_not_plain(self, api: Api, sent: bytes) -> None:
        answer = await api.client.get("/nothing", headers=[(b"X-Request-ID", sent)])
        assert UUID(answer.headers["x-request-id"]).version == 7
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert "x-client-request-id" not in answer.headers

    async def test_stands_alone_if_the_client_sends_two(self, api: Api) -> None:
        answer = await api.client.get("/nothing", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
        assert "x-client-request-id" not in answer.headers

    async def test_differs_if_clients_send_the_same(self, api: Api) -> None:
        sent = {"X-Request-ID": "order-66"}
        ids = {(await api.client.get("/", headers=sent)).headers["x-request-id"] for _ in range(5)}
        assert len(ids) == 5

    async def test_is_different_for_each_request(self, api: Api) -> None:
        ids = {(await api.client.get("/")).headers["x-request-id"] for _ in range(5)}
        assert len(ids) == 5

    async def test_is_in_the_log_of_the_accept_and_of_the_settlement(
        self, ada: Person, pair: Pair, settle: Any, log_lines: io.StringIO
    ) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee))
        settle()
        by_event = {line["event"]: line for line in parsed(log_lines)}
        for event in ("accepted", "settled"):
            assert by_event[event]["request_ids"] == [answer.headers["x-request-id"]]


class TestHeaders:
    async def test_of_security_are_in_every_answer(self, api: Api, ada: Person) -> None:
        for answer in (
            await api.client.get("/"),
            await api.client.get("/nothing"),
            await api.client.put("/transfers"),
            await api.client.get("/accounts"),
            await api.client.get("/docs"),
            await api.client.get("/docs/assets/swagger-ui.css"),
            await api.client.post("/signup", content=b"x" * 70_000),
            await ada.post("/logout"),
        ):
            for name in SECURITY_HEADERS:
                assert name in answer.headers
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"

    @pytest.mark.parametrize(
        ("peer", "scheme", "seconds"),
        [
            ("127.0.0.1", "https", 31_536_000),
            ("127.0.0.1", "http", None),
            ("127.0.0.1", "wss", None),
            ("127.0.0.1", "", None),
            ("203.0.113.9", "https", None),
        ],
    )
    async def test_require_tls_from_browsers_that_came_over_tls(
        self, api: Api, peer: str, scheme: str, seconds: int | None
    ) -> None:
        server = ProxyHeadersMiddleware(api.app, trusted_hosts="127.0.0.1")  # uvicorn wraps the application in this
        transport = httpx2.ASGITransport(app=server, client=(peer, 40_000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
            for path in ("/", "/nothing", "/accounts", "/docs"):
                answer = await client.get(path, headers={"X-Forwarded-Proto": scheme})
                expected = None if seconds is None else f"max-age={seconds}"
                assert answer.headers.get("strict-transport-security") == expected

    async def test_do_not_require_tls_if_the_setting_is_off(self, start: Start) -> None:
        async with start(hsts_seconds=0) as api:
            answer = await api.client.get("https://giro.test/")
            assert (answer.status_code, "strict-transport-security" in answer.headers) == (200, False)

    async def test_say_private_no_cache_unless_stated(self, api: Api, ada: Person) -> None:
        for path in ("/", "/accounts", "/transfers", "/users/me", "/nothing"):
            assert (await ada.get(path)).headers["cache-control"] == "private, no-cache"
        for path in ("/docs", "/docs/errors", "/docs/assets/swagger-ui.css", "/openapi.json"):
            assert (await api.client.get(path)).headers["cache-control"] == "private, max-age=300"
        for path in ("/health", "/health/ready"):
            assert (await api.client.get(path)).headers["cache-control"] == "no-store"

    async def test_prevent_data_of_an_answer_from_running_as_a_page(self, api: Api) -> None:
        answer = await api.client.get("/")
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


class TestAnUnexpectedException:
    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_: Any, **__: Any) -> None:
            raise KeyError(SECRET)

        monkeypatch.setattr(users, "get", fail)

    async def test_is_answered_500_without_details(self, ada: Person, broken: None) -> None:
        answer = await ada.get("/users/me")
        refused(answer, 500, "internal_error")
        assert SECRET not in answer.text
        assert "KeyError" not in answer.text

    async def test_is_logged_with_its_traceback_and_request_id(
        self, ada: Person, broken: None, log_lines: io.StringIO
    ) -> None:
        answer = await ada.get("/users/me", headers={"X-Request-ID": "order-66"})
        (line,) = [line for line in parsed(log_lines) if line["event"] == "unhandled_exception"]
        assert (line["level"], line["process"], line["client_request_id"]) == ("error", "api", "order-66")
        assert line["request_id"] == answer.headers["x-request-id"]
        assert "Traceback (most recent call last)" in line["exception"]
        assert f"KeyError: '{SECRET}'" in line["exception"]

    async def test_is_counted(self, ada: Person, broken: None) -> None:
        before = counted("giro_unhandled_exceptions_total")
        await ada.get("/users/me")
        assert counted("giro_unhandled_exceptions_total") == before + 1

    async def test_affects_no_other_request(self, ada: Person, broken: None) -> None:
        await ada.get("/users/me")
        assert (await ada.get("/accounts")).status_code == 200


async def test_requests_are_timed_by_route_and_never_by_path(ada: Person, pair: Pair) -> None:
    labels = {"method": "GET", "route": "/accounts/{account_id}", "status": "200"}
    head = {**labels, "method": "HEAD"}
    missing = {"method": "GET", "route": "none", "status": "404"}
    name = "giro_http_request_duration_seconds_count"
    before = [counted(name, **some) for some in (labels, head, missing)]
    await ada.get(f"/accounts/{pair.payer['id']}")
    await ada.request("HEAD", f"/accounts/{pair.payer['id']}")
    await ada.get("/nothing/at/all")
    assert [counted(name, **some) for some in (labels, head, missing)] == [number + 1 for number in before]


async def test_accepted_and_refused_transfers_are_counted(ada: Person, pair: Pair) -> None:
    accepted, refused_ = "giro_transfers_accepted_total", "giro_transfers_refused_total"
    before = counted(accepted), counted(refused_, code="insufficient_funds")
    headers = {"Idempotency-Key": "k"}
    for _ in range(3):  # replays do not count
        await ada.post("/transfers", payment(pair.payer, pair.payee, 1), headers=headers)
    await ada.post("/transfers", payment(pair.payer, pair.payee, 10_001))
    assert (counted(accepted), counted(refused_, code="insufficient_funds")) == (before[0] + 1, before[1] + 1)
