"""The contract of every answer in every test: the OpenAPI document, the shape of errors, the headers.

`Contract.check` checks each answer that a test's client gets. The test fails if the document does not list the status
for the route, does not list the error code for the status, or has a schema that the body does not match.
"""

import re
from typing import Any

import httpx2

from api.codes import WireError, status_of
from core.domain.errors import ErrorCode

Json = Any

PROBLEM = "application/problem+json"
SECURITY_HEADERS = (
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-resource-policy",
    "content-security-policy",
)
PROBLEM_KEYS = {"type", "title", "status", "detail", "code", "request_id"}
UNDOCUMENTED = ("/docs", "/openapi.json")
"""Paths for people and tools; generated clients do not call them."""

OF_REFUSED_HEADS = {
    WireError.MALFORMED_REQUEST,
    WireError.UNSUPPORTED_CONTENT_ENCODING,
    WireError.UNSUPPORTED_TRANSFER_CODING,
}
"""Answers to heads that are refused before a path is looked at, so no operation lists them."""

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class Contract:
    """The OpenAPI document of an application; answers are checked against it."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self._paths = [
            (re.compile(re.sub(r"\{[^/]+\}", "[^/]+", path) + "/*"), item) for path, item in document["paths"].items()
        ]

    async def check(self, response: httpx2.Response) -> None:
        """Check one answer against the document."""
        await response.aread()
        path, method = response.request.url.path, response.request.method
        where = f"{method} {path} -> {response.status_code}: {response.text[:300]}"
        _check_headers(response, where)
        is_head = method == "HEAD"
        assert not (is_head and response.content), f"a body after HEAD: {where}"
        if response.status_code >= 400 and response.headers["content-type"] == PROBLEM and not is_head:
            _check_problem(response, where)
            if (code := response.json()["code"]) in OF_REFUSED_HEADS:
                assert response.status_code == status_of(ErrorCode.of(code)), where
                assert response.headers["connection"] == "close", where
                return
        if path.startswith(UNDOCUMENTED):
            return
        item = self._item(path)
        operation = item and item.get("get" if is_head else method.lower())
        if operation is None:
            assert response.status_code in self._without_operation(item), f"no such operation: {where}"
            return
        documented = operation["responses"].get(str(response.status_code))
        assert documented, f"undocumented status: {where}"
        if not is_head:
            self._check_body(response, documented, where)

    def _item(self, path: str) -> Json:
        fixed = self.document["paths"].get(path.rstrip("/") or "/")
        return fixed or next((item for pattern, item in self._paths if pattern.fullmatch(path)), None)

    @staticmethod
    def _without_operation(item: Json) -> set[int]:
        # Checks before routing: the head, sizes and time. After them, an existing path can only lack the method.
        return {400, 408, 413, 414, 415, 422, 431, 405 if item else 404}

    def _check_body(self, response: httpx2.Response, documented: Json, where: str) -> None:
        contents = documented.get("content", {})
        if not response.content:
            assert response.status_code in (204, 304), f"no body: {where}"
            return
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in contents, f"undocumented media type {media_type}: {where}"
        content = contents[media_type]
        if not media_type.endswith("json"):
            assert content["schema"] == {"type": "string", "format": "binary"}, f"not a binary document: {where}"
            return
        body = response.json()
        if media_type == PROBLEM:
            assert body["code"] in content["examples"], f"undocumented code: {where}"
        wrong = self.mismatch(body, content["schema"])
        assert wrong is None, f"{wrong}: {where}"

    def mismatch(self, value: Json, schema: Json, at: str = "body") -> str | None:
        """Describe where a value differs from a schema, for the parts of JSON Schema that our document uses."""
        if "$ref" in schema:
            return self.mismatch(value, self.resolve(schema["$ref"]), at)
        if "anyOf" in schema:
            found = [self.mismatch(value, option, at) for option in schema["anyOf"]]
            return None if None in found else " or ".join(text for text in found if text)
        if "const" in schema and value != schema["const"]:
            return f"{at} is not {schema['const']}"
        if "enum" in schema and value not in schema["enum"]:
            return f"{at} is not one of {schema['enum']}"
        if "type" in schema and not _is(value, schema["type"]):
            return f"{at} is no {schema['type']}"
        if isinstance(value, dict):
            return self._object_mismatch(value, schema, at)
        if isinstance(value, list):
            found = [self.mismatch(item, schema.get("items", {}), f"{at}[{index}]") for index, item in enumerate(value)]
            return next((text for text in found if text), None)
        return None

    def _object_mismatch(self, value: Json, schema: Json, at: str) -> str | None:
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", False)
        if missing := set(schema.get("required", ())) - value.keys():
            return f"{at} lacks {sorted(missing)}"
        for name, item in value.items():
            if name not in properties and rest is False:
                return f"{at} has {name}, which the document does not know"
            known = properties.get(name, rest)
            if isinstance(known, dict) and (wrong := self.mismatch(item, known, f"{at}.{name}")):
                return wrong
        return None

    def resolve(self, reference: str) -> Json:
        """Follow a reference within the document."""
        found = self.document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found


def _is(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _JSON_TYPES[name])


def _check_headers(response: httpx2.Response, where: str) -> None:
    assert response.headers.get("x-request-id"), f"no X-Request-ID: {where}"
    assert response.headers.get("cache-control"), f"no Cache-Control: {where}"
    for name in SECURITY_HEADERS:
        assert response.headers.get(name), f"no {name}: {where}"


def _check_problem(response: httpx2.Response, where: str) -> None:
    body = response.json()
    assert body.keys() - {"errors"} == PROBLEM_KEYS, where
    assert body["status"] == response.status_code, where
    assert body["request_id"] == response.headers["x-request-id"], where
    assert body["type"] == f"/docs/errors#{body['code']}", where
    for error in body.get("errors", []):
        assert error.keys() == {"location", "message"}, where
    if response.status_code == 401:
        assert response.headers["www-authenticate"] == "Bearer", where
    if response.status_code in (429, 503):
        assert int(response.headers["retry-after"]) >= 1, where
