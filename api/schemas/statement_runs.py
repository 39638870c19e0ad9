"""Runs of statements, for operators."""

from datetime import datetime
from typing import Self

from pydantic import Field

from api.schemas import fields
from api.schemas.base import Out
from core.domain.statements import Run


class StatementRunOut(Out):
    """A finished month and the progress of its statements."""

    period: fields.Period
    time_zone: fields.TimeZone
    starts_at: fields.StartsAt
    ends_at: fields.EndsAt = Field(
        description="First instant after the month: RFC 3339, in UTC. New transactions are never posted before it."
    )
    opened_at: datetime = Field(
        description="Time when the month was closed and its statements began to be made: RFC 3339, in UTC.",
        examples=["2026-11-01T05:00:00.512001Z"],
    )
    groups: int = Field(description="Number of groups of accounts that the run is divided into.", examples=[4])
    groups_done: int = Field(description="Number of groups whose statements are made.", examples=[4])
    statements: int = Field(description="Number of statements made so far.", examples=[380])
    finished_at: datetime | None = Field(
        description="Time when the last statement was made: RFC 3339, in UTC. Null until then.",
        examples=["2026-11-01T05:00:09.274550Z"],
    )

    @classmethod
    def of(cls, run: Run) -> Self:
        """Show a run."""
        return cls(
            period=str(run.period),
            time_zone=run.time_zone,
            starts_at=run.starts_at,
            ends_at=run.ends_at,
            opened_at=run.opened_at,
            groups=run.group_count,
            groups_done=run.groups_done,
            statements=run.statements,
            finished_at=run.finished_at,
        )
