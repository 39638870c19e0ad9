"""The PDF of a statement: the text of its pages, its position and its fonts. Another library reads it."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from itertools import combinations, groupby
from typing import Any

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.documents import render, table
from core.documents.sheet import BOTTOM, LEFT, RIGHT
from core.documents.typeface import ELLIPSIS, REPLACEMENT, Typeface, bold, regular
from core.domain.money import CUSTOMER_BALANCE_BOUND, MAX_AMOUNT
from core.domain.statements import BankDetails
from core.domain.transfers import TransferKind
from tests.thorough import examples
from tests.unit.documents.statement_builders import MONTHS, Month, busy, month

LONG_BANK = BankDetails(
    name="Savings and Commercial Bank " * 6, address="1 Boulevard of the Republic, " * 9, bic="TESTDEFF"
)
HARD: dict[str, Month] = MONTHS | {
    "long names": busy(
        holder="Freiherr von und zu Hohenlohe " * 7, bank=LONG_BANK, time_zone="America/Argentina/Ushuaia"
    ),
    "long words": month(
        [1, -1] * 9,
        holder="W" * 200,
        descriptions=["W" * 140],
        bank=BankDetails(name="W" * 200, address="W" * 300, bic=None),
    ),
    "long descriptions": month([-5] * 30, descriptions=["two words " * 14, "x" * 140, "a-b" * 46]),
    "the widest amounts": month(
        [MAX_AMOUNT, -MAX_AMOUNT] * 9,
        opening=-CUSTOMER_BALANCE_BOUND,
        descriptions=["W" * 140],
        total_credits=10**18,
        total_debits=10**18,
    ),
}


@dataclass(frozen=True)
class Fragment:
    """A text on a page: where it begins and ends, and its line."""

    page: int
    x: float
    right: float
    y: float
    text: str


def reader(statement_and_transactions: Month) -> pypdf.PdfReader:
    return pypdf.PdfReader(BytesIO(render("application/pdf", *statement_and_transactions)))


def pages(statement_and_transactions: Month) -> list[str]:
    return [page.extract_text() for page in reader(statement_and_transactions).pages]


def front(*args: Any, **kwargs: Any) -> str:
    return pages(month(*args, **kwargs))[0]


def fragments(statement_and_transactions: Month) -> list[Fragment]:
    """Find the position of every text; its width is measured in the font that it is written in."""
    found: list[Fragment] = []
    for number, page in enumerate(reader(statement_and_transactions).pages):

        def visit(text: str, _: Any, matrix: list[float], font: Any, size: float, number: int = number) -> None:
            if text.strip():
                face = bold() if "Bold" in font["/BaseFont"] else regular()
                shown = text.strip("\n")
                found.append(Fragment(number, matrix[4], matrix[4] + face.width(shown, size), matrix[5], shown))

        page.extract_text(visitor_text=visit)
    return found


# --- text ---


def test_the_first_page_names_the_holder_the_account_and_the_bank() -> None:
    text = front([5]).splitlines()
    for line in (
        "Bank of Tests",
        "1 Ledger Lane, 10117 Berlin · BIC TESTDEFFXXX",
        "Account statement",
        "1 to 31 October 2026",
        "Ada Lovelace",
        "XG69 GIRO 0000 0000 0000 42",
        "12",
        "EUR",
        "1 Nov 2026",
    ):
        assert line in text


def test_a_bank_without_address_and_bic_has_neither_on_the_page() -> None:
    text = front(bank=BankDetails(name="Bank of Tests", address=None, bic=None))
    assert "BIC" not in text
    assert "None" not in text


def test_every_page_has_its_number_the_total_and_the_title() -> None:
    texts = pages(busy())
    assert len(texts) == 3
    for number, text in enumerate(texts, start=1):
        lines = text.splitlines()
        assert f"Page {number} of 3" in lines
        assert "Bank of Tests · BIC TESTDEFFXXX · XG69 GIRO 0000 0000 0000 42" in lines
        assert "Dates are those of the time zone Europe/Berlin." in lines
        assert [lines[lines.index("Date") + step] for step in range(5)] == [
            "Date",
            "Description",
            "Debit",
            "Credit",
            "Balance",
        ]


def test_every_page_begins_with_the_last_balance_of_the_page_before() -> None:
    texts = pages(busy())
    carried = [re.findall(r"\n(.+)\nCarried forward\n(.+)", text) for text in texts]
    brought = [re.findall(r"Brought forward\n(.+)", text) for text in texts]
    assert brought[0] == carried[-1] == []
    for (last,), (next_one,) in zip(carried[:-1], brought[1:], strict=True):
        assert last == (next_one, next_one)


@pytest.mark.parametrize("count", range(12, 30))
def test_the_closing_balance_is_never_alone_on_a_page(count: int) -> None:
    last = pages(month([5] * count))[-1]
    assert "Closing balance" in last
    assert "Transfer from" in last


def test_a_page_after_the_first_has_room_for_thirty_transactions() -> None:
    second = pages(month([5] * 80))[1]
    assert "Carried forward" in second
    assert second.count("Transfer from") >= 30


def test_a_month_without_transactions_is_described_as_such() -> None:
    assert "No transactions in this period." in front()
    assert "No transactions" not in front([5])


def test_every_page_of_a_provisional_statement_is_marked() -> None:
    texts = pages(busy(provisional=True))
    assert "Provisional statement\nAs of 14 October 2026, 09:32. " in texts[0]
    assert "Balance so far" in texts[0]
    for text in texts:
        assert "Provisional. Dates are those of" in text
        assert "Closing balance" not in text


def test_a_final_statement_has_no_such_mark() -> None:
    assert "rovisional" not in "".join(pages(busy()))


@pytest.mark.parametrize(
    ("kind", "amount", "described", "nameless"),
    [
        (TransferKind.TRANSFER, 5, "rent\nTransfer from XG55", "Transfer\nFrom XG55"),
        (TransferKind.TRANSFER, -5, "rent\nTransfer to XG55", "Transfer\nTo XG55"),
        (TransferKind.DEPOSIT, 5, "rent\nDeposit from XG55", "Deposit\nFrom XG55"),
        (TransferKind.WITHDRAWAL, -5, "rent\nWithdrawal to XG55", "Withdrawal\nTo XG55"),
    ],
)
def test_a_row_names_the_kind_and_the_counterparty(
    kind: TransferKind, amount: int, described: str, nameless: str
) -> None:
    assert described in front([amount], kinds=[kind])
    assert nameless in front([amount], kinds=[kind], descriptions=[None])
    assert nameless in front([amount], kinds=[kind], descriptions=["\u200b "])


def test_an_account_number_is_never_split() -> None:
    statement, (transaction,) = month([5])
    long = replace(transaction, related_account_number="W" * 32)
    assert f"\nTransfer from\n{' '.join(['WWWW'] * 8)}\n" in pages((statement, [long]))[0]


def test_days_follow_the_time_zone() -> None:
    statement, (transaction,) = month([5])
    late = replace(transaction, posted_at=datetime(2026, 10, 15, 22, 30, tzinfo=UTC))
    assert "16 Oct 2026" in pages((statement, [late]))[0]
    in_london = replace(statement, time_zone="Europe/London")
    assert "15 Oct 2026" in pages((in_london, [late]))[0]


# --- fonts ---


@pytest.mark.parametrize(
    "name",
    ["Łukasz Żółć", "Ångström Ñandú Œuvre", "Αλέξανδρος Παπαδόπουλος", "Екатерина Дашкова", "Đặng Thị Ngọc", "ẞ € № ½"],
)
def test_names_in_latin_greek_and_cyrillic_are_written(name: str) -> None:
    assert name in front([5], holder=name, descriptions=[name])


def test_combining_marks_are_joined_with_their_letters() -> None:
    assert "Zoë Né" in front(holder="Zoe\u0308 Ne\u0301")


def test_characters_that_the_font_lacks_are_replaced() -> None:
    assert f"Ada {REPLACEMENT * 2} {REPLACEMENT}" in front(holder="Ada 中村 😀")


def test_invisible_characters_cannot_reverse_a_text() -> None:
    assert "abcdef" in front([5], descriptions=["abc\u202e\u2066d\u200bef\ufeff"])


def test_control_characters_and_line_ends_become_spaces() -> None:
    assert "a b c d" in front([5], descriptions=["a\nb\t\r\nc\0\u2028d "])


def test_a_lone_surrogate_is_replaced() -> None:
    assert f"a{REPLACEMENT}b" in front(
        [5], descriptions=["a\ud800b"], holder="\udfff", bank=BankDetails(name="\ud800", address=None, bic=None)
    )


def test_both_fonts_are_embedded_as_subsets() -> None:
    (page,) = reader(month([5])).pages
    names = []
    for font in page["/Resources"]["/Font"].values():
        descriptor = font.get_object().get("/FontDescriptor")
        if descriptor is not None:
            names.append(str(descriptor["/FontName"]))
            assert len(descriptor["/FontFile2"].get_data()) < 60_000
    assert sorted(re.sub(r"^/[A-Z]{6}\+", "", name) for name in names) == ["NotoSans-Bold", "NotoSans-Regular"]


def test_its_properties_name_bank_account_and_month() -> None:
    metadata = reader(month([5])).metadata
    assert metadata is not None
    assert metadata.title == "Account statement XG69GIRO00000000000042, 1 to 31 October 2026"
    assert metadata.author == "Bank of Tests"
    assert metadata.subject == "Ada Lovelace"
    assert metadata.creation_date == metadata.modification_date == month()[0].made_at


# --- layout ---


@pytest.mark.parametrize("name", HARD)
def test_no_text_leaves_the_page_or_overlaps_another(name: str) -> None:
    written = fragments(HARD[name])
    for fragment in written:
        assert fragment.x > LEFT - 0.1, fragment
        assert fragment.right < RIGHT + 0.1, fragment
        assert fragment.y >= BOTTOM or fragment.y in {36, 26}, fragment
    for _, line in groupby(
        sorted(written, key=lambda one: (one.page, one.y, one.x)), key=lambda one: (one.page, one.y)
    ):
        for left, right in combinations(line, 2):
            assert left.right < right.x, (left, right)


@pytest.mark.parametrize("name", HARD)
def test_amounts_leave_room_for_words(name: str) -> None:
    assert table.fit_columns(*HARD[name]).text_width >= table.LEAST_TEXT_WIDTH


def test_the_font_is_not_smaller_than_necessary() -> None:
    assert table.fit_columns(*busy()).size == max(table.SIZES)


def test_amounts_are_aligned_to_the_right() -> None:
    written = fragments(month([-84_000, 250_000, -1], descriptions=["rent"]))
    ends = {
        label: round(one.right, 1) for one in written for label in ("Debit", "Credit", "Balance") if one.text == label
    }
    by_text = {one.text: round(one.right, 1) for one in written}
    assert by_text["840.00"] == by_text["0.01"] == ends["Debit"]
    assert by_text["2,500.00"] == ends["Credit"] < ends["Balance"]
    assert by_text["160.00"] == by_text["2,660.00"] == ends["Balance"] == round(RIGHT, 1)


@given(
    text=st.text("abc W-é €Ω.…", max_size=80),
    width=st.floats(20, 300),
    size=st.floats(6, 21),
    most=st.integers(1, 4),
    face=st.sampled_from(["regular", "bold"]),
)
@settings(max_examples=examples(quick=30, thorough=100), deadline=None)
def test_wrapped_lines_fit_and_lose_only_the_text_that_the_ellipsis_replaces(
    text: str, width: float, size: float, most: int, face: str
) -> None:
    typeface: Typeface = bold() if face == "bold" else regular()
    shown = typeface.printable(text)
    lines = typeface.wrap(shown, size, max(width, size * 2), most)
    assert len(lines) <= most
    assert all(typeface.width(line, size) <= max(width, size * 2) + 1e-6 for line in lines)
    whole = "".join(lines).replace(" ", "")
    assert whole == shown.replace(" ", "") or shown.replace(" ", "").startswith(whole.removesuffix(ELLIPSIS))
