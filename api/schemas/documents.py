"""Large documents of statements."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import Field

from api.schemas import fields
from api.schemas.base import Out
from core.domain.documents import DocumentStatus, DocumentView


class DocumentOut(Out):
    """A large document of a statement, which a job makes."""

    id: UUID = Field(description="Id of the document.", examples=[fields.DOCUMENT])
    account_id: fields.AccountId
    period: fields.Period
    media_type: str = Field(description="Media type of the document.", examples=["application/pdf"])
    status: DocumentStatus = Field(
        description="`pending`: waits to be made. `ready`: `GET /documents/{id}` answers with the document.",
        examples=["pending"],
    )
    transaction_count: int = Field(description="Number of transactions in the document.", examples=[12_000])
    asked_at: datetime = Field(
        description="Time when the document was asked for: RFC 3339, in UTC. A provisional document has the "
        "transactions of that time.",
        examples=[fields.MOMENT],
    )
    expires_at: datetime = Field(
        description="Time from which the document is no longer found: RFC 3339, in UTC.",
        examples=["2026-11-24T16:48:57.233208Z"],
    )

    @classmethod
    def of(cls, document: DocumentView) -> Self:
        """Show a document."""
        return cls(
            id=document.id,
            account_id=document.account_id,
            period=document.period,
            media_type=document.media_type,
            status=document.status,
            transaction_count=document.transaction_count,
            asked_at=document.asked_at,
            expires_at=document.expires_at,
        )
