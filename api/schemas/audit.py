"""The audit log: queries and entries for operators."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas.base import Moment, Out, PageQuery
from core.domain.audit import Action, AuditFilter, AuditView


class AuditQuery(PageQuery):
    """Filters for a list of entries."""

    action: Action | None = None
    author_id: UUID | None = None
    object_id: UUID | None = None
    created_from: Moment | None = None
    created_to: Annotated[Moment, Field(description="Exclusive.")] | None = None

    def filter(self) -> AuditFilter:
        """Return the filters without the page."""
        return AuditFilter(
            action=self.action,
            author_id=self.author_id,
            object_id=self.object_id,
            created_from=self.created_from,
            created_to=self.created_to,
        )


class AuditOut(Out):
    """An entry of the audit log."""

    sequence: int
    at: datetime
    author_id: UUID | None = Field(description="Null if the author is unknown, for example after a failed log-in.")
    action: Action
    object_id: UUID | None = Field(description="A user, an account or a transfer; null if the entry has no object.")
    details: Mapping[str, str | int] = Field(examples=[{"before": 0, "after": 50000}])
    request_id: str
    address: str | None = Field(description="Null for a command that ran on the server itself.")

    @classmethod
    def of(cls, entry: AuditView) -> Self:
        """Show an entry."""
        return cls(
            sequence=entry.sequence,
            at=entry.at,
            author_id=entry.author_id,
            action=entry.action,
            object_id=entry.object_id,
            details=entry.details,
            request_id=entry.request_id,
            address=entry.address,
        )
