"""The last verification of the ledger."""

from fastapi import APIRouter

from api.dependencies import OperatorDep, SessionDep
from api.http.checks import CheckedRoute
from api.schemas.problems import FOR_OPERATORS, problems
from api.schemas.verification import VerificationOut
from core.services import verification

router = APIRouter(prefix="/operator", tags=["operator"], route_class=CheckedRoute)


@router.get(
    "/verification",
    summary="Show the last verification of the ledger",
    response_description="The result of the last verification. Before the first one, its fields are null.",
    responses=problems(*FOR_OPERATORS),
)
async def get_verification(_operator: OperatorDep, session: SessionDep) -> VerificationOut:
    """Show the newest kept result of a verification of the whole ledger."""
    return VerificationOut.of(await verification.last(session))
