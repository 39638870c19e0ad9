"""Routes that are called without the framework."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dependencies import (
    current_user,
    get_runtime,
    operator,
    runtime_of,
)
from api.errors import MOST_ERRORS, InvalidRequest
from api.http.checks import CheckedRoute, Handler
from api.http.strict_json import StrictRequest
from api.http.validation_messages import message_of


class DirectRoute(CheckedRoute):
    """A route that is called without the framework, which takes longer for a small call than all other code.

    It is documented and checked like any other route. Its function takes the sources in `_SOURCES`, the request and one
    body, and returns a response. Its path has no parameters.
    """

    def _handler(self) -> Handler:
        call: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint
        sources = {each.name: _SOURCES[each.call] for each in self.dependant.dependencies if each.name and each.call}
        if self.dependant.request_param_name:
            sources[self.dependant.request_param_name] = lambda request: request
        (body,) = self.dependant.body_params
        annotation = body.field_info.annotation
        assert annotation is not None, "a body has a model"
        self.adapter: TypeAdapter[Any] = TypeAdapter(annotation)

        async def handle(request: Request) -> Response:
            value = await self._validated(request)
            found = {name: source(request) for name, source in sources.items()}
            return await call(**found, **{body.name: value})

        return handle

    async def _validated(self, request: Request) -> Any:
        """Make a body's model from the parsed JSON. Raises InvalidRequest."""
        given = await request.json()
        try:
            return self.adapter.validate_python(given)
        except ValidationError as error:
            raise invalid_body(errors_of(error, given), error.error_count()) from None


def errors_of(error: ValidationError, given: Any) -> list[dict[str, Any]]:
    """List the locations and messages of the errors in the JSON value `given`, without the values that were sent."""
    found = error.errors(include_url=False, include_input=False)
    return [{"loc": item["loc"], "msg": message_of(item, given)} for item in found]


def invalid_body(errors: Sequence[Mapping[str, Any]], count: int) -> InvalidRequest:
    """Make the error of a body that has `count` errors, of which the first ones are listed."""
    return InvalidRequest([{**one, "loc": ("body", *one["loc"])} for one in errors[:MOST_ERRORS]], count=count)


class Direct:
    """Calls direct routes without the framework, and leaves all other requests to it.

    The framework's layers find the route, keep stacks of contexts, count the body and translate errors. For a small
    call this is a quarter of the time. `answer` makes an answer from an exception of a call, or raises it again.
    """

    def __init__(
        self,
        framework: ASGIApp,
        *,
        routers: Iterable[APIRouter],
        answer: Callable[[Request, Exception], Coroutine[Any, Any, Response]],
    ) -> None:
        self._framework = framework
        self._answer = answer
        routes = [route for router in routers for route in router.routes if isinstance(route, DirectRoute)]
        calls = [(route, route.get_route_handler()) for route in routes]
        self._calls = {
            (method, route.path): (route, handle) for route, handle in calls for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._calls.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None or not found[0].is_served(scope):
            await self._framework(scope, receive, send)
            return
        scope["route"], handle = found
        request = StrictRequest(scope, receive)
        try:
            response = await handle(request)
        except Exception as error:
            response = await self._answer(request, error)
        await response(scope, receive, send)


_SOURCES: dict[Callable[..., Any], Callable[[Request], Any]] = {
    current_user: lambda request: request.state.identity,
    operator: lambda request: request.state.identity,
    get_runtime: runtime_of,
}
"""Where direct calls find their dependencies: the checks have stored them there."""
