"""The audit log: queries and entries for operators."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas import fields
from api.schemas.base import CreatedFrom, CreatedTo, Out, PageQuery
from core.domain.audit import Action, AuditFilter, AuditView


class AuditQuery(PageQuery):
    """Filters for a list of entries."""

    action: Annotated[Action | None, Field(description="Only entries of this action.", examples=["account_frozen"])] = (
        None
    )
    author_id: Annotated[
        UUID | None, Field(description="Only entries about acts of this user.", examples=[fields.USER])
    ] = None
    object_id: Annotated[
        UUID | None,
        Field(description="Only entries about this user, account, transfer or card.", examples=[fields.ACCOUNT]),
    ] = None
    created_from: CreatedFrom = None
    created_to: CreatedTo = None

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

    sequence: int = Field(
        description="Place in the order of writing. Times never go back along this order.", examples=[17]
    )
    at: datetime = Field(description="Time of writing: RFC 3339, in UTC.", examples=[fields.MOMENT])
    author_id: UUID | None = Field(
        description="Id of the user who acted. Null if the author is unknown, for example after a failed log-in.",
        examples=[fields.USER],
    )
    action: Action = Field(
        description="The recorded act. Later versions may add actions.", examples=["overdraft_limit_set"]
    )
    object_id: UUID | None = Field(
        description="Id of the user, account, transfer or other object that the act was on. Null if the entry has no "
        "object.",
        examples=[fields.ACCOUNT],
    )
    details: Mapping[str, str | int] = Field(
        description="More about the act. Each action has its own names; amounts are in minor units.",
        examples=[{"before": 0, "after": 50000}],
    )
    request_id: fields.RequestId
    address: str | None = Field(
        description="IP address of the client. Null for a command that ran on the server itself.",
        examples=["203.0.113.7"],
    )

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
