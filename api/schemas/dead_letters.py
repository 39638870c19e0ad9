"""Parked messages, for operators."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import Field

from api.schemas import fields
from api.schemas.base import Out
from core.domain.dead_letters import DeadLetterView


class DeadLetterOut(Out):
    """A message that is parked because its work kept failing."""

    id: UUID = Field(description="Id of the parked message.", examples=[fields.LETTER])
    queue: str = Field(description="Queue that the message was taken from.", examples=["statements"])
    actor: str = Field(description="Name of the job that the message starts.", examples=["make_statement_group"])
    arguments: list[int] = Field(description="Arguments of the job.", examples=[[12, 3]])
    error: str = Field(description="Error of the last attempt, on one line.", examples=["BrokenChain: …"])
    attempts: int = Field(description="Number of attempts that failed in a row.", examples=[3])
    first_failed_at: datetime = Field(
        description="Time of the first failure: RFC 3339, in UTC.", examples=["2026-11-01T05:00:02.104233Z"]
    )
    last_failed_at: datetime = Field(
        description="Time of the last failure: RFC 3339, in UTC.", examples=["2026-11-01T05:02:07.901344Z"]
    )
    parked_at: datetime = Field(
        description="Time when the message was parked: RFC 3339, in UTC.", examples=["2026-11-01T05:02:07.903112Z"]
    )

    @classmethod
    def of(cls, row: DeadLetterView) -> Self:
        """Show a parked message."""
        return cls(
            id=row.id,
            queue=row.letter.queue,
            actor=row.letter.actor,
            arguments=list(row.letter.arguments),
            error=row.error,
            attempts=row.attempts,
            first_failed_at=row.first_failed_at,
            last_failed_at=row.last_failed_at,
            parked_at=row.parked_at,
        )
