"""What only a real server shows: the bytes on the wire, and what it logs about them."""

import socket

from tests.flows.stack import Stack


def test_head_is_answered_like_get_without_a_body_and_without_a_complaint(stack: Stack) -> None:
    got, head = stack.client.get("/health/live"), stack.client.head("/health/live")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    assert stack.client.get("/health/live").status_code == 200, "the connection is still good"
    assert "Traceback" not in stack.log_text("up")


def test_a_request_that_breaks_off_in_its_body_does_nothing(stack: Stack) -> None:
    body = b'{"email": "half@example.com", "password": "correct horse battery"}'
    head = (
        f"POST /signup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(head.encode() + body)
    answer = stack.client.post("/signup", json={"email": "half@example.com", "password": "correct horse battery"})
    assert answer.status_code == 201, "the half order has made nobody"
    assert "Traceback" not in stack.log_text("up")


def test_pipelined_requests_are_answered_in_order(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.index(b"200 OK") < answers.index(b"404 Not Found")
