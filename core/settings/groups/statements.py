"""Statements, and the bank as they show it."""

from zoneinfo import ZoneInfo

from pydantic import Field

from core.domain.statements import BankDetails
from core.settings.groups.base import SettingsGroup
from core.settings.types import TimeZone


class StatementSettings(SettingsGroup):
    """The bank's details and calendar, and the bounds of documents. A statement keeps those it was made with."""

    title = "Statements"

    bank_name: str = Field("Giro", min_length=1, max_length=140, description="Name of the bank on statements.")
    bank_address: str | None = Field(
        None, max_length=280, description="Address of the bank on statements, in one line."
    )
    bank_bic: str | None = Field(
        None,
        pattern=r"^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$",
        description="BIC of the bank on statements (ISO 9362): 8 or 11 capitals and digits.",
    )
    time_zone: TimeZone = Field(
        "UTC",
        description="Time zone whose calendar months statements cover: a name of the IANA database, as in "
        "`Europe/Berlin`.",
    )
    statement_group: int = Field(200, ge=1, le=10_000, description="Accounts whose statements are made by one message.")
    statement_transactions: int = Field(
        50_000,
        ge=1,
        description="Largest number of transactions in a CSV, PDF or camt.053 document. Longer statements are "
        "available as JSON only.",
    )
    documents_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Documents that may wait to be made, two of them for one user. One more is answered 503 "
        "`unavailable`.",
    )

    @property
    def bank(self) -> BankDetails:
        """The bank as its statements name it."""
        return BankDetails(name=self.bank_name, address=self.bank_address, bic=self.bank_bic)

    @property
    def zone(self) -> ZoneInfo:
        """The bank's time zone."""
        return ZoneInfo(self.time_zone)
