"""Sign-up, and the caller's own user."""

from functools import partial

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from api.dependencies import (
    RuntimeDep,
    SessionDep,
    UserDep,
    address_of,
    author_of,
    disconnected,
    guessing,
    note_refusal,
)
from api.http.checks import CheckedRoute
from api.runtime import Runtime
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, created, problems
from api.schemas.users import NewPassword, SignUp, UserOut
from api.throttling.rates import network_of
from core.domain.errors import CommonError, Part, Refusal
from core.domain.users import UserError
from core.services.identity import users
from core.services.identity.emails import check_domain

router = APIRouter(tags=["auth"], route_class=CheckedRoute)


@router.post(
    "/signup",
    summary="Sign up",
    response_description="The new user.",
    status_code=201,
    responses=created("/users/me") | problems(UserError.EMAIL_TAKEN, CommonError.RATE_LIMITED, *WITH_BODY, *WRITES),
)
async def sign_up(
    body: SignUp, request: Request, response: Response, runtime: RuntimeDep, session: SessionDep
) -> UserOut:
    """Become a customer of the bank. Log in with the e-mail address and the password afterwards."""
    check_domain(body.email, tests_allowed=runtime.settings.allow_test_emails)
    about = (body.email, body.name, runtime.settings.bank_name)
    who = network_of(address_of(request))
    guarded = runtime.throttles.sign_up(address_of(request))
    # A sign-up that waits is no failed guess yet.
    async with runtime.sign_ups.turn(who, partial(disconnected, request)), guessing(request, guarded):
        password_hash = await runtime.hashing.run(who, runtime.passwords.choose, body.password, about)
        await runtime.intake.run(
            lambda connection: users.sign_up(connection, email=body.email, name=body.name, password_hash=password_hash)
        )
    user = await users.find_by_email(session, body.email)
    assert user is not None, "committed above"
    response.headers["Location"] = "/users/me"
    return UserOut.of(user)


@router.get(
    "/users/me", summary="Show yourself", response_description="The caller's user.", responses=problems(*FOR_USERS)
)
async def get_me(identity: UserDep, session: SessionDep) -> UserOut:
    """Show the user that the access token belongs to."""
    return UserOut.of(await users.get(session, identity.id))


@router.post(
    "/users/me/password",
    summary="Change your password",
    response_description="The password is changed, and all tokens of the user have ended.",
    status_code=204,
    responses=problems(*FOR_USERS, *WITH_BODY, *WRITES),
)
async def change_password(
    body: NewPassword, request: Request, identity: UserDep, runtime: RuntimeDep, session: SessionDep
) -> None:
    """Change the password. All earlier tokens end, including the one used for this call."""
    user = await users.get(session, identity.id)
    await session.close()  # hashing takes long, and an open snapshot would keep the log from being truncated
    about = (user.email, user.name, runtime.settings.bank_name)
    # First, because it is fast: a bad new password then costs no hash and does not count as a failed guess.
    await runtime.hashing.run(identity.id, runtime.passwords.judge, body.new_password, about, Part.NEW_PASSWORD)
    async with guessing(request, runtime.throttles.password(identity.id), identity):
        if not await verify_password(runtime, identity.id, body.current_password, user.password_hash):
            note_refusal(request, 401, identity)
            raise Refusal(CommonError.UNAUTHENTICATED)
    password_hash = await hash_password(runtime, identity.id, body.new_password)
    author = author_of(request, identity)

    def work(connection: Connection) -> None:
        users.change_password(connection, author, identity, password_hash=password_hash)

    await runtime.intake.run(work, by=identity)


async def hash_password(runtime: Runtime, who: int | str, password: str) -> str:
    """Hash a password in a thread. Few run at once, and fewer for the same user or network."""
    return await runtime.hashing.run(who, runtime.passwords.hash, password)


async def verify_password(runtime: Runtime, who: int | str, password: str, kept: str | None) -> bool:
    """Verify a password in a thread, within the same bounds. Without a stored hash (None) it takes as long."""
    return await runtime.hashing.run(who, runtime.passwords.verify, password, kept)
