"""The audit log, as operators ask for it and see it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas.base import Moment, Out, PageQuery
from core.domain.audit import Action, AuditFilter, AuditView


class AuditQuery(PageQuery):
    """Which entries a list shows."""

    action: Action | None = None
    author_id: UUID | None = None
    object_id: UUID | None = None
    created_from: Moment | None = None
    created_to: Annotated[Moment, Field(description="Exclusive.")] | None = None

    def filter(self) -> AuditFilter:
        """The filters alone."""
        return AuditFilter(
            action=self.action,
            author_id=self.author_id,
            object_id=self.object_id,
            created_from=self.created_from,
            created_to=self.created_to,
        )


class AuditOut(Out):
    """Something that was written down."""

    sequence: int
    at: datetime
    author_id: UUID | None = Field(description="Null where nobody is known: a log-in that failed, for example.")
    action: Action
    object_id: UUID | None = Field(description="A user, an account, a transfer; null where there is none.")
    details: Mapping[str, str | int] = Field(examples=[{"before": 0, "after": 50000}])
    request_id: str
    address: str | None = Field(description="Null for a command on the machine itself.")

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
