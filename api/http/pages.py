"""Answers that are the same for everybody, made once: their bytes, their entity tags, and their compressed bytes."""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from hashlib import blake2b

from fastapi import Request, Response

from api.http.accept import weights_of
from api.http.headers import etag_matches

CACHED = {"Cache-Control": "private, max-age=300"}
"""A browser may show a page for five minutes without asking. It is private because request ids and rates are."""


class Page:
    """An answer that never changes. `vary` names further request headers that it was chosen by."""

    def __init__(
        self, body: bytes, media_type: str, headers: Mapping[str, str] | None = None, *, vary: tuple[str, ...] = ()
    ) -> None:
        self._media_type = media_type
        self._headers = {**(headers or {}), "Vary": ", ".join((*vary, "Accept-Encoding"))}
        self._etag = blake2b(body, digest_size=16).hexdigest()
        self._body = body
        packed = gzip.compress(body, mtime=0)
        self._gzip = packed if len(packed) < len(body) else None  # a picture would become longer

    def answer(self, request: Request) -> Response:
        """Answer with the page, compressed if the client accepts that, or with 304 if the client has it already."""
        packed = self._gzip if accepts_gzip(request.headers.getlist("accept-encoding")) else None
        # The tag is strong: the compressed bytes are another representation.
        etag = f'"{self._etag}-gzip"' if packed is not None else f'"{self._etag}"'
        headers = {**self._headers, "ETag": etag}
        if etag_matches(request.headers.getlist("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        if packed is not None:
            headers["Content-Encoding"] = "gzip"
        return Response(self._body if packed is None else packed, headers=headers, media_type=self._media_type)


class Pages:
    """The pages that take long to make. Each is made in a thread, at its first call."""

    def __init__(self) -> None:
        self._made: dict[str, asyncio.Task[Page]] = {}

    async def get(self, name: str, make: Callable[[], Page]) -> Page:
        """Return a page, and make it if no earlier call did. `name` is one of a fixed set, never a client's text.

        Calls that arrive meanwhile wait for the same result, also when the first client has disconnected. An error is
        raised for all of them, and the next call tries again.
        """
        made = self._made.get(name)
        if made is None or (made.done() and (made.cancelled() or made.exception() is not None)):
            made = self._made[name] = asyncio.create_task(asyncio.to_thread(make))
        return await asyncio.shield(made)


def accepts_gzip(accept_encoding: list[str]) -> bool:
    """Return whether a client accepts gzip, and does not prefer the bytes as they are (RFC 9110, 12.5.3)."""
    weights = weights_of(", ".join(accept_encoding))
    weight = weights.get("gzip", weights.get("*", 0.0))
    return weight > 0 and weight >= weights.get("identity", 0.0)
