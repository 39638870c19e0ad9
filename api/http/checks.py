"""The order in which a request is checked, the same on every route.

414, 431, 422 for too many parameters, 413 and 408 come first (api/server/limits.py) and the router's own 404 and 405
second. What follows here: 401, 403, 429, 406, 415, 400 for a body that is no JSON; then FastAPI checks fields (422),
and the call itself refuses last.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dependencies import (
    authenticate,
    bank_of,
    current_user,
    document_type,
    get_bank,
    limit_stranger,
    note_refusal,
    operator,
)
from api.errors import MOST_ERRORS, InvalidRequest
from api.throttling.guesses import policy_of
from core import documents
from core.domain.errors import ErrorCode, Refusal
from core.domain.users import Role

DEEPEST_NESTING = 64

MOST_VALUES = 2048
"""Values of a JSON body, or fields and escapes of a form: far more than a call takes, and read within milliseconds."""

JSON_TYPE = "application/json"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class CheckedRoute(APIRoute):
    """A route that checks who asks, and in which form, before its parameters are looked at.

    Its function's name is its `operationId`, and so the name of the function that a client's generator makes.
    """

    _written_out: ClassVar[set[str]] = set()
    """Paths without a parameter: each is that path, and no parameter of another one."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options | {"operation_id": endpoint.__name__})
        if not self.param_convertors:
            self._written_out.add(path)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as usual, but leave a path that is written out to its own routes, whatever the method."""
        return super().matches(scope) if self.can_be(scope["path"]) else (Match.NONE, {})

    def can_be(self, path: str) -> bool:
        """Say whether this route can be the one of a path."""
        return not self.param_convertors or path not in self._written_out

    def get_route_handler(self) -> Handler:
        """Wrap the handler in the checks that come before it."""
        handle = self._handler()
        calls = set(_calls(self.dependant))
        needs_user, needs_operator = current_user in calls, operator in calls
        takes_query = bool(self.dependant.query_params) or any(d.query_params for d in self.dependant.dependencies)
        policy = policy_of(self.path, self.methods or (), signed_in=needs_user or needs_operator)
        body_type = _body_type(self)
        offered = (JSON_TYPE, *documents.FORMATS) if document_type in calls else (JSON_TYPE,)

        async def checked(request: Request) -> Response:
            if not isinstance(request, StrictRequest):
                request = StrictRequest(request.scope, request.receive)
            if needs_user or needs_operator:
                identity = authenticate(request)
                if needs_operator and identity.role is not Role.OPERATOR:
                    note_refusal(request, 403, identity)
                    raise Refusal(ErrorCode.FORBIDDEN)
                bank_of(request).throttles.limit(request, policy, identity.id)
            else:
                limit_stranger(request, policy)
            media_type = negotiate(", ".join(request.headers.getlist("accept")), offered)
            if media_type is None:
                raise Refusal(ErrorCode.NOT_ACCEPTABLE)
            request.state.media_type = media_type
            if body_type and _media_type(request) != body_type:
                raise Refusal(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
            if body_type:
                await self._read(request, body_type)  # here, since 400 comes before 422
            _check_query(request, takes_query=takes_query)
            return await handle(request)

        return checked

    async def _read(self, request: Request, body_type: str) -> None:
        """Read the body, which the request keeps for the handler; raises Refusal (`malformed_body`)."""
        if body_type == JSON_TYPE:
            await request.json()
        else:
            _check_values(await request.body(), b"&%")

    def _handler(self) -> Handler:
        """FastAPI's own, which finds what the call asks for, calls it, and writes what it returns."""
        return super().get_route_handler()


class DirectRoute(CheckedRoute):
    """A route that is called without the framework, which takes longer over a small call than all of the rest.

    It is described, documented and checked like any other. Its call takes what `_SOURCES` has, the request and one
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
        """Make a body's model of what was read; raises InvalidRequest."""
        try:
            return self.adapter.validate_python(await request.json())
        except ValidationError as error:
            raise invalid_body(errors_of(error), error.error_count()) from None


def errors_of(error: ValidationError) -> list[Any]:
    """List the errors of a validation, without the values that were sent."""
    return error.errors(include_url=False, include_context=False, include_input=False)


def invalid_body(errors: Sequence[Mapping[str, Any]], count: int) -> InvalidRequest:
    """Say what is wrong with a body that has `count` errors, by the first ones."""
    return InvalidRequest([{**one, "loc": ("body", *one["loc"])} for one in errors[:MOST_ERRORS]], count=count)


class Direct:
    """Calls direct routes past the framework, and leaves all else to it.

    Its layers find the route, keep stacks of contexts, count the body and translate errors: for a small call that is
    a quarter of the time. `answer` makes an answer of what a call raises, or raises it.
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
        if found is None:
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
    get_bank: bank_of,
}
"""Where the dependencies of direct calls are found: the checks have put them there."""


def _check_query(request: Request, *, takes_query: bool) -> None:
    """Refuse parameters on a call that takes none, and any that comes twice, since either could be meant.

    No more than `MOST_PARAMETERS` come here (api/server/limits.py).
    """
    times = Counter(name for name, _ in request.query_params.multi_items())
    wrong = [(name, "This parameter is given twice.") for name in sorted(times) if times[name] > 1]
    if not takes_query:
        wrong = [(name, "This call takes no such parameter.") for name in sorted(times)]
    if wrong:
        raise RequestValidationError([{"loc": ("query", name), "msg": message} for name, message in wrong])


class StrictRequest(Request):
    """A request whose JSON body means one thing only."""

    async def json(self) -> Any:
        """Parse the body, once; raises Refusal for what is not exactly one JSON value (RFC 8259)."""
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json(await self.body())
            except (ValueError, RecursionError):
                raise Refusal(ErrorCode.MALFORMED_BODY) from None
        return self._json


def parse_json(body: bytes) -> Any:
    """Parse JSON in UTF-8 and refuse, with ValueError or RecursionError, what parsers disagree about.

    That is NaN and Infinity, a key given twice, nesting beyond `DEEPEST_NESTING`, bytes that are no UTF-8. Raises
    Refusal (`malformed_body`) for more than `MOST_VALUES` values, or `MOST_MEMBERS` of one object.
    """
    _check_values(body, b",[{")
    value = DECODER.decode(body.decode("utf-8"))
    check_depth(value, DEEPEST_NESTING)
    return value


def _check_values(body: bytes, marks: bytes) -> None:
    """Refuse a body that may have too many values, by the marks that stand before each. Those in texts count too."""
    if sum(body.count(mark) for mark in marks) > MOST_VALUES:
        raise Refusal(ErrorCode.MALFORMED_BODY, detail=f"The body has more than {MOST_VALUES} values.")


def check_depth(value: Any, deepest: int) -> None:
    """Raise ValueError for a value that is nested deeper.

    Goes down level by level: a list of thousands of flat objects takes no longer than looking at each value once.
    """
    level = [value]
    for _ in range(deepest):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _members(outer)]
        if not level:
            return
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError("nested too deep")


def _members(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


MOST_MEMBERS = 100
"""Members of one object: each that a call does not know is an error, which takes long to make."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check_members(len(pairs))
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def check_members(count: int) -> None:
    """Raise Refusal (`malformed_body`) for an object with so many members that no call takes it."""
    if count > MOST_MEMBERS:
        raise Refusal(ErrorCode.MALFORMED_BODY, detail=f"An object has more than {MOST_MEMBERS} members.")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
"""Parses JSON; raises ValueError for NaN and Infinity and a key that is given twice, Refusal for too many of them."""


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


_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@lru_cache(maxsize=256)
def negotiate(accept: str, offered: tuple[str, ...]) -> str | None:
    """Choose the media type that an Accept header (RFC 9110, 12.5.1) likes best, the first of several; None: none.

    The most specific range that fits a type decides its weight.
    """
    if not accept:
        return offered[0]
    weights: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part.removeprefix("q=") for part in parameters if part.startswith("q=")), "1")
        weights[name] = float(weight) if _WEIGHT.fullmatch(weight) else 1.0
    liked = {media_type: _weight(media_type, weights) for media_type in offered}
    best = max(liked, key=liked.__getitem__)
    return best if liked[best] > 0 else None


def _weight(media_type: str, weights: Mapping[str, float]) -> float:
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[name] for name in ranges if name in weights), 0.0)


def _can_be(route: APIRoute, path: str) -> bool:
    return not isinstance(route, CheckedRoute) or route.can_be(path)


class Methods:
    """Which methods each path takes, for the `Allow` header: the framework names those of one route only."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]

    def of(self, path: str) -> list[str]:
        """List the methods of a path, sorted; HEAD goes with GET."""
        found = [route for route in self._routes if route.path_regex.match(path)]
        methods = {method for route in found if _can_be(route, path) for method in route.methods or ()}
        return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
