"""Minimal HTTP/1.1 over asyncio for both sides of a siege, so that the clients use little of the machine.

A caller has an address of the benchmarking network 198.18.0.0/15. The siege stands in for a proxy on the machine: it
connects from the loopback address with the same last three numbers, and reports the caller's address in
`X-Forwarded-For`. So each caller has their own address for the service, with and without its trust in the proxy.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

PDF = "application/pdf"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MARK = b"@@@@@@@@@@@@"
"""Twelve bytes of a prepared request that each sending replaces by its own number."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; `body` is empty if the connection does not keep bodies."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def loopback_of(address: str) -> str:
    """Return the loopback address that a caller's connections come from."""
    return f"127.{address.partition('.')[2]}"


def request(
    start: str,
    *,
    address: str | None = None,
    token: str | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] = {},
) -> bytes:
    """Return a request. `start` is its method and path; without an address it comes from the machine itself."""
    lines = {"Host": "bank.example", **headers}
    if address:
        lines["X-Forwarded-For"] = address
    if token:
        lines["Authorization"] = f"Bearer {token}"
    if body:
        lines.setdefault("Content-Type", JSON)
    lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{start} HTTP/1.1\r\n{head}\r\n".encode() + body


def form(fields: Mapping[str, str]) -> bytes:
    """Return the body of a form."""
    return urlencode(fields).encode()


class Parser:
    """Finds the end of an answer in the bytes of a connection."""

    def __init__(self, *, keeps_bodies: bool) -> None:
        self._keeps = keeps_bodies
        self._start_over()

    def _start_over(self) -> None:
        self._buffer = bytearray()
        self._body: list[bytes] = []
        self._head: tuple[int, dict[str, str]] | None = None
        self._left: int | None = 0
        self._chunked = False

    def feed(self, data: bytes) -> Answer | None:
        """Add bytes; return the answer once it is complete. The bytes of a next answer are not expected."""
        if self._head is None:
            self._buffer += data
            if not self._read_head():
                return None
            data = bytes(self._buffer)
            self._buffer.clear()
        if self._chunked:
            self._buffer += data
            return self._finish() if self._read_chunks() else None
        self._take(data)
        if self._left is None:
            return None
        self._left -= len(data)
        return self._finish() if self._left <= 0 else None

    def end(self) -> Answer | None:
        """Return the answer that the end of the connection completes, if any."""
        return self._finish() if self._head is not None and self._left is None else None

    def _read_head(self) -> bool:
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            status = int(first[9:12])
            if status < 200:
                continue
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self._head = status, headers
            self._chunked = headers.get("transfer-encoding") == "chunked"
            length = headers.get("content-length", "0" if status in {204, 304} else None)
            self._left = None if length is None else int(length)
            return True
        return False

    def _read_chunks(self) -> bool:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:end].partition(b";")[0], 16)
            if len(self._buffer) < end + size + 4:
                return False
            self._take(bytes(self._buffer[end + 2 : end + 2 + size]))
            del self._buffer[: end + size + 4]
            if size == 0:
                return True
        return False

    def _take(self, data: bytes) -> None:
        if self._keeps:
            self._body.append(data)

    def _finish(self) -> Answer:
        assert self._head is not None
        answer = Answer(*self._head, b"".join(self._body))
        self._start_over()
        return answer


class Connection(asyncio.Protocol):
    """A kept-alive connection that sends one request at a time."""

    def __init__(self, *, keeps_bodies: bool) -> None:
        self._parser = Parser(keeps_bodies=keeps_bodies)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_open = False

    @classmethod
    async def open(cls, port: int, address: str | None = None, *, keeps_bodies: bool = True) -> "Connection":
        """Connect; raises OSError."""
        made = cls(keeps_bodies=keeps_bodies)
        local = (loopback_of(address), 0) if address else None
        await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", port, local_addr=local)
        return made

    async def ask(self, data: bytes) -> Answer:
        """Send a request and return its answer; raises ConnectionError if the connection ends before it."""
        if self._transport is None or not self.is_open:
            raise ConnectionResetError("closed before the request")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._waiting

    def close(self) -> None:
        """Close the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        if answer := self._parser.feed(data):
            if answer.headers.get("connection") == "close":
                self.is_open = False
            self._resolve(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if answer := self._parser.end():
            self._resolve(answer)
        elif self._waiting and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("closed without an answer"))

    def _resolve(self, answer: Answer) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(answer)
