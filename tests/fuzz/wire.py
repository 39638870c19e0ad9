"""Raw sockets without a client library: bytes are sent unchanged."""

import re
import socket
import time
from collections.abc import Sequence

LONGEST_ANSWER = 15.0
"""Seconds until every connection must be answered or closed: more than every time limit of the fuzzed service."""

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)


def exchange(port: int, pieces: Sequence[bytes], *, then_close: bool = False) -> list[str]:
    """Send some pieces and read until the connection ends; return the statuses, `closed` or `hangs`."""
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST_ANSWER) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.sendall(piece)
            if then_close:
                client.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # refused during sending
        return statuses_of(*_read(client))


def _read(client: socket.socket) -> tuple[bytes, bool]:
    """Read until the connection ends; return whether it ended in time."""
    found, deadline = bytearray(), time.monotonic() + LONGEST_ANSWER
    try:
        while time.monotonic() < deadline and (part := client.recv(65_536)):
            found += part
    except ConnectionError:
        return bytes(found), True
    except TimeoutError:
        return bytes(found), False
    return bytes(found), time.monotonic() < deadline


def statuses_of(answer: bytes, has_ended: bool) -> list[str]:
    """Return the statuses in the bytes read, without interim ones."""
    found = [status.decode() for status, _ in _STATUS.findall(answer) if status != b"100"]
    return found if has_ended and found else [*found, "closed" if has_ended else "hangs"]
