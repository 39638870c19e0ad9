"""Heads that are refused whatever the request asks for: Host, and codings that the service does not know."""

import pytest

from tests.api.server.test_connections import Answer, Serve, Served, serve  # noqa: F401 - a fixture

HOST = b"Host: giro.test\r\n"
ONE_HOST = "The request needs exactly one Host header."
ANYWHERE = (b"GET /health/live", b"GET /nothing", b"POST /transfers", b"POST /transfers/bulk", b"OPTIONS /transfers")
"""Calls with and without the framework, a call that does not exist, and a call with large bodies."""


@pytest.fixture
async def served(serve: Serve) -> Served:  # noqa: F811 - the fixture above
    started: Served = await serve()
    return started


async def answer_to(
    served: Served, head: bytes, lines: bytes, version: bytes = b"HTTP/1.1", body: bytes = b""
) -> Answer:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return await served.exchange(b"%b %b\r\n%b%bConnection: close\r\n\r\n%b" % (head, version, lines, length, body))


class TestTheHost:
    @pytest.mark.parametrize("head", ANYWHERE)
    @pytest.mark.parametrize(
        "lines",
        [b"", HOST + HOST, HOST + b"Host: other.test\r\n", b"hOST: a\r\nHost:\r\n"],
        ids=["none", "twice", "two", "an empty one too"],
    )
    async def test_is_given_once(self, served: Served, head: bytes, lines: bytes) -> None:
        answer = await answer_to(served, head, lines)
        assert (answer.status, answer.code, answer.detail) == (400, "malformed_request", ONE_HOST)
        assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize(
        "host",
        [
            b"a b",
            b"a, b",
            b"a/b",
            b"user@a",
            b"a:b",
            b"a:1:2",
            b"::1",
            b"[::1",
            b"[g]",
            b"a?",
            b"a\x80",
            b"%zz",
            b"<a>",
        ],
    )
    async def test_is_a_host_and_perhaps_a_port(self, served: Served, host: bytes) -> None:
        answer = await answer_to(served, b"GET /health/live", b"Host: " + host + b"\r\n")
        assert (answer.status, answer.code) == (400, "malformed_request")

    @pytest.mark.parametrize(
        "host", [b"giro.test", b"127.0.0.1:8000", b"[::1]:8000", b"my_giro", b"GIRO.test:", b"", b"b%C3%A4nk.test"]
    )
    async def test_may_be_any_name_or_address(self, served: Served, host: bytes) -> None:
        assert (await answer_to(served, b"GET /health/live", b"Host: " + host + b"\r\n")).status == 200

    async def test_may_be_missing_in_http_1_0_but_not_be_double(self, served: Served) -> None:
        assert (await answer_to(served, b"GET /health/live", b"", b"HTTP/1.0")).status == 200
        assert (await answer_to(served, b"GET /health/live", HOST, b"HTTP/1.0")).status == 200
        assert (await answer_to(served, b"GET /health/live", HOST + HOST, b"HTTP/1.0")).status == 400

    async def test_may_differ_from_the_authority_of_the_url_which_is_ignored_too(self, served: Served) -> None:
        for url in (b"http://giro.test/health/live", b"http://other.test:81/health/live"):
            assert (await answer_to(served, b"GET " + url, HOST)).status == 200
            assert (await answer_to(served, b"GET " + url, b"")).status == 400


class TestCodings:
    @pytest.mark.parametrize("head", ANYWHERE)
    @pytest.mark.parametrize("coding", [b"gzip", b"br", b"GZIP", b"identity, gzip", b"unknown", b"identity;q=1"])
    async def test_of_the_body_are_refused(self, served: Served, head: bytes, coding: bytes) -> None:
        answer = await answer_to(served, head, HOST + b"Content-Encoding: " + coding + b"\r\n")
        assert (answer.status, answer.code) == (415, "unsupported_content_encoding")
        assert answer.headers["accept-encoding"] == "identity"

    async def test_of_the_body_are_refused_when_a_second_field_names_them(self, served: Served) -> None:
        lines = HOST + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"
        assert (await answer_to(served, b"GET /health/live", lines)).status == 415

    async def test_of_the_body_are_refused_after_the_body_is_read(self, served: Served) -> None:
        lines = HOST + b"Content-Encoding: gzip\r\n"
        answer = await answer_to(served, b"POST /transfers", lines, body=b"x" * 1_000_000)
        assert answer.code == "unsupported_content_encoding"

    @pytest.mark.parametrize("coding", [b"identity", b"Identity", b""])
    async def test_of_the_body_may_be_none(self, served: Served, coding: bytes) -> None:
        assert (
            await answer_to(served, b"GET /health/live", HOST + b"Content-Encoding: " + coding + b"\r\n")
        ).status == 200

    @pytest.mark.parametrize("head", ANYWHERE)
    @pytest.mark.parametrize("te", [b"gzip", b"trailers, deflate;q=0.5", b"chunked", b"trailers;q=1", b"x"])
    async def test_that_an_answer_may_have_are_refused_if_unknown(self, served: Served, head: bytes, te: bytes) -> None:
        answer = await answer_to(served, head, HOST + b"TE: " + te + b"\r\n")
        assert (answer.status, answer.code) == (400, "unsupported_transfer_coding")

    @pytest.mark.parametrize("te", [b"trailers", b"Trailers", b"", b"trailers, trailers"])
    async def test_that_an_answer_may_have_can_be_trailers(self, served: Served, te: bytes) -> None:
        assert (await answer_to(served, b"GET /health/live", HOST + b"TE: " + te + b"\r\n")).status == 200

    async def test_of_the_transfer_other_than_chunked_are_refused(self, served: Served) -> None:
        lines = HOST + b"Content-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
        answer = await served.exchange(b"POST /signup HTTP/1.1\r\n" + lines)
        assert (answer.status, answer.code) == (400, "unsupported_transfer_coding")
