"""Reading transfers: one, and lists with their filters."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core import turns
from core.domain.accounts import AccountError
from core.domain.errors import Part, Refusal
from core.domain.transfers import (
    TransferError,
    TransferStatus,
    TransferView,
)
from core.storage import accounts, batches, transfer_lists, transfers
from core.storage.transfer_lists import Scope, Step


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


PASSED_TOGETHER = 500
"""Transfers of an offset that are skipped at a time. Ten thousand would block the event loop for too long."""

Place = tuple[int, list[int]]
"""Where a walk continues: the sequence above it, and one leg of each account. Without legs, it searches for them."""


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
    """Skip the transfers of the offset, then walk through a user's transfers until the page is full."""
    legs: list[int] = []
    while offset:
        passed, place = await _walk(session, scope, legs, count=min(offset, PASSED_TOGETHER))
        if place is None:
            return TransferPage([], None)
        scope, legs, offset = replace(scope, below=place[0]), place[1], offset - len(passed)
    met, place = await _walk(session, scope, legs, count=limit)
    return TransferPage(await turns.make(Step.transfer, met), None if place is None else place[0])


async def _walk(session: AsyncSession, scope: Scope, legs: list[int], *, count: int) -> tuple[list[Step], Place | None]:
    """Read the newest transfers of a scope, at most `count`, and where the list continues, or None at its end."""
    oldest_pending = await transfer_lists.oldest_pending(session)
    if scope.status not in (None, TransferStatus.COMPLETED):
        legs = []
    elif not legs:
        legs = await transfer_lists.newest_legs(session, scope)
    # Twice as many, because a transfer can be met twice. One more shows whether these are the last.
    steps = await transfer_lists.walk(session, scope, legs=legs, oldest_pending=oldest_pending, limit=2 * (count + 1))
    ahead = set(legs)
    met: list[Step] = []
    for step in steps:
        if not met or step.sequence < met[-1].sequence:
            if len(met) == count:
                # A transfer that is pending now can have legs when the walk continues. It must search for them then.
                is_settled = met[-1].sequence <= oldest_pending
                return met, (met[-1].sequence, sorted(ahead) if is_settled else [])
            met.append(step)
        if step.leg is not None:
            ahead.discard(step.leg)
        if step.next_leg is not None:
            ahead.add(step.next_leg)
    return met, None
