"""Logging in and out."""

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from api.dependencies import (
    RuntimeDep,
    SessionDep,
    UserDep,
    address_of,
    author_of,
    guessing,
    note_refusal,
    rates_itself,
    runtime_of,
    serves_operators,
)
from api.http.checks import CheckedRoute
from api.routes.users import hash_password, verify_password
from api.runtime import Runtime
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, problems
from api.schemas.tokens import LogIn, LogInForm, LogInOut, Refresh, TokensOut
from api.throttling.guesses import Guarded
from api.throttling.rates import Policy, network_of
from core.domain.errors import CommonError, Refusal
from core.domain.users import Role, UserView
from core.security.access_tokens import Claims
from core.security.device_tokens import Device
from core.services.identity import log_ins, users
from core.telemetry.metrics import http as metrics

router = APIRouter(tags=["auth"], route_class=CheckedRoute)


@router.post(
    "/login",
    summary="Log in",
    response_description="The new tokens.",
    responses=problems(*FOR_USERS, *WITH_BODY, *WRITES),
    dependencies=[Depends(rates_itself)],
)
async def log_in(
    form: LogInForm, request: Request, response: Response, runtime: RuntimeDep, session: SessionDep
) -> LogInOut:
    """Exchange e-mail address and password for tokens.

    A wrong address and a wrong password get the same answer, in the same time. Keep the `device_token`, and send it
    with the next log-in on the same device: then failed log-ins from elsewhere cannot delay it.
    """
    device, who = await _known_device(form, request, session)
    runtime.throttles.check_rate(request, Policy.ANONYMOUS, who)
    async with guessing(request, _guarded(form, device, request)):
        begun, password_hash = await _begin(form, who, request, session)
        tokens = _answer(runtime, begun, response)
        device_token = runtime.device_tokens.issue(begun.user_id, password_hash)
        return LogInOut(**tokens.model_dump(), device_token=device_token)


def _guarded(form: LogIn, device: Device | None, request: Request) -> list[Guarded]:
    """Return what the log-in may be guessing. On the operators' own port, guesses elsewhere do not count."""
    runtime = runtime_of(request)
    if device is not None:
        return runtime.throttles.log_in_on(device)
    port = runtime.settings.operator_port if serves_operators(request.scope) else 0
    return runtime.throttles.log_in(form.username, address_of(request), port=port)


async def _known_device(form: LogIn, request: Request, session: AsyncSession) -> tuple[Device | None, int | str]:
    """Return the device whose token was sent, if the user to be logged in has used it, and whose turns a log-in takes.

    These are the user's on a known device. Strangers have no such token, and take the turns of their network.
    """
    tokens = runtime_of(request).device_tokens
    device = tokens.read(form.device_token) if form.device_token else None
    if device is not None:
        user = await users.find_by_email(session, form.username)
        await session.close()
        if user is not None and tokens.is_of(device, user.public_id, user.password_hash):
            return device, user.id
    return None, network_of(address_of(request))


async def _begin(form: LogIn, who: int | str, request: Request, session: AsyncSession) -> tuple[log_ins.LogIn, str]:
    """Log a user in. Returns the log-in, and the stored hash of the password. `who` waits for the hashing."""
    runtime = runtime_of(request)
    user = await users.find_by_email(session, form.username)
    await session.close()  # hashing takes long, and an open snapshot would keep the log from being truncated
    author = author_of(request)
    kept = user.password_hash if user and _may_log_in(user, request) else None
    if not await verify_password(runtime, who, form.password, kept) or user is None:
        known = user.public_id if user else None
        await runtime.intake.run(lambda connection: log_ins.fail_log_in(connection, author, known))
        raise _log_in_refused()
    is_outdated = runtime.passwords.is_outdated(user.password_hash)
    stronger = await hash_password(runtime, who, form.password) if is_outdated else None
    days = runtime.settings.refresh_token_days
    begun = await runtime.intake.run(
        lambda connection: log_ins.log_in(
            connection, author, user_id=user.id, token_version=user.token_version, days=days, stronger_hash=stronger
        )
    )
    if begun is None:
        raise _log_in_refused()
    return begun, stronger or user.password_hash


def _may_log_in(user: UserView, request: Request) -> bool:
    return user.is_active and (user.role is not Role.OPERATOR or serves_operators(request.scope))


def _log_in_refused() -> Refusal:
    metrics.login_failures.inc()
    return Refusal(CommonError.UNAUTHENTICATED)


@router.post(
    "/token/refresh",
    summary="Refresh your tokens",
    response_description="A new pair of tokens. The old refresh token is no longer valid.",
    responses=problems(*FOR_USERS, *WITH_BODY, *WRITES),
)
async def refresh_tokens(body: Refresh, request: Request, response: Response, runtime: RuntimeDep) -> TokensOut:
    """Exchange a refresh token for a new pair. Using it twice ends the log-in that it came from."""
    author = author_of(request)
    operators_too = serves_operators(request.scope)

    def work(connection: Connection) -> log_ins.LogIn | None:
        return log_ins.refresh(connection, author, body.refresh_token, operators_too=operators_too)

    async with guessing(request, runtime.throttles.refresh(address_of(request))):
        begun = await runtime.intake.run(work)
        if begun is None:
            note_refusal(request, 401)
            raise Refusal(CommonError.UNAUTHENTICATED)
    return _answer(runtime, begun, response)


@router.post(
    "/logout",
    summary="Log out everywhere",
    response_description="All tokens of the user have ended.",
    status_code=204,
    responses=problems(*FOR_USERS, *WRITES),
)
async def log_out(request: Request, identity: UserDep, runtime: RuntimeDep) -> None:
    """End all access and refresh tokens of the caller immediately, on every device."""
    author = author_of(request, identity)
    await runtime.intake.run(lambda connection: log_ins.log_out(connection, author, identity), by=identity)


def _answer(runtime: Runtime, begun: log_ins.LogIn, response: Response) -> TokensOut:
    response.headers["Cache-Control"] = "no-store"
    return TokensOut(
        access_token=runtime.access_tokens.issue(Claims(begun.user_id, begun.token_version)),
        expires_in=runtime.access_tokens.seconds,
        refresh_token=begun.refresh_token,
    )
