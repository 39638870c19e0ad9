"""Statements, and the bank as they show it."""

from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import Field

from core.domain.statements import BankDetails
from core.settings.groups.base import DataFolder
from core.settings.types import ShownText, TimeZone


class StatementSettings(DataFolder):
    """The bank's details and calendar, and the bounds of documents. A statement keeps those it was made with."""

    title = "Statements"

    bank_name: ShownText = Field("Giro", min_length=1, max_length=140, description="Name of the bank on statements.")
    bank_address: ShownText | None = Field(
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
    document_rows: int = Field(
        1_000,
        ge=0,
        description="Largest number of transactions in a document that is drawn while its client waits. A larger one "
        "is answered 202, and a job makes it.",
    )
    documents_pending: int = Field(
        4,
        ge=1,
        le=1_000,
        description="Large documents of one user that may wait for the job. One more is answered 429 "
        "`too_many_documents`.",
    )
    documents_kept: int = Field(
        16,
        ge=1,
        le=10_000,
        description="Large documents that are kept for one user. One more takes the place of the oldest.",
    )
    document_hours: float = Field(12, gt=0, le=720, description="Hours for which a large document can be fetched.")
    documents_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Documents that may wait to be made, two of them for one user. One more is answered 503 "
        "`unavailable`.",
    )

    @property
    def documents_path(self) -> Path:
        """The folder of large documents, absolute."""
        return self.data_dir.absolute() / "documents"

    @property
    def bank(self) -> BankDetails:
        """The bank as its statements name it."""
        return BankDetails(name=self.bank_name, address=self.bank_address, bic=self.bank_bic)

    @property
    def zone(self) -> ZoneInfo:
        """The bank's time zone."""
        return ZoneInfo(self.time_zone)
