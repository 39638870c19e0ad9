"""Connections: limits on their number, bytes and time, for any input."""

import asyncio
import json
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from api.server import connections
from api.server.connection_bounds import OTHER_DESCRIPTORS, ConnectionBounds, _affordable
from api.server.connections import PIPELINED, Connection, Waiting
from api.throttling.rates import Buckets
from core.settings import Settings
from tests.api.conftest import Api, Person, until
from tests.api.contract import SECURITY_HEADERS, Json
from tests.unit.test_turns import Ticks

GET = b"GET /health/live HTTP/1.1\r\nHost: giro.test\r\n\r\n"
CLOSING = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
SIGN_UP = b"POST /signup HTTP/1.1\r\nHost: giro.test\r\nContent-Type: application/json\r\n"


@dataclass(slots=True)
class Served:
    """The application on its own port."""

    port: int
    waiting: Waiting
    state: ServerState
    clients: list["Client"] = field(default_factory=list)

    async def connect(self) -> "Client":
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def stop(self) -> None:
        for client in self.clients:
            client.writer.close()
        for connection in list(self.state.connections):
            connection.transport.abort()
        await until(lambda: not self.state.connections and not self.state.tasks)

    async def exchange(self, *parts: bytes) -> "Answer":
        """Send one request, and read one answer and the end of the connection."""
        client = await self.connect()
        for part in parts:
            await client.send(part)
        answers = await client.rest()
        assert len(answers) == 1, answers
        return answers[0]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        problem: Json = json.loads(self.body)
        assert self.headers["content-type"] == "application/problem+json"
        assert problem["status"] == self.status
        assert problem["request_id"] == self.headers["x-request-id"]
        assert [name for name in SECURITY_HEADERS if name not in self.headers] == []
        return str(problem["code"])

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


@dataclass(slots=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, part: bytes) -> None:
        try:
            self.writer.write(part)
            await self.writer.drain()
        except ConnectionError:
            pass  # closed by the other side: what it sent before can still be read

    async def answer(self) -> Answer:
        """Read one answer."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    async def rest(self) -> list[Answer]:
        """Read answers until the connection ends."""
        found = []
        while True:
            try:
                found.append(await self.answer())
            except asyncio.IncompleteReadError as end:
                self.writer.close()
                return found if not end.partial else [*found, Answer(0, {}, end.partial)]

    async def is_closed(self) -> bool:
        try:
            async with asyncio.timeout(10):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True


Serve = Callable[..., Any]


@pytest.fixture
async def serve(api: Api, settings: Settings) -> AsyncIterator[Serve]:
    """Serve the application with changed limits."""
    servers: list[tuple[asyncio.Server, Served]] = []

    async def served(app: Any = None, refusals: Buckets | None = None, **bounds: Any) -> Served:
        config = Config(app or api.app, lifespan="off", ws="none", log_config=None, access_log=False)
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()
        waiting: Waiting = {}
        lifespan = {
            "connection_bounds": replace(ConnectionBounds.of(settings), **bounds),
            "waiting_connections": waiting,
            "refusals": refusals,
        }
        server = await loop.create_server(lambda: Connection(config, state, lifespan, loop), "127.0.0.1", 0)
        servers.append((server, Served(server.sockets[0].getsockname()[1], waiting, state)))
        return servers[-1][1]

    yield served
    for server, used in servers:
        server.close()
        await used.stop()


class TestAHead:
    async def test_that_is_complete_is_answered(self, serve: Serve) -> None:
        answer = await (await serve()).exchange(CLOSING[:10], CLOSING[10:])
        assert (answer.status, json.loads(answer.body)["status"]) == (200, "ok")

    async def test_that_does_not_arrive_in_time_is_rejected(self, serve: Serve) -> None:
        served = await serve(head_seconds=0.2)
        answer = await served.exchange(GET[:-2])
        assert (answer.status, answer.code) == (408, "request_timeout")

    async def test_that_arrives_byte_by_byte_is_rejected_too(self, serve: Serve) -> None:
        client = await (await serve(head_seconds=0.3)).connect()
        await client.send(GET[:-2])
        reading = asyncio.ensure_future(client.answer())
        while not reading.done():
            await client.send(b"X: y\r\n")
            await asyncio.sleep(0.02)
        assert (await reading).code == "request_timeout"

    async def test_that_never_begins_ends_the_connection_without_an_answer(self, serve: Serve) -> None:
        client = await (await serve(head_seconds=0.2)).connect()
        assert await client.is_closed()

    async def test_of_only_empty_lines_ends_the_connection(self, serve: Serve) -> None:
        client = await (await serve(head_seconds=0.2)).connect()
        reading = asyncio.ensure_future(client.is_closed())
        while not reading.done():
            await client.send(b"\r\n")
            await asyncio.sleep(0.02)
        assert reading.result()

    async def test_of_a_later_request_has_a_time_limit_too(self, serve: Serve) -> None:
        client = await (await serve(head_seconds=0.3, idle_seconds=60)).connect()
        await client.send(GET)
        assert (await client.answer()).status == 200
        await client.send(GET[:-2])
        assert (await client.answer()).code == "request_timeout"

    @pytest.mark.parametrize(
        ("head", "code"),
        [
            (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "uri_too_long"),
            (b"GET /accounts?cursor=" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "uri_too_long"),
            (b"GET /" + b"a" * 3_000_000, "uri_too_long"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX-Much: " + b"a" * 20_000 + b"\r\n\r\n", "headers_too_large"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"a" * 3_000_000, "headers_too_large"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", "headers_too_large"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 600_000, "headers_too_large"),
        ],
        ids=["path", "query", "endless path", "header", "endless header", "many headers", "endless headers"],
    )
    async def test_that_is_too_long_is_rejected(self, serve: Serve, head: bytes, code: str) -> None:
        answer = await (await serve()).exchange(head)
        assert answer.code == code
        assert answer.headers["connection"] == "close"

    async def test_without_an_end_is_rejected_before_it_is_buffered(self, serve: Serve) -> None:
        """The parser would buffer a header line of any length, and copy it for each piece that arrives."""
        served = await serve()
        client = await served.connect()
        await client.send(b"GET / HTTP/1.1\r\nX-Endless: ")
        sent, reading = 0, asyncio.ensure_future(client.answer())
        while not reading.done():
            await client.send(b"a" * 1_000)
            sent += 1_000
            await asyncio.sleep(0)
        assert reading.result().code == "headers_too_large"
        assert sent < 1_000_000, "at most the bytes in flight when it was rejected"

    async def test_is_answered_even_if_the_client_sends_everything_before_it_reads(self, serve: Serve) -> None:
        served = await serve()

        def speak() -> bytes:
            with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
                client.sendall(b"GET /" + b"a" * 20_000_000)
                return client.recv(65_536)

        assert b"HTTP/1.1 414 " in await asyncio.to_thread(speak)

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
            pytest.param(b"\x00" * 100, id="zeroes"),
            pytest.param(b"GET /\r\n\r\n", id="HTTP/0.9"),
            pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="HTTP/9.9"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
            pytest.param(b"GET / HTTP/1.1\r\nA B: x\r\n\r\n", id="a space in a name"),
            pytest.param(b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", id="a zero in a value"),
            pytest.param(b"CONNECT giro.test:443 HTTP/1.1\r\nHost: giro.test:443\r\n\r\n", id="CONNECT"),
        ],
    )
    async def test_that_is_not_a_request_is_rejected_with_the_usual_error(self, serve: Serve, head: bytes) -> None:
        answer = await (await serve()).exchange(head)
        assert (answer.status, answer.code) == (400, "malformed_request")

    @pytest.mark.parametrize(
        "lines",
        [
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
            b"Content-Length: 5, 5\r\n",
            b"Content-Length: +5\r\n",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding : chunked\r\n",
            b"Transfer-Encoding:\x0bchunked\r\n",
            b"Transfer-Encoding: gzip\r\n",
        ],
    )
    async def test_with_an_ambiguous_end_is_rejected(self, serve: Serve, lines: bytes) -> None:
        """A proxy in front could parse it differently: a second request would then be smuggled past the proxy."""
        body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        client = await (await serve(head_seconds=0.5)).connect()
        await client.send(SIGN_UP + lines + b"\r\n" + body)
        answers = await client.rest()
        assert [answer.status for answer in answers] == [400]
        assert answers[0].code == "malformed_request"


def _counting(hand_on: Callable[[Connection, bytes], None], ticks: Ticks, parts: Counter[int]) -> Any:
    def on_body(connection: Connection, body: bytes) -> None:
        parts[ticks.count] += 1
        hand_on(connection, body)

    return on_body


class TestABody:
    async def test_that_is_malformed_is_rejected_and_has_no_effect(self, serve: Serve, api: Api) -> None:
        chunk = b'{"email": "half@example.com", "password": "correct horse battery"}'
        broken = b"%x\r\n%b\r\n" % (len(chunk), chunk) + b"zz\r\n\r\n"
        answer = await (await serve()).exchange(SIGN_UP + b"Transfer-Encoding: chunked\r\n\r\n" + broken)
        assert answer.code == "malformed_request"
        body = {"email": "half@example.com", "password": "correct horse battery"}
        assert (await api.client.post("/signup", json=body)).status_code == 201, (
            "the incomplete request created no user"
        )

    async def test_cannot_add_headers_in_a_trailer(self, serve: Serve, ada: Person) -> None:
        """A proxy checks and sets headers; a trailer that counted as a header would bypass the proxy."""
        head = b"GET /users/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        token = f"Authorization: Bearer {ada.token}\r\n".encode()
        served = await serve()
        assert (await served.exchange(head + token + b"\r\n0\r\n\r\n")).status == 200
        assert (await served.exchange(head + b"\r\n0\r\n" + token + b"\r\n")).code == "unauthenticated"
        late = await served.exchange(head + b"\r\n", b"0\r\n" + token + b"\r\n")
        assert late.code == "unauthenticated"

    async def test_in_tiny_chunks_is_read_a_few_at_a_time(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """One packet holds thousands of chunks of a microsecond each: the event loop runs other tasks in between."""
        monkeypatch.setattr(connections, "MOST_PARTS", 50)
        monkeypatch.setattr(connections, "FEED_BYTES", 60)
        ticks, parts = Ticks(), Counter[int]()
        monkeypatch.setattr(Connection, "on_body", _counting(Connection.on_body, ticks, parts))
        ticking = asyncio.create_task(ticks.run())
        client = await (await serve()).connect()
        body = json.dumps({"email": "x" * 2_000, "password": "y"})
        crumbs = b"".join(b"1\r\n%b\r\n" % crumb.encode() for crumb in body) + b"0\r\n\r\n"
        await client.send(SIGN_UP + b"Transfer-Encoding: chunked\r\n\r\n" + crumbs + CLOSING)
        assert [answer.status for answer in await client.rest()] == [422, 200]
        ticking.cancel()
        assert parts.total() == len(body)
        assert max(parts.values()) < 60, "fifty, and the rest of a feed"

    @pytest.mark.parametrize("endless", [b"X: y\r\n", b"x"], ids=["lines", "a line"])
    async def test_with_an_endless_trailer_is_rejected(self, serve: Serve, endless: bytes) -> None:
        client = await (await serve()).connect()
        await client.send(SIGN_UP + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        reading = asyncio.ensure_future(client.rest())
        while not reading.done():
            await client.send(endless * 10_000)
            await asyncio.sleep(0)
        assert [answer.code for answer in reading.result()] == ["headers_too_large"]


class TestPipelinedRequests:
    async def test_are_answered_in_order_and_the_broken_one_last(self, serve: Serve) -> None:
        client = await (await serve()).connect()
        await client.send(GET + GET.replace(b"/health/live", b"/nothing") + b"nonsense\r\n\r\n")
        assert [answer.status for answer in await client.rest()] == [200, 404], "and nothing out of order"

    async def test_are_limited_in_number(self, serve: Serve) -> None:
        client = await (await serve()).connect()
        await client.send(GET * 5_000)
        assert len(await client.rest()) == 1 + PIPELINED

    async def test_are_all_notified_when_the_client_disconnects(self, serve: Serve) -> None:
        """The first one too, which is in progress; otherwise it would write to a closed connection."""
        told: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            told.append((await receive())["type"])

        served = await serve(app)
        client = await served.connect()
        await client.send(GET * 3)
        await until(lambda: len(served.state.tasks) == 1)
        client.writer.close()
        await until(lambda: told == ["http.disconnect"])

    async def test_are_all_answered_when_each_waits_for_the_one_before(self, serve: Serve) -> None:
        client = await (await serve()).connect()
        for _ in range(100):
            await client.send(GET)
            assert (await client.answer()).status == 200

    async def test_may_ask_for_another_protocol_and_are_answered_in_this_one(self, serve: Serve) -> None:
        upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        answer = await (await serve()).exchange(upgrade + GET)
        assert (answer.status, answer.headers["connection"]) == (200, "close")


class TestAnIdleConnection:
    async def test_is_closed_after_a_time(self, serve: Serve) -> None:
        client = await (await serve(idle_seconds=0.2)).connect()
        await client.send(GET)
        assert (await client.answer()).status == 200
        assert await client.is_closed()

    async def test_is_closed_for_a_new_one_when_there_are_too_many(self, serve: Serve) -> None:
        served = await serve(connections=5, head_seconds=60, idle_seconds=60)
        idle = [await served.connect() for _ in range(5)]
        await until(lambda: len(served.state.connections) == 5)
        for client in idle[:2]:  # the clients that were just answered began to wait last
            await client.send(GET)
            assert (await client.answer()).status == 200
        for gone in (idle[2], idle[3]):
            newcomer = await served.connect()
            await newcomer.send(GET)
            assert (await newcomer.answer()).status == 200
            assert await gone.is_closed()
        await idle[0].send(GET)
        assert (await idle[0].answer()).status == 200

    async def test_does_not_block_new_clients_even_in_hundreds(self, serve: Serve) -> None:
        served = await serve(connections=50, head_seconds=60)
        idle = [await served.connect() for _ in range(300)]
        assert (await served.exchange(CLOSING)).status == 200
        await until(lambda: len(served.state.connections) <= 50)
        for client in idle:
            client.writer.close()


class TestABusyConnection:
    """A connection with a complete request in progress: its client has done its part."""

    async def test_is_never_closed_for_a_new_one_which_is_rejected_if_all_are_busy(self, serve: Serve) -> None:
        served = await serve(_Held(), connections=2)
        for _ in range(2):
            await (await served.connect()).send(GET)
        await until(lambda: not served.waiting and len(served.state.connections) == 2)
        answer = await served.exchange(CLOSING)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "unavailable", "1")

    async def test_has_received_its_whole_body(self, serve: Serve) -> None:
        """A head alone costs a client nothing, so heads on all connections must not block new clients."""
        served = await serve(connections=5, head_seconds=60)
        empty = [await served.connect() for _ in range(5)]
        for client in empty:
            await client.send(SIGN_UP + b"Content-Length: 100\r\n\r\n{")
        await until(lambda: len(served.state.tasks) == 5)
        assert (await served.exchange(CLOSING)).status == 200
        assert await empty[0].is_closed()
        await until(lambda: len(served.state.tasks) == 4)

    async def test_is_being_answered_while_the_body_of_its_next_request_is_missing(self, serve: Serve) -> None:
        held = _Held()
        served = await serve(held, connections=1)
        client = await served.connect()
        await client.send(GET + SIGN_UP + b"Content-Length: 2\r\n\r\n{")
        await until(lambda: bool(served.state.tasks) and not served.waiting)
        assert (await served.exchange(CLOSING)).status == 503
        held.go_on.set()
        assert (await client.answer()).status == 204
        assert len(served.waiting) == 1, "until the first is answered: then there is only half a request"
        await client.send(b"}")
        assert (await client.answer()).status == 204

    async def test_is_idle_again_if_its_body_arrives_after_the_answer(self, serve: Serve) -> None:
        served = await serve(_Held(reads=False), connections=1)
        client = await served.connect()
        await client.send(SIGN_UP + b"Content-Length: 2\r\n\r\n")
        assert (await client.answer()).status == 204
        await client.send(b"{}" + GET[:-2])
        [connection] = served.state.connections
        await until(lambda: connection._is_in_head)  # so the body was read, too
        assert connection in served.waiting

    async def test_has_a_time_limit_for_its_head_only(self, serve: Serve) -> None:
        client = await (await serve(head_seconds=0.2)).connect()
        await client.send(SIGN_UP + b"Connection: close\r\nContent-Length: 3\r\n\r\n{")
        await asyncio.sleep(0.1)
        await client.send(b" ")
        await asyncio.sleep(0.4)
        await client.send(b"}")
        assert [answer.code for answer in await client.rest()] == ["validation_failed"]


class _Held:
    """An application that delays each request until `go_on` is set, or answers before it reads anything."""

    def __init__(self, *, reads: bool = True) -> None:
        self.go_on = asyncio.Event()
        self._reads = reads

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        if self._reads:
            while (await receive()).get("more_body"):
                pass
            ends = [asyncio.ensure_future(end) for end in (self.go_on.wait(), receive())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


class TestAClientThatDoesNotReadItsAnswer:
    async def test_is_disconnected(self, serve: Serve) -> None:
        served = await serve(send_seconds=0.3)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", served.port))
            ask = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(deaf, ask * PIPELINED)
            await until(lambda: len(served.state.connections) == 1)
            await until(lambda: not served.state.connections)

    async def test_has_time_as_long_as_it_continues_to_read(self, serve: Serve) -> None:
        served = await serve(send_seconds=0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        ask = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(ask)
        read = 0
        while part := await reader.read(30_000):
            read += len(part)
            await asyncio.sleep(0.005)
        assert read > 1_000_000
        writer.close()


def test_a_process_accepts_no_more_connections_than_it_may_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (256, 1024)}
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, both: limits.update(now=both))
    assert _affordable(700) == 700
    assert limits["now"] == (700 + OTHER_DESCRIPTORS, 1024)
    assert _affordable(2000) == 1024 - OTHER_DESCRIPTORS
    assert limits["now"] == (1024, 1024)
