"""The OpenAPI document: the framework's document of the routes, completed with the parts that all calls share."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.schemas.base import CODES, CURRENCIES
from api.schemas.problems import EXAMPLE_ID, Problem, header
from core.domain.errors import ErrorCode

DESCRIPTION = """Accounts, and transfers that run through a queue. The API accepts a transfer as *pending* with 202,
and a worker executes it. Clients poll the transfer, or wait for it, until it has ended. Amounts are integers in minor
units."""

TAGS = {
    "transfers": "Orders to move money: submit them, wait for them, list them, cancel them.",
    "accounts": "The caller's accounts and their transactions.",
    "cards": "The cards of the caller's accounts.",
    "statements": "The monthly statements of an account.",
    "operator": "Calls that only operators may make: deposits, withdrawals, and the bank as a whole.",
    "who": "Sign-up, log-in, and the caller's own user.",
    "service": "The state of the service.",
}
"""The description of each group of calls."""

FORM_TYPE = "application/x-www-form-urlencoded"
_REFERENCE = "#/components/schemas/{model}"

_RATE_HEADERS = {
    "RateLimit-Policy": header("The limit of the call: a quota of requests in a window.", '"writes";q=1000;w=10'),
    "RateLimit": header("The quota that is left, and the seconds until there is more.", '"writes";r=999;t=1'),
}
"""Headers of calls that can be rate-limited; draft-ietf-httpapi-ratelimit-headers-11."""

_EXAMPLES_OF_FORMATS = {"uuid": EXAMPLE_ID, "date-time": "2026-11-24T04:50:15.615704Z", "date": "2026-11-24"}
_EXAMPLES_OF_TYPES = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
_EXAMPLES_OF_NAMES = {
    "account_number": "XG46GIRO00000000000042",
    "address": "127.0.0.1",
    "amount": 1050,
    "amount_decimal": "10.50",
    "available": 8950,
    "available_decimal": "89.50",
    "balance": 10000,
    "balance_after": 8950,
    "balance_after_decimal": "89.50",
    "balance_decimal": "100.00",
    "currency": "USD",
    "current_password": "correct horse battery",
    "description": "rent",
    "email": "ada@example.com",
    "expires_in": 900,
    "failure": None,
    "freeze_scope": None,
    "limit": 100,
    "name": "Ada",
    "next_cursor": None,
    "offset": 0,
    "overdraft_limit": 0,
    "overdraft_limit_decimal": "0.00",
    "password": "correct horse battery",
    "request_id": EXAMPLE_ID,
    "reserved": 1050,
    "settled_at": None,
    "username": "ada@example.com",
}
"""Examples of fields that mean the same in every schema. A field's own example takes precedence."""


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document, which is made only once."""
    if not app.openapi_schema:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, summary=None
        )
        _use_our_schemas(document)
        document["tags"] = [
            {"name": name, "description": text} for name, text in TAGS.items() if name in _used_tags(document)
        ]
        for operation in _operations(document):
            _complete(operation, document["components"]["schemas"])
        app.openapi_schema = document
    return app.openapi_schema


def openapi_json(app: FastAPI) -> bytes:
    """The document as JSON, made once: making it blocks the event loop for as long as a hundred small calls."""
    if not hasattr(app.state, "openapi"):
        app.state.openapi = json.dumps(openapi(app), ensure_ascii=False, separators=(",", ":")).encode()
    return cast(bytes, app.state.openapi)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document["paths"].values():
        yield from item.values()


def _used_tags(document: dict[str, Any]) -> set[str]:
    return {tag for operation in _operations(document) for tag in operation["tags"]}


def _use_our_schemas(document: dict[str, Any]) -> None:
    """Replace the framework's error schemas with ours, and list the currencies and the error codes only once."""
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template=_REFERENCE)
    schemas |= problem.pop("$defs") | {"Problem": problem}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for node in list(_parts(document)):
        for bound in node.keys() & {"minimum", "maximum"}:
            node[bound] = int(node[bound])  # the framework turns bounds into floats
        if node.get("enum") == CURRENCIES:
            node.clear()
            node["$ref"] = _REFERENCE.format(model="Currency")
        if node.get("enum") == CODES:
            for name in ("type", "enum", "title"):
                node.pop(name, None)
            node["$ref"] = _REFERENCE.format(model="ErrorCode")
    schemas["ErrorCode"] = {
        "title": "ErrorCode",
        "description": inspect.getdoc(ErrorCode),
        "type": "string",
        "enum": [code.value for code in ErrorCode.all()],
    }
    schemas["Currency"] = {
        "title": "Currency",
        "description": "The ISO 4217 code of a currency that has an exponent.",
        "type": "string",
        "enum": CURRENCIES,
    }


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object within a document."""
    if isinstance(node, dict):
        yield node
        for item in node.values():
            yield from _parts(item)
    elif isinstance(node, list):
        for item in node:
            yield from _parts(item)


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add the parts that all calls share: an example of each body, and the request id of each answer."""
    form = operation.get("requestBody", {}).get("content", {}).get(FORM_TYPE, {}).get("schema", {})
    fields = _resolved(form, schemas).get("properties", {}).values()
    for schema in [*fields, *(parameter["schema"] for parameter in operation.get("parameters", []))]:
        _forbid_null(schema)
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for content in (content for body in bodies for content in body.get("content", {}).values()):
        if not content.keys() & {"example", "examples"} and "schema" in content:
            content["example"] = _example(content["schema"], schemas)
    rates = _RATE_HEADERS if "429" in operation["responses"] else {}
    for response in operation["responses"].values():
        response.setdefault("headers", {})["X-Request-ID"] = {
            "description": "The id of the request in the logs.",
            "required": True,
            "schema": {"type": "string"},
        }
        response["headers"] |= rates


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _forbid_null(schema: dict[str, Any]) -> None:
    """Describe an optional field as optional and not as nullable: a URL or a form cannot contain null."""
    if {"type": "null"} in schema.get("anyOf", []):
        (only,) = (option for option in schema.pop("anyOf") if option != {"type": "null"})
        schema |= only


def _example(schema: dict[str, Any], schemas: dict[str, Any], name: str = "") -> Any:
    """Make a value that fits a schema, from the examples of the schema and its parts."""
    schema = _resolved(schema, schemas)
    given = [*schema.get("examples", []), *([schema["const"]] if "const" in schema else [])]
    if given:
        return given[0]
    if name in _EXAMPLES_OF_NAMES:
        return _EXAMPLES_OF_NAMES[name]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], schemas, name)
    if "enum" in schema:
        return schema["enum"][0]
    return _example_of_type(schema, schemas, name)


def _example_of_type(schema: dict[str, Any], schemas: dict[str, Any], name: str) -> Any:
    match schema.get("type"):
        case "object":
            return {key: _example(part, schemas, key) for key, part in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema["items"], schemas)]
        case "string":
            return _EXAMPLES_OF_FORMATS.get(schema.get("format", ""), name)
        case kind:
            return _EXAMPLES_OF_TYPES.get(kind or "null")
