"""Browsers: pages of other origins may do nothing, unless a setting allows exactly these origins."""

import httpx2
import pytest

from api.server import cors
from api.server.observe import SECURITY_HEADERS
from tests.api.conftest import Api, Start
from tests.api.contract import Contract

OURS = "https://bank.example.com"
OTHERS = [
    *("https://evil.example", "null", "http://bank.example.com", "https://bank.example.com:8443"),
    *("https://bank.example.com.evil.example", "https://evilbank.example.com", "https://BANK.example.com", ""),
]
ON = {"cors_origins": f"{OURS},http://localhost:5173"}


async def preflight(api: Api, origin: str, method: str = "POST", headers: str = "authorization") -> httpx2.Response:
    """Send a preflight request, as a browser does before it sends a request for a page of another origin."""
    wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    # A client without the contract: the middleware answers this, not a route of the document.
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api.app), base_url="http://giro.test") as client:
        return await client.request("OPTIONS", "/transfers", headers={"Origin": origin, **wanted})


def allowed(answer: httpx2.Response) -> dict[str, str]:
    """The CORS headers of an answer."""
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in answer.headers.items() if name.startswith(prefix)}


class TestOff:
    @pytest.mark.parametrize("origin", [OURS, *OTHERS])
    async def test_no_answer_has_a_cors_header(self, api: Api, origin: str) -> None:
        paths = ("/", "/transfers", "/nothing", "/docs")
        asked = await preflight(api, origin)
        answers = [asked, *[await api.client.get(path, headers={"Origin": origin}) for path in paths]]
        assert [answer.status_code for answer in answers] == [405, 200, 401, 404, 200]
        assert [allowed(answer) for answer in answers] == [{}] * 5


class TestOn:
    async def test_a_page_of_an_allowed_origin_may_call_and_read_the_answer(self, start: Start) -> None:
        async with start(**ON) as api:
            for origin in (OURS, "http://localhost:5173"):
                asked = await preflight(api, origin, headers="authorization, content-type, idempotency-key, prefer")
                assert (asked.status_code, allowed(asked)["allow-origin"]) == (200, origin)
                assert asked.headers["access-control-max-age"] == "600"
                for path, status in (("/", 200), ("/transfers", 401), ("/nothing", 404)):
                    answer = await api.client.get(path, headers={"Origin": origin})
                    assert (answer.status_code, allowed(answer)["allow-origin"]) == (status, origin)
                    assert "location" in allowed(answer)["expose-headers"].lower()
                    assert "Origin" in answer.headers["vary"]

    async def test_an_error_of_the_limits_can_be_read_too(self, start: Start) -> None:
        async with start(**ON) as api:
            answer = await api.client.post("/signup", content=b"x" * 70_000, headers={"Origin": OURS})
            assert (answer.status_code, allowed(answer)["allow-origin"]) == (413, OURS)

    @pytest.mark.parametrize("origin", OTHERS)
    async def test_a_page_of_another_origin_may_not(self, start: Start, origin: str) -> None:
        async with start(**ON) as api:
            asked = await preflight(api, origin)
            assert (asked.status_code, "allow-origin" in allowed(asked)) == (400, False)
            assert "allow-origin" not in allowed(await api.client.get("/", headers={"Origin": origin}))

    @pytest.mark.parametrize(("method", "headers"), [("DELETE", ""), ("PATCH", ""), ("POST", "x-forwarded-for")])
    async def test_headers_that_no_call_needs_are_not_allowed(self, start: Start, method: str, headers: str) -> None:
        async with start(**ON) as api:
            assert (await preflight(api, OURS, method, headers or "authorization")).status_code == 400

    async def test_credentials_of_the_browser_are_never_sent(self, start: Start) -> None:
        async with start(**ON) as api:
            for answer in (await preflight(api, OURS), await api.client.get("/", headers={"Origin": OURS})):
                assert "allow-credentials" not in allowed(answer)

    async def test_a_preflight_has_the_headers_of_every_answer(self, start: Start) -> None:
        async with start(**ON) as api:
            for answer in (await preflight(api, OURS), await preflight(api, OTHERS[0])):
                assert answer.headers["x-request-id"]
                assert [answer.headers[name] for name in SECURITY_HEADERS] == list(SECURITY_HEADERS.values())


def test_the_methods_are_those_of_the_routes(contract: Contract) -> None:
    documented = {method.upper() for item in contract.document["paths"].values() for method in item}
    assert set(cors.METHODS) == documented | {"HEAD"}
