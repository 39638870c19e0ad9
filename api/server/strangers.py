"""The budget of each network for refused requests of callers that nobody has identified.

Calls that need no token have rates of their own (api/http/checks.py). Everything else that a stranger can send ends in
a refusal: a path that does not exist, a missing or forged token, a body that is too large.
"""

from collections.abc import Container

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dependencies import address_of, is_from_here, runtime_of
from api.errors import problem
from api.throttling.rates import REFUSED, Buckets, Policy, network_of
from api.throttling.standing import add_standing, rate_limited
from core.domain.errors import CommonError
from core.domain.throttles import Decision


class Strangers:
    """Counts refused requests of unidentified callers, and answers 429 once their network's budget is spent.

    Then a request without a token, to a path that needs one or does not exist, is refused before its body is read. A
    request with a token is always checked, so that users are not refused because of a neighbour. Answers that have
    taken from another rate, and requests of programs of this machine, do not count. `public` has the paths of the calls
    that need no token, and `below` begins the others.
    """

    def __init__(self, app: ASGIApp, *, public: Container[str], below: str) -> None:
        self._app = app
        self._public = public
        self._below = below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        buckets = runtime_of(Request(scope)).throttles.refusals if scope["type"] == "http" else None
        if buckets is None:
            await self._app(scope, receive, send)
            return
        if not self._may_be_answered(scope):
            found = _decide(scope, buckets, is_taken=False)
            if found is not None and found.wait_us:
                await _refuse(scope, receive, send, buckets, found)
                return
        is_replaced = False

        async def send_counted(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and _counts(message["status"], scope):
                found = _decide(scope, buckets, is_taken=True)
                if found is not None and found.wait_us:
                    is_replaced = True
                    await _refuse(scope, receive, send, buckets, found)
            if not is_replaced:
                await send(message)

        await self._app(scope, receive, send_counted)

    def _may_be_answered(self, scope: Scope) -> bool:
        for name, _ in scope["headers"]:  # `any` would take as long as the rest of this class
            if name == b"authorization":
                return True
        path: str = scope["path"]
        return path in self._public or path.startswith(self._below)


def _counts(status: int, scope: Scope) -> bool:
    return 400 <= status < 500 and not scope["state"].keys() & {"identity", "rates"}


def _decide(scope: Scope, buckets: Buckets, *, is_taken: bool) -> Decision | None:
    """Look into the bucket of the caller's network, or take from it. None for programs of this machine."""
    request = Request(scope)
    if is_from_here(request):
        return None
    ask = buckets.take if is_taken else buckets.look
    return ask(REFUSED, network_of(address_of(request)))


async def _refuse(scope: Scope, receive: Receive, send: Send, buckets: Buckets, decision: Decision) -> None:
    request = Request(scope)
    add_standing(request, buckets.header, Policy.ANONYMOUS_REFUSALS, decision)
    seconds = rate_limited(request, Policy.ANONYMOUS_REFUSALS, decision.wait_us).wait_seconds
    headers = {"Retry-After": str(seconds)}
    answer = problem(CommonError.RATE_LIMITED, request_id=scope["state"]["request_id"], headers=headers)
    await answer(scope, receive, send)
