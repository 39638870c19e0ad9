"""Trailing slashes and HEAD requests."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Paths:
    """Answers a path with a trailing slash like the path without it, and HEAD on every path with GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path != "/" and path.endswith("/"):
            scope["path"] = path.rstrip("/") or "/"
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy, because the server reads its own scope to see that it must not send a body.
        asked = {**scope, "method": "GET"}

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(asked, receive, send_without_body)
        finally:
            scope["route"] = asked.get("route")
