"""Answers to input that is not a valid request: no request exists yet, so the connection itself answers."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import problem
from api.server.observe import Observe
from core.domain.errors import ErrorCode

LINGER_SECONDS = 1.0
"""How long further input is discarded after a refusal. If the connection were closed while the client still sends, it
would be reset, and the answer would be lost."""


def refusal_of(code: ErrorCode) -> ASGIApp:
    """Return an application that answers with one error code. The answer is logged and counted like any other."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(code, request_id=scope["state"]["request_id"], headers={"Connection": "close"})
        await answer(scope, receive, send)

    return Observe(application, hsts_seconds=0)


def empty_scope(client: tuple[str, int] | None) -> dict[str, Any]:
    """Return the scope of a request of which nothing but the client is known."""
    return {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": "",
        "path": "",
        "headers": [],
        "client": client,
        "state": {},
    }


class LingeringTransport:
    """A connection's transport that first closes for writing, and completely a little later."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self._transport.abort)
