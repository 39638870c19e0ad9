"""Parked messages, for operators."""

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import Field

from api.schemas.base import Out
from core.domain.dead_letters import DeadLetterView


class DeadLetterOut(Out):
    """A message that is parked because its work kept failing."""

    id: UUID
    queue: str = Field(examples=["statements"])
    actor: str = Field(examples=["make_statement_group"])
    arguments: list[int]
    error: str = Field(description="The error of the last attempt.", examples=["BrokenChain: …"])
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    parked_at: datetime

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
