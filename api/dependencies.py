"""Dependencies of routes: the caller, a session to read with, and the parts of the running application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Scope

from api.errors import READ_ERRORS
from api.runtime import Runtime
from api.throttling.guesses import Guarded
from api.throttling.rates import Policy, network_of
from core.domain.audit import Author
from core.domain.errors import CommonError, RateLimited, Refusal
from core.domain.users import Identity, UserView


def runtime_of(request: Request) -> Runtime:
    """Return the parts of the application that answers a request."""
    return cast(Runtime, request.app.state.runtime)


async def get_runtime(request: Request) -> Runtime:
    """Return the parts of the running API."""
    return runtime_of(request)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session that only reads, closed when the call has returned."""
    async with runtime_of(request).reading() as session:
        yield session


_bearer = OAuth2PasswordBearer(tokenUrl="login", auto_error=False, refreshUrl="token/refresh")


def address_of(request: Request) -> str | None:
    """The address that a request came from, as far as the server and the proxies it trusts know."""
    if request.client is None:
        return None
    try:
        # Without its zone, which is any text: a careless proxy hands on what a client made up.
        return str(ip_address(request.client.host.partition("%")[0]))
    except ValueError:
        return None


def check_anonymous_rate(request: Request, policy: Policy) -> None:
    """Hold a request that needs no token to a rate, which its client's network has; raises RateLimited.

    Programs of this machine read as often as they like. The supervisor and the container's health check are among
    them, and no flood may make them believe that the service is not ready.
    """
    if policy is not Policy.ANONYMOUS_READS or not _is_from_here(request):
        runtime_of(request).throttles.check_rate(request, policy, network_of(address_of(request)))


async def check_reading_rate(request: Request) -> None:
    """Hold a read of a page that anybody may see to the rate of such reads; raises RateLimited."""
    check_anonymous_rate(request, Policy.ANONYMOUS_READS)


def _is_from_here(request: Request) -> bool:
    """Say whether a program of this machine asks, and asks for itself: a proxy adds X-Forwarded-For."""
    address = address_of(request)
    if address is None or request.client is None or "x-forwarded-for" in request.headers:
        return False
    server, _ = request.scope.get("server") or (None, None)
    return request.client.host == server or ip_address(address).is_loopback


def author_of(request: Request, who: Identity | UserView | None = None) -> Author:
    """Who acts by a request, as the audit log names them; None is nobody who is known."""
    return Author(
        user_id=None if who is None else who.id, request_id=request.state.request_id, address=address_of(request)
    )


def note_refusal(request: Request, status: int, who: Identity | None = None) -> None:
    """Have it written down that a request was refused access, with 401, 403, or 429 where it may be guessing."""
    runtime_of(request).refusals.add(author_of(request, who), status=status, route=request.scope["route"].path)


@asynccontextmanager
async def guessing(request: Request, guarded: list[Guarded], who: Identity | None = None) -> AsyncIterator[None]:
    """Carry out what somebody could guess by trying; raises RateLimited for who has to wait after failures.

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


def authenticate(request: Request) -> Identity:
    """Identify the caller. Raises Refusal (`unauthenticated`), the same for every reason.

    A token that is refused is noted for the audit log; a request without any is nothing to note.
    """
    token = _token_of(request)
    if not token:
        raise Refusal(CommonError.UNAUTHENTICATED)
    try:
        identity = _identify(runtime_of(request), token)
    except Refusal:
        note_refusal(request, 401)
        raise
    request.state.identity = identity
    return identity


def user_of(scope: Scope) -> int | None:
    """Say whose token a request brings, by row id, before its route looks; None where that cannot be said.

    The route answers why: the token is missing or invalid, or the database cannot be read.
    """
    request = Request(scope)
    try:
        return _identify(runtime_of(request), _token_of(request)).id
    except Refusal:
        return None
    except READ_ERRORS:
        return None


def _token_of(request: Request) -> str:
    """The token that a request brings; empty without any."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _identify(runtime: Runtime, token: str) -> Identity:
    """Look the user up, each time: so deactivation, log-out and a new password take effect at once."""
    claims = runtime.access_tokens.read(token)
    identity = runtime.peek.identity(claims.user_id)
    if identity is None or identity.token_version != claims.token_version:
        raise Refusal(CommonError.UNAUTHENTICATED)
    return identity


async def current_user(request: Request, _token: Annotated[str | None, Depends(_bearer)]) -> Identity:
    """Return the caller. The route has identified them already (api/http/checks.py), before it read anything else."""
    return cast(Identity, request.state.identity)


async def operator(identity: Annotated[Identity, Depends(current_user)]) -> Identity:
    """Return the operator that calls. The route has refused everybody else."""
    return identity


async def document_type(request: Request) -> str:
    """The media type to answer in. The route has chosen it already, out of JSON and those of documents."""
    return cast(str, request.state.media_type)


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]
# Closed before the answer is sent, and not after: a client who does not take it up would keep the session.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
UserDep = Annotated[Identity, Depends(current_user)]
OperatorDep = Annotated[Identity, Depends(operator)]
DocumentTypeDep = Annotated[str, Depends(document_type)]
