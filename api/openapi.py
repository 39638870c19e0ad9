"""The OpenAPI document: the framework's document of the routes, completed with the parts that all calls share."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.http.pages import CACHED, Page
from api.schemas.base import CODES, CURRENCIES
from api.schemas.fields import EXAMPLE_ID
from api.schemas.problems import Problem, header
from core.domain.errors import ErrorCode

DESCRIPTION = """Accounts, and transfers that run through a queue. The API accepts a transfer as *pending* with 202,
and a worker executes it. Clients poll the transfer, or wait for it, until it has ended.

- Amounts are integers in minor units: 1050 is 10.50 USD. Use 64-bit integers.
- Times are RFC 3339, in UTC. Ids are UUIDs.
- Requests with unknown fields or parameters are refused. Answers can get more fields in later versions.
- Errors are problem details (RFC 9457). Their `code` is stable; [all codes](/docs/errors) are explained."""

TAGS = {
    "transfers": "Orders to move money: submit them, wait for them, list them, cancel them.",
    "accounts": "The caller's accounts and their transactions.",
    "cards": "The cards of the caller's accounts.",
    "statements": "The monthly statements of an account.",
    "operator": "Calls that only operators may make: deposits, withdrawals, and the bank as a whole.",
    "auth": "Sign-up, log-in, tokens, and the caller's own user.",
    "service": "The state of the service.",
}
"""The description of each group of calls."""

LICENSE = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
SERVERS = [{"url": "/", "description": "The service that this document comes from."}]

FORM_TYPE = "application/x-www-form-urlencoded"
_REFERENCE = "#/components/schemas/{model}"

_REQUEST_ID = header(
    "Id of the request. `X-Client-Request-ID` repeats the request's own `X-Request-ID`, if it was plain.",
    EXAMPLE_ID,
    required=True,
)
_RATE_HEADERS = {
    "RateLimit-Policy": header("The limit of the call: a quota of requests in a window.", '"writes";q=1000;w=10'),
    "RateLimit": header("The quota that is left, and the seconds until there is more.", '"writes";r=999;t=1'),
}
"""Headers of calls that can be rate-limited; draft-ietf-httpapi-ratelimit-headers-11."""


def openapi(app: FastAPI) -> dict[str, Any]:
    """Make the document. Nothing keeps it: so many objects would make each full garbage collection longer."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        license_info=LICENSE,
        servers=SERVERS,
        routes=app.routes,
    )
    _use_our_schemas(document)
    document["tags"] = [
        {"name": name, "description": text} for name, text in TAGS.items() if name in _used_tags(document)
    ]
    for operation in _operations(document):
        _complete(operation, document["components"]["schemas"])
    return document


def openapi_page(app: FastAPI) -> Page:
    """Make the document as a page of JSON, which takes hundreds of milliseconds."""
    text = json.dumps(openapi(app), ensure_ascii=False, separators=(",", ":"))
    return Page(text.encode(), "application/json", CACHED)


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
            _refer(node, "Currency")
        if node.get("enum") == CODES:
            _refer(node, "ErrorCode")
    schemas["ErrorCode"] = {
        "title": "ErrorCode",
        "description": f"{inspect.getdoc(ErrorCode)} Later versions may add codes.",
        "type": "string",
        "enum": [code.value for code in ErrorCode.all()],
    }
    schemas["Currency"] = {
        "title": "Currency",
        "description": "The ISO 4217 code of a currency that has an exponent.",
        "type": "string",
        "enum": CURRENCIES,
    }


def _refer(node: dict[str, Any], model: str) -> None:
    """Refer to a schema, and leave the description and the examples of the node."""
    for name in ("type", "enum", "title"):
        node.pop(name, None)
    node["$ref"] = _REFERENCE.format(model=model)


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
    parameters = operation.get("parameters", [])
    for schema in [*fields, *(parameter["schema"] for parameter in parameters)]:
        _forbid_null(schema)
    for parameter in parameters:
        parameter["schema"].pop("description", None)  # the parameter itself has it
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for content in (content for body in bodies for content in body.get("content", {}).values()):
        if not content.keys() & {"example", "examples"} and "schema" in content:
            content["example"] = _example(content["schema"], schemas)
    rates = _RATE_HEADERS if "429" in operation["responses"] else {}
    for response in operation["responses"].values():
        response.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID
        response["headers"] |= rates


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _forbid_null(schema: dict[str, Any]) -> None:
    """Describe an optional field as optional and not as nullable: a URL or a form cannot contain null."""
    if {"type": "null"} in schema.get("anyOf", []):
        (only,) = (option for option in schema.pop("anyOf") if option != {"type": "null"})
        schema |= only


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Make a value that fits a schema, from the examples of the schema and its parts."""
    if "examples" not in schema:
        schema = _resolved(schema, schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object":
            return {name: _example(part, schemas) for name, part in schema["properties"].items()}
        case "array":
            return [_example(schema["items"], schemas)]
        case "string":
            return schema["format"]
        case _:
            return _example(schema["anyOf"][0], schemas)
