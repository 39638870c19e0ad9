"""Runs of statements: the closed months and the progress of their statements."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import OperatorDep, RuntimeDep, SessionDep
from api.http.checks import CheckedRoute
from api.schemas.base import Page, PageQuery
from api.schemas.pages import page_of
from api.schemas.problems import FOR_OPERATORS, problems
from api.schemas.statement_runs import StatementRunOut
from core.ids import NEWEST
from core.services.statements import making

router = APIRouter(prefix="/operator", tags=["operator"], route_class=CheckedRoute)


@router.get(
    "/statement-runs",
    summary="List the closed months",
    response_description="A page of closed months.",
    responses=problems(*FOR_OPERATORS),
)
async def list_statement_runs(
    page: Annotated[PageQuery, Query()], _operator: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> Page[StatementRunOut]:
    """List the closed months, newest first, with the progress of their statements."""
    below = runtime.cursors.open(page.cursor, of="operator:statement-runs") if page.cursor else NEWEST
    found = await making.list_runs(session, below=below, offset=page.offset or 0, limit=page.limit + 1)
    return page_of(
        page,
        found,
        show=StatementRunOut.of,
        cursor=lambda row: runtime.cursors.seal(row.id, of="operator:statement-runs"),
    )
