"""Statements as ISO 20022 camt.053.001.08 (BankToCustomerStatementV08).

The elements follow the schema of that name, in its order. Everything but the list of entries is small. Entries are
written one by one, so that the tree of a long month is never in memory as a whole.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid5
from xml.etree.ElementTree import Element, SubElement, tostring  # nosec B405 # written, never read

from core.documents.wording import is_provisional, last_second, local
from core.domain.money import decimal_string
from core.domain.statements import BankDetails, StatementView
from core.domain.texts import without_directions
from core.domain.transactions import TransactionView
from core.ids import transaction_id

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"

_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NAMESPACE}">\n<BkToCstmrStmt>'.encode()
_TAIL = b"</Stmt>\n</BkToCstmrStmt>\n</Document>\n"

# The schema's maximum lengths, in characters: Max34Text, Max70Text, Max140Text.
_LONGEST_ACCOUNT = 34
_LONGEST_ADDRESS_LINE = 70
_MOST_ADDRESS_LINES = 7
_LONGEST_NAME = 140
_LONGEST_REMITTANCE = 140
_MOST_DIGITS = 18

_BIC = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?")
_NO_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow (everything outside its production `Char`)."""


def render(statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    """Write a statement and all of its transactions, oldest first, as UTF-8."""
    name = _message_name(statement)
    parts = [_HEAD, _written(_header(statement, name)), b"<Stmt>"]
    parts += map(_written, _before_entries(statement, name))
    parts += (_written(_entry(statement, transaction)) for transaction in transactions)
    parts += map(_written, _after_entries(statement))
    parts.append(_TAIL)
    return b"\n".join(parts)


def _message_name(statement: StatementView) -> str:
    """Return the message id (Max35Text): the statement's id.

    A provisional statement has none. Its message id is derived from its account, its period and its time.
    """
    if statement.id is not None:
        return statement.id.hex
    return f"P-{uuid5(statement.account_id, f'{statement.period} {statement.made_at.isoformat()}').hex}"


# --- around the entries ------------------------------------------------------------------------------------------


def _header(statement: StatementView, name: str) -> Element:
    header = Element("GrpHdr")
    _put(header, "MsgId", name)
    _put(header, "CreDtTm", _date_time(statement.made_at, statement))
    return header


def _before_entries(statement: StatementView, name: str) -> Iterator[Element]:
    yield _leaf("Id", name)
    if statement.number is not None:
        yield _leaf("ElctrncSeqNb", str(statement.number))
    yield _leaf("CreDtTm", _date_time(statement.made_at, statement))
    period = Element("FrToDt")
    _put(period, "FrDtTm", _date_time(statement.starts_at, statement))
    _put(period, "ToDtTm", _date_time(last_second(statement), statement))
    yield period
    yield _account(statement)
    yield _opening(statement)
    yield _closing(statement)
    yield _summary(statement)


def _after_entries(statement: StatementView) -> Iterator[Element]:
    if is_provisional(statement):
        yield _leaf("AddtlStmtInf", "Provisional: transactions of this period can still be missing.")


def _account(statement: StatementView) -> Element:
    account = Element("Acct")
    _identify(account, statement.account_number)
    _put(account, "Ccy", statement.currency)
    owner = SubElement(account, "Ownr")
    _put(owner, "Nm", statement.holder, _LONGEST_NAME)
    account.append(_servicer(statement.bank))
    return account


def _servicer(bank: BankDetails) -> Element:
    servicer = Element("Svcr")
    institution = SubElement(servicer, "FinInstnId")
    if bank.bic is not None and _BIC.fullmatch(bank.bic):
        _put(institution, "BICFI", bank.bic)
    _put(institution, "Nm", bank.name, _LONGEST_NAME)
    if bank.address:
        address = SubElement(institution, "PstlAdr")
        most = _LONGEST_ADDRESS_LINE * _MOST_ADDRESS_LINES
        for start in range(0, min(len(bank.address), most), _LONGEST_ADDRESS_LINE):
            _put(address, "AdrLine", bank.address[start:], _LONGEST_ADDRESS_LINE)
    return servicer


def _opening(statement: StatementView) -> Element:
    balance = _balance("OPBD", statement.opening_balance, statement.currency)
    _put(SubElement(balance, "Dt"), "Dt", _date(statement.starts_at, statement))
    return balance


def _closing(statement: StatementView) -> Element:
    """Write the closing balance. If it can still change, it is an interim balance, with a time instead of a day."""
    code, last = ("ITBD" if is_provisional(statement) else "CLBD"), last_second(statement)
    balance = _balance(code, statement.closing_balance, statement.currency)
    of = SubElement(balance, "Dt")
    if is_provisional(statement):
        _put(of, "DtTm", _date_time(last, statement))
    else:
        _put(of, "Dt", _date(last, statement))
    return balance


def _balance(code: str, amount: int, currency: str) -> Element:
    balance = Element("Bal")
    _put(SubElement(SubElement(balance, "Tp"), "CdOrPrtry"), "Cd", code)
    _put_amount(balance, amount, currency)
    return balance


def _summary(statement: StatementView) -> Element:
    """Write the totals. A sum with more digits than the schema allows is left out."""
    summary = Element("TxsSummry")
    _put(SubElement(summary, "TtlNtries"), "NbOfNtries", str(statement.transaction_count))
    for tag, total in (("TtlCdtNtries", statement.total_credits), ("TtlDbtNtries", statement.total_debits)):
        if total < 10**_MOST_DIGITS:
            _put(SubElement(summary, tag), "Sum", decimal_string(total, statement.currency))
    return summary


# --- entries -----------------------------------------------------------------------------------------------------


def _entry(statement: StatementView, transaction: TransactionView) -> Element:
    entry, public_id = Element("Ntry"), transaction_id(transaction.id).hex
    _put(entry, "NtryRef", str(transaction.id))
    _put_amount(entry, transaction.amount, transaction.currency)
    _put(SubElement(entry, "Sts"), "Cd", "BOOK")
    posted = _date(transaction.posted_at, statement)
    _put(SubElement(entry, "BookgDt"), "Dt", posted)
    _put(SubElement(entry, "ValDt"), "Dt", posted)
    _put(entry, "AcctSvcrRef", public_id)
    _put_kind(entry, transaction)
    details = SubElement(SubElement(entry, "NtryDtls"), "TxDtls")
    references = SubElement(details, "Refs")
    _put(references, "AcctSvcrRef", public_id)
    _put(references, "TxId", transaction.transfer_id.hex)
    _put_amount(details, transaction.amount, transaction.currency)
    side = "CdtrAcct" if transaction.amount < 0 else "DbtrAcct"
    _identify(SubElement(SubElement(details, "RltdPties"), side), transaction.related_account_number)
    if transaction.description:
        _put(SubElement(details, "RmtInf"), "Ustrd", transaction.description, _LONGEST_REMITTANCE)
    _put(SubElement(details, "RltdDts"), "TxDtTm", _date_time(transaction.posted_at, statement, "auto"))
    return entry


def _put_kind(entry: Element, transaction: TransactionView) -> None:
    """Write the bank transaction code: a book transfer, issued or received, and Giro's own name for its kind."""
    code = SubElement(entry, "BkTxCd")
    domain = SubElement(code, "Domn")
    _put(domain, "Cd", "PMNT")
    family = SubElement(domain, "Fmly")
    _put(family, "Cd", "ICDT" if transaction.amount < 0 else "RCDT")
    _put(family, "SubFmlyCd", "BOOK")
    _put(SubElement(code, "Prtry"), "Cd", transaction.kind.value)


# --- small parts -------------------------------------------------------------------------------------------------


def _identify(account: Element, number: str) -> None:
    """Write an account number under `Othr`. It has the form of an IBAN, but no country has the code `XG`."""
    other = SubElement(SubElement(account, "Id"), "Othr")
    _put(other, "Id", number, _LONGEST_ACCOUNT)
    _put(SubElement(other, "SchmeNm"), "Prtry", "GIRO")


def _put_amount(parent: Element, amount: int, currency: str) -> None:
    """Write an amount without its sign, and the sign as an indicator. An amount of 0 is a credit."""
    SubElement(parent, "Amt", Ccy=currency).text = decimal_string(abs(amount), currency)
    _put(parent, "CdtDbtInd", "DBIT" if amount < 0 else "CRDT")


def _put(parent: Element, tag: str, text: str, longest: int | None = None) -> None:
    parent.append(_leaf(tag, text, longest))


def _leaf(tag: str, text: str, longest: int | None = None) -> Element:
    element = Element(tag)
    # XML readers turn carriage returns into line feeds anyway (XML 1.0, 2.11).
    element.text = _NO_CHARACTER.sub("\ufffd", without_directions(text)[:longest]).replace("\r", "\n")
    return element


def _written(element: Element) -> bytes:
    return tostring(element, encoding="unicode").encode()


def _date(moment: datetime, statement: StatementView) -> str:
    return local(moment, statement).date().isoformat()


def _date_time(moment: datetime, statement: StatementView, precision: str = "seconds") -> str:
    """Write an instant with the offset of the statement's time zone. Its first ten characters are the day there.

    XML Schema does not allow offsets with seconds, which some zones had until 1972. Such times are written in UTC.
    """
    there = local(moment, statement)
    if (there.utcoffset() or timedelta()) % timedelta(minutes=1):
        there = moment.astimezone(UTC)
    return there.isoformat(timespec=precision)
