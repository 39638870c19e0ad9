"""Error answers: RFC 9457 problem details."""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.codes import WireError, status_of
from api.http.parts import location_of
from api.http.validation_messages import message_of
from api.runtime.intake import has_recorded
from core.domain.cards import without_card_numbers
from core.domain.errors import CommonError, Crowded, ErrorCode, GiroError, RateLimited, Unavailable
from core.storage.engines import DATABASE_ERRORS, Engine
from core.storage.unit_of_work import count_error
from core.telemetry.logging import get_logger
from core.telemetry.metrics import processes as metrics

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

MOST_ERRORS = 50
"""The maximum number of errors that the answer to one request lists. `detail` then gives the total."""

RECORDED = "It was recorded, but cannot be shown now. Read the list of objects, or retry with the same key."

_HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}

_CODES_OF_STATUS: dict[int, ErrorCode] = {
    400: WireError.MALFORMED_BODY,
    404: WireError.NOT_FOUND,
    405: WireError.METHOD_NOT_ALLOWED,
    406: WireError.NOT_ACCEPTABLE,
    413: WireError.BODY_TOO_LARGE,
    415: WireError.UNSUPPORTED_MEDIA_TYPE,
}
"""The codes of the framework's own refusals."""


_TITLES = {413: "Request Entity Too Large", 414: "Request-URI Too Long", 422: "Unprocessable Entity"}
"""The names that Python 3.12 has. Later versions of Python have others, and the answers must not depend on it."""


def problem_body(
    code: ErrorCode, *, request_id: str, detail: str | None = None, errors: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """Build the problem details of a code."""
    status = status_of(code)
    body: dict[str, Any] = {
        "type": f"/docs/errors#{code}",
        "title": _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail or code.message,
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
    status = status_of(code)
    body = problem_body(code, request_id=request_id, detail=detail, errors=errors)
    return Response(
        json.dumps(body, separators=(",", ":")),
        status,
        {**_HEADERS.get(status, {}), **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def field_error(location: str, message: str) -> dict[str, str]:
    """Describe an invalid part of a request, without the value that was sent."""
    return {"location": location, "message": message}


class InvalidRequest(RequestValidationError):
    """A request with `count` errors. `errors` holds the first ones, as many as can be listed."""

    def __init__(self, errors: Sequence[Any], *, count: int) -> None:
        super().__init__(errors)
        self.count = count


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of the application with problem details."""
    for kind, handler in _handlers().items():
        app.add_exception_handler(kind, handler)


async def answer(request: Request, error: Exception) -> Response:
    """Answer an error that a call raised. An unexpected error is raised again."""
    for kind, handler in _handlers().items():
        if isinstance(error, kind):
            return await handler(request, error)
    raise error


def unhandled(error: Exception, request_id: str) -> Response:
    """Log and count an unexpected exception, and answer 500 without details of it."""
    metrics.unhandled_exceptions.inc()
    log.error("unhandled_exception", request_id=request_id, exc_info=error)
    return problem(CommonError.INTERNAL_ERROR, request_id=request_id)


async def _giro_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GiroError)
    if isinstance(error, Unavailable) and has_recorded():
        return _recorded(request)
    if isinstance(error, Crowded):
        request.state.beyond_share = True  # api/server/held.py holds the answer
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
    detail = CommonError.VALIDATION_FAILED.message
    if count > len(errors):
        detail = f"{detail} There are {count} errors, and {len(errors)} of them are listed."
    return problem(CommonError.VALIDATION_FAILED, request_id=request.state.request_id, detail=detail, errors=errors)


def _printable(part: object) -> str:
    """Make a field name, which the client may have invented, short, ASCII and free of card numbers."""
    return without_card_numbers(str(part))[:64].encode("ascii", "replace").decode()


READ_ERRORS = DATABASE_ERRORS
"""The database errors that a read can raise. No unit of work translates them."""


def note_read_error(database: Engine, error: Exception) -> None:
    """Count and log a database error of a read."""
    count_error(database, error)
    log.error("database_unavailable", error=str(error))


async def _database_error(request: Request, error: Exception) -> Response:
    database: Engine = request.app.state.runtime.database
    if not database.is_unavailable(error):
        raise error
    note_read_error(database, error)
    return (
        _recorded(request) if has_recorded() else problem(CommonError.UNAVAILABLE, request_id=request.state.request_id)
    )


def _recorded(request: Request) -> Response:
    """Answer that a call was recorded, but not what. If the answer denied it, the client would do it twice."""
    return problem(CommonError.OUTCOME_UNKNOWN, request_id=request.state.request_id, detail=RECORDED)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES_OF_STATUS.get(error.status_code, CommonError.INTERNAL_ERROR)
    headers: dict[str, str] = {}
    if code is WireError.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(request.app.state.methods.of(request.scope["path"]))
    return problem(code, request_id=request.state.request_id, headers=headers)


@cache
def _handlers() -> dict[type[Exception], Callable[[Request, Exception], Coroutine[Any, Any, Response]]]:
    """Map each kind of error to its handler. No error is of two kinds."""
    return {
        GiroError: _giro_error,
        RequestValidationError: _validation_error,
        HTTPException: _http_exception,
        **dict.fromkeys(READ_ERRORS, _database_error),
    }
