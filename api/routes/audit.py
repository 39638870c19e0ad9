"""The audit log, for operators."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.dependencies import OperatorDep, RuntimeDep, SessionDep
from api.http.checks import CheckedRoute
from api.schemas.audit import AuditOut, AuditQuery
from api.schemas.base import Page
from api.schemas.problems import FOR_OPERATORS, problems
from core.ids import NEWEST
from core.services import audit

router = APIRouter(prefix="/operator", tags=["operator"], route_class=CheckedRoute)


@router.get(
    "/audit",
    summary="List the audit log",
    response_description="A page of entries of the audit log.",
    responses=problems(*FOR_OPERATORS),
)
async def list_audit(
    query: Annotated[AuditQuery, Query()], _operator: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> Page[AuditOut]:
    """List recorded actions and refusals, newest first.

    A page searches a limited number of entries. With two or more filters it can therefore be short or empty and still
    have a `next_cursor`. The list ends when `next_cursor` is null.
    """
    name = f"operator:audit:{query.model_dump_json(exclude={'limit', 'offset', 'cursor'})}"
    below = runtime.cursors.open(query.cursor, of=name) if query.cursor else NEWEST
    found, following = await audit.list_audit(
        session, query.filter(), below=below, offset=query.offset or 0, limit=query.limit
    )
    return Page(
        items=[AuditOut.of(entry) for entry in found],
        limit=query.limit,
        offset=query.offset or 0,
        next_cursor=None if following is None else runtime.cursors.seal(following, of=name),
    )
