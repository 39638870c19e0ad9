"""The order in which requests begin: a few in each turn of the event loop, and networks in turn."""

import asyncio

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dependencies import address_of, warn_of_an_ignored_proxy
from api.runtime.fair_line import FairLine
from api.throttling.rates import network_of

TOGETHER = 4
"""Requests that begin in one turn of the loop. Each works for about a millisecond."""

WAITING = 10_000
"""More than the connections of a process, so nobody is refused here."""


class Admission:
    """Lets requests begin in fair order, a few at a time.

    A read takes some ten turns of the event loop. If every request began at once, each of these turns would last as
    long as the work of all others, and a network with many connections would slow down everybody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._line = FairLine("admission", at_once=TOGETHER, waiting=WAITING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            warn_of_an_ignored_proxy(request)
            async with self._line.turn(network_of(address_of(request))):
                await asyncio.sleep(0)  # the place is for one turn of the loop
        await self._app(scope, receive, send)
