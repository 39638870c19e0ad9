"""Batches: many transfers in one request."""

from hashlib import blake2b
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api.codes import WireError
from api.dependencies import NamingPayees, RuntimeDep, UserDep, runtime_of
from api.errors import MOST_ERRORS
from api.http.direct import DirectRoute, errors_of, invalid_body
from api.http.headers import idempotency_key
from api.http.long_json import read_long
from api.routes.transfers import KEY, REFUSALS
from api.runtime import Runtime
from api.schemas.batches import LINES, BatchOut, NewBatch, render_accepted, written
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, header, problems
from api.schemas.transfers import FINGERPRINT_BYTES, NewTransfer, as_given
from api.throttling.rates import Policy
from core import turns
from core.domain.batches import MAX_BATCH, BatchRequest
from core.domain.errors import Refusal
from core.domain.texts import Stripped
from core.domain.transfers import TransferKind, TransferRequest
from core.domain.users import Identity
from core.services.transfers import batches


class BatchRoute(DirectRoute):
    """A route whose body's lines are parsed and validated some at a time, and the event loop turns in between."""

    async def _read(self, request: Request, body_type: str) -> None:
        await _refuse_early(request)
        lines = _Lines()
        try:
            given = await read_long(await request.body(), "transfers", lines.take, turns.pause)
        except (ValueError, RecursionError):
            raise Refusal(WireError.MALFORMED_BODY) from None
        request.state.read = given, lines

    async def _validated(self, request: Request) -> NewBatch:
        lines: _Lines
        given, lines = request.state.read
        batch = lines.batch(given)
        user_id = request.state.identity.id
        runtime_of(request).throttles.check_lines(request, Policy.TRANSFERS, user_id, len(batch.transfers))
        return batch


async def _refuse_early(request: Request) -> None:
    """Refuse a batch for which there is no room before its body is parsed. An invalid key is refused after that."""
    runtime, user_id = runtime_of(request), request.state.identity.id
    try:
        key = idempotency_key(request.headers.getlist("idempotency-key"), required=True)
    except Refusal:
        return
    assert key is not None, "required"
    async with runtime.reading.session(user_id) as session:
        connection = await session.connection()
        await connection.run_sync(batches.refuse_early, runtime.settings.pending_bounds, key=key, user_id=user_id)


class _Lines:
    """The lines of a batch as they are read: their models, and what is wrong with them."""

    def __init__(self) -> None:
        self._count = 0
        self._models: list[NewTransfer] = []
        self._errors: list[Any] = []
        self._error_count = 0

    def take(self, given: list[Any], is_last: bool) -> None:
        """Validate some more; raises InvalidRequest for one too many, and nothing behind it is read."""
        first = self._count
        self._count += len(given)
        if self._count > MAX_BATCH:
            found = str(self._count) if is_last else "more"
            message = f"List should have at most {MAX_BATCH} items after validation, not {found}"
            raise invalid_body([{"loc": ("transfers",), "msg": message}], 1)
        try:
            self._models += LINES.validate_python(given)
        except ValidationError as error:
            self._error_count += error.error_count()
            self._list_errors(given, first)

    def _list_errors(self, given: list[Any], first: int) -> None:
        """List what is wrong, line by line until there is enough: making all takes a millisecond a thousand."""
        for index, line in enumerate(given, first):
            if len(self._errors) >= MOST_ERRORS:
                return
            try:
                NewTransfer.model_validate(line)
            except ValidationError as error:
                self._errors += [{**one, "loc": ("transfers", index, *one["loc"])} for one in errors_of(error, line)]

    def batch(self, given: Any) -> NewBatch:
        """Make the batch of its lines and of what else was given; raises InvalidRequest."""
        others = []
        try:
            batch = NewBatch.model_validate({**given, "transfers": [_SOME_LINE]} if self._count else given)
        except ValidationError as error:
            others = errors_of(error, given)
        if others or self._errors:
            errors = sorted([*others, *self._errors], key=_is_unknown)
            raise invalid_body(errors, len(others) + self._error_count)
        return batch.model_copy(update={"transfers": self._models})


_SOME_LINE = NewTransfer.model_construct(to_account_number="")
"""Stands for all lines, which are validated already."""


def _is_unknown(error: dict[str, Any]) -> bool:
    """Say whether an error is about a field that no batch has: these come last."""
    return bool(error["loc"]) and error["loc"][0] not in NewBatch.model_fields


router = APIRouter(tags=["transfers"], route_class=BatchRoute)

PATH = "/transfers/bulk"

_KEY = KEY | {
    "required": True,
    "description": "1 to 255 visible ASCII characters. The same batch under the same key is accepted once.",
    "example": "payroll-2026-11",
}
_ACCEPTED = {
    "description": "The result of each line. The transfers of accepted lines are on disk and will be settled.",
    "headers": {
        "Location": header(
            "The URL of the list of the batch's transfers. Missing if no line was accepted.", "/transfers?batch_id=…"
        ),
        "Retry-After": header("Seconds to wait before polling.", "1", required=True),
        "Idempotent-Replayed": header("`true` if an earlier request with this key was accepted.", "true"),
    },
}


@router.post(
    PATH,
    summary="Submit many transfers",
    status_code=202,
    response_model=BatchOut,
    openapi_extra={"parameters": [_KEY]},
    responses={202: _ACCEPTED, **problems(*FOR_USERS, *REFUSALS, *WITH_BODY, *WRITES)},
)
async def submit_batch(body: NewBatch, request: Request, identity: UserDep, runtime: RuntimeDep) -> Response:
    """Submit up to 5,000 transfers from the caller's accounts in one request.

    An invalid line refuses the whole request (422). In the mode `independent`, each line is accepted or refused on its
    own. In the mode `atomic`, one refused line refuses all lines, and settlement completes all transfers or none.
    """
    async with NamingPayees(request, identity) as named:
        order = await _order(body, request, identity, runtime)
        batch = await runtime.intake.accept_batch(order, by=identity)
        named.guesses = batch.guesses
    headers = {"Retry-After": "1"}
    if batch.id is not None:
        headers["Location"] = f"/transfers?batch_id={batch.id}"
    if batch.replayed:
        headers["Idempotent-Replayed"] = "true"
    answer = "".join(await turns.every(render_accepted(batch)))
    return Response(answer, 202, headers, media_type="application/json")


async def _order(body: NewBatch, request: Request, identity: Identity, runtime: Runtime) -> BatchRequest:
    key = idempotency_key(request.headers.getlist("idempotency-key"), required=True)
    assert key is not None, "required"
    request_id: str = request.state.request_id
    orders = await turns.make(lambda line: _line(line, identity.id, request_id), body.transfers)
    digest = await _digest(runtime, body)
    is_stripped = any(isinstance(line.description, Stripped) for line in body.transfers)
    former = (
        body.model_copy(update={"transfers": [as_given(line, line.description) for line in body.transfers]})
        if is_stripped
        else None
    )
    return BatchRequest(
        mode=body.mode,
        submitted_by=identity.id,
        transfers=orders,
        idempotency_key=key,
        fingerprint=digest,
        former_fingerprint=None if former is None else await _digest(runtime, former),
    )


async def _digest(runtime: Runtime, body: NewBatch) -> bytes:
    said = b"".join(await turns.every(written(PATH, body)))
    return blake2b(said, digest_size=FINGERPRINT_BYTES).digest()


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
