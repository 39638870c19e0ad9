"""The order in which a request is checked, the same on every route.

First come 414, 431, 422 for too many parameters, 413 and 408 (api/server/request_bounds.py), then the router's own 404
and 405. This file checks for 401, 403, 429, 406, 415, and 400 for a body that is not JSON. Then FastAPI checks the
fields (422). The call itself refuses last.
"""

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from api.codes import WireError
from api.dependencies import (
    authenticate,
    check_anonymous_rate,
    current_user,
    document_type,
    note_refusal,
    operator,
    page_type,
    rates_itself,
    runtime_of,
    serves_operators,
)
from api.http.accept import negotiate
from api.http.strict_json import StrictRequest, check_values
from api.throttling.rates import policy_of
from core import documents
from core.domain.errors import CommonError, Refusal
from core.domain.users import Role

JSON_TYPE = "application/json"
HTML_TYPE = "text/html"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class CheckedRoute(APIRoute):
    """A route that checks the caller and the form of the request before it reads any parameter.

    The name of its function is its `operationId`, from which generated clients name their functions.
    """

    _written_out: ClassVar[set[str]] = set()
    """Paths without parameters. They take precedence over paths with parameters."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options | {"operation_id": endpoint.__name__})
        if not self.param_convertors:
            self._written_out.add(path)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as usual, but leave a path without parameters to its own routes, whatever the method.

        A call for operators does not exist on a port that is not theirs.
        """
        exists = self.can_be(scope["path"]) and self.is_served(scope)
        return super().matches(scope) if exists else (Match.NONE, {})

    def is_served(self, scope: Scope) -> bool:
        """Return whether the port that a request came to has this route."""
        return not self.needs_operator or serves_operators(scope)

    def can_be(self, path: str) -> bool:
        """Return whether this route may match a path."""
        return not self.param_convertors or path not in self._written_out

    def get_route_handler(self) -> Handler:
        """Wrap the handler in the checks that run before it."""
        handle = self._handler()
        calls = set(_calls(self.dependant))
        needs_user, needs_operator = current_user in calls, operator in calls
        self.needs_user, self.needs_operator = needs_user or needs_operator, needs_operator
        takes_query = bool(self.dependant.query_params) or any(d.query_params for d in self.dependant.dependencies)
        policy = policy_of(self.path, self.methods or (), signed_in=needs_user or needs_operator)
        body_type = _body_type(self)
        offered = (JSON_TYPE, *_further_types(calls))
        not_acceptable = (
            f"This call answers with {' or '.join(offered)} only, and the Accept header allows none of them."
        )
        unsupported = f"This call accepts a body of {body_type} only."

        async def checked(request: Request) -> Response:
            if not isinstance(request, StrictRequest):
                request = StrictRequest(request.scope, request.receive)
            if needs_user or needs_operator:
                identity = await authenticate(request)
                if needs_operator and identity.role is not Role.OPERATOR:
                    note_refusal(request, 403, identity)
                    raise Refusal(CommonError.FORBIDDEN)
                runtime_of(request).throttles.check_rate(request, policy, identity.id)
            elif rates_itself not in calls:
                check_anonymous_rate(request, policy)
            media_type = negotiate(", ".join(request.headers.getlist("accept")), offered)
            if media_type is None:
                raise Refusal(WireError.NOT_ACCEPTABLE, detail=not_acceptable)
            request.state.media_type = media_type
            if body_type and _media_type(request) != body_type:
                raise Refusal(WireError.UNSUPPORTED_MEDIA_TYPE, detail=unsupported)
            if body_type:
                await self._read(request, body_type)  # read here, because 400 comes before 422
            _check_query(request, takes_query=takes_query)
            return await handle(request)

        return checked

    async def _read(self, request: Request, body_type: str) -> None:
        """Read the body, which the request stores for the handler. Raises Refusal (`malformed_body`)."""
        if body_type == JSON_TYPE:
            await request.json()
        else:
            check_values(await request.body(), b"&%")

    def _handler(self) -> Handler:
        """FastAPI's own handler: it resolves the parameters, calls the route's function, and writes its result."""
        return super().get_route_handler()


def _further_types(calls: set[Callable[..., Any]]) -> tuple[str, ...]:
    """Return the media types that a call answers in, besides JSON."""
    if document_type in calls:
        return tuple(documents.FORMATS)
    return (HTML_TYPE,) if page_type in calls else ()


def _check_query(request: Request, *, takes_query: bool) -> None:
    """Refuse parameters on a call that has none, and repeated parameters, which are ambiguous.

    There are at most `MOST_PARAMETERS` of them (api/server/request_bounds.py).
    """
    times = Counter(name for name, _ in request.query_params.multi_items())
    wrong = [(name, "This parameter is given twice.") for name in sorted(times) if times[name] > 1]
    if not takes_query:
        wrong = [(name, "This call takes no such parameter.") for name in sorted(times)]
    if wrong:
        raise RequestValidationError([{"loc": ("query", name), "msg": message} for name, message in wrong])


def _calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _body_type(route: APIRoute) -> str | None:
    if route.body_field is None:
        return None
    media_type = getattr(route.body_field.field_info, "media_type", JSON_TYPE)
    return str(media_type)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
