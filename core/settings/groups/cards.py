"""Cards."""

from pydantic import Field

from core.settings.groups.base import SettingsGroup


class CardSettings(SettingsGroup):
    """How many cards an account has, and how long they last."""

    title = "Cards"

    cards_per_account: int = Field(
        20, ge=1, le=1000, description="Cards that one account can have. Cancelled cards do not count."
    )
    cards_per_user: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="Cards that one user can ever be issued, for all accounts. Cancelled cards count: they are kept.",
    )
    card_years: int = Field(
        4, ge=1, le=20, description="Years until a card expires, at the end of the month that it was issued in."
    )
