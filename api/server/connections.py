"""Limits of connections: how many there are, how long a request may take to arrive, and how much of it is buffered.

The server (uvicorn) does not limit these itself. Input that is refused here is not a request yet, so no other code
sees it. It is still answered and counted like a request.
"""

import asyncio
import resource
from asyncio.events import TimerHandle
from dataclasses import dataclass
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.codes import WireError
from api.errors import problem
from api.server.observe import Observe
from core.domain.errors import CommonError, ErrorCode
from core.settings import Settings
from core.telemetry.logging import get_logger

log = get_logger(__name__)

PIPELINED = 16
"""Requests of one connection that may wait behind the one that is being answered."""

FEED_BYTES = 16_384
MOST_PARTS = 4096
"""Parts of bodies (HTTP's chunks) that one connection hands on before everybody else has a turn: some milliseconds.
A body that is sent whole comes in a few, whatever its size."""

LEAST_TAKEN = 16_384
"""Bytes of an answer that a client must read in each `send_seconds` while any are unread."""

LINGER_SECONDS = 1.0
"""How long further input is discarded after a refusal. If the connection were closed while the client still sends, it
would be reset, and the answer would be lost."""

OTHER_DESCRIPTORS = 200
"""Open files that a process needs besides its connections: the database, locks, the queue, metrics."""


@dataclass(slots=True)
class Door:
    """The limits of all connections of a process, and the connections that can be closed for a new one."""

    connections: int
    head_bytes: int
    """Bytes of a request that may arrive without completing any part of it."""
    head_seconds: float
    idle_seconds: float
    send_seconds: float
    waiting: dict["Connection", None]
    """Connections without a complete request in progress, the longest waiting first."""

    @classmethod
    def of(cls, settings: Settings) -> "Door":
        """Take the limits from the settings, with no more connections than the limit of open files allows."""
        return cls(
            connections=_affordable(settings.connections),
            head_bytes=settings.header_bytes + settings.url_bytes,
            head_seconds=settings.header_seconds,
            idle_seconds=settings.idle_seconds,
            send_seconds=settings.send_seconds,
            waiting={},
        )

    def make_room(self) -> "Connection":
        """Choose the connection to close for a new one: the longest waiting, so that idlers never lock others out."""
        longest = next(iter(self.waiting))
        del self.waiting[longest]
        return longest


def _affordable(connections: int) -> int:
    """Raise the process's limit of open files as far as needed, and return how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    affordable = max(1, soft - OTHER_DESCRIPTORS)
    log.warning("few_open_files", connections=affordable, wanted=connections)
    return affordable


class Connection(HttpToolsProtocol):
    """One connection that uvicorn serves, within the limits of the door."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door: Door = app_state["door"]
        self.timeout_keep_alive = cast(int, self._door.idle_seconds)
        self._head_timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._unread = 0
        """Bytes received since a part of a request was last complete."""
        self._moved = False
        self._is_in_url = self._is_in_head = False
        self._has_begun = False
        self._has_stopped_reading = False
        """From now on all input is ignored."""
        self._unfed = b""
        """Input that waits until other connections had a turn. Nothing more is read meanwhile."""
        self._parts = 0

    # --- beginning and end ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, and close another one if there are too many."""
        super().connection_made(transport)
        # Report unread output, but not every byte of it, which would cost each answer a turn of the loop.
        transport.set_write_buffer_limits(high=LEAST_TAKEN)
        self._door.waiting[self] = None
        self._head_timer = self.loop.call_later(self._door.head_seconds, self._end_slow_head)
        if len(self.connections) > self._door.connections:
            surplus = self._door.make_room()
            if surplus is self:
                self._refuse(CommonError.UNAVAILABLE)
            else:
                surplus.transport.abort()
                surplus.connections.discard(surplus)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after a connection."""
        self._door.waiting.pop(self, None)
        self._stop_head_timer()
        self._stop_send_timer()
        self._signal_disconnect()
        super().connection_lost(exc)

    # --- input ---

    def data_received(self, data: bytes) -> None:
        """Take input, and read it in its turn."""
        self._unset_keepalive_if_required()
        if self._unfed:
            self._unfed += data
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        """Pass input on. The rest of input that comes in very many parts is left for the next turn."""
        at = self._parts = 0
        while at < len(data) and self._parts < MOST_PARTS and not self._has_stopped_reading:
            self._parse(data[at : at + FEED_BYTES])
            at += FEED_BYTES
        has_waited, self._unfed = bool(self._unfed), b"" if self._has_stopped_reading else data[at:]
        if self._unfed:
            self.transport.pause_reading()
            self.loop.call_soon(self._feed_on)
        elif has_waited and not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _feed_on(self) -> None:
        if not self.transport.is_closing():
            self._feed(self._unfed)

    def _parse(self, data: bytes) -> None:
        """Parse some input, and refuse a request part that never ends."""
        self._moved = self._is_in_url = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered as if it asked for no upgrade. The data after it is of an unknown protocol.
            self._stop_reading()
        except httptools.HttpParserError:
            self._refuse(WireError.MALFORMED_REQUEST)
        self._unread = 0 if self._moved else self._unread + len(data)
        if self._unread > self._door.head_bytes and not self._has_stopped_reading:
            self._refuse(WireError.URI_TOO_LONG if self._is_in_url else WireError.HEADERS_TOO_LARGE)
        if self._is_answered() and self._head_timer is None and not self._has_stopped_reading:
            self._head_timer = self.loop.call_later(self._door.head_seconds, self._end_slow_head)

    def on_message_begin(self) -> None:
        """Start a request."""
        self._moved = self._has_begun = self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Note a part of the URL."""
        self._is_in_url = True
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header. Trailers are ignored: they come unchecked after the body, and must not count as headers."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass a request on when its head is complete.

        Raises an error that ends the parsing if the HTTP version is another one, or too many requests wait.
        """
        self._moved, self._is_in_head = True, False
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("unsupported HTTP version")
        if len(self.pipeline) >= PIPELINED:
            self._stop_reading()
            raise OverflowError("too many requests at once")
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of a body on."""
        self._moved = True
        self._parts += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is complete: from now on the client waits for the service."""
        self._moved = True
        if not self._is_answered():
            self._door.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next request, or wait for it or for the rest of it."""
        if not self.pipeline or self.pipeline[-1][0].more_body:
            self._door.waiting[self] = None
        super().on_response_complete()

    def _is_answered(self) -> bool:
        """Return whether all requests so far are answered, even one whose body has not arrived yet."""
        return self.cycle is None or self.cycle.response_complete

    # --- output ---

    def pause_writing(self) -> None:
        """Note that the client reads its answer more slowly than it is written."""
        super().pause_writing()
        if self._send_timer is None:
            self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        self._stop_send_timer()
        super().resume_writing()

    def _watch(self, left: int) -> None:
        self._send_timer = self.loop.call_later(self._door.send_seconds, self._check_progress, left)

    def _check_progress(self, left_then: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > left_then - LEAST_TAKEN:
            self._signal_disconnect()
            self.transport.abort()
        else:
            self._watch(left)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _signal_disconnect(self) -> None:
        """Tell the running request that its client has gone. uvicorn tells only the request that came last."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    # --- refusing ---

    def _end_slow_head(self) -> None:
        self._head_timer = None
        if self._has_stopped_reading or self.transport.is_closing():
            return
        if self._has_begun:
            self._refuse(WireError.REQUEST_TIMEOUT)
        else:
            self.transport.close()  # the client has sent nothing

    def _stop_reading(self) -> None:
        """Ignore further input, and close the connection once all requests read so far are answered."""
        self._has_stopped_reading = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _refuse(self, code: ErrorCode) -> None:
        """Answer why reading stops. If an earlier request is still being answered, its answer is the last one."""
        if self._has_stopped_reading:
            return
        self._stop_reading()
        if self._is_answered():
            self._answer(code)
        elif not self.cycle.more_body:
            return
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:  # the running request has an invalid body
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer(code)

    def _answer(self, code: ErrorCode) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "scheme": "http",
            "method": "",
            "path": "",
            "headers": [],
            "client": self.client,
            "state": {},
        }
        self.cycle = RequestResponseCycle(
            scope=cast(Any, scope),
            transport=cast(asyncio.Transport, _Lingering(self.transport, self.loop)),
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=lambda: None,
        )
        self._start_asgi_task(self.cycle, cast(ASGI3Application, Observe(_saying(code), hsts_seconds=0)))

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


def _saying(code: ErrorCode) -> ASGIApp:
    """Return an application that answers with one error code."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(code, request_id=scope["state"]["request_id"], headers={"Connection": "close"})
        await answer(scope, receive, send)

    return application


class _Lingering:
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
