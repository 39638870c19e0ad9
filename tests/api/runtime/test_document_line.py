"""Documents are drawn one at a time: limits on the waiting documents, in total and for each user."""

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from core import documents
from tests.api.conftest import Api, Pair, Person, Start, until

CSV, *_ = documents.FORMATS


def hold_drawing(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], asyncio.Event]:
    """Replace drawing: each document is empty, is recorded, and takes until the event is set."""
    drawn: list[str] = []
    may_end = asyncio.Event()

    async def run_sync(_draw: Any, _settings: Any, _month: Any, media_type: str, **_more: Any) -> bytes:
        drawn.append(media_type)
        await may_end.wait()
        return b"-"

    monkeypatch.setattr("api.routes.statements.to_process.run_sync", run_sync)
    return drawn, may_end


async def test_a_document_beyond_the_limit_of_its_user_or_of_all_is_unavailable(
    start: Start, ada: Person, grace: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, may_end = hold_drawing(monkeypatch)
    async with start(documents_waiting=3) as api:
        theirs = [
            (Person(api.client, who.email, who.token, ""), f"/accounts/{account['id']}/statement")
            for who, account in ((ada, pair.payer), (grace, pair.payee))
        ]

        async def ask_for_document(whose: int) -> int:
            person, path = theirs[whose]
            async with asyncio.timeout(10):
                return (await person.get(path, headers={"Accept": CSV})).status_code

        line = api.runtime.drawing
        asked = [asyncio.ensure_future(ask_for_document(0)) for _ in range(3)]
        await until(lambda: line.waiting == 2)
        assert await ask_for_document(0) == 503
        asked.append(asyncio.ensure_future(ask_for_document(1)))
        await until(lambda: line.waiting == 3)
        assert await ask_for_document(1) == 503
        may_end.set()
        assert await asyncio.gather(*asked) == [200] * 4
    assert len(drawn) == 4


async def test_a_document_of_a_disconnected_client_is_not_drawn(
    api: Api, ada: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, may_end = hold_drawing(monkeypatch)
    may_end.set()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def gone(scope: Scope, _receive: Receive, send: Send) -> None:
        async def receive() -> Message:
            return next(messages, {"type": "http.disconnect"})

        await api.app(scope, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(gone), base_url="http://giro.test") as client:
        person = Person(client, ada.email, ada.token, "")
        await person.get(f"/accounts/{pair.payer['id']}/statement", headers={"Accept": CSV})
    assert drawn == []
