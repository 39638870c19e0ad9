"""Cards: issued, shown, frozen and cancelled by the owners of their accounts."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from api.dependencies import RuntimeDep, SessionDep, UserDep, author_of
from api.http.checks import CheckedRoute
from api.schemas.base import Page, PageQuery
from api.schemas.cards import CardOut, IssuedCardOut, NewCard
from api.schemas.fields import CardInPath
from api.schemas.pages import page_of
from api.schemas.problems import FOR_USERS, WITH_BODY, WRITES, header, problems
from core.domain.accounts import AccountError
from core.domain.cards import CardError
from core.domain.lanes import Lane
from core.services.cards import issuing
from core.services.cards.issuing import IssuedCard

router = APIRouter(tags=["cards"], route_class=CheckedRoute)

_REFUSALS = (
    AccountError.NOT_FOUND,
    AccountError.FROZEN,
    AccountError.CLOSED,
    CardError.TOO_MANY,
    CardError.TOO_MANY_EVER,
)
_ISSUED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The new card. Only this answer shows its number and CVC. If they are lost, issue another card.",
        "headers": {
            "Location": header(
                "The URL of the card, without its number and CVC.",
                "/cards/01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f",
                required=True,
            ),
            "Cache-Control": header("Always `no-store`: caches must not store the answer.", "no-store", required=True),
        },
    }
}


@router.post(
    "/cards",
    summary="Issue a card",
    status_code=201,
    responses=_ISSUED | problems(*FOR_USERS, *_REFUSALS, *WITH_BODY, *WRITES),
)
async def issue_card(
    body: NewCard, *, request: Request, identity: UserDep, response: Response, runtime: RuntimeDep
) -> IssuedCardOut:
    """Issue a card for one of the caller's accounts. Only this answer shows its number and CVC."""
    author, settings = author_of(request, identity), runtime.settings

    def work(connection: Connection) -> IssuedCard:
        return issuing.issue(
            connection,
            runtime.card_vault,
            author,
            account_id=body.account_id,
            kind=body.type,
            most=settings.cards_per_account,
            most_ever=settings.cards_per_user,
            years=settings.card_years,
        )

    issued = await runtime.intake.run(work, Lane.ACCEPT, by=identity)
    response.headers["Location"] = f"/cards/{issued.view.id}"
    response.headers["Cache-Control"] = "no-store"
    return IssuedCardOut.revealed(issued)


@router.get(
    "/cards",
    summary="List your cards",
    response_description="A page of the caller's cards.",
    responses=problems(*FOR_USERS),
)
async def list_cards(
    page: Annotated[PageQuery, Query()], identity: UserDep, runtime: RuntimeDep, session: SessionDep
) -> Page[CardOut]:
    """List the cards of all the caller's accounts, oldest first, including cancelled ones."""
    name = f"cards:{identity.id}"
    after_id = runtime.cursors.open(page.cursor, of=name) if page.cursor else 0
    found = await issuing.list_for_user(
        session, user_id=identity.id, after_id=after_id, offset=page.offset or 0, limit=page.limit + 1
    )
    return page_of(page, found, show=CardOut.of, cursor=lambda card: runtime.cursors.seal(card.sequence, of=name))


@router.get(
    "/cards/{card_id}",
    summary="Show a card",
    response_description="The card.",
    responses=problems(*FOR_USERS, CardError.NOT_FOUND),
)
async def get_card(card_id: CardInPath, identity: UserDep, session: SessionDep) -> CardOut:
    """Show one of the caller's cards, without its number and CVC."""
    return CardOut.of(await issuing.get(session, user_id=identity.id, card_id=card_id))


@router.post(
    "/cards/{card_id}/freeze",
    summary="Freeze a card",
    response_description="The frozen card. Repeating the call gives the same answer.",
    responses=problems(*FOR_USERS, CardError.NOT_FOUND, CardError.CANCELLED, *WRITES),
)
async def freeze_card(card_id: CardInPath, identity: UserDep, runtime: RuntimeDep, session: SessionDep) -> CardOut:
    """Freeze a card: it cannot be used until it is unfrozen."""
    await runtime.intake.run(
        lambda connection: issuing.freeze(connection, user_id=identity.id, card_id=card_id), by=identity
    )
    return CardOut.of(await issuing.get(session, user_id=identity.id, card_id=card_id))


@router.post(
    "/cards/{card_id}/unfreeze",
    summary="Unfreeze a card",
    response_description="The active card. Repeating the call gives the same answer.",
    responses=problems(*FOR_USERS, CardError.NOT_FOUND, CardError.CANCELLED, AccountError.FROZEN, *WRITES),
)
async def unfreeze_card(card_id: CardInPath, identity: UserDep, runtime: RuntimeDep, session: SessionDep) -> CardOut:
    """Make a frozen card active again, unless its account is frozen."""
    await runtime.intake.run(
        lambda connection: issuing.unfreeze(connection, user_id=identity.id, card_id=card_id), by=identity
    )
    return CardOut.of(await issuing.get(session, user_id=identity.id, card_id=card_id))


@router.post(
    "/cards/{card_id}/cancel",
    summary="Cancel a card",
    response_description="The cancelled card. Repeating the call gives the same answer.",
    responses=problems(*FOR_USERS, CardError.NOT_FOUND, *WRITES),
)
async def cancel_card(card_id: CardInPath, identity: UserDep, runtime: RuntimeDep, session: SessionDep) -> CardOut:
    """Cancel a card permanently. It stays in the list."""
    await runtime.intake.run(
        lambda connection: issuing.cancel(connection, user_id=identity.id, card_id=card_id), by=identity
    )
    return CardOut.of(await issuing.get(session, user_id=identity.id, card_id=card_id))
