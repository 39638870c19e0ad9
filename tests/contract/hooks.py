"""Adjustments for schemathesis: facts that the document cannot express."""

import itertools
import os
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData

_numbers = itertools.count(1)

SPARED = "GIRO_CONTRACT_SPARED"
"""The environment variable with the ids of the run's users, separated by commas."""

_UNFORESEEABLE = (
    b"The cursor does not belong to this list.",
    b"offset and cursor cannot be combined",
    b"The month is not over yet.",
    b"The month has not begun yet.",
    b"value is not a valid email address",
    b"The password is easily guessed.",
)
"""Reasons for which the service may refuse (422) a request that fits the document. A document cannot express which
cursors were issued, that two parameters exclude each other, the current month, reserved mail domains, or common
passwords."""

_NO_MONTH = b'"code":"statement_not_found"'
"""A new account is found, but has no statement of a month before it was opened."""


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Declare OAuth2 as a bearer token, as on the wire. Otherwise schemathesis tries no call without a token."""
    for scheme in raw_schema["components"]["securitySchemes"].values():
        if scheme["type"] == "oauth2":
            scheme.clear()
            scheme |= {"type": "http", "scheme": "bearer"}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Accept refusals that the document cannot predict."""
    if isinstance(failure, EnsureResourceAvailability) and _NO_MONTH in response.content:
        return False
    is_refusal = isinstance(failure, RejectedPositiveData) and response.status_code == 422
    return not (is_refusal and any(reason in response.content for reason in _UNFORESEEABLE))


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Protect the run's own users, and fix generated cases whose parts do not fit together."""
    for name, value in (case.path_parameters or {}).items():
        if value in (None, "null"):
            # A link leads from a provisional statement to itself, but a provisional statement has no id.
            case.path_parameters[name] = str(uuid5(NAMESPACE_OID, name))
    user_id = str((case.path_parameters or {}).get("user_id", ""))
    if user_id in os.environ[SPARED].split(","):
        # An operator could deactivate itself with an id from a list.
        case.path_parameters["user_id"] = str(uuid5(UUID(user_id), "somebody else"))
    if case.meta is not None and case.meta.generation.mode.is_positive:
        if case.headers and "Idempotency-Key" in case.headers:
            # Most generated calls have the same key, and would be refused because it is used.
            case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:240]}-{next(_numbers)}"
        _fix(case.body)


def _fix(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _fix(item)
    if isinstance(part, dict):
        for name, value in part.items():
            # For JSON Schema `5.0` is an integer. Giro rejects it (422): an amount contains only digits.
            if isinstance(value, float) and value.is_integer():
                part[name] = int(value)
            _fix(value)
        if part.get("to_account_id") and part.get("to_account_number"):
            # Following a link adds an id to an order that already names its payee.
            del part["to_account_number"]
