"""Messages whose work keeps failing: parked, until an operator sends them again or drops them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from api.dependencies import OperatorDep, RuntimeDep, SessionDep, author_of
from api.http.checks import CheckedRoute
from api.schemas.base import Page, PageQuery
from api.schemas.dead_letters import DeadLetterOut
from api.schemas.fields import LetterInPath
from api.schemas.pages import page_of
from api.schemas.problems import FOR_OPERATORS, WRITES, problems
from core.domain.dead_letters import DeadLetterError
from core.services import dead_letters

router = APIRouter(prefix="/operator", tags=["operator"], route_class=CheckedRoute)

_ACT = problems(*FOR_OPERATORS, DeadLetterError.NOT_FOUND, *WRITES)


@router.get(
    "/dead-letters",
    summary="List the parked messages",
    response_description="A page of parked messages.",
    responses=problems(*FOR_OPERATORS),
)
async def list_dead_letters(
    page: Annotated[PageQuery, Query()], _operator: OperatorDep, runtime: RuntimeDep, session: SessionDep
) -> Page[DeadLetterOut]:
    """List the parked messages, oldest first."""
    after = runtime.cursors.open(page.cursor, of="operator:dead-letters") if page.cursor else 0
    found = await dead_letters.list_parked(session, after=after, offset=page.offset or 0, limit=page.limit + 1)
    return page_of(
        page,
        found,
        show=DeadLetterOut.of,
        cursor=lambda row: runtime.cursors.seal(row.sequence, of="operator:dead-letters"),
    )


@router.post(
    "/dead-letters/{letter_id}/retry",
    summary="Retry a parked message",
    response_description="The message is no longer parked and will be sent again.",
    status_code=204,
    responses=_ACT,
)
async def retry_dead_letter(
    letter_id: LetterInPath, request: Request, identity: OperatorDep, runtime: RuntimeDep
) -> None:
    """Release a parked message and reset its failures. The scheduler's next tick sends it again."""
    author = author_of(request, identity)
    await runtime.intake.run(lambda connection: dead_letters.retry(connection, author, letter_id), by=identity)


@router.post(
    "/dead-letters/{letter_id}/drop",
    summary="Drop a parked message",
    response_description="The message is deleted.",
    status_code=204,
    responses=_ACT,
)
async def drop_dead_letter(
    letter_id: LetterInPath, request: Request, identity: OperatorDep, runtime: RuntimeDep
) -> None:
    """Delete a parked message. If its work is still due in the database, a new message is sent."""
    author = author_of(request, identity)
    await runtime.intake.run(lambda connection: dead_letters.drop(connection, author, letter_id), by=identity)
