"""Dependencies of routes: the caller, a session to read with, and the parts of the running application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Annotated, Self, cast

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Scope

from api.errors import READ_ERRORS
from api.runtime import Runtime
from api.throttling.guesses import Guarded
from api.throttling.rates import Policy, network_of
from core.domain.audit import Action, Author
from core.domain.errors import CommonError, GiroError, RateLimited, Refusal
from core.domain.transfers import may_be_a_guess
from core.domain.users import Identity, Role, UserView
from core.services.audit import write_down
from core.telemetry.logging import get_logger

log = get_logger(__name__)

ADDRESSES = 4096
"""Addresses of clients whose usual spelling is remembered: reading one takes some ten microseconds."""


def runtime_of(request: Request) -> Runtime:
    """Return the parts of the application that answers a request."""
    return cast(Runtime, request.app.state.runtime)


async def get_runtime(request: Request) -> Runtime:
    """Return the parts of the running API."""
    return runtime_of(request)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session that only reads, closed when the call has returned. It waits for its turn among all clients."""
    identity: Identity | None = getattr(request.state, "identity", None)
    who = network_of(address_of(request)) if identity is None else identity.id
    async with runtime_of(request).reading.session(who, partial(disconnected, request)) as session:
        yield session


async def disconnected(request: Request) -> None:
    """Return when the client has disconnected."""
    await request.body()  # it is read already; the message after it is the disconnection
    while (await request.receive())["type"] != "http.disconnect":
        pass


_bearer = OAuth2PasswordBearer(
    tokenUrl="login",
    auto_error=False,
    refreshUrl="token/refresh",
    description="An access token of `POST /login` or `POST /token/refresh`, as `Authorization: Bearer …`.",
)


def address_of(request: Request) -> str | None:
    """The client's address, as the server and its trusted proxies report it."""
    return None if request.client is None else _address(request.client.host)


@lru_cache(maxsize=ADDRESSES)
def _address(host: str) -> str | None:
    """Return an address in its usual spelling; None if it is not one."""
    try:
        # Without its zone, which can be any text: a careless proxy may pass on a zone that a client has invented.
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def warn_of_an_ignored_proxy(request: Request) -> None:
    """Log once if a request from this machine or a private network came through a proxy that is not trusted.

    All clients of such a proxy count as one. Strangers on public networks cause no such line.
    """
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    if not forwarded or request.client is None or request.client.host in forwarded:
        return  # there is no proxy, or a trusted one named this client
    address = address_of(request)
    if address is None or not ip_address(address).is_private:
        return
    if not getattr(request.app.state, "has_warned_of_a_proxy", False):
        request.app.state.has_warned_of_a_proxy = True
        log.warning(
            "forwarded_for_ignored",
            proxy=address,
            advice="All clients of this proxy count as one. If it is yours, name it in GIRO_TRUSTED_PROXIES.",
        )


def serves_operators(scope: Scope) -> bool:
    """Return whether a request came to a port that operators use: to their own, or to any if they have none."""
    port: int = scope["app"].state.operator_port
    return not port or (scope.get("server") or (None, None))[1] == port


def check_anonymous_rate(request: Request, policy: Policy) -> None:
    """Check a request without a token against the rate of its client's network. Raises RateLimited.

    Anonymous reads by programs of this machine are not limited. They include the supervisor and the container's health
    check, which must not take a flood of other requests for a service that is not ready.
    """
    if policy is not Policy.ANONYMOUS_READS or not is_from_here(request):
        runtime_of(request).throttles.check_rate(request, policy, network_of(address_of(request)))


async def check_reading_rate(request: Request) -> None:
    """Check a read of a public page against the rate of anonymous reads. Raises RateLimited."""
    check_anonymous_rate(request, Policy.ANONYMOUS_READS)


def is_from_here(request: Request) -> bool:
    """Return whether a program of this machine sent the request for itself: a proxy would add X-Forwarded-For."""
    address = address_of(request)
    if address is None or request.client is None or "x-forwarded-for" in request.headers:
        return False
    server, _ = request.scope.get("server") or (None, None)
    return request.client.host == server or ip_address(address).is_loopback


def author_of(request: Request, who: Identity | UserView | None = None) -> Author:
    """Return the author of a request for the audit log. `identity` is None if the user is unknown."""
    return Author(
        user_id=None if who is None else who.id, request_id=request.state.request_id, address=address_of(request)
    )


def note_refusal(request: Request, status: int, who: Identity | None = None) -> None:
    """Record that a request was refused access: with 401, with 403, or with 429 if it may be guessing."""
    runtime_of(request).refusals.add(author_of(request, who), status=status, route=request.scope["route"].path)


@asynccontextmanager
async def guessing(request: Request, guarded: list[Guarded], who: Identity | None = None) -> AsyncIterator[None]:
    """Run an attempt that may be a guess. Raises RateLimited for a client that has to wait after failures.

    A Refusal counts as a failure. An error of the service does not.
    """
    try:
        attempt = await runtime_of(request).throttles.attempt(request, guarded)
    except RateLimited:
        note_refusal(request, 429, who)
        raise
    try:
        yield
    except Refusal:
        attempt.failed()
        raise
    except Exception:
        await attempt.take_back()
        raise
    await attempt.succeeded()


class NamingPayees:
    """A request of a customer that names payees. Entering it raises RateLimited for a customer who has to wait.

    A Refusal that tells something about a stranger's account counts as a guess, and so does each such line of a batch,
    which the call adds to `guesses`.
    """

    __slots__ = ("_identity", "_request", "_tried_at", "guesses")

    def __init__(self, request: Request, identity: Identity) -> None:
        self._request, self._identity = request, identity
        self.guesses = 0

    async def __aenter__(self) -> Self:
        try:
            self._tried_at = runtime_of(self._request).throttles.payees.check(self._request, self._identity.id)
        except RateLimited:
            note_refusal(self._request, 429, self._identity)
            raise
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, Refusal):
            self.guesses += may_be_a_guess(error)
        if self.guesses:
            await self._count()
        elif self._tried_at:
            runtime_of(self._request).throttles.payees.take_back(self._identity.id, self._tried_at)

    async def _count(self) -> None:
        runtime, user_id = runtime_of(self._request), self._identity.id
        guarded = runtime.throttles.payees_of(user_id)
        if guarded is None:
            return
        untold = await runtime.throttles.payees.failed(self._request, user_id, guarded, self.guesses)
        if not untold:
            return
        author = author_of(self._request, self._identity)
        try:
            await runtime.intake.run(
                lambda connection: write_down(connection, author, Action.PAYEES_GUESSED, tries=untold)
            )
        except GiroError:  # the client gets its answer even if this cannot be written
            runtime.throttles.payees.keep_untold(user_id, untold)


async def authenticate(request: Request) -> Identity:
    """Identify the caller. Raises Refusal (`unauthenticated`), the same for every reason.

    A refused token is recorded in the audit log. A request without a token is not.
    """
    token = _token_of(request)
    if not token:
        raise Refusal(CommonError.UNAUTHENTICATED)
    try:
        identity = await _identify(runtime_of(request), token)
    except Refusal:
        note_refusal(request, 401)
        raise
    request.state.identity = identity
    return identity


async def user_of(scope: Scope) -> int | None:
    """Return the row id of the user whose token a request has, before the route checks it; None if that is unknown.

    The route answers with the reason: the token is missing or invalid, or the database cannot be read.
    """
    identity = await _known(Request(scope))
    return None if identity is None else identity.id


async def is_operator(request: Request) -> bool:
    """Return whether an operator sent a request, to a port of operators. Any other token is like none."""
    identity = await _known(request) if serves_operators(request.scope) else None
    return identity is not None and identity.role is Role.OPERATOR


async def _known(request: Request) -> Identity | None:
    token = _token_of(request)
    try:
        return await _identify(runtime_of(request), token) if token else None
    except Refusal:
        return None
    except READ_ERRORS:
        return None


def _token_of(request: Request) -> str:
    """The token of a request; empty if it has none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _identify(runtime: Runtime, token: str) -> Identity:
    """Read the user for each request, so that deactivation, log-out and a new password take effect immediately."""
    claims = runtime.access_tokens.read(token)
    identity = await runtime.glance.identity(claims.user_id)
    if identity is None or identity.token_version != claims.token_version:
        raise Refusal(CommonError.UNAUTHENTICATED)
    return identity


async def current_user(request: Request, _token: Annotated[str | None, Depends(_bearer)]) -> Identity:
    """Return the caller, whom the route has already identified (api/http/checks.py)."""
    return cast(Identity, request.state.identity)


async def operator(identity: Annotated[Identity, Depends(current_user)]) -> Identity:
    """Return the calling operator. The route has already refused all other callers."""
    return identity


async def rates_itself() -> None:
    """Mark a call that checks its rate itself, because it has to read its body before it knows whose rate that is."""


async def document_type(request: Request) -> str:
    """The media type of the answer, which the route has already chosen: JSON or that of a document."""
    return cast(str, request.state.media_type)


async def page_type(request: Request) -> str:
    """The media type to answer in. The route has chosen it already, out of JSON and HTML."""
    return cast(str, request.state.media_type)


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]
# Closed before the answer is sent. A client that does not read its answer would otherwise keep the session open.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
UserDep = Annotated[Identity, Depends(current_user)]
OperatorDep = Annotated[Identity, Depends(operator)]
DocumentTypeDep = Annotated[str, Depends(document_type)]
PageTypeDep = Annotated[str, Depends(page_type)]
