"""Runs of statements: which months are closed, and how far their statements are."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import BankDep, OperatorDep, SessionDep
from api.routing import CheckedRoute
from api.schemas.base import Page, PageQuery
from api.schemas.problems import FOR_OPERATORS, problems
from api.schemas.statement_runs import StatementRunOut
from core.models.base import NEWEST
from core.services import statement_runs

router = APIRouter(prefix="/operator", tags=["operator"], route_class=CheckedRoute)


@router.get("/statement-runs", responses=problems(*FOR_OPERATORS))
async def list_statement_runs(
    page: Annotated[PageQuery, Query()], _operator: OperatorDep, bank: BankDep, session: SessionDep
) -> Page[StatementRunOut]:
    """List the months that are closed, newest first, with the progress of their statements."""
    below = bank.cursors.open(page.cursor, of="operator:statement-runs") if page.cursor else NEWEST
    found = await statement_runs.list_runs(session, below=below, offset=page.offset or 0, limit=page.limit + 1)
    shown = found[: page.limit]
    return Page(
        items=[StatementRunOut.of(run) for run in shown],
        limit=page.limit,
        offset=page.offset or 0,
        next_cursor=bank.cursors.seal(shown[-1].id, of="operator:statement-runs") if len(found) > len(shown) else None,
    )
