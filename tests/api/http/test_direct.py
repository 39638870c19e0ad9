"""Direct routes: called without the framework, and otherwise equal to the others."""

from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

import api.app as application
from api.errors import answer
from api.http.direct import Direct, DirectRoute
from api.routes import ROUTERS
from tests.api.conftest import Api, Pair, Person, Start, masked, payment, refused

PORT = 8000
DIRECT = {"/transfers", "/transfers/bulk", "/deposits", "/withdrawals"}


@pytest.mark.parametrize(
    ("method", "path", "goes_past"),
    [
        *(("POST", path, True) for path in sorted(DIRECT)),
        *(("GET", path, False) for path in sorted(DIRECT)),
        ("POST", "/accounts", False),
        ("POST", "/transfers/x/cancel", False),
        ("POST", "/nowhere", False),
    ],
)
async def test_the_most_frequent_calls_bypass_the_framework(method: str, path: str, goes_past: bool) -> None:
    assert await bypasses(method, path, operator_port=0) == goes_past
    assert await bypasses(method, path, operator_port=PORT) == goes_past


@pytest.mark.parametrize("path", sorted(DIRECT))
async def test_the_framework_answers_the_calls_of_operators_on_the_public_port(path: str) -> None:
    assert await bypasses("POST", path, operator_port=PORT + 1) == (path not in {"/deposits", "/withdrawals"})


async def bypasses(method: str, path: str, *, operator_port: int) -> bool:
    """Return whether a call to PORT does not reach the framework, in a service with this port for operators."""
    reached: list[str] = []

    async def framework(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def send(message: Any) -> None:
        pass

    direct = Direct(framework, routers=ROUTERS, answer=answer)
    app = SimpleNamespace(state=SimpleNamespace(operator_port=operator_port))
    scope = {"type": "http", "method": method, "path": path, "headers": [], "state": {"request_id": "r"}}
    scope |= {"app": app, "server": ("127.0.0.1", PORT)}
    await direct(scope, lambda: pytest.fail("no user is logged in, so no body may be read"), send)  # type: ignore[arg-type]
    assert reached in ([], [path])
    return not reached


def test_no_direct_route_has_a_path_parameter() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, DirectRoute)]
    assert {route.path for route in routes} == DIRECT
    assert not any(route.param_convertors for route in routes)


class TestADirectRoute:
    async def test_rejects_and_answers_like_any_other_route(self, api: Api, ada: Person, pair: Pair) -> None:
        for path in sorted(DIRECT):
            stranger = await api.client.post(path, json={})
            assert stranger.status_code == 401, path
            assert masked(stranger) == masked(await api.client.post("/accounts", json={}))
        malformed = await ada.post("/transfers", content=b"{", headers={"Content-Type": "application/json"})
        assert (malformed.status_code, malformed.json()["code"]) == (400, "malformed_body")

    async def test_is_found_with_a_trailing_slash(self, ada: Person, pair: Pair) -> None:
        assert (await ada.post("/transfers/", payment(pair.payer, pair.payee))).status_code == 202


class Word(BaseModel):
    """The input of the second call on the path."""

    word: str


async def test_two_direct_routes_of_one_path_differ_by_method(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter(route_class=DirectRoute)

    @router.put("/transfers")
    async def replace(body: Word) -> Response:
        return Response(f"replaced {body.word}")

    monkeypatch.setattr(application, "ROUTERS", (*ROUTERS, router))
    async with start() as api:
        transport = httpx2.ASGITransport(app=api.app)  # without the contract check: the document does not have this PUT
        async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
            submitted, replaced = [await client.request(m, "/transfers", json={"word": "x"}) for m in ("POST", "PUT")]
    refused(submitted, 401, "unauthenticated")
    assert (replaced.status_code, replaced.text) == (200, "replaced x")
