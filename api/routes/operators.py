"""Calls for operators: views of all users, accounts and transfers, and actions on them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from api.dependencies import OperatorDep, RuntimeDep, SessionDep, author_of
from api.http.checks import CheckedRoute
from api.schemas.base import Page, PageQuery
from api.schemas.fields import AccountInPath, TransferInPath, UserInPath
from api.schemas.operators import (
    AllTransfersQuery,
    Freeze,
    NewLimit,
    NewPendingLimit,
    OperatorAccountOut,
    OperatorUserOut,
    QueueOut,
)
from api.schemas.pages import long_answer, page_of
from api.schemas.problems import FOR_OPERATORS, WITH_BODY, WRITES, problems
from api.schemas.transfers import TransferOut
from core.domain.accounts import AccountError
from core.domain.lanes import Lane
from core.domain.transfers import TransferError
from core.domain.users import UserError
from core.ids import NEWEST
from core.services.identity import erasures, operators

router = APIRouter(prefix="/operator", tags=["operator"], route_class=CheckedRoute)

_ACCOUNT = (AccountError.NOT_FOUND, AccountError.CLOSED, AccountError.FROZEN)
"""`account_frozen`: the account is isolated after a breach."""


# --- users -------------------------------------------------------------------------------------------------------


@router.get(
    "/users", summary="List all users", response_description="A page of users.", responses=problems(*FOR_OPERATORS)
)
async def list_users(
    page: Annotated[PageQuery, Query()], _operator: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> Page[OperatorUserOut]:
    """List all users of the bank, oldest first, including deactivated and erased ones."""
    after_id = runtime.cursors.open(page.cursor, of="operator:users") if page.cursor else 0
    found = await operators.list_users(session, after_id=after_id, offset=page.offset or 0, limit=page.limit + 1)
    return page_of(
        page, found, show=OperatorUserOut.of, cursor=lambda row: runtime.cursors.seal(row.id, of="operator:users")
    )


@router.post(
    "/users/{user_id}/deactivate",
    summary="Deactivate a user",
    response_description="The deactivated user. Repeating the call gives the same answer.",
    responses=problems(*FOR_OPERATORS, UserError.NOT_FOUND, UserError.LAST_OPERATOR, *WRITES),
)
async def deactivate_user(
    user_id: UserInPath, request: Request, identity: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> OperatorUserOut:
    """Revoke a user's access immediately. Pending transfers from the user's accounts will fail.

    The last active operator keeps its access.
    """
    author, listed = author_of(request, identity), runtime.settings.exclusions_path
    await runtime.intake.run(
        lambda connection: operators.deactivate(connection, author, listed, user_id),
        Lane.ACCEPT,
        Lane.SETTLE,
        by=identity,
    )
    return OperatorUserOut.of(await operators.get_user(session, user_id))


@router.post(
    "/users/{user_id}/reactivate",
    summary="Reactivate a user",
    response_description="The active user. Repeating the call gives the same answer.",
    responses=problems(*FOR_OPERATORS, UserError.NOT_FOUND, UserError.ERASED, *WRITES),
)
async def reactivate_user(
    user_id: UserInPath, request: Request, identity: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> OperatorUserOut:
    """Restore a user's access. The user has to log in again."""
    author, listed = author_of(request, identity), runtime.settings.exclusions_path
    version = await runtime.intake.run(
        lambda connection: operators.reactivate(connection, author, user_id), Lane.ACCEPT, Lane.SETTLE, by=identity
    )
    await runtime.intake.run(
        lambda connection: operators.admit(connection, listed, user_id, version), Lane.ACCEPT, Lane.SETTLE
    )
    return OperatorUserOut.of(await operators.get_user(session, user_id))


@router.put(
    "/users/{user_id}/pending-limit",
    summary="Set the limit of a user's pending transfers",
    response_description="The user with the new limit.",
    responses=problems(*FOR_OPERATORS, UserError.NOT_FOUND, UserError.ERASED, *WITH_BODY, *WRITES),
)
async def set_pending_limit(
    user_id: UserInPath,
    body: NewPendingLimit,
    *,
    request: Request,
    identity: OperatorDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> OperatorUserOut:
    """Set how many transfers from a user's accounts may be pending, in place of the number in the settings.

    Transfers that are pending already stay.
    """
    author = author_of(request, identity)

    def work(connection: Connection) -> None:
        operators.set_pending_limit(connection, author, user_id, body.transfers)

    await runtime.intake.run(work, Lane.ACCEPT, by=identity)
    return OperatorUserOut.of(await operators.get_user(session, user_id))


@router.post(
    "/users/{user_id}/erase",
    summary="Erase a user's personal data",
    response_description="The user without personal data. Repeating the call gives the same answer.",
    responses=problems(
        *FOR_OPERATORS,
        UserError.NOT_FOUND,
        UserError.ACTIVE,
        AccountError.FROZEN,
        AccountError.HAS_PENDING,
        AccountError.NOT_EMPTY,
        *WRITES,
    ),
)
async def erase_user(
    user_id: UserInPath, request: Request, identity: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> OperatorUserOut:
    """Permanently erase the personal data of a deactivated user and close the user's accounts, which must be empty.

    Name, e-mail address, password, tokens, card numbers and large documents are deleted. The ledger stays.
    """
    author, settings = author_of(request, identity), runtime.settings
    await runtime.intake.run(
        lambda connection: erasures.erase(
            connection, author, settings.erasures_path, user_id, documents=settings.documents_path
        ),
        Lane.ACCEPT,
        Lane.SETTLE,
        by=identity,
    )
    return OperatorUserOut.of(await operators.get_user(session, user_id))


# --- accounts ----------------------------------------------------------------------------------------------------


@router.get(
    "/accounts",
    summary="List all accounts",
    response_description="A page of accounts.",
    responses=problems(*FOR_OPERATORS),
)
async def list_all_accounts(
    page: Annotated[PageQuery, Query()], _operator: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> Page[OperatorAccountOut]:
    """List every account, including external ones, oldest first. All balances of a page are from the same moment."""
    after_id = runtime.cursors.open(page.cursor, of="operator:accounts") if page.cursor else 0
    found = await operators.list_accounts(session, after_id=after_id, offset=page.offset or 0, limit=page.limit + 1)
    return page_of(
        page,
        found,
        show=OperatorAccountOut.with_owner,
        cursor=lambda row: runtime.cursors.seal(row.account.id, of="operator:accounts"),
    )


@router.get(
    "/accounts/{account_id}",
    summary="Show any account",
    response_description="The account.",
    responses=problems(*FOR_OPERATORS, AccountError.NOT_FOUND),
)
async def get_any_account(account_id: AccountInPath, _operator: OperatorDep, session: SessionDep) -> OperatorAccountOut:
    """Show any account of the bank, with its owner and its reserved amount."""
    return OperatorAccountOut.with_owner(await operators.get_account(session, account_id))


@router.post(
    "/accounts/{account_id}/freeze",
    summary="Freeze an account",
    response_description="The frozen account. Repeating the call gives the same answer.",
    responses=problems(*FOR_OPERATORS, *_ACCOUNT, *WITH_BODY, *WRITES),
)
async def freeze_account(
    account_id: AccountInPath,
    body: Freeze,
    *,
    request: Request,
    identity: OperatorDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> OperatorAccountOut:
    """Freeze an account for debits only (it can still receive) or for all. Pending transfers from it will fail."""
    author = author_of(request, identity)

    def work(connection: Connection) -> None:
        operators.freeze(connection, author, account_id, body.scope)

    await runtime.intake.run(work, Lane.ACCEPT, Lane.SETTLE, by=identity)
    return OperatorAccountOut.with_owner(await operators.get_account(session, account_id))


@router.post(
    "/accounts/{account_id}/unfreeze",
    summary="Unfreeze an account",
    response_description="The active account. Repeating the call gives the same answer.",
    responses=problems(*FOR_OPERATORS, *_ACCOUNT, *WRITES),
)
async def unfreeze_account(
    account_id: AccountInPath, request: Request, identity: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> OperatorAccountOut:
    """Make a frozen account active again."""
    author = author_of(request, identity)
    await runtime.intake.run(
        lambda connection: operators.unfreeze(connection, author, account_id), Lane.ACCEPT, Lane.SETTLE, by=identity
    )
    return OperatorAccountOut.with_owner(await operators.get_account(session, account_id))


@router.put(
    "/accounts/{account_id}/overdraft-limit",
    summary="Set the overdraft limit of an account",
    response_description="The account with its new limit.",
    responses=problems(*FOR_OPERATORS, *_ACCOUNT, AccountError.LIMIT_IN_USE, *WITH_BODY, *WRITES),
)
async def set_overdraft_limit(
    account_id: AccountInPath,
    body: NewLimit,
    *,
    request: Request,
    identity: OperatorDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> OperatorAccountOut:
    """Set how far below 0 an account's balance may go. The audit log records every limit."""
    author = author_of(request, identity)

    def work(connection: Connection) -> None:
        operators.set_overdraft_limit(connection, author, account_id, body.amount)

    await runtime.intake.run(work, Lane.ACCEPT, Lane.SETTLE, by=identity)
    return OperatorAccountOut.with_owner(await operators.get_account(session, account_id))


# --- transfers, queue --------------------------------------------------------------------------------------------


@router.get(
    "/transfers",
    summary="List all transfers",
    response_description="A page of transfers.",
    response_model=Page[TransferOut],
    responses=problems(*FOR_OPERATORS),
)
async def list_all_transfers(
    query: Annotated[AllTransfersQuery, Query()], _operator: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> Response:
    """List every transfer of the bank, newest first."""
    name = f"operator:transfers:{query.status}"
    below = runtime.cursors.open(query.cursor, of=name) if query.cursor else NEWEST
    found, following = await operators.list_transfers(
        session, status=query.status, below=below, offset=query.offset or 0, limit=query.limit
    )
    shown = Page[TransferOut](
        items=[],
        limit=query.limit,
        offset=query.offset or 0,
        next_cursor=None if following is None else runtime.cursors.seal(following, of=name),
    )
    return await long_answer(shown, "items", found, TransferOut.of)


@router.get(
    "/transfers/{transfer_id}",
    summary="Show any transfer",
    response_description="The transfer.",
    responses=problems(*FOR_OPERATORS, TransferError.NOT_FOUND),
)
async def get_any_transfer(transfer_id: TransferInPath, _operator: OperatorDep, session: SessionDep) -> TransferOut:
    """Show any transfer of the bank, in its current state."""
    return TransferOut.of(await operators.get_transfer(session, transfer_id))


@router.get(
    "/queue",
    summary="Show the settlement queue",
    response_description="The state of the settlement queue.",
    responses=problems(*FOR_OPERATORS),
)
async def get_queue(_operator: OperatorDep, session: SessionDep) -> QueueOut:
    """Show how many transfers are pending, for how long, and how many messages are parked."""
    return QueueOut.of(await operators.queue_state(session))
