"""What happens around every request, whatever its route: ids, limits, paths, headers, timing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.codes import WireError
from api.errors import field_error, problem
from core.domain.errors import CommonError, ErrorCode

SPILL_BYTES = 4 * 1024 * 1024
"""What is read of a body beyond its bound, and thrown away, before it is refused.

A connection that is closed under somebody who still sends is reset, and the answer is lost: a proxy makes a 502 of it.
"""


MOST_PARAMETERS = 64
"""Parameters of one query, empty ones included. They are counted before anything reads them, whatever the path: a URL
has room for thousands, and reading that many would make all other requests wait."""

TOO_MANY_PARAMETERS = f"The query has more than {MOST_PARAMETERS} parameters."


class Limits:
    """Reads the whole body before anything else happens, within a size and a time, and bounds URL, query and headers.

    Reading it first means that no route ever holds half a request. Bodies are small, but for those of the paths in
    `bulk` (path → bytes): of these, `bulk_requests` at most are in hand at once, and so in memory, half of them of one
    user. `user_of` identifies that user. Bodies of unauthenticated requests are buffered up to the small limit, and the
    route rejects them anyway. So strangers cannot take the places of others.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes: int,
        body_seconds: float,
        header_bytes: int,
        url_bytes: int,
        bulk: Mapping[str, int],
        bulk_requests: int,
        user_of: Callable[[Scope], Hashable | None],
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._body_seconds = body_seconds
        self._header_bytes = header_bytes
        self._url_bytes = url_bytes
        self._bulk = bulk
        self._bulk_requests = bulk_requests
        self._user_of = user_of
        self._in_hand: Counter[Hashable] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] not in self._bulk:
            await self._handle(scope, receive, send, self._body_bytes)
        else:
            await self._handle_bulk(scope, receive, send, self._bulk[scope["path"]])

    async def _handle_bulk(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        user = self._user_of(scope)
        if user is None:
            await self._handle(scope, receive, send, most, kept=self._body_bytes)
        elif self._has_room(user):
            self._in_hand[user] += 1
            try:
                await self._handle(scope, receive, send, most)
            finally:
                self._in_hand -= Counter([user])
        else:
            await self._turn_away(scope, receive, send)

    def _has_room(self, user: Hashable) -> bool:
        of_one = max(1, self._bulk_requests // 2)
        return self._in_hand[user] < of_one and self._in_hand.total() < self._bulk_requests

    async def _handle(self, scope: Scope, receive: Receive, send: Send, most: int, *, kept: int | None = None) -> None:
        body: bytes | Response | None
        if len(scope["raw_path"]) + len(scope["query_string"]) > self._url_bytes:
            body = self._refuse(scope, WireError.URI_TOO_LONG)
        elif sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > self._header_bytes:
            body = self._refuse(scope, WireError.HEADERS_TOO_LARGE)
        elif scope["query_string"].count(b"&") >= MOST_PARAMETERS:
            body = self._refuse(scope, CommonError.VALIDATION_FAILED, field_error("query", TOO_MANY_PARAMETERS))
        else:
            body = await self._read(scope, receive, most, most if kept is None else kept)
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif body is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say that there is no room now, once what was sent has been read and thrown away."""
        body = await self._read(scope, receive, 0, 0)
        if body is not None:
            await self._refuse(scope, CommonError.UNAVAILABLE)(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, most: int, kept: int) -> bytes | Response | None:
        """Read the body, or say why not; None if the client went away: half an order is no order.

        One of up to `most` bytes is read, and nothing is left of one of more than `kept`.
        """
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        # A client that sends Expect has not sent a body yet that would have to be read.
        readable = most if "expect" in headers else most + SPILL_BYTES
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > readable):
            return self._refuse(scope, WireError.BODY_TOO_LARGE)
        try:
            async with asyncio.timeout(self._body_seconds):
                body, size = await self._collect(receive, most, kept)
        except TimeoutError:
            return self._refuse(scope, WireError.REQUEST_TIMEOUT)
        return self._refuse(scope, WireError.BODY_TOO_LARGE) if size > most else body

    async def _collect(self, receive: Receive, most: int, kept: int) -> tuple[bytes | None, int]:
        """Read a body to its end, or to that of our patience, and say how long it was; None if the client went away."""
        chunks: list[bytes] = []
        size = 0
        while size <= most + SPILL_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None, 0
            size += len(chunk := message.get("body", b""))
            if size <= kept:
                chunks.append(chunk)
            if not message.get("more_body", False):
                break
        return b"".join(chunks) if size <= kept else b"", size

    def _refuse(self, scope: Scope, code: ErrorCode, *errors: Mapping[str, str]) -> Response:
        # What is left of the body is not read, so the connection cannot be used again.
        return problem(code, request_id=scope["state"]["request_id"], errors=errors, headers={"Connection": "close"})


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        for message in messages:
            return message
        return await receive()

    return replay
