"""No input may cause a 500: every part of every request is tested with every nasty value."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.api.conftest import JSON, PASSWORD, Api, Pair, Person, Start, payment, written
from tests.api.contract import Json
from tests.thorough import third
from tests.unthrottled import UNTHROTTLED

pytestmark = pytest.mark.thorough

NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**100, 0.1, -0.0, 1e308,
    "", " ", "\x00", "a\x00b", "\n", "\x7f", "\x85", "\u200b", "\u202e", "\ufeff", "\uffff", "\ud800", "\udfff\ud800",
    "\U0010ffff", "\u0661\u0662", "１２", "İ", "ß", "ﬃ", "e\u0301" * 50, "a" * 10_000, "%s%n",
    "'; DROP TABLE users; --",
    "{{7*7}}", "../../etc/passwd", "NaN", "1e999", "null", "true", "0x10", "1_000", "+1", "-0", "2026-02-30T25:61:61Z",
    [], [[]], [None], {}, {"": {}}, {"a": "\ud800"}, ["\x00"] * 50,
]  # fmt: skip

QUERY = ["limit", "offset", "cursor", "status", "account_id", "idempotency_key", "created_from", "created_to", "x\x00"]

HEADERS = [
    "Idempotency-Key", "Prefer", "If-None-Match", "Accept", "Content-Type", "X-Request-ID", "Authorization", "Range",
    "Content-Length", "Content-Encoding", "Transfer-Encoding", "Expect", "Cookie", "Host", "X-HTTP-Method-Override",
]  # fmt: skip

NASTY_HEADERS = [
    b"", b" ", b",", b";", b";;q=", b"=", b'"', b'""', b"W/", b"*", b"wait=99999999999999999999", b"wait==", b"\x01",
    b"\x7f", b"\x80\xff", b"\xb2", b"\xc2\xb2", b"a" * 5_000, b"a/b;q=\xb2", b"*/*;q=1e999",
    b"application/json;q=-1", b"bytes=0-1", b"100-continue", b"chunked", b"gzip", b"-1", b"{}", b"a:b",
    b"Bearer \xff.\xb2.\x80",
]  # fmt: skip


def bodies(pair: Pair) -> dict[str, Json]:
    return {
        "/signup": {"email": "eve@example.com", "password": PASSWORD, "name": "Eve"},
        "/token/refresh": {"refresh_token": "x"},
        "/users/me/password": {"current_password": "x" * 12, "new_password": PASSWORD},
        "/accounts": {"currency": "USD"},
        "/cards": {"account_id": pair.payer["id"], "type": "debit"},
        "/transfers": payment(pair.payer, pair.payee, 1, currency="USD", description="x"),
        "/transfers/": {"from_account_id": pair.payer["id"], "to_account_number": "x", "amount": 1},
        "/deposits": {"to_account_id": pair.payer["id"], "amount": 1, "description": "x"},
    }


@pytest.fixture
async def api(start: Start) -> AsyncIterator[Api]:
    """An application that processes every request: throttles would reject most of them first."""
    async with start(**UNTHROTTLED) as running:
        yield running


@pytest.fixture
def whom(operator: Person, ada: Person) -> Any:
    return lambda path: operator if path in ("/deposits", "/withdrawals") else ada


async def test_in_any_field_of_any_body(pair: Pair, whom: Any) -> None:
    for path, body in bodies(pair).items():
        for turn, field in enumerate([*body, "\ud800"]):
            for value in third(NASTY, turn):
                content = written(body | {field: value})
                answer = await whom(path).request("POST", path, content=content, headers=JSON)
                assert answer.status_code < 500, f"{path} {field} {value!r}: {answer.text}"


async def test_in_any_field_of_a_form(api: Api) -> None:
    texts = [item for item in NASTY if isinstance(item, str)]
    fields = ("username", "password", "grant_type", "scope", "client_id", "client_secret", "x")
    for turn, field in enumerate(fields):
        for value in third(texts, turn):
            form = {"username": "eve@example.com", "password": "x", field: value.encode("utf-8", "surrogatepass")}
            content = "&".join(f"{name}={quote(text)}" for name, text in form.items()).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await api.client.post("/login", content=content, headers=headers)
            assert answer.status_code in (401, 422), f"{field} {value!r}: {answer.text}"


async def test_in_any_parameter_of_any_list_and_any_path(ada: Person, pair: Pair) -> None:
    texts = [quote(str(item).encode("utf-8", "surrogatepass")) for item in NASTY if not isinstance(item, list | dict)]
    for turn, text in enumerate(texts):
        paths = [f"/accounts/{text[:200]}", f"/transfers/{text[:200]}", f"/accounts/{text[:200]}/transactions"]
        paths += [f"/cards/{text[:200]}"]
        paths += [f"/{base}?{quote(name)}={text}" for base in ("accounts", "cards", "transfers") for name in QUERY]
        for path in third(paths, turn):
            answer = await ada.get(path)
            assert answer.status_code < 500, f"{path[:100]}: {answer.text}"


async def test_in_any_header(ada: Person, pair: Pair) -> None:
    content = written(payment(pair.payer, pair.payee, 1))
    transfer = await ada.pay(pair.payer, pair.payee, 1)
    token = (b"Authorization", f"Bearer {ada.token}".encode())
    for turn, name in enumerate(HEADERS):
        for value in third(NASTY_HEADERS, turn):
            if name == "Prefer" and b"9999" in value:
                continue  # a valid value that waits
            usual = dict([token, (b"Content-Type", b"application/json")]) | {name.encode(): value}
            submitted = await ada.client.post("/transfers", content=content, headers=list(usual.items()))
            read = await ada.client.get(f"/transfers/{transfer['id']}", headers=[token, (name.encode(), value)])
            for answer in (submitted, read):
                assert answer.status_code < 500, f"{name}: {value!r}: {answer.text}"


async def test_in_an_account_number_beside_others_in_its_group(ada: Person, pair: Pair) -> None:
    numbers = [item for item in NASTY if isinstance(item, str)]
    odd = [{"from_account_id": str(uuid4()), "to_account_number": number, "amount": 1} for number in numbers]
    good = [payment(pair.payer, pair.payee, 1) for _ in range(10)]
    calls = [ada.request("POST", "/transfers", content=written(body), headers=JSON) for body in [*odd, *good]]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers[: len(odd)]} <= {404, 422}
    assert {answer.status_code for answer in answers[len(odd) :]} == {202}
