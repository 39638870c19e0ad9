"""Bounds of every request: its headers, the sizes of its URL, headers and body, and the time that its body may take."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.codes import WireError
from api.errors import field_error, problem
from api.server.heads import Fault, fault_of
from core.domain.errors import CommonError, ErrorCode

SPILL_BYTES = 4 * 1024 * 1024
"""Bytes of a body that are read and discarded beyond its bound, before the request is refused.

If a connection is closed while the client still sends, it is reset and the answer is lost: a proxy makes a 502 of it.
"""

MOST_PARAMETERS = 64
"""Parameters of one query, empty ones included. They are counted before they are parsed, whatever the path: a URL
has room for thousands, and parsing that many would make all other requests wait."""

TOO_MANY_PARAMETERS = f"The query has more than {MOST_PARAMETERS} parameters."


class RequestBounds:
    """Reads the whole body before anything else happens, within a size and a time, and bounds URL, query and headers.

    The body is read first, so no route ever has half a request. Only the paths in `bulk` (path → bytes) may have large
    bodies. At most `bulk_requests` requests to these paths are processed, and in memory, at once, and at most half of
    them are of one user, whom `user_of` identifies. Bodies of unauthenticated requests are buffered up to the small
    bound, and the route rejects them anyway. So strangers cannot take the places of others.
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
        user_of: Callable[[Scope], Awaitable[Hashable | None]],
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
        elif (fault := fault_of(scope)) is not None:
            await self._turn_away(scope, receive, send, fault)
        elif scope["path"] not in self._bulk:
            await self._handle(scope, receive, send, self._body_bytes)
        else:
            await self._handle_bulk(scope, receive, send, self._bulk[scope["path"]])

    async def _handle_bulk(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        user = await self._user_of(scope)
        if user is None:
            await self._handle(scope, receive, send, most, kept=self._body_bytes)
        elif self._has_room(user):
            self._in_hand[user] += 1
            try:
                await self._handle(scope, receive, send, most)
            finally:
                self._in_hand -= Counter([user])
        else:
            await self._turn_away(scope, receive, send, Fault(CommonError.UNAVAILABLE))

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

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send, fault: Fault) -> None:
        """Answer why the request is refused, after the body has been read and discarded."""
        body = await self._read(scope, receive, 0, 0)
        if body is not None:
            await self._refuse(scope, fault.code, detail=fault.detail)(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, most: int, kept: int) -> bytes | Response | None:
        """Return the body, or the answer that refuses it, or None if the client has disconnected before its end.

        A body of at most `most` bytes is read to its end. It is replaced by an empty one if it has more than `kept`.
        """
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        # A client that sends Expect waits with its body, so there is nothing to discard.
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
        """Return the body, or None if the client has disconnected, and the number of bytes that were read."""
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

    def _refuse(self, scope: Scope, code: ErrorCode, *errors: Mapping[str, str], detail: str | None = None) -> Response:
        # The rest of the body is not read, so the connection cannot be used again.
        headers = {"Connection": "close"}
        if code is WireError.UNSUPPORTED_CONTENT_ENCODING:
            headers["Accept-Encoding"] = "identity"
        request_id = scope["state"]["request_id"]
        return problem(code, request_id=request_id, detail=detail, errors=errors, headers=headers)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        for message in messages:
            return message
        return await receive()

    return replay
