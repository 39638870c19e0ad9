"""Error answers in the OpenAPI document."""

from collections import defaultdict
from typing import Any

from pydantic import Field

from api.codes import WireError, status_of
from api.errors import MEDIA_TYPE, problem_body
from api.schemas.base import Code, Out
from core.domain.errors import CommonError, ErrorCode

EXAMPLE_ID = "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"


class FieldError(Out):
    """One invalid part of the request."""

    location: str = Field(examples=["body.amount"])
    message: str


class Problem(Out):
    """Problem details (RFC 9457)."""

    type: str = Field(description="A page that explains the code, relative to this service.")
    title: str
    status: int
    detail: str
    code: Code = Field(description="The kind of error. Codes are stable.")
    request_id: str = Field(description="The id of the request in the logs.")
    errors: list[FieldError] | None = None


EVERYWHERE = (
    WireError.NOT_ACCEPTABLE,
    WireError.BODY_TOO_LARGE,
    WireError.URI_TOO_LONG,
    WireError.HEADERS_TOO_LARGE,
    WireError.REQUEST_TIMEOUT,
    CommonError.VALIDATION_FAILED,
    CommonError.INTERNAL_ERROR,
)
WITH_BODY = (WireError.MALFORMED_BODY, WireError.UNSUPPORTED_MEDIA_TYPE)
WRITES = (CommonError.UNAVAILABLE, CommonError.OUTCOME_UNKNOWN)
FOR_USERS = (CommonError.UNAUTHENTICATED, CommonError.RATE_LIMITED, CommonError.UNAVAILABLE)
FOR_OPERATORS = (*FOR_USERS, CommonError.FORBIDDEN)


def problems(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """Describe the error answers of a call, with an example of each code, for `responses=` of a route."""
    by_status: dict[int, list[ErrorCode]] = defaultdict(list)
    for code in sorted({*codes, *EVERYWHERE}):
        by_status[status_of(code)].append(code)
    return {status: _response(some) for status, some in sorted(by_status.items())}


def _response(codes: list[ErrorCode]) -> dict[str, Any]:
    return {
        "description": " · ".join(f"`{code}`" for code in codes),
        "headers": _headers(status_of(codes[0])),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    code.value: {"summary": code.message, "value": problem_body(code, request_id=EXAMPLE_ID)}
                    for code in codes
                },
            }
        },
    }


def _headers(status: int) -> dict[str, Any]:
    names = {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    return {name: {"required": True, "schema": {"type": "string"}} for name in names}


def header(description: str, value: str, *, required: bool = False) -> dict[str, Any]:
    """Describe a header of an answer, with an example."""
    return {"description": description, "required": required, "schema": {"type": "string"}, "example": value}


def created(location: str) -> dict[int | str, dict[str, Any]]:
    """Describe the `Location` of a 201 with an example."""
    return {201: {"headers": {"Location": header("The URL of the new object.", location, required=True)}}}
