"""Large documents, which a job makes, and which are kept for some hours."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from core.domain.errors import ErrorCode, Kind


class DocumentError(ErrorCode):
    """Errors about large documents."""

    NOT_FOUND = (
        "document_not_found",
        Kind.NOT_FOUND,
        "Document not found. It may have expired.",
        "Check the id, or ask for the statement's document again.",
    )
    TOO_MANY = (
        "too_many_documents",
        Kind.TOO_MANY,
        "Too many of your documents wait to be made.",
        "Fetch those that are pending first, then ask again.",
    )


class DocumentStatus(StrEnum):
    """The progress of a large document."""

    PENDING = "pending"
    """Waits to be made."""
    READY = "ready"
    """Made, and can be fetched until it expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentView:
    """A large document of a statement."""

    id: UUID
    account_id: UUID
    period: str
    """`YYYY-MM`."""
    media_type: str
    transaction_count: int
    file_name: str
    """The name that clients save it under."""
    asked_at: datetime
    made_at: datetime | None
    """None while it is pending."""
    expires_at: datetime

    @property
    def status(self) -> DocumentStatus:
        """Its progress."""
        return DocumentStatus.PENDING if self.made_at is None else DocumentStatus.READY
