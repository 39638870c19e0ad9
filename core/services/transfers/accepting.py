"""Accepting transfers: a group of requests is decided together and written in one unit of work."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.domain import ledger
from core.domain.accounts import AccountError, AccountKind
from core.domain.audit import Act, Action, Author
from core.domain.errors import GiroError, Part, RateLimited, Refusal
from core.domain.ledger import PartyAccount
from core.domain.pending import PendingBounds
from core.domain.transfers import (
    AcceptedTransfer,
    Terms,
    TransferError,
    TransferKind,
    TransferRequest,
    as_told,
)
from core.ids import new_id_bytes
from core.services.audit import write_all_down
from core.services.transfers.pending import Room
from core.storage import accounts, lanes, pending, transfers
from core.storage.pending import Front
from core.storage.transfers import KeyScope

ANSWER_VERSION = 1
"""The rendering of the 202 that an accepted transfer keeps for its replays."""


# --- accepting ---------------------------------------------------------------------------------------------------


def accept(
    connection: Connection, requests: Sequence[TransferRequest], bounds: PendingBounds
) -> list[AcceptedTransfer | Refusal | RateLimited]:
    """Accept or refuse a group of requests, each seeing what those before it reserved.

    The refusal of one request does not affect the others. Accepted transfers are pending, and their funds are reserved,
    once the unit of work commits.
    """
    acceptance = Acceptance(connection, requests, bounds)
    outcomes = [acceptance.decide(request) for request in requests]
    acceptance.write()
    return outcomes


class Acceptance:
    """The acceptance of a group of requests: one is decided after the other, all are read and written together."""

    def __init__(
        self, connection: Connection, requests: Sequence[TransferRequest], bounds: PendingBounds | None = None
    ) -> None:
        """Read all accounts and keys that the requests name. Without `bounds`, there must be room for all of them."""
        self._connection = connection
        self._known = transfers.find_by_keys(connection, list({key for r in requests if (key := _scope(r))}))
        self._parties = accounts.find_parties(
            connection,
            {side.bytes for r in requests for side in (r.payer, r.payee) if isinstance(side, UUID)},
            {r.payee for r in requests if isinstance(r.payee, str)},
        )
        self._externals: dict[str, PartyAccount] = {}
        if any(r.payer is None or r.payee is None for r in requests):
            self._externals = accounts.find_externals(
                connection, list({party.ledger.currency for party in self._parties.values()})
            )
        front = pending.front(connection)
        self._sequence = front.sequence
        # Times never go back along the sequence, even if the wall clock does.
        self._now = max(now_us(), front.newest_at)
        self._rows: list[Terms] = []
        self._ordered: list[Act] = []
        self._payers: dict[int, PartyAccount] = {}
        self._room = None if bounds is None else self._measure(requests, bounds, front)

    def _measure(self, requests: Sequence[TransferRequest], bounds: PendingBounds, front: Front) -> Room:
        payers = [self._parties.get(r.payer.bytes) for r in requests if r.payer is not None]
        owners = {party.owner_id for party in payers if party is not None and party.owner_id is not None}
        return Room(self._connection, bounds, front, owners=owners, count=len(requests))

    @property
    def first_sequence(self) -> int | None:
        """The first transfer that was accepted; None before there is one."""
        return self._rows[0].sequence if self._rows else None

    def decide(self, request: TransferRequest) -> AcceptedTransfer | Refusal | RateLimited:
        """Replay, refuse or accept one request."""
        scope = _scope(request)
        if scope and (known := self._known.get(scope)):
            accepted, fingerprint = known
            if fingerprint in (request.fingerprint, request.former_fingerprint):
                return replace(accepted, replayed=True)
            return Refusal(TransferError.KEY_REUSED, about=Part.IDEMPOTENCY_KEY)
        placed = self.place(request)
        if isinstance(placed, GiroError):
            return placed
        accepted = _accepted(placed)
        if scope and request.fingerprint is not None:
            self._known[scope] = accepted, request.fingerprint
        return accepted

    def place(self, request: TransferRequest) -> "Placed | Refusal | RateLimited":
        """Accept or refuse one request whose key, if it has one, was not used before."""
        try:
            payer, payee = self._sides(request)
            self._check_credit(request, payer, payee)
        except Refusal as refusal:
            return refusal
        if self._room is not None and payer.owner_id is not None and (full := self._room.take(payer.owner_id)):
            return full
        return self._accept(request, payer, payee)

    def write(self) -> None:
        """Record what was accepted."""
        if not self._rows:
            return
        transfers.add(self._connection, self._rows)
        accounts.reserve(self._connection, self._payers.values())
        lanes.accepted(self._connection, next_transfer=self._sequence, accepted_at=self._now)
        write_all_down(self._connection, self._ordered)

    def _sides(self, request: TransferRequest) -> tuple[PartyAccount, PartyAccount]:
        """Find both accounts. Raises the first refusal; the payee is not looked up for a payer who cannot pay."""
        if request.payer is not None and request.payer == request.payee:
            raise Refusal(TransferError.SAME_ACCOUNT, about=_payee_part(request))
        payer = self._payer(request) if request.payer else None
        payee = self._customer(request.payee, _payee_part(request)) if request.payee else None
        if payer is not None and payer is payee:  # one named by its number
            raise Refusal(TransferError.SAME_ACCOUNT, about=_payee_part(request))
        if payee is not None:
            _check_currency(request, "payee", payee)
        known = payer or payee
        assert known is not None, "a transfer names at least one account"
        external = self._externals.get(known.ledger.currency)
        first, second = payer or external, payee or external
        assert first is not None, "opening a currency's first account makes its external account"
        assert second is not None, "opening a currency's first account makes its external account"
        if payer is None:
            self._check_debit(request, first)
        return first, second

    def _payer(self, request: TransferRequest) -> PartyAccount:
        """Find a customer's account that can pay. Raises Refusal, which is about this account alone."""
        assert request.payer is not None, "only deposits come from an external account"
        payer = self._customer(request.payer, Part.PAYER)
        if request.kind is TransferKind.TRANSFER and payer.owner_id != request.submitted_by:
            raise Refusal(AccountError.NOT_FOUND, about=Part.PAYER)
        _check_currency(request, "payer", payer)
        self._check_debit(request, payer)
        return payer

    @staticmethod
    def _check_debit(request: TransferRequest, payer: PartyAccount) -> None:
        code = ledger.debit_refusal(payer.ledger, request.amount, spoken_for=payer.ledger.reserved)
        if code in (AccountError.FROZEN, AccountError.CLOSED):
            raise Refusal(code, detail=f"The payer's account is {payer.ledger.status}.")
        if code is not None:
            raise Refusal(code, about=Part.AMOUNT)

    @staticmethod
    def _check_credit(request: TransferRequest, payer: PartyAccount, payee: PartyAccount) -> None:
        code = ledger.credit_refusal(payer.ledger, payee.ledger, request.amount)
        if code is None:
            return
        told = as_told(code, request.kind, is_own=payee.owner_id == request.submitted_by)
        if told is TransferError.PAYEE_CANNOT_RECEIVE:
            raise Refusal(told, about=_payee_part(request))
        if told in (AccountError.FROZEN, AccountError.CLOSED):
            raise Refusal(told, detail=f"The payee's account is {payee.ledger.status}.")
        if told is TransferError.CURRENCY_MISMATCH:
            ours, theirs = payer.ledger.currency, payee.ledger.currency
            detail = f"The payer's account is in {ours}; the payee's account is in {theirs}."
            raise Refusal(told, detail=detail)
        raise Refusal(told, about=Part.AMOUNT)

    def _customer(self, name: UUID | str, part: Part) -> PartyAccount:
        party = self._parties.get(name.bytes if isinstance(name, UUID) else name)
        if party is None or party.ledger.kind is not AccountKind.CUSTOMER:
            raise Refusal(AccountError.NOT_FOUND, about=part)
        return party

    def _accept(self, request: TransferRequest, payer: PartyAccount, payee: PartyAccount) -> "Placed":
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
        payer.reserve(request.amount, terms.sequence)
        self._payers[payer.ledger.id] = payer
        return terms, payer, payee


Placed = tuple[Terms, PartyAccount, PartyAccount]
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
    """Return the audit log's details of a deposit or a withdrawal."""
    return Act(
        author=Author(user_id=request.submitted_by, request_id=request.request_id, address=request.address),
        action=Action.DEPOSIT_ORDERED if request.kind is TransferKind.DEPOSIT else Action.WITHDRAWAL_ORDERED,
        object_id=UUID(bytes=terms.public_id),
        details={"amount": terms.amount, "currency": terms.currency},
    )


def _payee_part(request: TransferRequest) -> Part:
    return Part.PAYEE_NUMBER if isinstance(request.payee, str) else Part.PAYEE


def _check_currency(request: TransferRequest, name: str, side: PartyAccount) -> None:
    if request.currency and request.currency != side.ledger.currency:
        detail = f"The request names {request.currency}; the {name}'s account is in {side.ledger.currency}."
        raise Refusal(TransferError.CURRENCY_MISMATCH, about=Part.CURRENCY, detail=detail)
