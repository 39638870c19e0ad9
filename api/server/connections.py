"""The HTTP connections of the server (uvicorn), each within the bounds of api/server/connection_bounds.py.

uvicorn has no such bounds. Input that is refused here is not a request yet, so no other code sees it. It is still
answered and counted like a request (api/server/refusals.py).
"""

import asyncio
from ipaddress import ip_address
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.codes import WireError, status_of
from api.server.connection_bounds import ConnectionBounds
from api.server.refusals import LingeringTransport, empty_scope, refusal_of
from api.server.send_timeout import SendTimeout
from api.throttling.rates import REFUSED, Buckets, network_of
from core.domain.errors import CommonError, ErrorCode

PIPELINED = 16
"""Requests of one connection that may wait behind the one that is being answered."""

FEED_BYTES = 16_384
MOST_PARTS = 4096
"""Parts of bodies (HTTP's chunks) that one connection passes on before others have a turn: some milliseconds of work. A
body without chunks comes in few parts, whatever its size."""

Waiting = dict["Connection", None]
"""The connections of a process without a complete request in progress, the longest waiting first."""


class Connection(HttpToolsProtocol):
    """One connection that uvicorn serves, within the bounds of its process."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds: ConnectionBounds = app_state["connection_bounds"]
        self._waiting: Waiting = app_state["waiting_connections"]
        self._refusals: Buckets | None = app_state["refusals"]
        self.timeout_keep_alive = cast(int, self._bounds.idle_seconds)
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timeout: SendTimeout | None = None
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
        """Accept a connection. If there are too many now, close one."""
        super().connection_made(transport)
        self._send_timeout = SendTimeout(transport, self.loop, self._bounds.send_seconds, self._cut_off)
        self._waiting[self] = None
        self._head_timer = self.loop.call_later(self._bounds.head_seconds, self._end_slow_head)
        if len(self.connections) > self._bounds.connections:
            # The longest waiting one is closed, so that idle connections never lock new clients out.
            surplus = next(iter(self._waiting))
            del self._waiting[surplus]
            if surplus is self:
                self._refuse(CommonError.UNAVAILABLE)
            else:
                surplus.transport.abort()
                surplus.connections.discard(surplus)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up after a connection."""
        self._waiting.pop(self, None)
        self._stop_head_timer()
        if self._send_timeout is not None:
            self._send_timeout.stop()
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
        if self._unread > self._bounds.head_bytes and not self._has_stopped_reading:
            self._refuse(WireError.URI_TOO_LONG if self._is_in_url else WireError.HEADERS_TOO_LARGE)
        if self._is_answered() and self._head_timer is None and not self._has_stopped_reading:
            self._head_timer = self.loop.call_later(self._bounds.head_seconds, self._end_slow_head)

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
            self._waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next request, or wait for it or its missing part."""
        if not self.pipeline or self.pipeline[-1][0].more_body:
            self._waiting[self] = None
        super().on_response_complete()

    def _is_answered(self) -> bool:
        """Return whether all requests so far are answered, even one whose body has not arrived yet."""
        return self.cycle is None or self.cycle.response_complete

    # --- output ---

    def pause_writing(self) -> None:
        """Note that the client reads its answer more slowly than it is written."""
        super().pause_writing()
        if self._send_timeout is not None:
            self._send_timeout.start()

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        if self._send_timeout is not None:
            self._send_timeout.stop()
        super().resume_writing()

    def _cut_off(self) -> None:
        """Give up a client that does not read its answer."""
        self._signal_disconnect()
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
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
        """Answer why reading stops. If an earlier request is still being answered, that answer is the last one."""
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
        if self.client is not None and status_of(code) < 500 and self._is_spent(self.client[0]):
            self.transport.close()
            return
        self.cycle = RequestResponseCycle(
            scope=cast(Any, empty_scope(self.client)),
            transport=cast(asyncio.Transport, LingeringTransport(self.transport, self.loop)),
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
        self._start_asgi_task(self.cycle, refusal_of(code))

    def _is_spent(self, host: str) -> bool:
        """Count a refusal for the client's network. Returns whether its budget was spent, so that it gets no answer."""
        own, _ = self.server or (None, None)
        address = host.partition("%")[0]
        if self._refusals is None or host == own or ip_address(address).is_loopback:
            return False
        return self._refusals.take(REFUSED, network_of(address)).wait_us > 0

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
