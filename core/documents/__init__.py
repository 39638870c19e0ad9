"""Statements as files: pure renderers without database, clock or settings. Equal input gives equal bytes.

A renderer's libraries are loaded at its first use, because the API only needs the names of the formats and draws in
another process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.documents.wording import is_provisional
from core.domain.statements import StatementStatus, StatementView
from core.domain.transactions import TransactionView

Renderer = Callable[[StatementView, Sequence[TransactionView]], bytes]


@dataclass(frozen=True, slots=True)
class Format:
    """A file format for statements."""

    extension: str
    render: Renderer


def _csv(statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    from core.documents import csv

    return csv.render(statement, transactions)


def _pdf(statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    from core.documents import pdf

    return pdf.render(statement, transactions)


def _camt053(statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    from core.documents import camt053

    return camt053.render(statement, transactions)


FORMATS: dict[str, Format] = {
    "text/csv": Format("csv", _csv),
    "application/pdf": Format("pdf", _pdf),
    "application/xml": Format("xml", _camt053),
}
"""Media type → format. JSON is missing, because it is paged and the API writes it."""


def render(media_type: str, statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    """Write a statement with all transactions of its period, oldest first.

    Raises KeyError for a media type that is not in `FORMATS`, and ValueError for a pending statement.
    """
    if statement.status is StatementStatus.PENDING:
        raise ValueError("a pending statement has no figures yet")
    return FORMATS[media_type].render(statement, transactions)


def file_name(statement: StatementView, media_type: str) -> str:
    """Name its file: `statement-XG46GIRO00000000000042-2026-10.pdf`, with `-provisional` if it is provisional."""
    suffix = "-provisional" if is_provisional(statement) else ""
    extension = FORMATS[media_type].extension
    return f"statement-{statement.account_number}-{statement.period}{suffix}.{extension}"
