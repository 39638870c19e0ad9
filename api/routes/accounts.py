"""Accounts and their transactions."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import RuntimeDep, SessionDep, UserDep
from api.http.checks import CheckedRoute
from api.schemas.accounts import AccountOut, OpenAccount, TransactionOut
from api.schemas.base import Page, PageQuery
from api.schemas.fields import EXAMPLE_ID, AccountInPath
from api.schemas.pages import long_answer, page_of
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, created, problems
from core.domain.accounts import AccountError
from core.domain.lanes import Lane
from core.services import accounts

router = APIRouter(tags=["accounts"], route_class=CheckedRoute)


@router.post(
    "/accounts",
    summary="Open an account",
    response_description="The new account.",
    status_code=201,
    responses=created(f"/accounts/{EXAMPLE_ID}") | problems(*FOR_USERS, AccountError.TOO_MANY, *WITH_BODY, *WRITES),
)
async def open_account(
    body: OpenAccount, identity: UserDep, response: Response, runtime: RuntimeDep, session: SessionDep
) -> AccountOut:
    """Open an empty account in a currency."""
    most = runtime.settings.accounts_per_user
    account_id = await runtime.intake.run(
        lambda connection: accounts.open_account(connection, owner_id=identity.id, currency=body.currency, most=most),
        Lane.ACCEPT,
        Lane.SETTLE,
        by=identity,
    )
    response.headers["Location"] = f"/accounts/{account_id}"
    return AccountOut.of(await accounts.get(session, user_id=identity.id, account_id=account_id))


@router.get(
    "/accounts",
    summary="List your accounts",
    response_description="A page of the caller's accounts.",
    responses=problems(*FOR_USERS),
)
async def list_accounts(
    page: Annotated[PageQuery, Query()], identity: UserDep, runtime: RuntimeDep, session: SessionDep
) -> Page[AccountOut]:
    """List the caller's accounts, oldest first. All balances of a page are from the same moment."""
    name = f"accounts:{identity.id}"
    after_id = runtime.cursors.open(page.cursor, of=name) if page.cursor else 0
    found = await accounts.list_for_user(
        session, user_id=identity.id, after_id=after_id, offset=page.offset or 0, limit=page.limit + 1
    )
    return page_of(page, found, show=AccountOut.of, cursor=lambda row: runtime.cursors.seal(row.id, of=name))


@router.get(
    "/accounts/{account_id}",
    summary="Show an account",
    response_description="The account.",
    responses=problems(*FOR_USERS, AccountError.NOT_FOUND),
)
async def get_account(account_id: AccountInPath, identity: UserDep, session: SessionDep) -> AccountOut:
    """Show one of the caller's accounts."""
    return AccountOut.of(await accounts.get(session, user_id=identity.id, account_id=account_id))


@router.get(
    "/accounts/{account_id}/transactions",
    summary="List the transactions of an account",
    response_description="A page of the account's transactions.",
    response_model=Page[TransactionOut],
    responses=problems(*FOR_USERS, AccountError.NOT_FOUND),
)
async def list_transactions(
    account_id: AccountInPath,
    page: Annotated[PageQuery, Query()],
    identity: UserDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> Response:
    """List the transactions of an account, newest first. A cursor keeps its place while new ones are posted."""
    account = await accounts.get(session, user_id=identity.id, account_id=account_id)
    name = f"transactions:{account.id}"
    found = await accounts.list_transactions(
        session,
        account=account,
        start=runtime.cursors.open(page.cursor, of=name) if page.cursor else None,
        offset=page.offset or 0,
        limit=page.limit,
    )
    more = found[-1].previous_id if found else None
    shown = Page[TransactionOut](
        items=[],
        limit=page.limit,
        offset=page.offset or 0,
        next_cursor=None if more is None else runtime.cursors.seal(more, of=name),
    )
    return await long_answer(shown, "items", found, TransactionOut.of)


@router.post(
    "/accounts/{account_id}/close",
    summary="Close an account",
    response_description="The closed account. Repeating the call gives the same answer.",
    responses=problems(
        *FOR_USERS,
        AccountError.NOT_FOUND,
        AccountError.FROZEN,
        AccountError.HAS_PENDING,
        AccountError.NOT_EMPTY,
        *WRITES,
    ),
)
async def close_account(
    account_id: AccountInPath, identity: UserDep, runtime: RuntimeDep, session: SessionDep
) -> AccountOut:
    """Close an account permanently. Its balance must be 0, and no transfer may be pending from or to it."""
    await runtime.intake.run(
        lambda connection: accounts.close_account(connection, user_id=identity.id, account_id=account_id),
        Lane.ACCEPT,
        Lane.SETTLE,
        by=identity,
    )
    return AccountOut.of(await accounts.get(session, user_id=identity.id, account_id=account_id))
