"""Connections: how many, how long each may take over a request, and how much of one is kept before it is refused.

The server (uvicorn) bounds none of these by itself. What is refused here has not become a request yet, so it is refused
before anything looks at it; it is answered and counted like everything else all the same.
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

from api.errors import problem
from api.middleware import Observe
from core.domain.errors import ErrorCode
from core.logging import get_logger
from core.settings import Settings

log = get_logger(__name__)

PIPELINED = 16
"""Requests of one connection that wait behind the one that is being answered, at most."""

LEAST_TAKEN = 16_384
"""Bytes of an answer that a client has to take up in each `send_seconds`, if it leaves any lying about."""

LINGER_SECONDS = 1.0
"""How long what a client still sends is thrown away once it was refused: a connection that is closed under somebody
who sends is reset, and the answer is lost."""

OTHER_DESCRIPTORS = 200
"""Files that a process needs beside its connections: the database, locks, the queue, metrics."""


@dataclass(slots=True)
class Door:
    """The bounds of all connections of a process, and those that could go for a newcomer."""

    connections: int
    head_bytes: int
    """What may come of a request without any part of it being complete."""
    head_seconds: float
    idle_seconds: float
    send_seconds: float
    waiting: dict["Connection", None]
    """Those that have no whole request in hand, only a part of one or none; who began to wait first comes first."""

    @classmethod
    def of(cls, settings: Settings) -> "Door":
        """Take the bounds from the settings, with no more connections than the process may have open files."""
        return cls(
            connections=_affordable(settings.connections),
            head_bytes=settings.header_bytes + settings.url_bytes,
            head_seconds=settings.header_seconds,
            idle_seconds=settings.idle_seconds,
            send_seconds=settings.send_seconds,
            waiting={},
        )

    def make_room(self) -> "Connection":
        """Choose who has to go for a newcomer: whoever has waited longest, so that idlers never lock others out."""
        longest = next(iter(self.waiting))
        del self.waiting[longest]
        return longest


def _affordable(connections: int) -> int:
    """Raise the process's bound on open files as far as needed, and say how many connections it is good for."""
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
    """One connection, as uvicorn serves it, within the bounds of the door."""

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
        """Bytes that have come since any part of a request was complete."""
        self._moved = False
        self._is_in_url = self._is_in_head = False
        self._has_begun = False
        self._is_deaf = False
        """Nothing that comes from now on is looked at."""

    # --- beginning and end ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection up, and let another one go if there are too many."""
        super().connection_made(transport)
        # To be told of what a client leaves lying about, but not of every byte, which would cost each answer a turn.
        transport.set_write_buffer_limits(high=LEAST_TAKEN)
        self._door.waiting[self] = None
        self._head_timer = self.loop.call_later(self._door.head_seconds, self._is_late)
        if len(self.connections) > self._door.connections:
            surplus = self._door.make_room()
            if surplus is self:
                self._refuse(ErrorCode.UNAVAILABLE)
            else:
                surplus.transport.abort()
                surplus.connections.discard(surplus)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._door.waiting.pop(self, None)
        self._stop_head_timer()
        self._stop_send_timer()
        self._let_go()
        super().connection_lost(exc)

    # --- what comes in ---

    def data_received(self, data: bytes) -> None:
        """Read what has come, unless the connection was given up, and refuse what goes on and on."""
        self._unset_keepalive_if_required()
        if self._is_deaf:
            return
        self._moved = self._is_in_url = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if nothing had been asked for. What follows is of no protocol that is spoken here.
            self._hear_no_more()
        except httptools.HttpParserError:
            self._refuse(ErrorCode.MALFORMED_REQUEST)
        self._unread = 0 if self._moved else self._unread + len(data)
        if self._unread > self._door.head_bytes and not self._is_deaf:
            self._refuse(ErrorCode.URI_TOO_LONG if self._is_in_url else ErrorCode.HEADERS_TOO_LARGE)
        if self._is_answered() and self._head_timer is None and not self._is_deaf:
            self._head_timer = self.loop.call_later(self._door.head_seconds, self._is_late)

    def on_message_begin(self) -> None:
        """Begin with a request."""
        self._moved = self._has_begun = self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Note a part of the URL."""
        self._is_in_url = True
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header, and no trailer: what comes after the body was checked by nobody, and must not pass for one."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand a request on, as its head is complete.

        Raises what ends the reading, if it is of another version or one too many.
        """
        self._moved, self._is_in_head = True, False
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("no HTTP/1.1")
        if len(self.pipeline) >= PIPELINED:
            self._hear_no_more()
            raise OverflowError("too many requests at once")
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a part of a body on."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is complete: from now on its client waits for us, and no more we for it."""
        self._moved = True
        if not self._is_answered():
            self._door.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for what is missing of it, or begin with it."""
        if not self.pipeline or self.pipeline[-1][0].more_body:
            self._door.waiting[self] = None
        super().on_response_complete()

    def _is_answered(self) -> bool:
        """Say whether all requests that came have been answered, even one whose body has not come yet."""
        return self.cycle is None or self.cycle.response_complete

    # --- what goes out ---

    def pause_writing(self) -> None:
        """Note that a client does not take its answer up as fast as it is written."""
        super().pause_writing()
        if self._send_timer is None:
            self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Note that it has."""
        self._stop_send_timer()
        super().resume_writing()

    def _watch(self, left: int) -> None:
        self._send_timer = self.loop.call_later(self._door.send_seconds, self._look_again, left)

    def _look_again(self, left_then: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > left_then - LEAST_TAKEN:
            self._let_go()
            self.transport.abort()
        else:
            self._watch(left)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _let_go(self) -> None:
        """Tell the request in hand that nobody waits for its answer. uvicorn tells the last one that came, only."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    # --- refusing ---

    def _is_late(self) -> None:
        self._head_timer = None
        if self._is_deaf or self.transport.is_closing():
            return
        if self._has_begun:
            self._refuse(ErrorCode.REQUEST_TIMEOUT)
        else:
            self.transport.close()  # not a word was said

    def _hear_no_more(self) -> None:
        """Close the connection once all that was read is answered."""
        self._is_deaf = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _refuse(self, code: ErrorCode) -> None:
        """Say why nothing more is read. What came before is answered first, and is the last then."""
        if self._is_deaf:
            return
        self._hear_no_more()
        if self._is_answered():
            self._answer(code)
        elif not self.cycle.more_body:
            return
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:  # the request in hand is broken in its body
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
    """Make an application that answers with one code."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(code, request_id=scope["state"]["request_id"], headers={"Connection": "close"})
        await answer(scope, receive, send)

    return application


class _Lingering:
    """A connection's transport that is closed for writing first, and only then for good."""

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
