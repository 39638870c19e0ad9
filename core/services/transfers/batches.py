"""Accepting many transfers in one request."""

from sqlalchemy import Connection

from core.domain.batches import AcceptedBatch, BatchMode, BatchRequest
from core.domain.errors import ErrorCode, Part, RateLimited, Refusal
from core.domain.pending import PendingBounds
from core.domain.transfers import TransferError, TransferRequest, may_be_a_guess
from core.ids import new_id
from core.services.transfers.accepting import Acceptance
from core.services.transfers.pending import require_room
from core.storage import batches, transfers

ANSWER_VERSION = 1
"""The rendering of the 202 that an accepted batch keeps for its replays."""


def accept(connection: Connection, request: BatchRequest, bounds: PendingBounds) -> AcceptedBatch:
    """Accept a batch, or replay it. Each line sees the funds that earlier lines have reserved.

    The sequences of its transfers have no gaps, and the first transfer carries the key. Raises Refusal if the key was
    used for another request, and for the first refused line of an atomic batch. Raises RateLimited or Unavailable,
    whatever the mode, if too many transfers are waiting to be settled.
    """
    scope = (request.idempotency_key, request.submitted_by)
    if known := transfers.find_by_keys(connection, [scope]).get(scope):
        accepted, fingerprint = known
        if fingerprint not in (request.fingerprint, request.former_fingerprint):
            raise Refusal(TransferError.KEY_REUSED, about=Part.IDEMPOTENCY_KEY)
        return batches.read_accepted(connection, accepted.sequence)
    require_room(connection, bounds, user_id=request.submitted_by, lines=len(request.transfers))
    acceptance = Acceptance(connection, request.transfers)
    lines, guesses = _decide(acceptance, request)
    acceptance.write()
    first = acceptance.first_sequence
    batch = AcceptedBatch(
        id=None if first is None else new_id(),
        lines=lines,
        answer_version=ANSWER_VERSION,
        first_sequence=first or 0,
        guesses=guesses,
    )
    if first is not None:
        batches.add(connection, batch, request.mode)
    return batch


def refuse_early(connection: Connection, bounds: PendingBounds, *, key: str, user_id: int) -> None:
    """Refuse a batch before it is read, if there is no room for any: reading it costs as much as accepting it.

    Raises RateLimited or Unavailable, as `accept` does. A key that was used is replayed, so its batch needs no room.
    """
    if not is_bound(connection, key, user_id):
        require_room(connection, bounds, user_id=user_id, lines=1)


def is_bound(connection: Connection, key: str, user_id: int) -> bool:
    """Return whether a request with this key of a user was accepted."""
    return bool(transfers.find_by_keys(connection, [(key, user_id)]))


def _decide(acceptance: Acceptance, request: BatchRequest) -> tuple[list[bytes | ErrorCode], int]:
    """Decide each line. Returns their results, and the number of refused ones that may be guesses of payees."""
    lines: list[bytes | ErrorCode] = []
    guesses = 0
    for index, line in enumerate(request.transfers):
        placed = acceptance.place(line if acceptance.first_sequence else _with_key(line, request))
        assert not isinstance(placed, RateLimited), "there is room for the whole batch"
        if not isinstance(placed, Refusal):
            lines.append(placed[0].public_id)
        elif request.mode is BatchMode.ATOMIC:
            raise _at_line(placed, index)
        else:
            lines.append(placed.code)
            guesses += may_be_a_guess(placed)
    return lines, guesses


def _with_key(line: TransferRequest, request: BatchRequest) -> TransferRequest:
    return line._replace(idempotency_key=request.idempotency_key, fingerprint=request.fingerprint)


def _at_line(refusal: Refusal, index: int) -> Refusal:
    """Add the line of the request to a refusal."""
    return Refusal(refusal.code, about=refusal.about, line=index, detail=refusal.detail)
