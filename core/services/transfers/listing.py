"""Accepting, cancelling and reading transfers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime, to_us
from core.domain import ledger
from core.domain.accounts import AccountKind
from core.domain.audit import Act, Action, Author
from core.domain.batches import MAX_BATCH
from core.domain.blocks import Ending, cancellation
from core.domain.errors import ErrorCode, Refusal
from core.domain.ledger import LedgerAccount
from core.domain.transfers import (
    TRANSITIONS,
    AcceptedTransfer,
    Terms,
    TransferKind,
    TransferRequest,
    TransferStatus,
    TransferView,
)
from core.ids import NEWEST, new_id_bytes
from core.services import verification
from core.services.audit import write_all_down
from core.storage import accounts, batches, blocks, transfers
from core.storage.accounts import Party
from core.storage.transfers import KeyScope, Link

ANSWER_VERSION = 1
"""Which rendering of the 202 an accepted transfer keeps for its replays."""

WALK_BUDGET = 10_000
"""Transfers that one page of a list looks at, at most, however few its filters let through."""

WALK_TOGETHER = 500
"""Those that it reads in one go: some milliseconds, in which nobody else has a turn."""


# --- accepting ---------------------------------------------------------------------------------------------------


def accept(connection: Connection, requests: Sequence[TransferRequest]) -> list[AcceptedTransfer | Refusal]:
    """Accept or refuse a group of requests, each seeing what those before it reserved.

    One request's refusal never touches another. Accepted transfers are pending and their funds reserved when the
    unit of work commits, not before.
    """
    group = Group(connection, requests)
    outcomes = [group.decide(request) for request in requests]
    group.write()
    return outcomes


class Group:
    """Requests that are decided one after the other, and read and written together."""

    def __init__(self, connection: Connection, requests: Sequence[TransferRequest]) -> None:
        """Read what the requests name, once for all of them."""
        self._connection = connection
        self._known = transfers.find_by_keys(connection, list({key for r in requests if (key := _scope(r))}))
        self._parties = accounts.find_parties(
            connection,
            {side.bytes for r in requests for side in (r.payer, r.payee) if isinstance(side, UUID)},
            {r.payee for r in requests if isinstance(r.payee, str)},
        )
        self._externals: dict[str, Party] = {}
        if any(r.payer is None or r.payee is None for r in requests):
            self._externals = accounts.find_externals(
                connection, list({party.ledger.currency for party in self._parties.values()})
            )
        self._sequence, newest = transfers.next_sequence(connection)
        # Times never run backwards along the sequence, whatever the wall clock does.
        self._now = max(now_us(), newest)
        self._rows: list[Terms] = []
        self._ordered: list[Act] = []
        self._payers: dict[int, Party] = {}
        self._reserved: dict[int, int] = {}

    @property
    def first_sequence(self) -> int | None:
        """The first transfer that was accepted; None before there is one."""
        return self._rows[0].sequence if self._rows else None

    def decide(self, request: TransferRequest) -> AcceptedTransfer | Refusal:
        """Replay, refuse or accept one request."""
        scope = _scope(request)
        if scope and (known := self._known.get(scope)):
            accepted, fingerprint = known
            if fingerprint == request.fingerprint:
                return replace(accepted, replayed=True)
            return Refusal(ErrorCode.IDEMPOTENCY_KEY_REUSED, field="header.Idempotency-Key")
        placed = self.place(request)
        if isinstance(placed, Refusal):
            return placed
        accepted = _accepted(placed)
        if scope and request.fingerprint is not None:
            self._known[scope] = accepted, request.fingerprint
        return accepted

    def place(self, request: TransferRequest) -> "Placed | Refusal":
        """Accept or refuse one request whose key, if it has one, was not used before."""
        try:
            payer, payee = self._sides(request)
        except Refusal as refusal:
            return refusal
        code = ledger.refusal(payer.ledger, payee.ledger, request.amount, spoken_for=payer.ledger.reserved)
        if code is not None:
            return Refusal(code, field=_field_of(code), detail=_detail_of(code, payer.ledger, payee.ledger))
        return self._accept(request, payer, payee)

    def write(self) -> None:
        """Record what was accepted."""
        transfers.add(self._connection, self._rows)
        accounts.reserve(
            self._connection,
            [(self._reserved[row_id], party.last_transfer_id or 0, row_id) for row_id, party in self._payers.items()],
        )
        write_all_down(self._connection, self._ordered)

    def _sides(self, request: TransferRequest) -> tuple[Party, Party]:
        """Find both accounts, or raise the first refusal that concerns who they are."""
        if request.payer is not None and request.payer == request.payee:
            raise Refusal(ErrorCode.SAME_ACCOUNT, field=_payee_field(request))
        payer = self._customer(request.payer, "body.from_account_id") if request.payer else None
        if payer and request.kind is TransferKind.TRANSFER and payer.owner_id != request.submitted_by:
            raise Refusal(ErrorCode.ACCOUNT_NOT_FOUND, field="body.from_account_id")
        payee = self._customer(request.payee, _payee_field(request)) if request.payee else None
        if payer is not None and payer is payee:  # one named by its number
            raise Refusal(ErrorCode.SAME_ACCOUNT, field=_payee_field(request))
        for name, side in (("payer", payer), ("payee", payee)):
            if side and request.currency and request.currency != side.ledger.currency:
                detail = f"The request names {request.currency}; the {name}'s account is in {side.ledger.currency}."
                raise Refusal(ErrorCode.CURRENCY_MISMATCH, field="body.currency", detail=detail)
        known = payer or payee
        assert known is not None, "a transfer names at least one account"
        external = self._externals.get(known.ledger.currency)
        first, second = payer or external, payee or external
        assert first is not None, "opening a currency's first account makes its external account"
        assert second is not None, "opening a currency's first account makes its external account"
        return first, second

    def _customer(self, name: UUID | str, field: str) -> Party:
        party = self._parties.get(name.bytes if isinstance(name, UUID) else name)
        if party is None or party.ledger.kind is not AccountKind.CUSTOMER:
            raise Refusal(ErrorCode.ACCOUNT_NOT_FOUND, field=field)
        return party

    def _accept(self, request: TransferRequest, payer: Party, payee: Party) -> "Placed":
        terms = Terms(
            self._sequence,
            new_id_bytes(),
            request.kind.value,
            payer.ledger.id,
            payee.ledger.id,
            request.amount,
            payer.ledger.currency,
            request.description,
            request.submitted_by,
            request.request_id,
            request.idempotency_key,
            request.fingerprint,
            ANSWER_VERSION,
            payer.last_transfer_id,
            self._now,
        )
        self._rows.append(terms)
        if request.kind is not TransferKind.TRANSFER:
            self._ordered.append(_ordered(request, terms))
        self._sequence += 1
        payer.last_transfer_id = terms.sequence
        payer.ledger.reserved += request.amount
        self._payers[payer.ledger.id] = payer
        self._reserved[payer.ledger.id] = self._reserved.get(payer.ledger.id, 0) + request.amount
        return terms, payer, payee


Placed = tuple[Terms, Party, Party]
"""A transfer that a group accepts, as it will be stored, its payer and its payee."""


def _accepted(placed: Placed) -> AcceptedTransfer:
    terms, payer, payee = placed
    return AcceptedTransfer(
        id=UUID(bytes=terms.public_id),
        sequence=terms.sequence,
        kind=TransferKind(terms.kind),
        from_account_id=payer.public_id,
        to_account_id=payee.public_id,
        amount=terms.amount,
        currency=terms.currency,
        description=terms.description,
        created_at=to_datetime(terms.created_at),
        answer_version=terms.answer_version,
        request_id=terms.request_id,
    )


def _scope(request: TransferRequest) -> KeyScope | None:
    return (request.idempotency_key, request.submitted_by) if request.idempotency_key is not None else None


def _ordered(request: TransferRequest, terms: Terms) -> Act:
    """What the audit log keeps of a deposit or a withdrawal."""
    return Act(
        author=Author(user_id=request.submitted_by, request_id=request.request_id, address=request.address),
        action=Action.DEPOSIT_ORDERED if request.kind is TransferKind.DEPOSIT else Action.WITHDRAWAL_ORDERED,
        object_id=UUID(bytes=terms.public_id),
        details={"amount": terms.amount, "currency": terms.currency},
    )


def _payee_field(request: TransferRequest) -> str:
    return "body.to_account_number" if isinstance(request.payee, str) else "body.to_account_id"


def _field_of(code: ErrorCode) -> str | None:
    about_amount = (ErrorCode.INSUFFICIENT_FUNDS, ErrorCode.BALANCE_LIMIT_EXCEEDED)
    return "body.amount" if code in about_amount else None


def _detail_of(code: ErrorCode, payer: LedgerAccount, payee: LedgerAccount) -> str | None:
    """Say which side the ledger's refusal is about. Returns None if the code's own message says enough."""
    if code is ErrorCode.CURRENCY_MISMATCH:
        return f"The payer's account is in {payer.currency}; the payee's account is in {payee.currency}."
    if code in (ErrorCode.ACCOUNT_FROZEN, ErrorCode.ACCOUNT_CLOSED):
        name, account = ("payee", payee) if payer.can_pay else ("payer", payer)
        return f"The {name}'s account is {account.status}."
    return None


# --- cancelling --------------------------------------------------------------------------------------------------


def cancel(connection: Connection, *, user_id: int, transfer_id: UUID) -> TransferView:
    """Cancel a pending transfer for the user that submitted it, and release its funds; again is the same answer.

    Raises Refusal: `transfer_not_found` for users that may not read it, `transfer_not_cancellable` for others than its
    submitter and once it has ended otherwise; and LedgerHalted, whose breach the caller keeps.
    """
    transfer = transfers.read(connection, transfer_id)
    if transfer is None or not transfer.may_be_read_by(user_id):
        raise Refusal(ErrorCode.TRANSFER_NOT_FOUND)
    if transfer.submitted_by != user_id:
        raise Refusal(ErrorCode.TRANSFER_NOT_CANCELLABLE, detail="Only who has submitted a transfer can cancel it.")
    if transfer.status is TransferStatus.CANCELLED:
        return transfer
    if TransferStatus.CANCELLED not in TRANSITIONS[transfer.status]:
        raise Refusal(ErrorCode.TRANSFER_NOT_CANCELLABLE)
    if batches.is_atomic(connection, transfer.sequence):
        raise Refusal(ErrorCode.TRANSFER_NOT_CANCELLABLE, detail="The transfers of an atomic batch end together.")
    verification.require_sound(connection)
    ended_at = max(now_us(), to_us(transfer.created_at))
    terms = transfers.terms_of(connection, transfer.sequence)
    changed = transfers.end(connection, [Ending(terms, TransferStatus.CANCELLED.value, ended_at, None)])
    assert changed == 1, "read as pending in this unit of work"
    accounts.release(connection, terms.from_account_id, terms.amount)
    blocks.add(connection, cancellation(blocks.head(connection), terms, ended_at))
    return replace(transfer, status=TransferStatus.CANCELLED, settled_at=to_datetime(ended_at))


# --- reading -----------------------------------------------------------------------------------------------------


async def get(session: AsyncSession, *, user_id: int, transfer_id: UUID) -> TransferView:
    """Read a transfer for somebody who may; raises Refusal (`transfer_not_found`) for everybody else."""
    transfer = await transfers.get(session, transfer_id)
    if transfer is None or not transfer.may_be_read_by(user_id):
        raise Refusal(ErrorCode.TRANSFER_NOT_FOUND)
    return transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferFilter:
    """Which transfers a list shows; None lets everything through."""

    status: TransferStatus | None = None
    account_id: UUID | None = None
    idempotency_key: str | None = None
    batch_id: UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    """Exclusive."""

    @property
    def is_told_by_status(self) -> bool:
        """Say whether nothing but a transfer's status decides."""
        return self.account_id is None and self.created_from is None and self.created_to is None

    def lets_through(self, transfer: TransferView) -> bool:
        """Say whether a transfer belongs in the list."""
        return (
            (self.status is None or transfer.status is self.status)
            and self.account_id in (None, transfer.from_account_id, transfer.to_account_id)
            and (self.created_from is None or transfer.created_at >= self.created_from)
            and (self.created_to is None or transfer.created_at < self.created_to)
        )

    def is_past(self, transfer: TransferView) -> bool:
        """Say whether every transfer older than this one is too old as well."""
        return self.created_from is not None and transfer.created_at < self.created_from


@dataclass(frozen=True, slots=True)
class TransferPage:
    """A page of transfers, newest first, and where the next one begins: below a sequence, along some links."""

    items: list[TransferView]
    next: tuple[int, list[Link]] | None


async def list_for_user(
    session: AsyncSession,
    *,
    user_id: int,
    wanted: TransferFilter,
    start: tuple[int, list[Link]] | None,
    offset: int,
    limit: int,
) -> TransferPage:
    """List what was paid from a user's accounts, and what they received once it is completed, newest first.

    A page looks at no more than `WALK_BUDGET` transfers beyond its offset; with a filter it can therefore come
    back short, or empty, and still say where to go on. Raises Refusal for an account that is not the user's.
    """
    account = None
    if wanted.account_id is not None:
        account = await accounts.get_owned(session, user_id, wanted.account_id)
        if account is None:
            raise Refusal(ErrorCode.ACCOUNT_NOT_FOUND, field="query.account_id")
    if wanted.idempotency_key is not None:
        only = await transfers.get_by_key(session, wanted.idempotency_key, user_id)
        if only is None or offset or not wanted.lets_through(only):
            return TransferPage([], None)
        is_in = wanted.batch_id is None or await _is_in_batch(session, user_id, wanted.batch_id, only.sequence)
        return TransferPage([only] if is_in else [], None)
    if wanted.batch_id is not None:
        return await _page_of_batch(
            session, user_id, wanted, below=start[0] if start else NEWEST, offset=offset, limit=limit
        )
    if start is None:
        start = (NEWEST, await transfers.newest_links(session, user_id, account.id if account else None))
    return await _Walk(session, wanted.lets_through, wanted.is_past, start).page(offset, limit)


async def _is_in_batch(session: AsyncSession, user_id: int, batch_id: UUID, sequence: int) -> bool:
    span = await batches.get_span(session, batch_id, user_id)
    return span is not None and span[0] <= sequence <= span[1]


async def _page_of_batch(
    session: AsyncSession, user_id: int, wanted: TransferFilter, *, below: int, offset: int, limit: int
) -> TransferPage:
    """List the transfers of a batch, which is somebody's who submitted it and nobody else's."""
    assert wanted.batch_id is not None, "asked for"
    span = await batches.get_span(session, wanted.batch_id, user_id)
    if span is None:
        return TransferPage([], None)
    first, last = span
    below = min(below, last + 1)
    if wanted.is_told_by_status:
        items = await transfers.list_all(
            session, status=wanted.status, start=first, below=below, offset=offset, limit=limit + 1
        )
    else:
        rows = await transfers.list_all(
            session, status=wanted.status, start=first, below=below, offset=0, limit=MAX_BATCH
        )
        items = [row for row in rows if wanted.lets_through(row)][offset : offset + limit + 1]
    page = items[:limit]
    return TransferPage(page, (page[-1].sequence, []) if len(items) > limit else None)


class _Walk:
    """A walk along several chains at once, newest transfer first, each transfer once."""

    def __init__(
        self,
        session: AsyncSession,
        wanted: Callable[[TransferView], bool],
        past: Callable[[TransferView], bool],
        start: tuple[int, list[Link]],
    ) -> None:
        self._session = session
        self._wanted = wanted
        self._past = past
        self._below, self._links = start[0], set(start[1])
        self._items: list[TransferView] = []

    async def page(self, offset: int, limit: int) -> TransferPage:
        budget = WALK_BUDGET + offset
        while self._links and budget > 0:
            most = min(budget, 2 * (offset + limit) + 2, WALK_TOGETHER)
            steps = await transfers.walk(self._session, self._links, limit=most)
            if not steps:  # every link leads nowhere: this is no whole ledger
                return TransferPage(self._items[offset:], None)
            budget -= len(steps)
            for step in steps:
                if self._past(step.transfer):
                    return TransferPage(self._items[offset:], None)
                if len(self._items) == offset + limit and self._is_new(step.transfer, step.is_debit_leg):
                    return TransferPage(self._items[offset:], self._rest())
                self._take(step)
        return TransferPage(self._items[offset:], self._rest() if self._links else None)

    def _rest(self) -> tuple[int, list[Link]]:
        """Where the next page begins. One transfer can be met along two links, one of them without a leg."""
        return self._below, sorted(self._links, key=lambda link: (link[0], link[1] or 0))

    def _is_new(self, transfer: TransferView, is_debit_leg: bool) -> bool:
        """A transfer between two accounts of one user is met in both chains, and shown once."""
        return transfer.sequence < self._below and not is_debit_leg and self._wanted(transfer)

    def _take(self, step: transfers.Step) -> None:
        if self._is_new(step.transfer, step.is_debit_leg):
            self._items.append(step.transfer)
            self._below = step.transfer.sequence
        self._links.discard(step.link)
        if step.next is not None:
            self._links.add(step.next)
