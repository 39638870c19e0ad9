"""The minimal HTTP of a siege, and the device token."""

import pytest

from tests.siege.people import Device, Person
from tests.siege.wire import Answer, Parser, loopback_of, request

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: value\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [(WHOLE, 200, b"hello"), (CHUNKED, 202, b"hello world"), (EMPTY, 204, b""), (INTERIM + WHOLE, 200, b"hello")],
)
def test_an_answer_ends_with_its_last_byte_however_the_bytes_arrive(data: bytes, status: int, body: bytes) -> None:
    for size in range(1, len(data) + 1):
        parser = Parser(keeps_bodies=True)
        answers = [parser.feed(data[start : start + size]) for start in range(0, len(data), size)]
        assert answers[:-1] == [None] * (len(answers) - 1)
        assert (answers[-1].status, answers[-1].body) == (status, body)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    parser = Parser(keeps_bodies=True)
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nhello") is None
    assert parser.end().body == b"hello"


def test_half_an_answer_is_no_answer() -> None:
    parser = Parser(keeps_bodies=True)
    assert parser.feed(WHOLE[:-1]) is None
    assert parser.end() is None


def test_an_attacker_keeps_no_bodies() -> None:
    assert Parser(keeps_bodies=False).feed(WHOLE).body == b""


def test_a_request_names_its_callers_address_and_the_length_of_its_body() -> None:
    sent = request("POST /x", address="198.18.1.2", token="t", body=b"{}")
    assert sent.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"\r\nX-Forwarded-For: 198.18.1.2\r\n" in sent
    assert sent.endswith(b"Content-Length: 2\r\n\r\n{}")
    assert loopback_of("198.18.1.2") == "127.18.1.2"


def test_a_request_of_the_machine_itself_names_no_address() -> None:
    assert b"Forwarded" not in request("GET /")


@pytest.mark.parametrize(
    ("headers", "body", "device", "expected"),
    [
        ({}, b'{"access_token": "a"}', Device(), ({}, {})),
        ({}, b'{"access_token": "a", "device_token": "d"}', Device(), ({}, {"device_token": "d"})),
        ({}, b'{"access_token": "a", "device_token": "d"}', Device("X-Device"), ({"X-Device": "d"}, {})),
        ({"set-cookie": "device=d; Secure"}, b'{"access_token": "a"}', Device(), ({"Cookie": "device=d"}, {})),
    ],
)
def test_a_person_shows_the_device_token_as_the_service_gave_it(headers, body, device, expected) -> None:
    grace = Person("grace@example.com", "198.18.1.2")
    grace.learn(Answer(200, headers, body), device)
    assert (grace.device_headers, grace.device_fields) == expected
