"""The OpenAPI document: clients are generated from it, so it must be complete and correct.

The test client checks that every answer of every other test is documented, with its status, its code and its body
(contract.py).
"""

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import httpx2
import pytest

from api.codes import WireError, is_answered, status_of
from api.errors import MEDIA_TYPE
from api.schemas.base import LONGEST_CURSOR
from api.schemas.transfers import NewDeposit, NewTransfer
from core import DISTRIBUTION
from core.domain.cards import is_card_number
from core.domain.errors import ErrorCode
from core.domain.money import EXPONENTS
from tests.api.conftest import Api, Pair, Person
from tests.api.contract import OF_REFUSED_HEADS, SECURITY_HEADERS, Contract, Json
from tests.contract.document import PAGE, text

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OF_NO_OPERATION = {WireError.NOT_FOUND, WireError.METHOD_NOT_ALLOWED, *OF_REFUSED_HEADS}
"""Answers outside of any operation, so no operation can list them."""

EVERYWHERE = {406, 408, 413, 414, 422, 431, 500}


@pytest.fixture
def document(contract: Contract) -> Json:
    return contract.document


def fields(document: Json) -> Iterator[tuple[str, Json]]:
    """Every field of every schema: its schema's name and its own, and its description."""
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            yield f"{name}.{field}", described


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def parts(node: Any) -> Iterator[Any]:
    """Every object within a document."""
    if isinstance(node, dict):
        yield node
        for item in node.values():
            yield from parts(item)
    elif isinstance(node, list):
        for item in node:
            yield from parts(item)


async def test_the_document_is_served_unchanged(api: Api, document: Json) -> None:
    answer = await api.client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document


def test_the_committed_document_is_what_make_openapi_writes(document: Json) -> None:
    assert PAGE.read_text() == text(document), "run `make openapi`"


def test_it_is_an_openapi_3_1_document(document: Json) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document.keys() <= {"openapi", "info", "paths", "components", "tags", "servers", "security"}
    assert document["info"]["title"] == "Giro"
    assert document["info"]["version"]
    for path, item in document["paths"].items():
        assert path.startswith("/")
        assert item.keys() <= METHODS
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert operation["responses"], where
        assert operation["summary"], where
        assert operation["description"], where
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), where
        for parameter in operation.get("parameters", []):
            assert {"name", "in", "schema"} <= parameter.keys(), where
            assert parameter["in"] in ("path", "query", "header"), where
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status), where
            assert response["description"], where
            for header in response.get("headers", {}).values():
                assert "schema" in header, where


def test_every_reference_resolves_and_every_schema_is_used(contract: Contract, document: Json) -> None:
    references = {node["$ref"] for node in parts(document) if "$ref" in node}
    for reference in references:
        assert contract.resolve(reference)
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert schemas == references


def test_the_frameworks_own_errors_are_removed(document: Json) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & document["components"]["schemas"].keys()
    assert "HTTPValidationError" not in str(document)


def test_operation_ids_are_unique_and_readable(document: Json) -> None:
    """Client generators name functions after them: `list_accounts`, not `list_accounts_accounts_get`."""
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", name)] == []


def test_every_operation_has_one_tag_and_every_tag_is_described(document: Json) -> None:
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(text.endswith(".") for text in described.values())
    assert [len(operation["tags"]) for _, _, operation in operations(document)] == [1] * len(list(operations(document)))
    assert {operation["tags"][0] for _, _, operation in operations(document)} == described.keys()


def test_the_document_names_its_version_its_license_and_a_relative_server(document: Json) -> None:
    """The address is relative, because the service does not know its own name behind a proxy."""
    assert document["info"]["version"] == version(DISTRIBUTION)
    assert document["info"]["description"]
    assert document["info"]["license"] == {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_exactly_the_calls_that_need_a_token_declare_it(document: Json) -> None:
    public = {path for path, _, operation in operations(document) if "security" not in operation}
    assert public == {"/", "/signup", "/login", "/token/refresh", "/health", "/health/live", "/health/ready"}
    (scheme,) = document["components"]["securitySchemes"]
    assert all(
        operation["security"] == [{scheme: []}] for _, _, operation in operations(document) if "security" in operation
    )
    flow = document["components"]["securitySchemes"][scheme]["flows"]["password"]
    assert (flow["tokenUrl"], flow["refreshUrl"]) == ("login", "token/refresh")


def test_every_body_has_a_valid_example(contract: Contract, document: Json) -> None:
    for path, method, operation in operations(document):
        for where in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in where.get("content", {}).values():
                if "schema" in content and "examples" not in content:
                    wrong = contract.mismatch(content["example"], content["schema"])
                    assert wrong is None, f"{method} {path}: {wrong}"


def test_every_answer_names_the_request_id(document: Json) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["headers"]["X-Request-ID"]["required"], f"{method} {path} {status}"


def test_bounds_are_written_as_in_json_schema(document: Json) -> None:
    """pydantic writes `ge` and `le` if something separates a bound from its number; clients ignore those keys."""
    assert [
        node for node in parts(document) if node.keys() & {"ge", "le", "gt", "lt"} - node.get("properties", {}).keys()
    ] == []
    limit, offset, cursor = document["paths"]["/accounts"]["get"]["parameters"]
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 1000, 100)
    assert (offset["schema"]["minimum"], offset["schema"]["maximum"]) == (0, 10_000)
    assert cursor["schema"]["maxLength"] == LONGEST_CURSOR


def test_no_parameter_or_form_field_is_nullable(document: Json) -> None:
    for path, method, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert "null" not in str(parameter["schema"]), f"{method} {path} {parameter['name']}"
    assert "null" not in str(document["components"]["schemas"]["LogIn"]), "a form field cannot be null either"


def test_currencies_are_listed_once(document: Json) -> None:
    assert document["components"]["schemas"]["Currency"]["enum"] == sorted(EXPONENTS)
    assert document["components"]["schemas"]["OpenAccount"]["properties"]["currency"]["$ref"] == (
        "#/components/schemas/Currency"
    )


@pytest.mark.parametrize(
    ("text", "fits"),
    [("rent", True), ("", True), ("Miete für März 🏠", True), ("a\x00b", False), ("a\nb", False), ("\x85", False)],
)
def test_the_pattern_of_a_text_agrees_with_its_field(document: Json, text: str, fits: bool) -> None:
    described = document["components"]["schemas"]["NewDeposit"]["properties"]["description"]["anyOf"][0]
    assert bool(re.search(described["pattern"], text)) == fits
    body = {"to_account_id": "01a20be2-a941-75c0-b1ff-2d5ea1c6165c", "amount": 1, "description": text}
    with nullcontext() if fits else pytest.raises(ValueError, match="control characters"):
        NewDeposit.model_validate_json(json.dumps(body))


@pytest.mark.parametrize(
    ("payee", "fits"),
    [
        ({}, False),
        ({"to_account_id": None}, False),
        ({"to_account_id": "01a20be2-a941-75c0-b1ff-2d5ea1c6165c"}, True),
        ({"to_account_number": "XG46GIRO00000000000042"}, True),
        ({"to_account_id": None, "to_account_number": "XG46GIRO00000000000042"}, True),
        ({"to_account_id": "01a20be2-a941-75c0-b1ff-2d5ea1c6165c", "to_account_number": "x"}, False),
    ],
    ids=["none", "null", "id", "number", "number and null", "both"],
)
def test_a_transfer_names_exactly_one_payee_in_the_document_too(
    contract: Contract, document: Json, payee: Json, fits: bool
) -> None:
    body = {"from_account_id": "01a20be2-a941-75c0-b1ff-2d5ea1c6165c", "amount": 1, **payee}
    (rule,) = document["components"]["schemas"]["NewTransfer"]["allOf"]
    ways = [way for way in rule["oneOf"] if contract.mismatch(body, way | {"additionalProperties": True}) is None]
    assert (len(ways) == 1) == fits
    with nullcontext() if fits else pytest.raises(ValueError, match="exactly one"):
        NewTransfer.model_validate_json(json.dumps(body))


def test_every_operation_lists_its_problems_with_an_example_of_each(contract: Contract, document: Json) -> None:
    for path, method, operation in operations(document):
        statuses = {int(status) for status in operation["responses"]}
        assert statuses >= EVERYWHERE, f"{method} {path}"
        assert ({400, 415} <= statuses) == ("requestBody" in operation), f"{method} {path}"
        assert (401 in statuses) == ("security" in operation or path in ("/login", "/token/refresh")), path
        for status in statuses:
            content = operation["responses"][str(status)].get("content", {})
            if status >= 400 and not path.startswith("/health"):
                assert content.keys() == {MEDIA_TYPE}, f"{method} {path} {status}"
            if MEDIA_TYPE in content:
                assert content[MEDIA_TYPE]["examples"]
            for code, example in content.get(MEDIA_TYPE, {}).get("examples", {}).items():
                assert status_of(ErrorCode.of(code)) == status
                assert example["value"]["code"] == code
                assert contract.mismatch(example["value"], content[MEDIA_TYPE]["schema"]) is None


def test_every_possible_code_is_documented(document: Json) -> None:
    shown = {
        code
        for _, _, operation in operations(document)
        for response in operation["responses"].values()
        for code in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    }
    assert shown == {code.value for code in set(filter(is_answered, ErrorCode.all())) - OF_NO_OPERATION}
    assert set(document["components"]["schemas"]["ErrorCode"]["enum"]) == {code.value for code in ErrorCode.all()}


def test_every_answer_with_a_body_has_a_schema_for_it(document: Json) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status in ("204", "304"):
                assert "content" not in response, f"{method} {path}"
                continue
            for content in response["content"].values():
                assert content["schema"], f"{method} {path} {status}"


@pytest.mark.parametrize("path", ["/accounts/{account_id}/statement", "/statements/{statement_id}"])
def test_only_statements_and_the_home_page_have_several_media_types(document: Json, path: str) -> None:
    forms = {"application/json", "text/csv", "application/pdf", "application/xml"}
    assert document["paths"][path]["get"]["responses"]["200"]["content"].keys() == forms
    several = {
        path
        for path, _, operation in operations(document)
        for response in operation["responses"].values()
        if len(response.get("content", {})) > 1
    }
    assert several == {
        "/",
        "/accounts/{account_id}/statement",
        "/statements/{statement_id}",
        "/documents/{document_id}",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "headers"),
    [
        ("post", "/transfers", "202", {"Location", "Retry-After", "Idempotent-Replayed", "Preference-Applied"}),
        ("post", "/deposits", "202", {"Location", "Retry-After", "Idempotent-Replayed", "Preference-Applied"}),
        ("post", "/withdrawals", "200", {"Preference-Applied"}),
        ("get", "/accounts/{account_id}/statement", "200", {"Vary", "Content-Disposition"}),
        ("get", "/statements/{statement_id}", "200", {"Vary", "Content-Disposition", "Retry-After"}),
        ("get", "/accounts/{account_id}/statement", "202", {"Location", "Retry-After"}),
        ("get", "/statements/{statement_id}", "202", {"Location", "Retry-After"}),
        ("get", "/documents/{document_id}", "200", {"Content-Disposition"}),
        ("get", "/documents/{document_id}", "202", {"Retry-After"}),
        ("post", "/accounts/{account_id}/statements", "202", {"Location", "Retry-After"}),
        ("get", "/transfers/{transfer_id}", "200", {"ETag", "Retry-After", "Preference-Applied"}),
        ("get", "/transfers/{transfer_id}", "304", {"ETag"}),
        ("post", "/accounts", "201", {"Location"}),
        ("post", "/signup", "201", {"Location"}),
        ("get", "/accounts", "401", {"WWW-Authenticate", "X-Request-ID"}),
        ("post", "/cards", "201", {"Location", "Cache-Control"}),
        ("post", "/accounts", "503", {"Retry-After", "X-Request-ID"}),
    ],
)
def test_headers_with_an_effect_are_documented(
    document: Json, method: str, path: str, status: str, headers: set[str]
) -> None:
    assert headers <= document["paths"][path][method]["responses"][status]["headers"].keys()


@pytest.mark.parametrize("path", ["/transfers", "/deposits", "/withdrawals"])
def test_calls_that_move_money_document_the_key_and_the_wait(document: Json, path: str) -> None:
    named = {p["name"] for p in document["paths"][path]["post"]["parameters"] if p["in"] == "header"}
    assert named == {"Idempotency-Key", "Prefer"}


def test_amounts_are_documented_with_their_bounds(document: Json) -> None:
    for name in ("NewTransfer", "NewDeposit", "NewWithdrawal"):
        schema = document["components"]["schemas"][name]
        amount = schema["properties"]["amount"]
        assert (amount["type"], amount["minimum"], amount["maximum"]) == ("integer", 1, 10**15)
        assert schema["additionalProperties"] is False


def test_the_document_lists_exactly_these_calls(document: Json) -> None:
    assert {f"{method.upper()} {path}" for path, method, _ in operations(document)} >= {
        "POST /signup",
        "POST /login",
        "POST /token/refresh",
        "POST /logout",
        "GET /users/me",
        "POST /users/me/password",
        "POST /accounts",
        "GET /accounts",
        "GET /accounts/{account_id}",
        "GET /accounts/{account_id}/transactions",
        "POST /transfers",
        "GET /transfers",
        "GET /transfers/{transfer_id}",
        "POST /transfers/{transfer_id}/cancel",
        "POST /cards",
        "GET /cards",
        "GET /cards/{card_id}",
        "POST /cards/{card_id}/freeze",
        "POST /cards/{card_id}/unfreeze",
        "POST /cards/{card_id}/cancel",
        "POST /deposits",
        "POST /withdrawals",
        "GET /accounts/{account_id}/statement",
        "GET /accounts/{account_id}/statements",
        "POST /accounts/{account_id}/statements",
        "GET /statements/{statement_id}",
        "GET /documents/{document_id}",
        "GET /operator/dead-letters",
        "POST /operator/dead-letters/{letter_id}/retry",
        "POST /operator/dead-letters/{letter_id}/drop",
        "GET /operator/statement-runs",
        "GET /operator/verification",
        "GET /",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
    }


class TestTheContractCheck:
    """The check must be able to fail; otherwise its success proves nothing."""

    @pytest.fixture
    def answer(self) -> httpx2.Response:
        return httpx2.Response(200, json={"status": "ok", "checks": {}}, headers=self.HEADERS, request=self.REQUEST)

    REQUEST = httpx2.Request("GET", "http://giro.test/health/live")
    HEADERS = dict.fromkeys(("x-request-id", "cache-control", *SECURITY_HEADERS), "x")

    async def test_accepts_a_documented_answer(self, contract: Contract, answer: httpx2.Response) -> None:
        await contract.check(answer)

    @pytest.mark.parametrize(
        ("status", "body", "complaint"),
        [
            (201, {"status": "ok", "checks": {}}, "undocumented status"),
            (200, {"status": "fine", "checks": {}}, "not one of"),
            (200, {"status": "ok"}, "lacks"),
            (200, {"status": "ok", "checks": {}, "more": 1}, "does not know"),
            (200, {"status": "ok", "checks": []}, "no object"),
            (200, {"status": "ok", "checks": {"x": {"status": "ok", "latency_ms": "1"}}}, "no number"),
        ],
    )
    async def test_rejects_an_undocumented_answer(
        self, contract: Contract, status: int, body: Json, complaint: str
    ) -> None:
        wrong = httpx2.Response(status, json=body, headers=self.HEADERS, request=self.REQUEST)
        with pytest.raises(AssertionError, match=complaint):
            await contract.check(wrong)

    async def test_rejects_a_missing_header(self, contract: Contract) -> None:
        wrong = httpx2.Response(200, json={"status": "ok", "checks": {}}, request=self.REQUEST)
        with pytest.raises(AssertionError, match="no X-Request-ID"):
            await contract.check(wrong)


def test_the_example_of_a_card_number_belongs_to_no_issuer(document: Json) -> None:
    (example,) = document["components"]["schemas"]["IssuedCardOut"]["properties"]["card_number"]["examples"]
    assert is_card_number(example)


FILLER = {"Successful Response", "Bad Request", "OK"}
"""Descriptions that a framework adds by itself."""


def described_parts(document: Json) -> Iterator[tuple[str, Json]]:
    """Everything in the document that readers need an explanation of, by its place."""
    yield "info", document["info"]
    yield from ((f"server {server['url']}", server) for server in document["servers"])
    yield from ((f"tag {tag['name']}", tag) for tag in document["tags"])
    yield from document["components"]["schemas"].items()
    yield from document["components"]["securitySchemes"].items()
    yield from fields(document)
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        yield where, operation
        yield from ((f"{where} {parameter['name']}", parameter) for parameter in operation.get("parameters", []))
        for status, response in operation["responses"].items():
            yield f"{where} {status}", response
            yield from ((f"{where} {status} {name}", header) for name, header in response["headers"].items())


def has_example(part: Json, document: Json) -> bool:
    """True for a field, a parameter or a header with an example; fields of an object have examples themselves."""
    if part.keys() & {"example", "examples", "const"} or "examples" in part.get("schema", {}):
        return True
    names = [node["$ref"].rpartition("/")[2] for node in parts(part) if "$ref" in node]
    return any("properties" in document["components"]["schemas"][name] for name in names)


def test_everything_has_a_description(document: Json) -> None:
    texts = {where: part.get("description", "") for where, part in described_parts(document)}
    wrong = {where for where, text in texts.items() if text in FILLER or not text.endswith(".")}
    assert wrong == set(), f"{len(wrong)} of {len(texts)} have no description that is a sentence"


def test_every_operation_has_a_summary_that_starts_with_a_verb(document: Json) -> None:
    summaries = {operation["operationId"]: operation["summary"] for _, _, operation in operations(document)}
    names = {name: name.replace("_", " ").title() for name in summaries}
    assert {name for name in summaries if summaries[name] == names[name]} == set(), "made from the function's name"
    verbs = {text.split()[0] for text in summaries.values()}
    assert all(re.fullmatch("[A-Z][a-z]+", verb) and not verb.endswith(("s", "ing")) for verb in verbs)
    assert not any(text.endswith(".") for text in summaries.values())
    assert len(set(summaries.values())) == len(summaries)


def test_every_field_parameter_and_header_has_an_example(document: Json) -> None:
    parts = list(fields(document))
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        parts += [(f"{where} {parameter['name']}", parameter) for parameter in operation.get("parameters", [])]
        for status, response in operation["responses"].items():
            parts += [(f"{where} {status} {name}", header) for name, header in response["headers"].items()]
    missing = {where for where, part in parts if not has_example(part, document)}
    assert missing == set(), f"{len(missing)} of {len(parts)} have no example"


def test_every_example_of_a_field_fits_it(contract: Contract, document: Json) -> None:
    for where, field in fields(document):
        for example in field.get("examples", []):
            assert contract.mismatch(example, field) is None, where


async def test_a_generated_client_could_read_a_page(ada: Person, pair: Pair, contract: Contract) -> None:
    await ada.pay(pair.payer, pair.payee)
    page = (await ada.get("/transfers")).json()
    schema = contract.document["paths"]["/transfers"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert contract.mismatch(page, schema) is None
    assert contract.mismatch({**page, "limit": "100"}, schema) is not None
