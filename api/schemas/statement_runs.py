"""Runs of statements, for operators."""

from datetime import datetime
from typing import Self

from pydantic import Field

from api.schemas.base import Out
from core.domain.statements import Run


class StatementRunOut(Out):
    """A finished month and the progress of its statements."""

    period: str = Field(examples=["2026-10"])
    time_zone: str
    starts_at: datetime
    ends_at: datetime = Field(
        description="The first instant after the month. New transactions are never posted before it."
    )
    opened_at: datetime
    groups: int = Field(description="Groups of accounts that the run is divided into.")
    groups_done: int
    statements: int = Field(description="Statements made so far.")
    finished_at: datetime | None

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
