"""The table in a statement's PDF: its columns, its rows, and their division into pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.documents.sheet import ACCENT, BOTTOM, HAIRLINE, INK, LEFT, MUTED, RIGHT, Ink, Sheet
from core.documents.typeface import bold
from core.documents.wording import day, in_fours, is_provisional, last_second, local, separated
from core.domain.statements import StatementView
from core.domain.transactions import TransactionView
from core.domain.transfers import TransferKind

HEADER_HEIGHT = 19.0
GAP = 14.0
PADDING = 1.9
MOST_LINES = 4
"""Maximum lines of a description. A longer one ends in an ellipsis."""
LEAST_TEXT_WIDTH = 150.0
SIZES = (8.0, 7.5, 7.0, 6.5, 6.0)
"""Font sizes of the table. The first one that leaves the text column its minimum width is used."""

_LABEL = Ink(7.5, MUTED, heavy=True)
_WORDS = {TransferKind.TRANSFER: "Transfer", TransferKind.DEPOSIT: "Deposit", TransferKind.WITHDRAWAL: "Withdrawal"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of the columns: where `date` and `text` begin, and where the three columns of amounts end."""

    size: float
    date: float
    text: float
    text_width: float
    debit: float
    credit: float
    balance: float

    @property
    def leading(self) -> float:
        """Distance from one line of a description to the next."""
        return self.size * 1.22

    @property
    def small(self) -> float:
        """Font size of the detail lines, which name the other account."""
        return self.size - 1.2

    @property
    def small_leading(self) -> float:
        """Distance from a line to the detail line below it."""
        return self.small * 1.22


@dataclass(frozen=True, slots=True)
class Row:
    """The texts of one row."""

    date: str
    title: tuple[str, ...]
    detail: tuple[str, ...] = ()
    debit: str = ""
    credit: str = ""
    balance: str = ""
    heavy: bool = False

    def height(self, columns: Columns) -> float:
        """Height of the row, in points."""
        lines = columns.leading * len(self.title) + columns.small_leading * len(self.detail)
        return 2 * PADDING + lines


# --- columns -----------------------------------------------------------------------------------------------------


def fit_columns(statement: StatementView, transactions: Sequence[TransactionView]) -> Columns:
    """Make each column of amounts as wide as its widest amount. The text column gets the rest."""
    amounts = [transaction.amount for transaction in transactions]
    balances = [transaction.balance_after for transaction in transactions]
    balances += [statement.opening_balance, statement.closing_balance]
    widest = (
        ("Debit", [-min(amounts, default=0), statement.total_debits]),
        ("Credit", [max(amounts, default=0), statement.total_credits]),
        ("Balance", [min(balances), max(balances)]),
    )
    for size in SIZES:
        columns = _columns(size, *(_width(label, of, statement.currency, size) for label, of in widest))
        if columns.text_width >= LEAST_TEXT_WIDTH:
            break
    return columns


def _width(label: str, amounts: list[int], currency: str, size: float) -> float:
    """Measure a column by its extreme amounts, which are the longest: all digits have the same width."""
    texts = [separated(amount, currency) for amount in amounts]
    return max(bold().width(label, _LABEL.size), *(bold().width(text, size) for text in texts), 44.0) + GAP


def _columns(size: float, debit: float, credit: float, balance: float) -> Columns:
    text = LEFT + bold().width("30 Sep 2026", size) + GAP
    debit_ends = RIGHT - balance - credit
    return Columns(
        size=size,
        date=LEFT,
        text=text,
        text_width=debit_ends - debit - text,
        debit=debit_ends,
        credit=RIGHT - balance,
        balance=RIGHT,
    )


# --- rows --------------------------------------------------------------------------------------------------------


def opening_row(statement: StatementView) -> Row:
    """Make the row with the balance at the start of the month."""
    first = day(local(statement.starts_at, statement))
    return _balance_row(statement, "Opening balance", statement.opening_balance, first)


def closing_row(statement: StatementView) -> Row:
    """Make the row with the totals and the balance at the end."""
    return Row(
        date=day(local(last_second(statement), statement)),
        title=("Balance so far" if is_provisional(statement) else "Closing balance",),
        debit=separated(statement.total_debits, statement.currency),
        credit=separated(statement.total_credits, statement.currency),
        balance=separated(statement.closing_balance, statement.currency),
        heavy=True,
    )


def transaction_row(statement: StatementView, transaction: TransactionView, columns: Columns) -> Row:
    """Make the row of a transaction: its description, if it has one, and the other account."""
    amount = separated(abs(transaction.amount), transaction.currency)
    debit = transaction.amount < 0
    kind, way = _WORDS[transaction.kind], "to" if debit else "from"
    first, second = Ink(columns.size), Ink(columns.small)
    title = first.face.printable(transaction.description or "")
    number = second.face.printable(in_fours(transaction.related_account_number))
    detail: tuple[str, ...] = (f"{kind} {way}" if title else way.capitalize(), number)
    if second.face.width(" ".join(detail), second.size) <= columns.text_width:
        detail = (" ".join(detail),)
    return Row(
        date=day(local(transaction.posted_at, statement)),
        title=tuple(first.face.wrap(title or kind, first.size, columns.text_width, MOST_LINES)),
        detail=tuple(second.face.cut(line, second.size, columns.text_width) for line in detail),
        debit=amount if debit else "",
        credit="" if debit else amount,
        balance=separated(transaction.balance_after, transaction.currency),
    )


def carried_row(statement: StatementView, balance: int, label: str) -> Row:
    """Make the row with the balance at the end of a page, or at the start of the next."""
    return _balance_row(statement, label, balance, "")


def _balance_row(statement: StatementView, label: str, balance: int, date: str) -> Row:
    return Row(date=date, title=(label,), balance=separated(balance, statement.currency), heavy=True)


# --- pages -------------------------------------------------------------------------------------------------------


def paginate(
    statement: StatementView, transactions: Sequence[TransactionView], columns: Columns, first_top: float, top: float
) -> Iterator[list[Row]]:
    """Divide the rows into pages. Each page ends with a balance, and the next page begins with the same balance.

    `first_top` and `top` are the top of the table on the first page and on the others, in points. The last transaction
    is on the same page as the closing balance.
    """
    page = [opening_row(statement)]
    if not transactions:
        page.append(Row(date="", title=("No transactions in this period.",)))
    room = first_top - BOTTOM - HEADER_HEIGHT - sum(row.height(columns) for row in page)
    balance = statement.opening_balance
    single = closing_row(statement).height(columns)
    for transaction in transactions:
        row = transaction_row(statement, transaction, columns)
        height = row.height(columns)
        if height + single > room:
            yield [*page, carried_row(statement, balance, "Carried forward")]
            page = [carried_row(statement, balance, "Brought forward")]
            room = top - BOTTOM - HEADER_HEIGHT - single
        page.append(row)
        room -= height
        balance = transaction.balance_after
    yield [*page, closing_row(statement)]


def draw(sheet: Sheet, rows: Sequence[Row], columns: Columns, top: float) -> None:
    """Draw the header and the rows of one page."""
    _draw_header(sheet, columns, top)
    y = top - HEADER_HEIGHT
    for row in rows:
        bottom = y - row.height(columns)
        _draw_row(sheet, row, columns, y)
        heavy = row.heavy and row is rows[-1]
        sheet.line(bottom, ACCENT if heavy else HAIRLINE, 0.8 if heavy else 0.4)
        y = bottom


def _draw_header(sheet: Sheet, columns: Columns, top: float) -> None:
    y = top - 12
    sheet.text(columns.date, y, "Date", _LABEL)
    sheet.text(columns.text, y, "Description", _LABEL)
    sheet.text_to(columns.debit, y, "Debit", _LABEL)
    sheet.text_to(columns.credit, y, "Credit", _LABEL)
    sheet.text_to(columns.balance, y, "Balance", _LABEL)
    sheet.line(top - HEADER_HEIGHT, ACCENT, 0.8)


def _draw_row(sheet: Sheet, row: Row, columns: Columns, top: float) -> None:
    """Draw a row in reading order, which is also the order of text that is copied from the PDF."""
    main = Ink(columns.size, ACCENT if row.heavy else INK, heavy=row.heavy)
    first = top - PADDING - columns.size * 0.98
    sheet.text(columns.date, first, row.date, Ink(columns.size, MUTED))
    y = first + columns.leading
    for line in row.title:
        y -= columns.leading
        sheet.text(columns.text, y, line, main)
    for line in row.detail:
        y -= columns.small_leading
        sheet.text(columns.text, y, line, Ink(columns.small, MUTED))
    sheet.text_to(columns.debit, first, row.debit, main)
    sheet.text_to(columns.credit, first, row.credit, main)
    sheet.text_to(columns.balance, first, row.balance, main)
