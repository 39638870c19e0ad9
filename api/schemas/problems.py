"""Error answers in the OpenAPI document."""

from collections import defaultdict
from typing import Any

from pydantic import Field

from api.codes import WireError, status_of
from api.errors import MEDIA_TYPE, problem_body
from api.schemas import fields
from api.schemas.base import Code, Out
from api.schemas.fields import EXAMPLE_ID
from core.domain.errors import CommonError, ErrorCode


class FieldError(Out):
    """One invalid part of the request."""

    location: str = Field(
        description="Part of the request that is invalid: `body`, `query`, `path` or `header`, and the path within it, "
        "with dots between.",
        examples=["body.amount"],
    )
    message: str = Field(
        description="Explanation for people. Texts may change; programs use `code` and `location`.",
        examples=["Input should be greater than or equal to 1"],
    )


class Problem(Out):
    """The reason why a request was not carried out, as problem details (RFC 9457)."""

    type: str = Field(
        description="URL of a page that explains the code, relative to this service.",
        examples=["/docs/errors#account_not_found"],
    )
    title: str = Field(description="Name of the HTTP status.", examples=["Not Found"])
    status: int = Field(description="HTTP status of the answer.", examples=[404])
    detail: str = Field(
        description="Explanation for people. Texts may change; programs use `code`.", examples=["Account not found."]
    )
    code: Code = Field(
        description="The kind of error. A code never changes its meaning. Later versions may add codes.",
        examples=["account_not_found"],
    )
    request_id: fields.RequestId
    errors: list[FieldError] | None = Field(
        None, description="The invalid parts of the request, 50 at most. Missing if the error is about no single part."
    )


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
        "description": "\n".join(f"- `{code}`: {code.message}" for code in codes),
        "headers": {**_HEADERS.get(status_of(codes[0]), {})},
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


def header(description: str, value: str, *, required: bool = False) -> dict[str, Any]:
    """Describe a header of an answer, with an example."""
    return {"description": description, "required": required, "schema": {"type": "string"}, "example": value}


_RETRY_AFTER = header("Seconds to wait before the next attempt.", "1", required=True)
_HEADERS = {
    401: {"WWW-Authenticate": header("The way to authenticate: an access token.", "Bearer", required=True)},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}


def created(location: str) -> dict[int | str, dict[str, Any]]:
    """Describe the `Location` of a 201 with an example."""
    return {201: {"headers": {"Location": header("The URL of the new object.", location, required=True)}}}
