"""The parts of requests on the wire, for the locations in error answers."""

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from core.domain.errors import GiroError, Part

NAMES = {
    Part.ACCOUNT: "account_id",
    Part.AMOUNT: "amount",
    Part.CARD: "card_id",
    Part.CURRENCY: "currency",
    Part.CURSOR: "cursor",
    Part.EMAIL: "email",
    Part.MONTH: "month",
    Part.NEW_PASSWORD: "new_password",
    Part.PASSWORD: "password",
    Part.PAYEE: "to_account_id",
    Part.PAYEE_NUMBER: "to_account_number",
    Part.PAYER: "from_account_id",
    Part.USER: "user_id",
}
"""The parameter or field of each part. It has the same name on every route that takes it."""

LINES = "body.transfers"


def location_of(error: GiroError, route: BaseRoute | None) -> str | None:
    """Return where a route's request has the part that an error is about, or None if it is not about a part.

    A part is in the path if the route's path names it, otherwise in the body, or in the query of a route without one.
    """
    if error.about is Part.IDEMPOTENCY_KEY:
        return "header.Idempotency-Key"
    name = NAMES[error.about] if error.about else None
    if error.line is not None:
        return ".".join(filter(None, (LINES, str(error.line), name)))
    if name is None:
        return None
    assert isinstance(route, APIRoute), "only routes raise errors about parts"
    if name in route.param_convertors:
        return f"path.{name}"
    return f"body.{name}" if route.body_field else f"query.{name}"
