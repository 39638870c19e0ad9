"""What schemathesis cannot know from the document, and must neither send nor complain about."""

import itertools
import os
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import RejectedPositiveData

_numbers = itertools.count(1)

SPARED = "GIRO_CONTRACT_SPARED"
"""Names the variable that lists, with commas between, the ids of the users in whose names the run asks."""

_UNFORESEEABLE = (
    b"The cursor does not belong to this list.",
    b"offset and cursor cannot be combined",
    b"The month is not over yet.",
    b"The month has not begun yet.",
    b"value is not a valid email address",
    b"The password is easily guessed.",
)
"""Why the service may refuse (422) what fits the document: a document cannot say which cursors have been handed out,
that two parameters exclude each other, what month it is, which domains are reserved and take no mail, or which
passwords people think of first."""


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Show OAuth2 as what it is on the wire: a bearer token. Schemathesis tries no call without one otherwise."""
    for scheme in raw_schema["components"]["securitySchemes"].values():
        if scheme["type"] == "oauth2":
            scheme.clear()
            scheme |= {"type": "http", "scheme": "bearer"}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Have no complaint about a refusal that the document cannot foresee."""
    is_refusal = isinstance(failure, RejectedPositiveData) and response.status_code == 422
    return not (is_refusal and any(reason in response.content for reason in _UNFORESEEABLE))


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Spare the users in whose names the run asks, and mend what was made up of parts that do not go together."""
    for name, value in (case.path_parameters or {}).items():
        if value in (None, "null"):
            # A link leads from a provisional statement to itself, and that has no id.
            case.path_parameters[name] = str(uuid5(NAMESPACE_OID, name))
    user_id = str((case.path_parameters or {}).get("user_id", ""))
    if user_id in os.environ[SPARED].split(","):
        # An operator could deactivate itself, by an id from a list.
        case.path_parameters["user_id"] = str(uuid5(UUID(user_id), "somebody else"))
    if case.meta is not None and case.meta.generation.mode.is_positive:
        if case.headers and "Idempotency-Key" in case.headers:
            # Most made-up calls are given one and the same key, and would be refused for having used it.
            case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:240]}-{next(_numbers)}"
        _mend(case.body)


def _mend(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _mend(item)
    if isinstance(part, dict):
        for name, value in part.items():
            # To JSON Schema `5.0` is an integer. To Giro it is none (422): an amount is written in digits alone.
            if isinstance(value, float) and value.is_integer():
                part[name] = int(value)
            _mend(value)
        if part.get("to_account_id") and part.get("to_account_number"):
            # Following a link puts an id into an order that names its payee already.
            del part["to_account_number"]
