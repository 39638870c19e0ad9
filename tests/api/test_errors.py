"""Errors: their shape everywhere, and the order of checks if two errors apply.

The test client checks that every problem has its keys, its request id and the security headers (contract.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from api.codes import WireError, is_answered, status_of
from api.errors import problem_body
from api.http.strict_json import MOST_MEMBERS, MOST_VALUES
from api.server.request_bounds import MOST_PARAMETERS, SPILL_BYTES
from core.domain.errors import CommonError, ErrorCode
from tests.api.conftest import JSON, Api, Pair, Person, Start, masked, payment, refused
from tests.api.contract import Json

# --- answers without a route ---


@pytest.mark.parametrize(
    "path", ["/nothing", "/transfers/a/b", "/users", "/%00", "/%ff", "/ä", "/docs/assets/none.js", "/docs/assets/%00",
             "/docs/assets", "/docs/assets/", "/docs/assets/..%2F..%2Fpyproject.toml", "/docs/assets/" + "a" * 300]
)  # fmt: skip
async def test_a_missing_path_is_a_problem_without_a_token(api: Api, path: str) -> None:
    refused(await api.client.get(path), 404, "not_found")
    head = await api.client.head(path)
    assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/transfers", "GET, HEAD, POST"),
        ("PATCH", "/transfers/", "GET, HEAD, POST"),
        ("OPTIONS", "/accounts", "GET, HEAD, POST"),
        ("TRACE", "/accounts", "GET, HEAD, POST"),
        ("PROPFIND", "/accounts", "GET, HEAD, POST"),
        ("DELETE", "/accounts/01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f", "GET, HEAD"),
        ("POST", "/accounts/x/transactions", "GET, HEAD"),
        ("GET", "/transfers/x/cancel", "POST"),
        ("GET", "/login", "POST"),
        ("PUT", "/token/refresh", "POST"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/docs/assets/swagger-ui.css", "GET, HEAD"),
    ],
)
async def test_an_unsupported_method_is_answered_with_all_supported_ones(
    api: Api, method: str, path: str, allow: str
) -> None:
    answer = await api.client.request(method, path)
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allow


async def test_head_of_a_path_without_get_is_rejected_without_a_body(api: Api) -> None:
    answer = await api.client.head("/login")
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", "POST")


# --- order of checks ---

PRECEDENCE: list[tuple[str, int, str]] = [
    ("too many parameters", 422, "validation_failed"),
    ("too large", 413, "body_too_large"),
    ("no token", 401, "unauthenticated"),
    ("no operator", 403, "forbidden"),
    ("unacceptable", 406, "not_acceptable"),
    ("no json", 415, "unsupported_media_type"),
    ("malformed", 400, "malformed_body"),
    ("invalid", 422, "validation_failed"),
    ("bad key", 400, "idempotency_key_invalid"),
    ("no account", 404, "account_not_found"),
]


def faulty(faults: set[str]) -> dict[str, Any]:
    """Make a request for a deposit with some faults."""
    headers = {"Content-Type": "text/plain" if "no json" in faults else "application/json"}
    if "unacceptable" in faults:
        headers["Accept"] = "text/html"
    if "bad key" in faults:
        headers["Idempotency-Key"] = "not valid"
    amount = b"0" if "invalid" in faults else b"1"
    content = b'{"to_account_id":"%s","amount":%s}' % (str(uuid4()).encode(), amount)
    if "malformed" in faults:
        content = content[:-1]
    if "too large" in faults:
        content += b" " * 65_536
    # A malformed body has no field that could be invalid, so the query string is invalid.
    params = {"verbose": "1"} if "invalid" in faults else {}
    if "too many parameters" in faults:
        params |= {f"p{number}": "" for number in range(MOST_PARAMETERS + 1)}
    return {"content": content, "headers": headers, "params": params or None}


@pytest.mark.parametrize(("first", "status", "code"), PRECEDENCE, ids=str)
async def test_of_two_errors_the_first_in_the_published_order_is_answered(
    api: Api, ada: Person, operator: Person, first: str, status: int, code: str
) -> None:
    names = [name for name, _, _ in PRECEDENCE]
    later = names[names.index(first) + 1 :]
    for second in [first, *later]:
        faults = {first, second}
        request = faulty(faults)
        if "no token" in faults:
            answer = await api.client.post("/deposits", **request)
        else:
            who = ada if "no operator" in faults else operator
            answer = await who.request("POST", "/deposits", **request)
        assert (answer.status_code, answer.json()["code"]) == (status, code), f"{first} and {second}: {answer.text}"


async def test_headers_that_are_too_large_are_rejected_first(api: Api) -> None:
    query = "&" * MOST_PARAMETERS
    answer = await api.client.post(f"/nothing?{query}", content=b"x" * 70_000, headers={"X-Much": "x" * 17_000})
    refused(answer, 431, "headers_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_missing_path_or_method_is_rejected_before_its_input(api: Api) -> None:
    sent = {"content": b"{", "headers": {"Accept": "text/html"}}
    refused(await api.client.post("/nothing", **sent), 404, "not_found")
    refused(await api.client.put("/transfers", **sent), 405, "method_not_allowed")


FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# --- bodies ------------------------------------------------------------------------------------------------------

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "white space": b" \r\n\t",
    "cut off": b"{",
    "closed twice": b'{"currency":"USD"}}',
    "two values": b'{"currency":"USD"}{"currency":"USD"}',
    "NaN": b'{"currency":NaN}',
    "Infinity": b'{"currency":Infinity}',
    "minus Infinity": b"[-Infinity]",
    "a key twice": b'{"currency":"USD","currency":"USD"}',
    "a key twice, escaped": b'{"currency":"USD","\\u0063urrency":"EUR"}',
    "a key twice, deep": b'{"x":[{"a":1,"a":2}]}',
    "single quotes": b"{'currency':'USD'}",
    "a comma too many": b'{"currency":"USD",}',
    "a comment": b'{"currency":"USD"} // x',
    "a control character": b'{"currency":"U\nD"}',
    "no UTF-8": b'{"currency":"\xff\xfe"}',
    "an encoded surrogate": b'{"currency":"\xed\xa0\x80"}',
    "UTF-16": '{"currency":"USD"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"currency":"USD"}',
    "65 arrays": b"[" * 65 + b"]" * 65,
    "30,000 arrays": b"[" * 30_000 + b"]" * 30_000,
    "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "65,000 open arrays": b"[" * 65_000,
    "brackets behind a quote": b'["\\"",' + b"[" * 100 + b"]" * 101,
    "a form": b"currency=USD",
    "an endless number": b'{"currency":' + b"1" * 5_000 + b"}",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_body_that_is_not_one_json_value_is_malformed(ada: Person, name: str) -> None:
    answer = await ada.request("POST", "/accounts", content=MALFORMED[name], headers=JSON)
    refused(answer, 400, "malformed_body")


async def test_nesting_of_a_hundred_thousand_is_rejected_in_a_large_body(start: Start) -> None:
    async with start(body_bytes=1_000_000) as api:
        for content in (b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000):
            answer = await api.client.post("/signup", content=content, headers=JSON)
            refused(answer, 400, "malformed_body")


def _numbers(count: int) -> bytes:
    return b"[" + b",".join([b"0"] * count) + b"]"


def _objects(count: int) -> bytes:
    return b"[" + b",".join([b"{}"] * (count // 2) + [b"0"] * (count % 2)) + b"]"


@pytest.mark.parametrize("many", [_numbers, _objects])
@pytest.mark.parametrize("path", ["/accounts", "/transfers"])
async def test_a_body_with_too_many_values_is_malformed(ada: Person, path: str, many: Callable[[int], bytes]) -> None:
    as_many_as_are_read = await ada.request("POST", path, content=many(MOST_VALUES), headers=JSON)
    refused(as_many_as_are_read, 422, "validation_failed")
    one_more = await ada.request("POST", path, content=many(MOST_VALUES + 1), headers=JSON)
    assert refused(one_more, 400, "malformed_body")["detail"] == f"The body has more than {MOST_VALUES} values."


@pytest.mark.parametrize("path", ["/accounts", "/transfers"])
async def test_an_object_with_too_many_members_is_malformed(ada: Person, path: str) -> None:
    members = dict.fromkeys(map(str, range(MOST_MEMBERS)), 1)
    for body in (members, {"x": [members]}):
        refused(await ada.post(path, body), 422, "validation_failed")
    for body in (members | {"x": 1}, {"x": [members | {"x": 1}]}):
        detail = refused(await ada.post(path, body), 400, "malformed_body")["detail"]
        assert detail == f"An object has more than {MOST_MEMBERS} members."


@pytest.mark.parametrize("unit", ["&", "%", "%41"])
async def test_a_form_with_too_many_fields_and_escapes_is_malformed(api: Api, unit: str) -> None:
    form = "username=a&password=" + unit * (MOST_VALUES - 1)
    answers = [await api.client.post("/login", content=content, headers=FORM) for content in (form, form + unit)]
    refused(answers[0], 422, "validation_failed")
    refused(answers[1], 400, "malformed_body")


@pytest.mark.parametrize(
    "content",
    [b"[" * 64 + b"]" * 64, b'"' + b"[{" * 1_000 + b'"', b'"\\"' + b"[" * 100 + b'"', b'["' + b"{" * 99 + b'"]']
)  # fmt: skip
async def test_a_body_that_only_looks_deep_is_accepted(ada: Person, content: bytes) -> None:
    refused(await ada.request("POST", "/accounts", content=content, headers=JSON), 422, "validation_failed", "body")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201), ("application/json; charset=utf-8", 201), ("APPLICATION/JSON ;x=y", 201),
        ("", 415), ("application/xml", 415), ("text/json", 415), ("application/vnd.api+json", 415),
        ("application/json, text/plain", 415), ("json", 415), ("application/jsonx", 415), (";", 415),
    ],
)  # fmt: skip
async def test_a_body_is_json_by_its_content_type(ada: Person, content_type: str, status: int) -> None:
    content = b'{"currency":"USD"}'
    answer = await ada.request("POST", "/accounts", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status
    without = await ada.request("POST", "/accounts", content=content)
    refused(without, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200), ("*/*", 200), ("application/*", 200), ("", 200), ("APPLICATION/JSON", 200),
        ("text/html, */*;q=0.1", 200), ("application/json;q=0.001", 200), ("application/json; charset=utf-8", 200),
        ("text/html, application/json; q=x", 200), ("*/*;q=0, application/json", 200),
        ("text/html", 406), ("application/xml, text/*", 406), ("application/json;q=0", 406), ("*/*;q=0", 406),
        ("application/json;q=0, */*", 406), ("application/json;q=nan", 200), ("x", 406), (",;", 406),
    ],
)  # fmt: skip
async def test_json_is_returned_if_the_client_accepts_it(ada: Person, accept: str, status: int) -> None:
    answer = await ada.get("/accounts", headers={"Accept": accept})
    assert answer.status_code == status
    if status == 406:
        refused(answer, 406, "not_acceptable")


class TestABodyThatIsTooLarge:
    async def test_is_rejected_by_its_declared_length(self, api: Api) -> None:
        pulled = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal pulled
            pulled += 1
            yield b"x"

        for length, more in ((65_537, {"Expect": "100-continue"}), (65_537 + SPILL_BYTES, {}), (10**30, {})):
            headers = JSON | {"Content-Length": str(length)} | more
            answer = await api.client.post("/signup", content=body(), headers=headers)
            refused(answer, 413, "body_too_large")
            assert answer.headers["connection"] == "close"
        assert pulled == 0

    async def test_is_rejected_in_chunks_before_all_of_it_is_read(self, api: Api) -> None:
        pulled = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal pulled
            while True:
                pulled += 1
                yield b" " * 16_384

        refused(await api.client.post("/signup", content=endless(), headers=JSON), 413, "body_too_large")
        assert pulled <= (65_536 + SPILL_BYTES) / 16_384 + 2

    async def test_is_read_to_a_near_end_so_that_the_sender_reads_the_answer(self, api: Api) -> None:
        pulled = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal pulled
            for _ in range(10):
                pulled += 1
                yield b" " * 16_384

        for headers in (JSON, JSON | {"Content-Length": str(10 * 16_384)}):
            refused(await api.client.post("/signup", content=body(), headers=headers), 413, "body_too_large")
        assert pulled == 20

    async def test_is_one_byte_over_the_limit(self, api: Api) -> None:
        for size, status in ((65_536, 400), (65_537, 413)):
            answer = await api.client.post("/signup", content=b" " * size, headers=JSON)
            assert answer.status_code == status

    async def test_is_rejected_when_it_does_not_arrive_in_time(self, start: Start) -> None:
        async def stalled() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        async with start(body_seconds=0.05) as api:
            answer = await api.client.post("/signup", content=stalled(), headers=JSON)
            refused(answer, 408, "request_timeout")
            assert answer.headers["connection"] == "close"

    @pytest.mark.parametrize("length", [b"\xb2", b"-1", b"x", b""])
    async def test_with_an_invalid_length_is_malformed(self, api: Api, length: bytes) -> None:
        headers = [(b"Content-Type", b"application/json"), (b"Content-Length", length)]
        answer = await api.client.post("/signup", content=b"{", headers=headers)
        refused(answer, 400, "malformed_body")

    async def test_with_headers_that_are_too_large_is_rejected(self, api: Api) -> None:
        refused(await api.client.get("/", headers={"X-Much": "x" * 16_384}), 431, "headers_too_large")
        many = {f"X-{number}": "x" * 10 for number in range(1_000)}
        refused(await api.client.get("/", headers=many), 431, "headers_too_large")
        assert (await api.client.get("/", headers={"X-Much": "x" * 12_000})).status_code == 200


# --- no input in errors ---

MARK = "Qx7~Zq9"


async def test_no_error_repeats_a_value_that_was_sent(api: Api, ada: Person, pair: Pair) -> None:
    account = str(uuid4())
    bodies: list[tuple[str, Json]] = [
        ("/signup", {"email": MARK, "password": MARK, "name": [MARK]}),
        ("/signup", {"email": f"ada@{MARK}.com", "password": MARK, "role": MARK}),
        ("/token/refresh", {"refresh_token": MARK}),
        ("/accounts", {"currency": MARK}),
        ("/users/me/password", {"current_password": MARK, "new_password": MARK}),
        ("/transfers", {"from_account_id": MARK, "to_account_id": MARK, "amount": MARK, "description": MARK * 30}),
        ("/transfers", {"from_account_id": account, "to_account_number": MARK, "amount": 1, "currency": MARK}),
        ("/transfers", payment(pair.payer, {"id": account}, description=MARK)),
        ("/transfers", {"from_account_id": pair.payer["id"], "to_account_number": MARK, "amount": 1}),
    ]
    answers = [await ada.post(path, body, headers={"Idempotency-Key": MARK}) for path, body in bodies]
    answers += [
        await ada.get(f"/accounts/{MARK}"),
        await ada.get(f"/transfers?status={MARK}&account_id={MARK}&created_from={MARK}&limit={MARK}&cursor={MARK}"),
        await ada.get(f"/transfers?cursor={MARK}"),
        await ada.get("/accounts", headers={"Accept": MARK}),
        await ada.request("POST", "/accounts", content=MARK.encode(), headers={"Content-Type": MARK}),
        await ada.request("POST", "/accounts", content=MARK.encode(), headers=JSON),
        await api.client.post("/login", data={"username": MARK, "password": MARK, "grant_type": MARK}),
        await api.client.get("/users/me", headers={"Authorization": f"Bearer {MARK}"}),
        await api.client.get(f"/{MARK}"),
    ]
    for answer in answers:
        assert answer.status_code >= 400
        assert MARK not in answer.text
        assert "~" not in answer.text


@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        ("/signup", [{"email": f"a{bad}b@example.com", "password": "x" * 12} for bad in ("\x01", "(", "é é", "\x02")]),
        ("/signup", [{"email": f"a@b{bad}c.com", "password": "x" * 12} for bad in ("~", "!", "_", "*")]),
        ("/transfers", [{"from_account_id": bad, "to_account_number": "x", "amount": 1} for bad in ("x", "y", "zz")]),
        ("/accounts", [{"currency": bad} for bad in ("XAU", "ABC", "usd")]),
    ],
)  # fmt: skip
async def test_two_wrong_values_of_one_kind_have_the_same_answer(ada: Person, path: str, bodies: list[Json]) -> None:
    answers = [await ada.post(path, body) for body in bodies]
    assert {answer.status_code for answer in answers} == {422}
    assert len({masked(answer) for answer in answers}) == 1


def test_every_code_has_a_suitable_status() -> None:
    statuses = {status_of(code) for code in ErrorCode.all() if is_answered(code)}
    assert statuses <= {400, 401, 403, 404, 405, 406, 408, 409, 413, 414, 415, 422, 429, 431, 500, 503}


@pytest.mark.parametrize(
    ("code", "title"),
    [
        (WireError.BODY_TOO_LARGE, "Request Entity Too Large"),
        (WireError.URI_TOO_LONG, "Request-URI Too Long"),
        (CommonError.VALIDATION_FAILED, "Unprocessable Entity"),
    ],
)
def test_title_does_not_depend_on_the_version_of_python(code: ErrorCode, title: str) -> None:
    assert problem_body(code, request_id="x")["title"] == title
