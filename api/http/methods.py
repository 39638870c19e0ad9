"""The methods of each path."""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.routing import APIRoute

from api.http.checks import CheckedRoute


def _can_be(route: APIRoute, path: str) -> bool:
    return not isinstance(route, CheckedRoute) or route.can_be(path)


class Methods:
    """The methods of each path, for the `Allow` header: the framework names those of one route only."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        self._routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]

    def of(self, path: str) -> list[str]:
        """List the methods of a path, sorted; HEAD goes with GET."""
        found = [route for route in self._routes if route.path_regex.match(path)]
        methods = {method for route in found if _can_be(route, path) for method in route.methods or ()}
        return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
