"""Requests of the maximum size in every shape that is slow to parse: for each route, by name."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from tests.fuzz.inputs import Inputs, Pieces

BODY_BYTES = 65_536
BULK_BYTES = 4_194_304
HEADER_BYTES = 15_000
"""The rest of 16 KiB after the other headers."""
QUERY_BYTES = 8_000

BULK = "/transfers/bulk"
LINES = b'{"mode":"independent","transfers":['
MOST_LINES = 5_000

FORM = "application/x-www-form-urlencoded"
UNDOCUMENTED = [
    "/docs",
    "/docs/errors",
    "/docs/assets/swagger-ui.css",
    "/docs/assets/none",
    "/openapi.json",
    "/nothing",
]

Request = tuple[str, str, Callable[[], Pieces]]
"""A route, the name of a shape, and a function that writes the request with a new key each time."""


def _filled(unit: bytes, size: int, start: bytes = b"[", end: bytes = b"]") -> bytes:
    return start + b",".join([unit] * ((size - len(start) - len(end) + 1) // (len(unit) + 1))) + end


def _members(size: int, value: bytes = b"1", start: bytes = b"{", end: bytes = b"}") -> bytes:
    unit = len(b'"00000":,' + value)
    members = (b'"%05x":%b' % (number, value) for number in range((size - len(start) - len(end)) // unit))
    return start + b",".join(members) + end


def json_bodies(size: int) -> dict[str, Callable[[], bytes]]:
    """Bodies that are invalid for every call."""
    deep = b"[" * 60 + b"]" * 60
    return {
        "unknown fields": lambda: _members(size),
        "unknown fields, objects": lambda: _members(size, b"{}"),
        "a repeated field": lambda: _filled(b'"a":1', size, b"{", b"}"),
        "numbers": lambda: _filled(b"0", size),
        "fractions": lambda: _filled(b"1.5e3", size),
        "texts": lambda: _filled(b'""', size),
        "lists": lambda: _filled(b"[]", size),
        "deep lists": lambda: _filled(deep, size),
        "unclosed lists": lambda: b"[" * size,
        "unclosed objects": lambda: b'{"a":' * (size // 5),
        "one text": lambda: b'"' + b"a" * (size - 2) + b'"',
        "one text of escapes": lambda: b'"' + b"\\u0061" * (size // 6 - 1) + b'"',
        "one text of emoji": lambda: b'"' + "\U0001f600".encode() * (size // 4 - 1) + b'"',
        "one text, an emoji last": lambda: b'"' + b"a" * (size - 8) + "\U0001f600".encode() + b'"',
        "one number": lambda: b"1" * size,
        "one fraction": lambda: b"1." + b"1" * (size - 2),
        "white space": lambda: b" " * size,
        "white space around": lambda: b" " * (size // 2) + b"{}" + b" " * (size // 2 - 2),
        "invalid JSON": lambda: b"x" * size,
        "invalid UTF-8": lambda: b'"' + b"a" * (size - 3) + b"\xff" + b'"',
    }


def batches(payer: str, payee: str) -> dict[str, Callable[[], bytes]]:
    """Invalid and valid batches."""
    line: dict[str, Any] = {"from_account_id": payer, "to_account_id": payee, "amount": 1}
    long_one = line | {"currency": "USD", "description": "\u00e9" * 100}
    keys = _members(900, b"1")
    deep = b"[" * 60 + b"]" * 60

    def of(one: object, mode: str = "independent", count: int = MOST_LINES) -> Callable[[], bytes]:
        return lambda: json.dumps({"mode": mode, "transfers": [one] * count}).encode()

    def lines(unit: bytes) -> Callable[[], bytes]:
        return lambda: _filled(unit, BULK_BYTES, LINES, b"]}")

    return {
        "good lines": of(line),
        "good lines, described": of(long_one),
        "good lines, atomic": of(line, "atomic"),
        "good lines, all refused": of(line | {"to_account_id": payer}),
        "one good line too many": of(line, count=MOST_LINES + 1),
        "lines without a payee": of({"from_account_id": payer, "amount": 1}),
        "lines with bad ids": of(line | {"from_account_id": "x"}),
        "empty lines": lines(b"{}"),
        "numbers as lines": lines(b"1"),
        "texts that look like ends": lines(b'"},"'),
        "lists as lines": lines(b"[]"),
        "deep lists as lines": lines(deep),
        "long deep lists as lines": lines(_filled(deep, 8_000)),
        "lines of 81 unknown fields": lines(keys),
        "lines of a long text": lines(b'{"description":"' + b"\\u0061" * 1_300 + b'"}'),
        "one line of unknown fields": lambda: _members(BULK_BYTES, b"1", LINES + b"{", b"}]}"),
        "one line of a text": lambda: LINES + b'{"description":"' + b"a" * (BULK_BYTES - 60) + b'"}]}',
        "white space between lines": lambda: LINES + b"{}" + b" " * (BULK_BYTES - 50) + b",{}]}",
        "a mode of lists": lambda: _filled(b"[]", BULK_BYTES, b'{"transfers":[],"mode":[', b"]}"),
    }


FORMS: dict[str, Callable[[], bytes]] = {
    "no fields": lambda: b"&" * BODY_BYTES,
    "fields": lambda: b"a=b&" * (BODY_BYTES // 4),
    "many fields": lambda: b"&".join(b"%04x=1" % number for number in range(BODY_BYTES // 7)),
    "999 fields": lambda: b"&".join(b"%03x=%%41" % number for number in range(999)),
    "escapes": lambda: b"username=" + b"%41" * (BODY_BYTES // 3 - 3),
    "invalid escapes": lambda: b"username=" + b"%" * (BODY_BYTES - 9),
    "pluses": lambda: b"username=" + b"+" * (BODY_BYTES - 9),
    "equals signs": lambda: b"=" * BODY_BYTES,
}

HEADERS = {
    "Accept of commas": "Accept: " + "," * HEADER_BYTES,
    "Accept of ranges": "Accept: " + "a/b;q=0.1," * (HEADER_BYTES // 10),
    "Accept of parameters": "Accept: */*" + ";a" * (HEADER_BYTES // 2),
    "Prefer of commas": "Prefer: " + "," * HEADER_BYTES,
    "Prefer of waits": "Prefer: " + "wait = x," * (HEADER_BYTES // 9),
    "If-None-Match of tags": "If-None-Match: " + 'W/"",' * (HEADER_BYTES // 5),
    "Cookie of pairs": "Cookie: " + "a=b;" * (HEADER_BYTES // 4),
    "Cookie of escapes": 'Cookie: a="' + "\\101" * (HEADER_BYTES // 4 - 5) + '"',
    "Content-Type of parameters": "Content-Type: application/json" + ";a=b" * (HEADER_BYTES // 4 - 10),
    "X-Forwarded-For of commas": "X-Forwarded-For: " + "1.1.1.1," * (HEADER_BYTES // 8),
    "X-Request-ID of digits": "X-Request-ID: " + "4" * 128,
    "many headers": "\r\n".join(f"{number:04x}:" for number in range(HEADER_BYTES // 10)),
}

QUERIES = {
    "no parameters": "&" * QUERY_BYTES,
    "parameters": "a=b&" * (QUERY_BYTES // 4),
    "many parameters": "&".join(f"{number:03x}=" for number in range(QUERY_BYTES // 5)),
    "one parameter of escapes": "cursor=" + "%41" * (QUERY_BYTES // 3 - 5),
    "one long parameter": "cursor=" + "a." * (QUERY_BYTES // 2 - 5),
}

PATHS = {
    "slashes": "/" * QUERY_BYTES,
    "short parts": "/a" * (QUERY_BYTES // 2),
    "escapes": "/%41" * (QUERY_BYTES // 4),
    "one part": "/accounts/" + "a" * (QUERY_BYTES - 10),
    "parts of an asset": "/docs/assets/" + "../" * (QUERY_BYTES // 3 - 5),
}


class Bounds:
    """All these requests for one service, as a customer, or as an operator where a route requires one."""

    def __init__(self, document: dict[str, Any], customer: Inputs, operator: Inputs, payer: str, payee: str) -> None:
        self._paths = document["paths"]
        self._customer = customer
        self._operator = operator
        self._payer = payer
        self._payee = payee

    def __iter__(self) -> Iterator[Request]:
        for path, operations in self._paths.items():
            for method, operation in operations.items():
                yield from self._of_route(method.upper(), path, operation)
        for path in UNDOCUMENTED:
            yield from self._of_heads("GET", path, b"")
        for shape, path in PATHS.items():
            yield "GET any path", shape, self._writer("GET", path, b"")
        yield from self._chunks()
        yield from self._long_pages()

    def _of_route(self, method: str, path: str, operation: dict[str, Any]) -> Iterator[Request]:
        content = operation.get("requestBody", {}).get("content", {})
        if path == "/logout":
            return  # it would log out the user of all other requests
        yield from self._of_heads(method, path, b"{}" if content else b"")
        if FORM in content:
            for shape, body in FORMS.items():
                yield f"{method} {path}", shape, self._writer(method, path, body, f"Content-Type: {FORM}")
        elif content:
            bodies = json_bodies(BULK_BYTES if path == BULK else BODY_BYTES)
            if path == BULK:
                bodies |= batches(self._payer, self._payee)
            for shape, body in bodies.items():
                yield f"{method} {path}", shape, self._writer(method, path, body, "Content-Type: application/json")

    def _of_heads(self, method: str, path: str, body: bytes) -> Iterator[Request]:
        for shape, line in HEADERS.items():
            lines = (line,) if line.startswith("Content-Type") else (line, "Content-Type: application/json")
            yield f"{method} {path}", shape, self._writer(method, path, body, *lines)
        for shape, query in QUERIES.items():
            yield f"{method} {path}", shape, self._writer(method, f"{path}?{query}", body)

    def _writer(self, method: str, path: str, body: bytes | Callable[[], bytes], *lines: str) -> Callable[[], Pieces]:
        may_only_operators = path.startswith(("/operator", "/deposits", "/withdrawals"))
        inputs = self._operator if may_only_operators else self._customer
        target = path.replace("{account_id}", self._payer)
        while "{" in target:
            target = target[: target.index("{")] + str(uuid4()) + target[target.index("}") + 1 :]

        def write() -> Pieces:
            written = body if isinstance(body, bytes) else body()
            more = (f"Idempotency-Key: {uuid4()}", f"Content-Length: {len(written)}") if written else ()
            return [inputs.head(f"{method} {target} HTTP/1.1", *more, *lines) + written]

        return write

    def _long_pages(self) -> Iterator[Request]:
        """Pages of the maximum length. The valid batches have created enough rows to fill them."""
        for path, operations in self._paths.items():
            if "limit" in {parameter["name"] for parameter in operations.get("get", {}).get("parameters", [])}:
                for shape, query in (("a long page", "limit=1000"), ("a far page", "limit=1000&offset=10000")):
                    yield f"GET {path}", shape, self._writer("GET", f"{path}?{query}", b"")

    def _chunks(self) -> Iterator[Request]:
        for path, size in ((BULK, BULK_BYTES), ("/accounts", BODY_BYTES)):
            for length in (1, 16):
                chunk = b"%x\r\n" % length + b"[" * length + b"\r\n"
                head = self._customer.head(
                    f"POST {path} HTTP/1.1",
                    "Content-Type: application/json",
                    f"Idempotency-Key: {uuid4()}",
                    "Transfer-Encoding: chunked",
                )
                whole = head + chunk * (size // length) + b"0\r\n\r\n"
                yield f"POST {path}", f"chunks of {length}", lambda whole=whole: [whole]  # type: ignore[misc]
