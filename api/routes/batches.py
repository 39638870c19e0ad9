"""Batches: many transfers in one request."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from api.dependencies import BankDep, UserDep
from api.http.checks import DirectRoute
from api.http.headers import idempotency_key
from api.routes.transfers import KEY, REFUSALS
from api.schemas.batches import BatchOut, NewBatch, render_accepted
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, header, problems
from api.schemas.transfers import NewTransfer, fingerprint
from core.domain.batches import BatchRequest
from core.domain.transfers import TransferKind, TransferRequest

router = APIRouter(tags=["transfers"], route_class=DirectRoute)

PATH = "/transfers/bulk"

_KEY = KEY | {
    "required": True,
    "description": "1 to 255 visible ASCII characters. The same batch under the same key is accepted once.",
    "example": "payroll-2026-11",
}
_ACCEPTED = {
    "description": "Accepted: the lines that say so are on disk, and to be settled.",
    "headers": {
        "Location": header("Where to poll. Missing where no line was accepted.", "/transfers?batch_id=…"),
        "Retry-After": header("Seconds until polling is worth it.", "1", required=True),
        "Idempotent-Replayed": header("`true` when the key had been used for it before.", "true"),
    },
}


@router.post(
    PATH,
    status_code=202,
    response_model=BatchOut,
    openapi_extra={"parameters": [_KEY]},
    responses={202: _ACCEPTED, **problems(*FOR_USERS, *REFUSALS, *WITH_BODY, *WRITES)},
)
async def submit_batch(body: NewBatch, request: Request, identity: UserDep, bank: BankDep) -> Response:
    """Submit up to 5,000 transfers from one's accounts at once.

    A line that is not well-formed refuses the whole request (422). With `independent` every other line is accepted or
    refused for itself; with `atomic` the first refusal refuses all, and settlement completes all of them or none.
    """
    key = idempotency_key(request.headers.getlist("idempotency-key"), required=True)
    assert key is not None, "required"
    request_id: str = request.state.request_id
    batch = await bank.intake.accept_batch(
        BatchRequest(
            mode=body.mode,
            submitted_by=identity.id,
            transfers=[_line(line, identity.id, request_id) for line in body.transfers],
            idempotency_key=key,
            fingerprint=fingerprint(PATH, body),
        ),
        by=identity,
    )
    headers = {"Retry-After": "1"}
    if batch.id is not None:
        headers["Location"] = f"/transfers?batch_id={batch.id}"
    if batch.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(render_accepted(batch), 202, headers, media_type="application/json")


def _line(line: NewTransfer, user_id: int, request_id: str) -> TransferRequest:
    payee: UUID | str | None = line.to_account_id or line.to_account_number
    return TransferRequest(
        kind=TransferKind.TRANSFER,
        submitted_by=user_id,
        payer=line.from_account_id,
        payee=payee,
        amount=line.amount,
        currency=line.currency,
        description=line.description,
        idempotency_key=None,
        fingerprint=None,
        request_id=request_id,
    )
