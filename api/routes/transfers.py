"""Transfers, and the two kinds that operators submit: deposits and withdrawals."""

from hashlib import blake2b
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.dependencies import NamingPayees, OperatorDep, RuntimeDep, SessionDep, UserDep, address_of
from api.errors import READ_ERRORS, note_read_error
from api.http.checks import CheckedRoute
from api.http.direct import DirectRoute
from api.http.headers import etag_matches, idempotency_key, preferred_wait
from api.runtime import Runtime
from api.schemas.base import Page
from api.schemas.fields import EXAMPLE_ID, TransferInPath
from api.schemas.pages import long_answer
from api.schemas.problems import FOR_OPERATORS, FOR_USERS, WITH_BODY, WRITES, header, problems
from api.schemas.transfers import (
    NewDeposit,
    NewTransfer,
    NewWithdrawal,
    TransferOut,
    TransferQuery,
    fingerprint,
    former_fingerprint,
    render_accepted,
)
from core.domain.accounts import AccountError
from core.domain.errors import Unavailable
from core.domain.lanes import Lane
from core.domain.transfers import TransferError, TransferKind, TransferRequest, TransferStatus, TransferView
from core.domain.users import Identity
from core.ids import NEWEST
from core.services.transfers import cancelling, listing
from core.services.transfers.listing import TransferFilter, TransferPage

router = APIRouter(tags=["transfers"], route_class=CheckedRoute)
submit_router = APIRouter(tags=["transfers"], route_class=DirectRoute)
operator_router = APIRouter(tags=["operator"], route_class=DirectRoute)

REFUSALS = (
    TransferError.SAME_ACCOUNT,
    AccountError.NOT_FOUND,
    TransferError.CURRENCY_MISMATCH,
    AccountError.FROZEN,
    AccountError.CLOSED,
    TransferError.PAYEE_CANNOT_RECEIVE,
    TransferError.INSUFFICIENT_FUNDS,
    TransferError.BALANCE_LIMIT_EXCEEDED,
    TransferError.KEY_MISSING,
    TransferError.KEY_INVALID,
    TransferError.KEY_REUSED,
    TransferError.TOO_MANY_PENDING,
)
"""Reasons to refuse a transfer."""


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: answer when the transfer has ended, or after N seconds. Anything else is ignored.",
    "schema": {"type": "string"},
    "example": "wait=5",
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 visible ASCII characters. The same request with the same key is accepted only once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "rent-2026-11",
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of an earlier answer. The answer is 304 if the transfer has not changed since.",
    "schema": {"type": "string"},
    "example": '"3f1c9a"',
}
_SUBMIT: dict[str, Any] = {
    "status_code": 202,
    "response_model": TransferOut,
    "openapi_extra": {"parameters": [KEY, _PREFER]},
}
_READ = {
    "ETag": header("Entity tag of this state of the transfer, for `If-None-Match`.", '"3f1c9a"', required=True),
    "Preference-Applied": header("The wait in seconds that was applied.", "wait=5"),
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Accepted: the transfer is on disk and will be settled.",
        "headers": {
            "Location": header("The URL to poll.", f"/transfers/{EXAMPLE_ID}", required=True),
            "Retry-After": header("Seconds to wait before polling.", "1", required=True),
            "Idempotent-Replayed": header("`true` if an earlier request with this key was accepted.", "true"),
            "Preference-Applied": header("The wait in seconds that was applied.", "wait=5"),
        },
    },
    200: {
        "description": "With `Prefer: wait=N`: the transfer ended in time.",
        "model": TransferOut,
        "headers": {
            "Location": header("The URL of the transfer.", f"/transfers/{EXAMPLE_ID}", required=True),
            "Idempotent-Replayed": header("`true` if an earlier request with this key was accepted.", "true"),
            "Preference-Applied": header("The wait in seconds that was applied.", "wait=5", required=True),
        },
    },
}


@submit_router.post(
    "/transfers",
    summary="Submit a transfer",
    **_SUBMIT,
    responses=_ANSWERS | problems(*FOR_USERS, *REFUSALS, *WITH_BODY, *WRITES),
)
async def submit_transfer(body: NewTransfer, request: Request, identity: UserDep, runtime: RuntimeDep) -> Response:
    """Submit a transfer from one of the caller's accounts.

    The answer is 202 as soon as the transfer is on disk and its amount is reserved; a worker then moves the money. Poll
    the transfer, or wait for its end with `Prefer: wait=N`. Send an `Idempotency-Key` to make a retry safe.
    """
    async with NamingPayees(request, identity):
        order = _order(
            runtime,
            request,
            identity,
            body,
            kind=TransferKind.TRANSFER,
            payer=body.from_account_id,
            payee=body.to_account_id or body.to_account_number,
            currency=body.currency,
        )
        return await _submit(runtime, request, identity, order)


@operator_router.post(
    "/deposits",
    summary="Submit a deposit",
    **_SUBMIT,
    responses=_ANSWERS | problems(*FOR_OPERATORS, *REFUSALS, *WITH_BODY, *WRITES),
)
async def submit_deposit(body: NewDeposit, request: Request, identity: OperatorDep, runtime: RuntimeDep) -> Response:
    """Deposit money from outside the bank: a transfer from the currency's external account.

    The answers are those of `POST /transfers`.
    """
    order = _order(runtime, request, identity, body, kind=TransferKind.DEPOSIT, payee=body.to_account_id)
    return await _submit(runtime, request, identity, order)


@operator_router.post(
    "/withdrawals",
    summary="Submit a withdrawal",
    **_SUBMIT,
    responses=_ANSWERS | problems(*FOR_OPERATORS, *REFUSALS, *WITH_BODY, *WRITES),
)
async def submit_withdrawal(
    body: NewWithdrawal, request: Request, identity: OperatorDep, runtime: RuntimeDep
) -> Response:
    """Pay money out of the bank: a transfer to the currency's external account.

    The answers are those of `POST /transfers`.
    """
    order = _order(runtime, request, identity, body, kind=TransferKind.WITHDRAWAL, payer=body.from_account_id)
    return await _submit(runtime, request, identity, order)


@router.get(
    "/transfers",
    summary="List your transfers",
    response_description="A page of transfers.",
    response_model=Page[TransferOut],
    responses=problems(*FOR_USERS, AccountError.NOT_FOUND),
)
async def list_transfers(
    query: Annotated[TransferQuery, Query()], identity: UserDep, runtime: RuntimeDep, session: SessionDep
) -> Response:
    """List transfers from the caller's accounts, and completed transfers to them, newest first."""
    page = await _find(query, identity, runtime, session)
    shown = Page[TransferOut](
        items=[],
        limit=query.limit,
        offset=query.offset or 0,
        next_cursor=runtime.cursors.seal(page.next, of=_list_name(query, identity)) if page.next is not None else None,
    )
    return await long_answer(shown, "items", page.items, TransferOut.of)


@router.get(
    "/transfers/{transfer_id}",
    summary="Show a transfer",
    response_description="The transfer in its current state.",
    response_model=TransferOut,
    openapi_extra={"parameters": [_PREFER, _IF_NONE_MATCH]},
    responses={
        200: {
            "headers": _READ
            | {"Retry-After": header("While the transfer is pending: seconds to wait before polling.", "1")}
        },
        304: {
            "description": "The transfer has not changed: its entity tag is the one in `If-None-Match`.",
            "headers": _READ,
        },
        **problems(*FOR_USERS, TransferError.NOT_FOUND),
    },
)
async def get_transfer(
    transfer_id: TransferInPath, request: Request, identity: UserDep, runtime: RuntimeDep, session: SessionDep
) -> Response:
    """Show a transfer to its submitter and its payer, and once it is completed also to its payee."""
    row = await listing.get(session, user_id=identity.id, transfer_id=transfer_id)
    wait = preferred_wait(request.headers.getlist("prefer"), longest=runtime.settings.wait_seconds)
    if wait is not None and row.status is TransferStatus.PENDING:
        await session.close()  # the next read needs a newer snapshot
        await runtime.waiters.wait(transfer_id, wait)
        row = await listing.get(session, user_id=identity.id, transfer_id=transfer_id)
    body = TransferOut.of(row).model_dump_json().encode()
    etag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
    headers = {"ETag": etag, **_wait_headers(wait)}
    if row.status is TransferStatus.PENDING:
        headers["Retry-After"] = "1"
    if etag_matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type="application/json")


@router.post(
    "/transfers/{transfer_id}/cancel",
    summary="Cancel a transfer",
    response_description="The cancelled transfer. Repeating the call gives the same answer.",
    responses=problems(*FOR_USERS, TransferError.NOT_FOUND, TransferError.NOT_CANCELLABLE, *WRITES),
)
async def cancel_transfer(transfer_id: TransferInPath, identity: UserDep, runtime: RuntimeDep) -> TransferOut:
    """Cancel a pending transfer that the caller submitted. Its reserved amount is available again immediately."""
    return TransferOut.of(
        await runtime.intake.run(
            lambda connection: cancelling.cancel(connection, user_id=identity.id, transfer_id=transfer_id),
            Lane.SETTLE,
            by=identity,
        )
    )


def _order(
    runtime: Runtime,
    request: Request,
    identity: Identity,
    body: NewTransfer | NewDeposit | NewWithdrawal,
    *,
    kind: TransferKind,
    payer: UUID | None = None,
    payee: UUID | str | None = None,
    currency: str | None = None,
) -> TransferRequest:
    key = idempotency_key(
        request.headers.getlist("idempotency-key"), required=runtime.settings.idempotency_key_required
    )
    return TransferRequest(
        kind=kind,
        submitted_by=identity.id,
        payer=payer,
        payee=payee,
        amount=body.amount,
        currency=currency,
        description=body.description,
        idempotency_key=key,
        fingerprint=None if key is None else fingerprint(request.scope["path"], body),
        request_id=request.state.request_id,
        former_fingerprint=None if key is None else former_fingerprint(request.scope["path"], body),
        address=None if kind is TransferKind.TRANSFER else address_of(request),
    )


async def _submit(runtime: Runtime, request: Request, identity: Identity, order: TransferRequest) -> Response:
    """Accept a transfer, then answer: immediately with 202, or after the wait that the client prefers."""
    accepted = await runtime.intake.accept(order, by=identity)
    wait = preferred_wait(request.headers.getlist("prefer"), longest=runtime.settings.wait_seconds)
    headers = {"Location": f"/transfers/{accepted.id}", **_wait_headers(wait)}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    if wait is not None:
        row = await _ended(runtime, order.submitted_by, accepted.id, wait)
        if row is not None:
            return Response(TransferOut.of(row).model_dump_json(), 200, headers, media_type="application/json")
    return Response(render_accepted(accepted), 202, {**headers, "Retry-After": "1"}, media_type="application/json")


async def _ended(runtime: Runtime, user_id: int, transfer_id: UUID, wait: int) -> TransferView | None:
    """Wait for a transfer to end and read it. Returns None if it is pending or cannot be read: it stays accepted."""
    await runtime.waiters.wait(transfer_id, wait)
    try:
        async with runtime.reading.session(user_id) as session:
            row = await listing.get(session, user_id=user_id, transfer_id=transfer_id)
    except READ_ERRORS as error:
        note_read_error(runtime.database, error)
        return None
    except Unavailable:
        return None
    return None if row.status is TransferStatus.PENDING else row


def _wait_headers(wait: int | None) -> dict[str, str]:
    return {} if wait is None else {"Preference-Applied": f"wait={wait}", "Vary": "Prefer"}


def _list_name(query: TransferQuery, identity: Identity) -> str:
    """Name a list by its reader and its filters: a cursor is valid only for its own list."""
    filters = query.model_dump_json(exclude={"limit", "offset", "cursor"})
    return f"transfers:{identity.id}:{filters}"


async def _find(query: TransferQuery, identity: Identity, runtime: Runtime, session: AsyncSession) -> TransferPage:
    below = runtime.cursors.open(query.cursor, of=_list_name(query, identity)) if query.cursor else NEWEST
    wanted = TransferFilter(
        status=query.status,
        account_id=query.account_id,
        idempotency_key=query.idempotency_key,
        batch_id=query.batch_id,
        created_from=query.created_from,
        created_to=query.created_to,
    )
    return await listing.list_for_user(
        session, user_id=identity.id, wanted=wanted, below=below, offset=query.offset or 0, limit=query.limit
    )
