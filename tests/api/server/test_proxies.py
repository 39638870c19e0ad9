"""The recorded client address of a request that comes through a proxy, or claims to."""

import io
from typing import Any

import httpx2
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tests.api.conftest import Api, Person, Start, parsed

PROXY = "127.0.0.1"
CLIENT = "203.0.113.9"
MADE_UP = "192.0.2.66"


async def recorded(api: Api, operator: Person, *forwarded: str, peer: str = PROXY, trusted: str = PROXY) -> str | None:
    """Fail to log in with a request from `peer`, and return the address in the audit log."""
    headers = [("X-Forwarded-For", value) for value in forwarded]
    server = ProxyHeadersMiddleware(api.app, trusted_hosts=trusted)  # uvicorn wraps the application in this
    transport = httpx2.ASGITransport(app=server, client=(peer, 40_000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
        credentials = {"username": "nobody@example.com", "password": "correct horse battery"}
        answer = await client.post("/login", data=credentials, headers=headers)
    assert answer.status_code == 401, answer.text
    (entry,) = (await operator.get("/operator/audit?action=log_in_failed&limit=1")).json()["items"]
    address: str | None = entry["address"]
    return address


def warnings_in(log_lines: io.StringIO) -> list[dict[str, Any]]:
    return [line for line in parsed(log_lines) if line["event"] == "forwarded_for_ignored"]


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ((), PROXY),
        ((CLIENT,), CLIENT),
        ((f"{CLIENT}:51000",), CLIENT),
        (("2001:DB8::1",), "2001:db8::1"),
        (("[2001:db8::1]:51000",), "2001:db8::1"),
        ((f"{MADE_UP}, {CLIENT}",), CLIENT),
        ((MADE_UP, CLIENT), CLIENT),
        ((f"{MADE_UP}, {CLIENT}, 127.0.0.1",), CLIENT),
        (("",), PROXY),
        (("unknown",), None),
        (("x" * 5000,), None),
        ((f"fe80::1%{'x' * 5000}",), "fe80::1"),
    ],
)
async def test_a_trusted_proxy_names_the_client(
    api: Api, operator: Person, forwarded: tuple[str, ...], address: str | None
) -> None:
    assert await recorded(api, operator, *forwarded) == address


@pytest.mark.parametrize("forwarded", [(), (MADE_UP,), (f"{MADE_UP}, {PROXY}",), (MADE_UP, PROXY), ("unknown",)])
async def test_a_header_from_an_untrusted_peer_is_ignored(
    api: Api, operator: Person, forwarded: tuple[str, ...]
) -> None:
    assert await recorded(api, operator, *forwarded, peer=CLIENT) == CLIENT


async def test_no_proxy_is_trusted_by_default(api: Api, operator: Person) -> None:
    assert await recorded(api, operator, CLIENT, trusted=api.runtime.settings.trusted_proxies) == PROXY


async def test_an_ignored_proxy_of_this_machine_or_network_is_logged_once(
    api: Api, operator: Person, log_lines: io.StringIO
) -> None:
    await recorded(api, operator, CLIENT, trusted=PROXY)
    await recorded(api, operator, trusted="")
    await recorded(api, operator, CLIENT, peer="1.1.1.1", trusted="")
    assert warnings_in(log_lines) == []
    for peer in (PROXY, "10.0.0.7"):
        await recorded(api, operator, CLIENT, peer=peer, trusted="")
    (line,) = warnings_in(log_lines)
    assert (line["proxy"], line["level"]) == (PROXY, "warning")
    assert "GIRO_TRUSTED_PROXIES" in line["advice"]


async def test_clients_behind_an_ignored_proxy_of_this_machine_have_one_rate_together(start: Start) -> None:
    async with start(limit_anonymous_reads="2/60") as api:
        server = ProxyHeadersMiddleware(api.app, trusted_hosts=api.runtime.settings.trusted_proxies)
        transport = httpx2.ASGITransport(app=server, client=(PROXY, 40_000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
            asked = [await client.get("/", headers={"X-Forwarded-For": f"203.0.113.{n}"}) for n in range(3)]
            assert [answer.status_code for answer in asked] == [200, 200, 429]
            assert (await client.get("/")).status_code == 200, "a program of this machine itself"


async def test_in_a_trusted_network_the_nearest_untrusted_address_is_the_client(api: Api, operator: Person) -> None:
    path = (f"{MADE_UP}, {CLIENT}, 10.1.2.3",)
    assert await recorded(api, operator, *path, peer="10.9.9.9", trusted="127.0.0.1,10.0.0.0/8") == CLIENT
    assert await recorded(api, operator, *path, peer="11.9.9.9", trusted="127.0.0.1,10.0.0.0/8") == "11.9.9.9"
    assert await recorded(api, operator, *path, peer="fd00::7", trusted="fd00::/8,10.0.0.0/8") == CLIENT


async def test_links_do_not_depend_on_the_host_of_the_request(api: Api) -> None:
    server = ProxyHeadersMiddleware(api.app, trusted_hosts=PROXY)
    transport = httpx2.ASGITransport(app=server, client=(PROXY, 40_000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
        body = {"email": "ada@example.com", "password": "correct horse battery"}
        answer = await client.post("/signup", json=body, headers={"X-Forwarded-Proto": "https", "Host": "evil.test"})
    assert (answer.status_code, answer.headers["location"]) == (201, "/users/me")
    assert "evil" not in answer.text + repr(answer.headers)
