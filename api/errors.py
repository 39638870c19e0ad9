"""Error answers: the one table from error code to HTTP status, and RFC 9457 problem details."""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.http.parts import location_of
from api.http.validation_messages import message_of
from api.runtime.intake import has_recorded
from core.domain.cards import without_card_numbers
from core.domain.errors import MESSAGES, ErrorCode, GiroError, RateLimited
from core.storage.unit_of_work import DATABASE_ERRORS, count_error, is_unavailable
from core.telemetry.logging import get_logger
from core.telemetry.metrics import processes as metrics

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

MOST_ERRORS = 50
"""Errors of one request that are listed; of the others it is said how many they are."""

STATUSES: dict[ErrorCode, int] = {
    ErrorCode.ACCOUNT_CLOSED: 409,
    ErrorCode.ACCOUNT_FROZEN: 409,
    ErrorCode.ACCOUNT_HAS_PENDING: 409,
    ErrorCode.ACCOUNT_NOT_EMPTY: 409,
    ErrorCode.ACCOUNT_NOT_FOUND: 404,
    ErrorCode.BALANCE_LIMIT_EXCEEDED: 400,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.CARD_CANCELLED: 409,
    ErrorCode.CARD_NOT_FOUND: 404,
    ErrorCode.CURRENCY_MISMATCH: 400,
    ErrorCode.DEAD_LETTER_NOT_FOUND: 404,
    ErrorCode.EMAIL_TAKEN: 409,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.HEADERS_TOO_LARGE: 431,
    ErrorCode.IDEMPOTENCY_KEY_INVALID: 400,
    ErrorCode.IDEMPOTENCY_KEY_MISSING: 400,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: 422,
    ErrorCode.INSUFFICIENT_FUNDS: 400,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.LIMIT_IN_USE: 409,
    ErrorCode.MALFORMED_BODY: 400,
    ErrorCode.MALFORMED_REQUEST: 400,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.NOT_ACCEPTABLE: 406,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.OUTCOME_UNKNOWN: 503,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.SAME_ACCOUNT: 400,
    ErrorCode.STATEMENT_NOT_FOUND: 404,
    ErrorCode.STATEMENT_PENDING: 409,
    ErrorCode.STATEMENT_TOO_LARGE: 409,
    ErrorCode.TOO_MANY_ACCOUNTS: 409,
    ErrorCode.TOO_MANY_CARDS: 409,
    ErrorCode.TRANSFER_NOT_CANCELLABLE: 409,
    ErrorCode.TRANSFER_NOT_FOUND: 404,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.URI_TOO_LONG: 414,
    ErrorCode.USER_ACTIVE: 409,
    ErrorCode.USER_ERASED: 409,
    ErrorCode.USER_NOT_FOUND: 404,
    ErrorCode.VALIDATION_FAILED: 422,
}
"""Every code that a call can be answered with. Those missing are reasons of failed transfers only."""

RECORDED = "It was recorded, and cannot be shown now. Look at what there is, or retry with the same key."

_HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": "1"},
}

_CODES_OF_STATUS = {
    400: ErrorCode.MALFORMED_BODY,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    406: ErrorCode.NOT_ACCEPTABLE,
    413: ErrorCode.BODY_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}
"""What the framework's own refusals mean."""


def problem_body(
    code: ErrorCode, *, request_id: str, detail: str | None = None, errors: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """Write the problem details of a code."""
    status = STATUSES[code]
    body: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail or MESSAGES[code],
        "code": code.value,
        "request_id": request_id,
    }
    return {**body, "errors": list(errors)} if errors else body


def problem(
    code: ErrorCode,
    *,
    request_id: str,
    detail: str | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a code's status and problem details."""
    status = STATUSES[code]
    body = problem_body(code, request_id=request_id, detail=detail, errors=errors)
    return Response(
        json.dumps(body, separators=(",", ":")),
        status,
        {**_HEADERS.get(status, {}), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def field_error(location: str, message: str) -> dict[str, str]:
    """Name one part of a request and what is wrong with it; never the value that was sent."""
    return {"location": location, "message": message}


class InvalidRequest(RequestValidationError):
    """A request with `count` errors, of which those that can be listed are given, the first ones."""

    def __init__(self, errors: Sequence[Any], *, count: int) -> None:
        super().__init__(errors)
        self.count = count


def add_error_handlers(app: FastAPI) -> None:
    """Have every error of the application answered as problem details."""
    for kind, handler in _handlers().items():
        app.add_exception_handler(kind, handler)


async def answer(request: Request, error: Exception) -> Response:
    """Make the answer to what a call raised; raises it again where nobody expected it."""
    for kind, handler in _handlers().items():
        if isinstance(error, kind):
            return await handler(request, error)
    raise error


def unhandled(error: Exception, request_id: str) -> Response:
    """Log and count an exception that nobody expected, and answer 500 without a word about it."""
    metrics.unhandled_exceptions.inc()
    log.error("unhandled_exception", request_id=request_id, exc_info=error)
    return problem(ErrorCode.INTERNAL_ERROR, request_id=request_id)


async def _giro_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GiroError)
    location = location_of(error, request.scope.get("route"))
    errors = [field_error(location, error.detail)] if location else []
    headers = {"Retry-After": str(error.wait_seconds)} if isinstance(error, RateLimited) else {}
    return problem(error.code, request_id=request.state.request_id, detail=error.detail, errors=errors, headers=headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [
        field_error(".".join(_printable(part) for part in item["loc"]), message_of(item, {"body": error.body}))
        for item in found[:MOST_ERRORS]
    ]
    count = error.count if isinstance(error, InvalidRequest) else len(found)
    detail = MESSAGES[ErrorCode.VALIDATION_FAILED]
    if count > len(errors):
        detail = f"{detail} There are {count} errors, and {len(errors)} of them are listed."
    return problem(ErrorCode.VALIDATION_FAILED, request_id=request.state.request_id, detail=detail, errors=errors)


def _printable(part: object) -> str:
    """A field's name may be the client's invention: keep it short, without card numbers and what JSON cannot carry."""
    return without_card_numbers(str(part))[:64].encode("ascii", "replace").decode()


READ_ERRORS = DATABASE_ERRORS
"""What a read can raise: an error of the database that no unit of work translates."""


def note_read_error(error: Exception) -> None:
    """Count and log an error of the database that a read has met."""
    count_error(error)
    log.error("database_unavailable", error=str(error))


async def _database_error(request: Request, error: Exception) -> Response:
    if not is_unavailable(error):
        raise error
    note_read_error(error)
    request_id = request.state.request_id
    if has_recorded():  # to say that nothing was would have a client do it twice
        return problem(ErrorCode.OUTCOME_UNKNOWN, request_id=request_id, detail=RECORDED)
    return problem(ErrorCode.UNAVAILABLE, request_id=request_id)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES_OF_STATUS.get(error.status_code, ErrorCode.INTERNAL_ERROR)
    headers: dict[str, str] = {}
    if code is ErrorCode.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(request.app.state.methods.of(request.scope["path"]))
    return problem(code, request_id=request.state.request_id, headers=headers)


@cache
def _handlers() -> dict[type[Exception], Callable[[Request, Exception], Coroutine[Any, Any, Response]]]:
    """Who answers what. No two of these kinds have an error in common."""
    return {
        GiroError: _giro_error,
        RequestValidationError: _validation_error,
        HTTPException: _http_exception,
        **dict.fromkeys(READ_ERRORS, _database_error),
    }
