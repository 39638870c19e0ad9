"""Batches: many transfers in one request."""

import json
from collections.abc import Iterator
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from api.schemas import fields
from api.schemas.base import Code, In, Out
from api.schemas.transfers import NewTransfer
from core.domain.batches import MAX_BATCH, AcceptedBatch, BatchMode
from core.domain.errors import ErrorCode


class NewBatch(In):
    """Transfers to submit together."""

    mode: BatchMode = Field(
        description="`independent`: each line on its own. `atomic`: all lines are accepted and complete, or none.",
        examples=["independent"],
    )
    transfers: Annotated[
        list[NewTransfer],
        Field(
            min_length=1,
            max_length=MAX_BATCH,
            description="The lines of the batch, in the order in which they are to be accepted and settled.",
        ),
    ]


LINES = TypeAdapter(list[NewTransfer])
SOME = 250
"""Lines that are worked on in one go: for a millisecond or two."""


def written(path: str, batch: NewBatch) -> Iterator[bytes]:
    """Write what a batch says, some lines at a time: the bytes that `fingerprint` of schemas/transfers.py digests."""
    head, empty, tail = batch.model_copy(update={"transfers": []}).model_dump_json().partition("[]")
    assert empty, "there are no other lists"
    yield f"{path}\n{head}[".encode()
    for start in range(0, len(batch.transfers), SOME):
        yield (b"," if start else b"") + LINES.dump_json(batch.transfers[start : start + SOME])[1:-1]
    yield f"]{tail}".encode()


LineIndex = Annotated[int, Field(description="Position of the line in the request, counted from 0.", examples=[0])]


class AcceptedLineOut(Out):
    """A line that was accepted as a transfer."""

    index: LineIndex
    status: Literal["accepted"] = Field(description="The line was accepted.")
    id: UUID = Field(
        description="Id of the transfer, which is pending and will be settled.", examples=[fields.TRANSFER]
    )


class RefusedLineOut(Out):
    """A line that was refused, with the reason."""

    index: LineIndex = Field(examples=[1])
    status: Literal["refused"] = Field(description="The line was refused, and no transfer exists for it.")
    code: Code = Field(description="Reason of the refusal.", examples=["insufficient_funds"])


class BatchOut(Out):
    """The result of each line of a batch."""

    batch_id: UUID | None = Field(
        description="Id of the batch, which `GET /transfers` takes as a filter. Null if every line was refused; the "
        "idempotency key can then be used again.",
        examples=[fields.BATCH],
    )
    accepted: int = Field(description="Number of accepted lines.", examples=[1])
    refused: int = Field(description="Number of refused lines.", examples=[0])
    results: list[AcceptedLineOut | RefusedLineOut] = Field(
        description="One result for each line, in the order of the request."
    )


def render_accepted(batch: AcceptedBatch) -> Iterator[str]:
    """Write the body of a 202, some lines at a time, from what never changes.

    As with a single transfer, a rendering must not change once it has been used.
    """
    return _RENDERINGS[batch.answer_version](batch)


def _render_accepted_v1(batch: AcceptedBatch) -> Iterator[str]:
    accepted, count = batch.accepted, len(batch.lines)
    head = {"batch_id": batch.id and str(batch.id), "accepted": accepted, "refused": count - accepted}
    yield f'{json.dumps(head, separators=(",", ":"))[:-1]},"results":['
    for start in range(0, count, SOME):
        some = batch.lines[start : start + SOME]
        yield ("," if start else "") + ",".join(map(_render_line_v1, range(start, count), some))
    yield "]}"


def _render_line_v1(index: int, line: bytes | ErrorCode) -> str:
    if isinstance(line, ErrorCode):
        return f'{{"index":{index},"status":"refused","code":"{line.value}"}}'
    digits = line.hex()
    return (
        f'{{"index":{index},"status":"accepted","id":"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-'
        f'{digits[20:]}"}}'
    )


_RENDERINGS = {1: _render_accepted_v1}
