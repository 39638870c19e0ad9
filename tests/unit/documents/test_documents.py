"""Statements as files: the same figures in every format, equal bytes for equal input, and CSV row by row."""

import csv
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.documents import FORMATS, file_name, render
from core.documents.csv import COLUMNS
from core.documents.wording import days_of, in_fours, last_second, reaches_until, separated
from core.domain.money import EXPONENTS
from core.domain.statements import Period, StatementStatus
from core.domain.transfers import TransferKind
from core.ids import transaction_id
from tests.thorough import examples
from tests.unit.documents.statement_builders import MONTHS, OCTOBER, Month, busy, month

TOTALS = ("Total credits", "Total debits")
Figures = dict[str, Any]


def rows_of(document: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(document.decode(), newline="")))


def from_csv(statement_and_transactions: Month) -> Figures:
    opening, *rows, closing = rows_of(render("text/csv", *statement_and_transactions))
    return {
        "opening": opening["balance"],
        "closing": closing["balance"],
        "credits": closing["credit"],
        "debits": closing["debit"],
        "count": len(rows),
        "amounts": [f"-{row['debit']}" if row["debit"] else row["credit"] for row in rows],
        "balances": [row["balance"] for row in rows],
    }


def from_camt(statement_and_transactions: Month) -> Figures:
    """Read camt.053. It has no running balance, so the balance is summed up from the opening one."""
    root = ElementTree.fromstring(render("application/xml", *statement_and_transactions))
    statement = root.find(".//{*}Stmt")
    assert statement is not None
    opening, closing = (signed(balance) for balance in statement.iterfind("{*}Bal"))
    amounts = [signed(entry) for entry in statement.iterfind("{*}Ntry")]
    decimals, running = len(opening.partition(".")[2]), minor(opening)
    balances = [written(running := running + minor(amount), decimals) for amount in amounts]
    return {
        "opening": opening,
        "closing": closing,
        "credits": statement.findtext(".//{*}TtlCdtNtries/{*}Sum"),
        "debits": statement.findtext(".//{*}TtlDbtNtries/{*}Sum"),
        "count": int(statement.findtext(".//{*}NbOfNtries") or "none"),
        "amounts": amounts,
        "balances": balances,
    }


def from_pdf(statement_and_transactions: Month) -> Figures:
    """Read the text of a PDF. It has columns instead of signs, so the change of the balance gives the sign."""
    reader = pypdf.PdfReader(BytesIO(render("application/pdf", *statement_and_transactions)))
    pages = [page.extract_text().splitlines() for page in reader.pages]
    front, table = pages[0], [line.replace(",", "") for page in pages for line in page[page.index("Balance") + 1 :]]
    closing = "Balance so far" if "Balance so far" in front else "Closing balance"
    figure = {label: front[front.index(label) + 1].replace(",", "") for label in (*TOTALS, closing)}
    rows = [line for label, line in pairwise(["", *table]) if label not in {"Carried forward", "Brought forward"}]
    opening, *rest, debits, credit, balance = (line for line in rows if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", line))
    amounts, balances = rest[::2], rest[1::2]
    assert [figure["Total credits"], figure["Total debits"]] == [credit, debits]
    assert figure[closing].split()[1] == balance
    return {
        "opening": opening,
        "closing": balance,
        "credits": credit,
        "debits": debits,
        "count": int(front[front.index("Number of transactions") + 1].replace(",", "")),
        "amounts": [
            f"-{amount}" if minor(after) < minor(earlier) else amount
            for amount, earlier, after in zip(amounts, [opening, *balances][:-1], balances, strict=True)
        ],
        "balances": balances,
    }


def signed(element: ElementTree.Element) -> str:
    amount = element.findtext("{*}Amt") or ""
    return f"-{amount}" if element.findtext("{*}CdtDbtInd") == "DBIT" else amount


def minor(text: str) -> int:
    return int(text.replace(".", ""))


def written(amount: int, decimals: int) -> str:
    digits = str(abs(amount)).rjust(decimals + 1, "0")
    point = len(digits) - decimals
    return f"{'-' if amount < 0 else ''}{digits[:point]}{'.' if decimals else ''}{digits[point:]}"


def expected(statement_and_transactions: Month) -> Figures:
    statement, transactions = statement_and_transactions
    decimals = EXPONENTS[statement.currency]
    return {
        "opening": written(statement.opening_balance, decimals),
        "closing": written(statement.closing_balance, decimals),
        "credits": written(statement.total_credits, decimals),
        "debits": written(statement.total_debits, decimals),
        "count": statement.transaction_count,
        "amounts": [written(transaction.amount, decimals) for transaction in transactions],
        "balances": [written(transaction.balance_after, decimals) for transaction in transactions],
    }


# --- all formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MONTHS)
def test_all_formats_have_the_same_figures(name: str) -> None:
    figures = expected(MONTHS[name])
    beyond = {"credits": None, "debits": None} if name == "totals of 19 digits" else {}
    assert from_csv(MONTHS[name]) == figures
    assert from_pdf(MONTHS[name]) == figures
    assert from_camt(MONTHS[name]) == figures | beyond


@pytest.mark.parametrize("media_type", FORMATS)
def test_equal_input_gives_equal_bytes(media_type: str) -> None:
    assert render(media_type, *busy()) == render(media_type, *busy())


@pytest.mark.parametrize("media_type", FORMATS)
def test_different_input_gives_different_bytes(media_type: str) -> None:
    statement, transactions = busy()
    other = [replace(transactions[0], description="something else"), *transactions[1:]]
    assert render(media_type, statement, transactions) != render(media_type, statement, other)


def test_documents_made_at_the_same_time_do_not_mix() -> None:
    months = [busy(holder=holder) for holder in ("Ada", "Ελένη", "Екатерина", "Łukasz")]
    alone = [render("application/pdf", *one) for one in months]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: render("application/pdf", *one), months * 2))
    assert together == alone * 2


def test_a_pending_statement_has_no_document() -> None:
    statement, transactions = month(status=StatementStatus.PENDING)
    with pytest.raises(ValueError, match="pending"):
        render("text/csv", statement, transactions)


def test_json_is_not_a_document_format() -> None:
    with pytest.raises(KeyError):
        render("application/json", *month())


@pytest.mark.parametrize(
    ("media_type", "extension"), [("text/csv", "csv"), ("application/pdf", "pdf"), ("application/xml", "xml")]
)
def test_a_file_is_named_by_account_and_month(media_type: str, extension: str) -> None:
    final, provisional = month(account_number="XG46GIRO00000000000042")[0], month(provisional=True)[0]
    assert file_name(final, media_type) == f"statement-XG46GIRO00000000000042-2026-10.{extension}"
    assert file_name(provisional, media_type).endswith(f"-2026-10-provisional.{extension}")


# --- wording -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "words"),
    [
        (OCTOBER, "1 to 31 October 2026"),
        (Period(2026, 2), "1 to 28 February 2026"),
        (Period(2028, 2), "1 to 29 February 2028"),
    ],
)
def test_a_month_is_named_in_words(period: Period, words: str) -> None:
    assert days_of(period) == words


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (0, "EUR", "0.00"),
        (-5, "EUR", "-0.05"),
        (-123_456, "EUR", "-1,234.56"),
        (999, "JPY", "999"),
        (1000, "JPY", "1,000"),
        (-9 * 10**15, "BHD", "-9,000,000,000,000.000"),
    ],
)
def test_thousands_are_separated_for_readability(amount: int, currency: str, text: str) -> None:
    assert separated(amount, currency) == text


def test_an_account_number_is_printed_in_groups_of_four() -> None:
    assert in_fours("XG46GIRO00000000000042") == "XG46 GIRO 0000 0000 0000 42"


def test_a_final_statement_extends_to_the_end_of_its_month() -> None:
    statement = month()[0]
    assert reaches_until(statement) == statement.ends_at
    assert last_second(statement) == statement.ends_at - timedelta(seconds=1)


def test_a_provisional_statement_extends_to_the_time_of_its_computation() -> None:
    statement = month(provisional=True)[0]
    assert reaches_until(statement) == last_second(statement) == statement.made_at


def test_a_provisional_statement_of_a_past_month_extends_to_the_end_of_the_month() -> None:
    statement = month(provisional=True, made_at=datetime(2027, 5, 1, tzinfo=UTC))[0]
    assert reaches_until(statement) == statement.ends_at


# --- CSV ---------------------------------------------------------------------------------------------------------


def test_csv_has_a_header_and_ends_each_line_with_crlf() -> None:
    document = render("text/csv", *month([5]))
    assert document.split(b"\r\n")[0].decode() == ",".join(COLUMNS)
    assert document.endswith(b"\r\n")
    assert document.count(b"\n") == document.count(b"\r\n") == 4


def test_csv_begins_with_the_opening_and_ends_with_the_closing_balance() -> None:
    statement, transactions = month([-250, 1000], kinds=[TransferKind.TRANSFER, TransferKind.DEPOSIT])
    opening, first, second, closing = rows_of(render("text/csv", statement, transactions))
    assert opening == dict.fromkeys(COLUMNS, "") | {
        "type": "opening",
        "timestamp": "2026-09-30T22:00:00Z",
        "balance": "1000.00",
        "currency": "EUR",
    }
    assert first == {
        "type": "transfer",
        "sequence": "1000",
        "timestamp": transactions[0].posted_at.isoformat().replace("+00:00", "Z"),
        "transaction_id": str(transaction_id(1000)),
        "transfer_id": str(transactions[0].transfer_id),
        "related_account_number": transactions[0].related_account_number,
        "description": "rent",
        "debit": "2.50",
        "credit": "",
        "balance": "997.50",
        "currency": "EUR",
    }
    assert (second["type"], second["debit"], second["credit"], second["balance"]) == ("deposit", "", "10.00", "1007.50")
    assert closing == dict.fromkeys(COLUMNS, "") | {
        "type": "closing",
        "timestamp": "2026-10-31T23:00:00Z",
        "debit": "2.50",
        "credit": "10.00",
        "balance": "1007.50",
        "currency": "EUR",
    }


def test_csv_states_in_its_last_row_that_it_is_provisional() -> None:
    closing = rows_of(render("text/csv", *month([5], provisional=True)))[-1]
    assert (closing["description"], closing["timestamp"]) == ("provisional", "2026-10-14T07:32:00Z")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠", '"='])
def test_csv_prevents_a_spreadsheet_from_computing_a_description(start: str) -> None:
    rows = rows_of(render("text/csv", *month([5], descriptions=[f"{start}HYPERLINK(A1)"])))
    assert rows[1]["description"] == f"'{start}HYPERLINK(A1)"


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_csv_prevents_a_spreadsheet_with_other_line_ends_from_computing_a_part_of_a_description(
    separator: str,
) -> None:
    description = f'Rent{separator}=A1{separator}"=A1"{separator}-1'
    rows = rows_of(render("text/csv", *month([5], descriptions=[description])))
    assert rows[1]["description"] == f"Rent{separator}'=A1{separator}'\"=A1\"{separator}'-1"


@pytest.mark.parametrize("harmless", ["rent", "1+1", " =1", "'=1", "a@b", "tea;milk", "a,-b"])
def test_csv_does_not_change_other_descriptions(harmless: str) -> None:
    assert rows_of(render("text/csv", *month([5], descriptions=[harmless])))[1]["description"] == harmless


def test_csv_writes_negative_balances_as_numbers() -> None:
    assert rows_of(render("text/csv", *month([-5], opening=0)))[1]["balance"] == "-0.05"


@given(description=st.text("=+-@\t\r\n\"',; aß中😀\0\x0b\x85\u2028\u202e", max_size=12))
@settings(max_examples=examples(quick=20, thorough=60), deadline=None)
def test_csv_keeps_every_description(description: str) -> None:
    """Only its bidirectional controls are removed."""
    row = rows_of(render("text/csv", *month([5], descriptions=[description])))[1]
    assert row["description"].replace("'", "") == description.replace("'", "").replace("\u202e", "")
    assert not row["description"].startswith(("\t", "\r"))
    for part in re.split(r"[;\t]", row["description"]):
        assert not part.lstrip('"').startswith(("=", "+", "-", "@"))


def test_csv_accepts_a_lone_surrogate() -> None:
    assert rows_of(render("text/csv", *month([5], descriptions=["a\ud800b"])))[1]["description"] == "a?b"


@pytest.mark.parametrize("media_type", ["text/csv", "application/xml"])
def test_a_text_that_an_older_release_kept_with_bidirectional_controls_is_written_without_them(media_type: str) -> None:
    """The font of the PDF leaves them out too (test_pdf.py)."""
    document = render(media_type, *month([5], descriptions=["=abc\u202e\u2066d\u200eef"], holder="A\u202eda"))
    text = document.decode()
    assert "abcdef" in text
    assert not any(control in text for control in "\u202e\u2066\u200e")
