"""Direct routes: called past the framework, and no different from the others but for that."""

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
async def test_what_is_asked_most_often_goes_past_the_framework(method: str, path: str, goes_past: bool) -> None:
    reached: list[str] = []

    async def framework(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def send(message: Any) -> None:
        pass

    direct = Direct(framework, routers=ROUTERS, answer=answer)
    scope = {"type": "http", "method": method, "path": path, "headers": [], "state": {"request_id": "r"}}
    await direct(scope, lambda: pytest.fail("nobody is signed in: no body is read"), send)  # type: ignore[arg-type]
    assert reached == ([] if goes_past else [path])


def test_no_direct_route_takes_a_part_of_its_path_as_parameter() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, DirectRoute)]
    assert {route.path for route in routes} == DIRECT
    assert not any(route.param_convertors for route in routes)


class TestADirectRoute:
    async def test_is_refused_and_answered_like_any_other(self, api: Api, ada: Person, pair: Pair) -> None:
        for path in sorted(DIRECT):
            stranger = await api.client.post(path, json={})
            assert stranger.status_code == 401, path
            assert masked(stranger) == masked(await api.client.post("/accounts", json={}))
        malformed = await ada.post("/transfers", content=b"{", headers={"Content-Type": "application/json"})
        assert (malformed.status_code, malformed.json()["code"]) == (400, "malformed_body")

    async def test_is_found_with_a_slash_at_its_end(self, ada: Person, pair: Pair) -> None:
        assert (await ada.post("/transfers/", payment(pair.payer, pair.payee))).status_code == 202


class Word(BaseModel):
    """What the second call of one path takes."""

    word: str


async def test_two_direct_routes_of_one_path_are_told_apart_by_their_methods(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = APIRouter(route_class=DirectRoute)

    @router.put("/transfers")
    async def replace(body: Word) -> Response:
        return Response(f"replaced {body.word}")

    monkeypatch.setattr(application, "ROUTERS", (*ROUTERS, router))
    async with start() as api:
        transport = httpx2.ASGITransport(app=api.app)  # without the document's check: it does not have this PUT
        async with httpx2.AsyncClient(transport=transport, base_url="http://giro.test") as client:
            submitted, replaced = [await client.request(m, "/transfers", json={"word": "x"}) for m in ("POST", "PUT")]
    refused(submitted, 401, "unauthenticated")
    assert (replaced.status_code, replaced.text) == (200, "replaced x")
