"""Statements as PDF: A4 pages that a bank could send by post."""

from collections.abc import Sequence
from datetime import UTC
from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from core.documents import table
from core.documents.sheet import (
    ACCENT,
    AMBER,
    HAIRLINE,
    HEIGHT,
    INK,
    LEFT,
    MUTED,
    PALE,
    PALE_AMBER,
    RIGHT,
    Ink,
    Sheet,
)
from core.documents.typeface import regular
from core.documents.wording import (
    day,
    day_and_time,
    days_of,
    in_fours,
    is_provisional,
    local,
    reaches_until,
    separated,
)
from core.domain.statements import StatementView
from core.domain.transactions import TransactionView

_TOP = HEIGHT - 58.0
_TABLE_TOP = HEIGHT - 76.0
"""Top of the table on every page but the first."""
_MIDDLE = LEFT + 252.0
"""Between the account's details on the left and the figures on the right."""
_MOST_AMOUNT = 118.0
"""Maximum width of an amount next to its label."""
_LABEL = Ink(7.5, MUTED)
_SMALL = Ink(8, MUTED)


def render(statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    """Draw a statement and all of its transactions, oldest first."""
    buffer = BytesIO()
    canvas = _canvas(statement, buffer)
    sheet = Sheet(canvas)
    columns = table.fit_columns(statement, transactions)
    first_top = _draw_front(sheet, statement)
    pages = list(table.paginate(statement, transactions, columns, first_top, _TABLE_TOP))
    for number, rows in enumerate(pages, start=1):
        if number > 1:
            _draw_running_head(sheet, statement)
        table.draw(sheet, rows, columns, first_top if number == 1 else _TABLE_TOP)
        _draw_footer(sheet, statement, f"Page {number} of {len(pages)}")
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _canvas(statement: StatementView, buffer: BytesIO) -> Canvas:
    """Open a document. Its bytes depend only on what is drawn, so its date is the statement's."""
    canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1, lang="en")
    made_at = f"D:{statement.made_at.astimezone(UTC):%Y%m%d%H%M%SZ}"
    canvas.setDateFormatter(lambda *_: made_at)
    title = f"Account statement {statement.account_number}, {days_of(statement.period)}"
    canvas.setTitle(f"{title} (provisional)" if is_provisional(statement) else title)
    canvas.setAuthor(regular().printable(statement.bank.name))
    canvas.setSubject(regular().printable(statement.holder))
    canvas.setCreator("Giro")
    canvas.setViewerPreference("DisplayDocTitle", "true")
    return canvas


# --- the first page ----------------------------------------------------------------------------------------------


def _draw_front(sheet: Sheet, statement: StatementView) -> float:
    """Draw everything above the first page's table. Returns the top of the table."""
    y = _draw_letterhead(sheet, statement)
    sheet.text(LEFT, y - 46, "Account statement", Ink(21, INK, heavy=True))
    sheet.text(LEFT, y - 64, days_of(statement.period), Ink(11.5, MUTED))
    y -= 88
    if is_provisional(statement):
        y = _draw_banner(sheet, statement, y)
    facts = _draw_facts(sheet, statement, y)
    summary = _draw_summary(sheet, statement, y)
    return min(facts, summary) - 18


def _draw_letterhead(sheet: Sheet, statement: StatementView) -> float:
    bank = statement.bank
    name = Ink(14, ACCENT, heavy=True)
    y = sheet.paragraph(LEFT, _TOP, bank.name, name, width=RIGHT - LEFT, most=2, leading=18)
    details = " · ".join(part for part in (bank.address, bank.bic and f"BIC {bank.bic}") if part)
    if details:
        y = sheet.paragraph(LEFT, y + 3, details, _SMALL, width=RIGHT - LEFT, most=2, leading=11)
    sheet.line(y + 2, ACCENT, 1.2)
    return y + 2


def _draw_banner(sheet: Sheet, statement: StatementView, top: float) -> float:
    until = day_and_time(local(reaches_until(statement), statement))
    sheet.box(LEFT, top - 40, RIGHT, top, PALE_AMBER)
    sheet.box(LEFT, top - 40, LEFT + 3, top, AMBER)
    sheet.text(LEFT + 14, top - 16, "Provisional statement", Ink(9.5, INK, heavy=True))
    said = f"As of {until}. What is posted later in the period is missing, so the figures can still change."
    sheet.text(LEFT + 14, top - 30, said, Ink(8.5), RIGHT - LEFT - 28)
    return top - 40 - 20


def _draw_facts(sheet: Sheet, statement: StatementView, top: float) -> float:
    """Draw the account holder, the account number and the statement's own details."""
    width = _MIDDLE - LEFT - 24
    y = top - 9
    sheet.text(LEFT, y, "Account holder", _LABEL)
    holder = Ink(11, INK, heavy=True)
    y = sheet.paragraph(LEFT, y - 15, statement.holder, holder, width=width, most=3, leading=14) - 8
    sheet.text(LEFT, y, "Account number", _LABEL)
    sheet.text(LEFT, y - 14, in_fours(statement.account_number), Ink(10), width)
    y -= 37
    number = "Provisional" if statement.number is None else str(statement.number)
    made_on = day(local(statement.made_at, statement))
    facts = ((0, "Statement number", number), (84, "Currency", statement.currency), (140, "Made on", made_on))
    for indent, label, value in facts:
        sheet.text(LEFT + indent, y, label, _LABEL)
        sheet.text(LEFT + indent, y - 14, value, Ink(10))
    return y - 18


def _draw_summary(sheet: Sheet, statement: StatementView, top: float) -> float:
    """Draw the figures, in the order in which they add up."""
    closing = "Balance so far" if is_provisional(statement) else "Closing balance"
    lines = (
        ("Opening balance", separated(statement.opening_balance, statement.currency)),
        ("Total credits", separated(statement.total_credits, statement.currency)),
        ("Total debits", separated(statement.total_debits, statement.currency)),
        ("Number of transactions", f"{statement.transaction_count:,}"),
    )
    bottom = top - 18 * len(lines) - 38
    sheet.box(_MIDDLE, bottom, RIGHT, top, PALE)
    y = top - 20
    for label, value in lines:
        sheet.text(_MIDDLE + 14, y, label, Ink(9, MUTED))
        sheet.text_to(RIGHT - 14, y, value, Ink(9), _MOST_AMOUNT)
        y -= 18
    sheet.line(y + 9, ACCENT, 0.8, _MIDDLE + 14, RIGHT - 14)
    sheet.text(_MIDDLE + 14, y - 8, closing, Ink(9.5, ACCENT, heavy=True))
    balance = separated(statement.closing_balance, statement.currency)
    sheet.text_to(RIGHT - 14, y - 8, f"{statement.currency} {balance}", Ink(10, ACCENT, heavy=True), _MOST_AMOUNT)
    return bottom


# --- every page --------------------------------------------------------------------------------------------------


def _draw_running_head(sheet: Sheet, statement: StatementView) -> None:
    title = f"Account statement, {days_of(statement.period)}"
    sheet.text_to(RIGHT, _TOP, title, _SMALL)
    room = RIGHT - LEFT - regular().width(title, _SMALL.size) - 24
    sheet.text(LEFT, _TOP, statement.bank.name, Ink(9, ACCENT, heavy=True), room)
    sheet.line(_TOP - 10, ACCENT, 1.2)


def _draw_footer(sheet: Sheet, statement: StatementView, page: str) -> None:
    """Draw what identifies a single page that was separated from the others."""
    bank, small = statement.bank, Ink(7.5, MUTED)
    bic = f" · BIC {bank.bic}" if bank.bic else ""
    after = small.face.printable(f"{bic} · {in_fours(statement.account_number)}".strip())
    room = RIGHT - LEFT - 84 - small.face.width(after, small.size)
    name = small.face.cut(small.face.printable(bank.name), small.size, room)
    sheet.line(48, HAIRLINE, 0.4)
    sheet.text_to(RIGHT, 36, page, small)
    sheet.text(LEFT, 36, f"{name} {after}", small)
    note = "Provisional. " if is_provisional(statement) else ""
    sheet.text(LEFT, 26, f"{note}Dates are those of the time zone {statement.time_zone}.", small, RIGHT - LEFT)
