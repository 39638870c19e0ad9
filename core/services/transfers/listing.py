"""Reading transfers: one, and lists with their filters."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import AccountError
from core.domain.errors import Part, Refusal
from core.domain.transfers import (
    TransferError,
    TransferStatus,
    TransferView,
)
from core.storage import accounts, batches, transfer_chains, transfer_lists, transfers
from core.storage.transfer_chains import Scope


async def get(session: AsyncSession, *, user_id: int, transfer_id: UUID) -> TransferView:
    """Read a transfer. Raises Refusal (`transfer_not_found`) if the user may not read it."""
    transfer = await transfers.get(session, transfer_id)
    if transfer is None or not transfer.may_be_read_by(user_id):
        raise Refusal(TransferError.NOT_FOUND)
    return transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferFilter:
    """The filters of a list. A field that is None does not filter."""

    status: TransferStatus | None = None
    account_id: UUID | None = None
    idempotency_key: str | None = None
    batch_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    """Exclusive."""

    def lets_through(self, transfer: TransferView) -> bool:
        """Return whether a transfer passes the filters."""
        return (
            (self.status is None or transfer.status is self.status)
            and self.account_id in (None, transfer.from_account_id, transfer.to_account_id)
            and (self.created_from is None or transfer.created_at >= self.created_from)
            and (self.created_to is None or transfer.created_at < self.created_to)
        )


@dataclass(frozen=True, slots=True)
class TransferPage:
    """A page of transfers, newest first, and the sequence above the next page, or None at the end of the list.

    One number is enough for any number of accounts: the next page finds each account's place by its waypoints.
    """

    items: list[TransferView]
    next: int | None


async def list_for_user(
    session: AsyncSession, *, user_id: int, wanted: TransferFilter, below: int, offset: int, limit: int
) -> TransferPage:
    """List the transfers from a user's accounts, and the completed transfers to them, newest first.

    Only those with a sequence below `below` are listed. A page is full unless the list ends with it. Raises Refusal for
    another user's account.
    """
    account = None
    if wanted.account_id is not None:
        account = await accounts.get_owned(session, user_id, wanted.account_id)
        if account is None:
            raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    if wanted.idempotency_key is not None:
        only = await transfers.get_by_key(session, wanted.idempotency_key, user_id)
        if only is None or offset or not wanted.lets_through(only):
            return TransferPage([], None)
        is_in = wanted.batch_id is None or await _is_in_batch(session, user_id, wanted.batch_id, only.sequence)
        return TransferPage([only] if is_in else [], None)
    scope = await _bounded(session, user_id, account.id if account else None, wanted, below)
    if scope.first >= scope.below:
        return TransferPage([], None)
    if wanted.batch_id is not None:
        return await _page_of_batch(session, scope, wanted.batch_id, offset=offset, limit=limit)
    return await _page(session, scope, offset=offset, limit=limit)


async def _bounded(
    session: AsyncSession, user_id: int, account_id: int | None, wanted: TransferFilter, below: int
) -> Scope:
    """Convert the times of a filter to sequences, which grow with the times."""
    first = 1
    if wanted.created_from is not None:
        first = await transfer_lists.first_since(session, wanted.created_from)
    if wanted.created_to is not None:
        below = min(below, await transfer_lists.first_since(session, wanted.created_to))
    return Scope(owner_id=user_id, account_id=account_id, status=wanted.status, first=first, below=below)


async def _is_in_batch(session: AsyncSession, user_id: int, batch_id: UUID, sequence: int) -> bool:
    span = await batches.get_span(session, batch_id, user_id)
    return span is not None and span[0] <= sequence <= span[1]


async def _page_of_batch(
    session: AsyncSession, scope: Scope, batch_id: UUID, *, offset: int, limit: int
) -> TransferPage:
    """List the transfers of a batch, which only its submitter may list."""
    span = await batches.get_span(session, batch_id, scope.owner_id)
    if span is None:
        return TransferPage([], None)
    within = replace(scope, first=max(scope.first, span[0]), below=min(scope.below, span[1] + 1))
    found = await transfer_lists.list_span(session, within, offset=offset, limit=limit + 1)
    page = found[:limit]
    return TransferPage(page, page[-1].sequence if len(found) > limit else None)


async def _page(session: AsyncSession, scope: Scope, *, offset: int, limit: int) -> TransferPage:
    """Find one more transfer than the offset and the page have: it shows whether the list goes on."""
    found = await transfer_chains.newest(session, scope, wanted=offset + limit + 1)
    shown = found[offset : offset + limit]
    goes_on = len(found) > offset + limit
    return TransferPage(await transfer_lists.read(session, shown), shown[-1] if goes_on else None)
