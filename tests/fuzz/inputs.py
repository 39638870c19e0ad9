"""The inputs by kind: each has a name, and the pieces to send over one connection."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count

_keys = count(1)

Pieces = Sequence[bytes]
"""The pieces to send, one after the other. The connection stays open until it is answered or times out."""

NUMBERS = [
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "-0",
    "-0.0",
    "1e400",
    "-1e400",
    "1e-400",
    "1.0",
    "1e2",
    "01",
    "+1",
    "0x10",
    "1_000",
    ".5",
    "5.",
    str(2**31),
    str(2**53 + 1),
    str(2**63 - 1),
    str(2**63),
    str(2**64),
    str(-(2**63) - 1),
    "9" * 4_300,
    "9" * 60_000,
    "-" + "9" * 60_000,
    "1" + "0" * 60_000 + "e1",
    "0." + "0" * 60_000 + "1",
    "1e" + "9" * 9_000,
    "\u0661\u0662\u0663",
    "\uff11\uff12",
    "true",
    "null",
    '"1"',
    "[1]",
    "{}",
]

TEXTS = [
    '"\\ud800"',
    '"\\udfff\\ud800"',
    '"\\u0000"',
    '"\\u0085"',
    '"\u202e"',
    '"\ufeff"',
    '"\uffff"',
    '"\U0010ffff"',
    '"' + "a" * 60_000 + '"',
    '"' + "\\u0061" * 9_000 + '"',
    '"\\x41"',
    "'a'",
    '"a',
    '"\x01"',
    '"\n"',
    '"\u0130\u00df\ufb03"',
    '"' + "e\u0301" * 9_000 + '"',
    '"' + "%s" * 1_000 + '"',
    '"${jndi:ldap://x/a}"',
    '"\'; DROP TABLE users; --"',
]

WHOLE = [
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"\xc0\x80",
    b"{",
    b"}",
    b"[",
    b"{}{}",
    b"{}\x00",
    b"//x\n{}",
    b'{"email": "a", "email": "b"}',
    b'{"\\u0061": 1, "a": 1}',
    b"[" * 30_000,
    b"[" * 30_000 + b"]" * 30_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b"[" * 100_000,
    b'{"' + b"k" * 60_000 + b'": 1}',
    b"{" + b",".join(b'"k%d": 1' % number for number in range(5_000)) + b"}",
    b"[" + b"0," * 30_000 + b"0]",
    b"\xed\xa0\x80",
    bytes(range(256)),
    b'{"a": "' + b"\xff" * 100 + b'"}',
]


class Inputs:
    """All inputs for one service and its logged-in users."""

    def __init__(self, token: str, payer: str, payee: str) -> None:
        self.token = token
        self.bodies: dict[str, dict[str, object]] = {
            "/transfers": {"from_account_id": payer, "to_account_id": payee, "amount": 1, "description": "x"},
            "/transfers/bulk": {
                "mode": "independent",
                "transfers": [{"from_account_id": payer, "to_account_id": payee, "amount": 1}],
            },
            "/accounts": {"currency": "USD"},
            "/cards": {"account_id": payer, "type": "debit"},
            "/signup": {"email": "fuzz@example.com", "password": "correct horse battery"},
            f"/accounts/{payer}/statements": {"month": "2026-01"},
        }
        self.paths = ["/accounts", f"/accounts/{payer}", f"/accounts/{payer}/statement", "/transfers", "/cards"]
        self.paths += ["/users/me", "/health/live", "/docs", "/openapi.json"]

    def head(self, start: str, *lines: str, ending: str = "Connection: close") -> bytes:
        common = ("Host: giro.test", f"Authorization: Bearer {self.token}", *lines, ending)
        return ("\r\n".join((start, *common)) + "\r\n\r\n").encode("utf-8", "surrogatepass")

    def post(self, path: str, body: bytes, *lines: str) -> bytes:
        what = (
            "Content-Type: application/json",
            f"Idempotency-Key: fuzz-{next(_keys)}",
            f"Content-Length: {len(body)}",
        )
        return self.head(f"POST {path} HTTP/1.1", *what, *lines) + body

    def kinds(self) -> dict[str, Callable[[], Iterator[Pieces]]]:
        """Return all inputs by kind."""
        return {
            "numbers in bodies": self._values(NUMBERS),
            "texts in bodies": self._values(TEXTS),
            "invalid bodies": self._whole,
            "values in queries": self._queries,
            "paths": self._paths,
            "methods and targets": self._targets,
            "headers": self._headers,
            "floods of headers": self._floods,
            "lengths and chunks": self._framing,
            "bodies past the limit": self._too_long,
            "other protocols": self._protocols,
            "pipelines": self._pipelines,
        }

    def _values(self, values: Sequence[str]) -> Callable[[], Iterator[Pieces]]:
        def made() -> Iterator[Pieces]:
            for path, body in self.bodies.items():
                for field in body:
                    for value in values:
                        text = json.dumps({**body, field: "@"}).replace('"@"', value)
                        yield [self.post(path, text.encode("utf-8", "surrogatepass"))]

        return made

    def _whole(self) -> Iterator[Pieces]:
        for path in self.bodies:
            for body in WHOLE:
                yield [self.post(path, body)]

    def _queries(self) -> Iterator[Pieces]:
        names = (
            "limit",
            "offset",
            "cursor",
            "status",
            "account_id",
            "month",
            "created_from",
            "x" * 300,
            "%00",
            "limit&limit",
        )
        for name in names:
            for value in (
                *NUMBERS[:16],
                "%00",
                "%ff",
                "%",
                "%zz",
                "%ed%a0%80",
                "%F0%9F%92%A9",
                "a" * 4_000,
                "",
                "%0d%0aX: y",
            ):
                if value.isascii():
                    yield [self.head(f"GET /transfers?{name}={value} HTTP/1.1")]

    def _paths(self) -> Iterator[Pieces]:
        for part in (
            "%00",
            "%",
            "%zz",
            "%2e%2e/%2e%2e/etc/passwd",
            "..",
            "//",
            "%2f",
            "\\",
            "a" * 7_000,
            "%ff%fe",
            "%0d%0aSet-Cookie:x",
            "{account_id}",
            "%ed%a0%80",
            "?",
            "#x",
            ";x=y",
            "é",
            "%25%30%30",
            "null",
            "-1",
            "9" * 400,
            "A" * 36,
        ):
            for base in (
                "/",
                "/accounts/",
                "/transfers/",
                "/cards/",
                "/statements/",
                "/docs/assets/",
                "/operator/users/",
            ):
                yield [self.head(f"GET {base}{part} HTTP/1.1")]

    def _targets(self) -> Iterator[Pieces]:
        for method in (
            "TRACE",
            "CONNECT",
            "OPTIONS",
            "PUT",
            "DELETE",
            "PATCH",
            "HEAD",
            "get",
            "PROPFIND",
            "X" * 300,
            "G\x00T",
            "",
            "QUERY",
            "PRI",
        ):
            for target in (
                "/",
                "/accounts",
                "*",
                "http://giro.test/accounts",
                "http://evil.test/",
                "giro.test:443",
                "//evil.test/",
                "accounts",
                "",
            ):
                yield [self.head(f"{method} {target} HTTP/1.1")]

    def _headers(self) -> Iterator[Pieces]:
        names = (
            "Host",
            "Accept",
            "Content-Type",
            "Idempotency-Key",
            "Prefer",
            "If-None-Match",
            "X-Request-ID",
            "X-Forwarded-For",
            "Authorization",
            "Expect",
            "Range",
            "Cookie",
            "Upgrade",
            "Connection",
            "Forwarded",
            "X" * 300,
        )
        values = (
            "",
            ",",
            "*",
            ";q=",
            "a\tb",
            "\x01",
            "\x7f",
            "é",
            "\ud800",
            "a" * 8_000,
            "\r\n folded",
            "\nX: y",
            "\x00",
            "wait=-1",
            "wait=" + "9" * 5_000,
            "bytes=0-",
            "100-continue",
            "h2c",
            "Bearer " + "a." * 3_000,
            "1.2.3.4, " * 500,
        )
        for name in names:
            for value in values:
                yield [self.head("GET /accounts HTTP/1.1", f"{name}: {value}")]
        for line in (
            "",
            "x",
            ": x",
            " X: y",
            "X : y",
            "X\x00: y",
            "X\x0b: y",
            "Host: other",
            "Content-Length",
            "X: y\rZ: w",
        ):
            yield [self.head("GET /accounts HTTP/1.1", line)]

    def _floods(self) -> Iterator[Pieces]:
        yield [self.head("GET / HTTP/1.1", *["X: y"] * 10_000)]
        yield [self.head("GET / HTTP/1.1", *[f"X{number}: y" for number in range(10_000)])]
        yield [self.head("GET / HTTP/1.1", "X: " + "y" * 1_000_000)]
        yield [self.head("GET / HTTP/1.1", "X" * 1_000_000 + ": y")]
        yield [self.head("GET /" + "a" * 1_000_000 + " HTTP/1.1")]
        yield [self.head("GET /?" + "a=b&" * 250_000 + " HTTP/1.1")]
        yield [self.head("GET /health/live?" + "&".join(f"{number:x}" for number in range(1_600)) + " HTTP/1.1")]
        yield [b"GET / HTTP/1.1\r\nX: ", *[b"y" * 65_536] * 64]
        yield [b"GET /", *[b"a" * 65_536] * 64]
        yield [b"G" * 1_000_000]
        yield [b"\r\n" * 500_000]
        yield [self.head("GET / HTTP/1.1", "Cookie: " + "a=b; " * 3_000)]

    def _framing(self) -> Iterator[Pieces]:
        body, chunked = b'{"currency": "USD"}', b'13\r\n{"currency": "USD"}\r\n0\r\n\r\n'
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        for lines in (
            "Content-Length: 19\nContent-Length: 20",
            "Content-Length: 19, 19",
            "Content-Length: +19",
            "Content-Length: -1",
            "Content-Length: 0x13",
            "Content-Length: 19 ",
            "Content-Length: 1e1",
            "Content-Length: " + "9" * 40,
            "Content-Length: ١٩",
            "Content-Length: 19\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\nContent-Length: 19",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked\nTransfer-Encoding: identity",
            "Content-Length:",
            "Content-Encoding: gzip\nContent-Length: 19",
        ):
            head = self.head("POST /accounts HTTP/1.1", "Content-Type: application/json", *lines.split("\n"))
            yield [head + body + smuggled]
            yield [head + chunked + smuggled]
        head = self.head("POST /accounts HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked")
        for part in (
            b"zz\r\n",
            b"-1\r\nx\r\n",
            b"13;" + b"x" * 1_000_000,
            b"f" * 17 + b"\r\n",
            b"0x13\r\n",
            b"13\n" + body + b"\n0\n\n",
            b"0\r\nAuthorization: x\r\n\r\n",
            b"0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
            b"13\r\n" + body + b"0\r\n\r\n",
            b"\r\n" * 9_000,
            b"1\r\n{\r\n" + b"1\r\n \r\n" * 60_000,
            b"ffffffffffffffff\r\n" + body,
            b"13 \r\n" + body + b"\r\n0\r\n\r\n",
        ):
            yield [head + part]

    def _too_long(self) -> Iterator[Pieces]:
        for path in ("/transfers", "/transfers/bulk", "/signup"):
            yield [self.post(path, b"x" * 200_000)]
            yield [self.post(path, b'{"a": "' + b"x" * 9_000_000 + b'"}')]
            head = self.head(f"POST {path} HTTP/1.1", "Content-Type: application/json", "Transfer-Encoding: chunked")
            yield [head, *[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 160]
            huge = "Content-Length: 99999999999999999999"
            yield [self.head(f"POST {path} HTTP/1.1", "Content-Type: application/json", huge)]
            yield [self.head(f"POST {path} HTTP/1.1", "Expect: 100-continue", "Content-Length: 5000000")]

    def _protocols(self) -> Iterator[Pieces]:
        yield [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2]
        yield [b"GET /\r\n\r\n"]
        yield [b"GET / HTTP/9.9\r\n\r\n"]
        yield [b"GET / HTTP/1.0\r\n\r\n"]
        yield [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        yield [b"SSH-2.0-OpenSSH_9.9\r\n"]
        yield [b"*1\r\n$4\r\nPING\r\n"]
        yield [b"\x00" * 5_000]
        yield [b"EHLO x\r\nQUIT\r\n"]
        yield [self.head("GET / HTTP/1.1", "Upgrade: websocket", "Sec-WebSocket-Key: x", ending="Connection: Upgrade")]
        yield [
            self.head(
                "GET / HTTP/1.1", "Upgrade: h2c", "HTTP2-Settings: x", ending="Connection: Upgrade, HTTP2-Settings"
            )
        ]

    def _pipelines(self) -> Iterator[Pieces]:
        one, last = self.head("GET /health/live HTTP/1.1", ending="X: y"), self.head("GET /health/live HTTP/1.1")
        yield [one * 10 + last]
        yield [one * 5_000 + last]
        yield [one + b"nonsense\r\n\r\n"]
        yield [self.post("/accounts", b"{}", "X: y") + one + last]
        yield [one[:-2], b"\r\n" + last]

    def mutants(self, seed: int) -> Iterator[Pieces]:
        """Yield good requests with a few changed bytes, endlessly."""
        chance, token = random.Random(seed), self.token.encode()
        good = [self.post(path, json.dumps(body).encode()) for path, body in self.bodies.items()]
        good += [self.head(f"GET {path} HTTP/1.1") for path in self.paths]
        while True:
            # The token is never changed: it is half of the bytes, and any change in it only gives 401.
            request = bytearray(chance.choice(good).replace(token, b"@"))
            for _ in range(chance.choice((1, 1, 2, 4, 16))):
                _mutate(request, chance)
            yield [bytes(request).replace(b"Bearer @", b"Bearer " + token)]


def _mutate(request: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(request)) if request else 0
    odd = bytes(
        chance.choice((b"\x00", b"\r\n", b"\n", b"%", b":", b" ", b"\xff", b'"', b"{", b"[", b"0", b",", b"\\u"))
    )
    way = chance.randrange(4)
    if way == 0:
        request[at:at] = odd * chance.choice((1, 1, 2, 300))
    elif way == 1:
        del request[at : at + chance.choice((1, 2, 10))]
    elif way == 2:
        request[at : at + 1] = bytes([chance.randrange(256)])
    else:
        request[at:at] = request[at : at + chance.choice((1, 5, 50))]
