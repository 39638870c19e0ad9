"""Statements over HTTP: for owners only, by month, as JSON in pages or as documents, and requested in advance."""

import csv
import io
import os
import re
import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree

import pytest
from pypdf import PdfReader

from api.http.accept import negotiate
from core import documents
from core.services.statements import reading
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import Api, Pair, Person, Start, join, locked, masked, owner_of, refused, written
from tests.api.contract import Json
from tests.months import make_requested, make_statements, months_of, runs
from tests.time_travel import Clock

Settle = Callable[[], int]

CSV, PDF, XML = documents.FORMATS
JSON = "application/json"
EVERY_DOCUMENT = pytest.mark.parametrize("media_type", documents.FORMATS)


def amounts_in(media_type: str, content: bytes) -> list[str]:
    """The amounts of a document's transactions, in the document's order, read by an independent parser."""
    if media_type == CSV:
        lines = csv.DictReader(io.StringIO(content.decode(), newline=""))
        return [line["debit"] or line["credit"] for line in lines if line["type"] not in ("opening", "closing")]
    if media_type == XML:
        namespace = {"c": "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"}
        return [entry.text or "" for entry in ElementTree.fromstring(content).findall(".//c:Ntry/c:Amt", namespace)]
    text = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)
    return re.findall(r"(?:To|From) XG[0-9A-Z ]+\n([0-9.]+)\n", text)


@pytest.fixture
async def account(clock: Clock, pair: Pair, ada: Person, settle: Settle, database: Database) -> str:
    """Ada's account: opened in January; she paid 0.01, 0.02 and 0.03 from it in February. It is 10 March."""
    clock.set(2026, 2, 10)
    for amount in (1, 2, 3):
        await ada.pay(pair.payer, pair.payee, amount)
        settle()
    clock.set(2026, 3, 10)
    account: str = pair.payer["id"]
    return account


@pytest.fixture
def made(account: str, database: Database) -> str:
    """The same account, with the statements of January and February made."""
    assert make_statements(database) == 4
    return account


async def statement(person: Person, account: str, query: str = "", **headers: str) -> Json:
    answer = await person.get(f"/accounts/{account}/statement{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["vary"] == "Accept"
    return answer.json()


async def ask(person: Person, account: str, month: Any = "2026-02") -> Any:
    return await person.post(f"/accounts/{account}/statements", {"month": month})


async def listed(person: Person, account: str, query: str = "") -> Json:
    answer = await person.get(f"/accounts/{account}/statements{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- a month -----------------------------------------------------------------------------------------------------


async def test_a_final_statement_is_complete(ada: Person, made: str, pair: Pair, clock: Clock) -> None:
    found = await statement(ada, made, "?month=2026-02")
    (item,) = (await listed(ada, made, "?limit=1"))["items"]
    transactions = found.pop("transactions")
    assert found == item | {"limit": 100, "next_cursor": None}
    assert UUID(item.pop("id"))
    assert item == {
        "account_id": made,
        "period": "2026-02",
        "status": "final",
        "currency": "USD",
        "number": 2,
        "account_number": pair.payer["account_number"],
        "holder": "ada@example.com",
        "bank": {"name": "Giro", "address": "1 Main Street", "bic": "GIRODEFF"},
        "time_zone": "UTC",
        "starts_at": "2026-02-01T00:00:00Z",
        "ends_at": "2026-03-01T00:00:00Z",
        "opening_balance": 10_000,
        "opening_balance_decimal": "100.00",
        "closing_balance": 9_994,
        "closing_balance_decimal": "99.94",
        "total_credits": 0,
        "total_credits_decimal": "0.00",
        "total_debits": 6,
        "total_debits_decimal": "0.06",
        "transaction_count": 3,
        "made_at": "2026-03-10T00:00:00Z",
    }
    assert [(item["amount"], item["type"], item["balance_after"]) for item in transactions] == [
        (3, "debit", 9_994), (2, "debit", 9_997), (1, "debit", 9_999),
    ]  # fmt: skip
    whole = (await ada.get(f"/accounts/{made}/transactions")).json()["items"]
    assert transactions == whole[:3]


async def test_the_default_is_the_current_month_as_a_provisional_statement(ada: Person, account: str) -> None:
    found = await statement(ada, account)
    assert (found["period"], found["status"], found["id"], found["number"]) == ("2026-03", "provisional", None, None)
    assert (found["opening_balance"], found["closing_balance"], found["transactions"]) == (9_994, 9_994, [])
    assert await statement(ada, account, "?month=2026-03") == found


async def test_a_finished_month_is_provisional_until_it_is_made_and_reading_it_makes_nothing(
    ada: Person, account: str, database: Database
) -> None:
    before = await statement(ada, account, "?month=2026-02")
    assert (before["status"], before["transaction_count"]) == ("provisional", 3)
    assert runs(database) == (await listed(ada, account))["items"] == []
    make_statements(database)
    after = await statement(ada, account, "?month=2026-02")
    assert {name for name in before if before[name] != after[name]} == {"id", "number", "status", "bank"}


async def test_the_bank_and_its_time_zone_come_from_the_settings(
    start: Start, database: Database, clock: Clock
) -> None:
    async with start(bank_name="Bank of Ada", bank_bic="ADAXUS33", time_zone="Pacific/Kiritimati") as api:
        ada = join(api, database, "ada")
        with unit_of_work(database) as connection:
            account = str(builders.open_account(connection, owner_of(connection, ada)))
        clock.set(2026, 1, 31, 12)
        found = await statement(ada, account)
    assert found["bank"] == {"name": "Bank of Ada", "address": None, "bic": "ADAXUS33"}
    assert (found["period"], found["time_zone"], found["starts_at"]) == (
        "2026-02", "Pacific/Kiritimati", "2026-01-31T10:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize("month", ["2026-04", "9998-12"])
async def test_a_month_in_the_future_is_rejected(ada: Person, account: str, month: str) -> None:
    answer = await ada.get(f"/accounts/{account}/statement?month={month}")
    refused(answer, 422, "validation_failed", "query.month")


async def test_a_month_before_the_account_was_opened_has_no_statement(ada: Person, made: str) -> None:
    refused(await ada.get(f"/accounts/{made}/statement?month=2025-12"), 404, "statement_not_found")


@pytest.mark.parametrize("month", ["", "2026", "2026-13", "2026-1", "2026-01-01", "january", "2026-0%D9%A1", "%00"])
async def test_an_invalid_month_is_rejected(ada: Person, account: str, month: str) -> None:
    answer = await ada.get(f"/accounts/{account}/statement?month={month}")
    refused(answer, 422, "validation_failed", "query.month")


@pytest.mark.parametrize(
    ("query", "location"),
    [("limit=0", "query.limit"), ("limit=1001", "query.limit"), ("offset=1", "query.offset"),
     ("cursor=x", "query.cursor"), ("month=2026-02&month=2026-03", "query.month"), ("year=2026", "query.year")],
)  # fmt: skip
async def test_a_statement_validates_parameters_like_a_list(ada: Person, made: str, query: str, location: str) -> None:
    refused(await ada.get(f"/accounts/{made}/statement?{query}"), 422, "validation_failed", location)


# --- owners ---


async def test_only_its_owner_sees_a_statement(
    api: Api, ada: Person, grace: Person, operator: Person, made: str
) -> None:
    (item, _) = (await listed(ada, made))["items"]
    paths = (f"/accounts/{made}/statement", f"/accounts/{made}/statements", f"/statements/{item['id']}")
    for path in paths:
        refused(await api.client.get(path), 401, "unauthenticated")
        for stranger in (grace, operator):
            there, nowhere = await stranger.get(path), await stranger.get(path.replace(made, str(uuid4())))
            code = "statement_not_found" if path.startswith("/statements") else "account_not_found"
            refused(there, 404, code)
            if code == "account_not_found":
                assert masked(there) == masked(nowhere), "as if it did not exist"
    there, nowhere = await grace.get(paths[2]), await grace.get(f"/statements/{uuid4()}")
    assert masked(there) == masked(nowhere)
    refused(await ask(grace, made), 404, "account_not_found", "path.account_id")
    refused(await api.client.post(paths[1], json={"month": "2026-02"}), 401, "unauthenticated")


@pytest.mark.parametrize("path", ["/accounts/x/statement", "/accounts/x/statements", "/statements/x"])
async def test_an_invalid_id_is_rejected(ada: Person, path: str) -> None:
    refused(
        await ada.get(path), 422, "validation_failed", f"path.{'account' if 'accounts' in path else 'statement'}_id"
    )


async def test_head_and_a_trailing_slash_are_answered_like_get(ada: Person, made: str) -> None:
    (item, _) = (await listed(ada, made))["items"]
    for path in (f"/accounts/{made}/statement", f"/accounts/{made}/statements", f"/statements/{item['id']}"):
        plain, slash, head = await ada.get(path), await ada.get(f"{path}/"), await ada.request("HEAD", path)
        assert (plain.status_code, slash.status_code, head.status_code) == (200, 200, 200)
        assert slash.content == plain.content
        for name in ("content-type", "vary", "content-length"):
            assert head.headers.get(name) == plain.headers.get(name)


# --- pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
@pytest.mark.parametrize("final", [True, False])
async def test_pages_of_transactions_add_up_newest_first(
    ada: Person, account: str, database: Database, limit: int, final: bool
) -> None:
    if final:
        make_statements(database)
    seen, cursor = [], ""
    for _ in range(-(-3 // limit)):
        page = await statement(ada, account, f"?month=2026-02&limit={limit}{cursor}")
        assert (page["limit"], page["transaction_count"]) == (limit, 3)
        seen += [item["amount"] for item in page["transactions"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert (seen, page["next_cursor"]) == ([3, 2, 1], None)


async def test_a_cursor_remains_valid_after_the_statement_is_made(
    ada: Person, account: str, database: Database
) -> None:
    first = await statement(ada, account, "?month=2026-02&limit=2")
    make_statements(database)
    then = await statement(ada, account, f"?month=2026-02&cursor={first['next_cursor']}")
    assert ([item["amount"] for item in then["transactions"]], then["status"]) == ([1], "final")
    (item, _) = (await listed(ada, account))["items"]
    by_id = await ada.get(f"/statements/{item['id']}?cursor={first['next_cursor']}")
    assert by_id.json() == then


async def test_a_cursor_is_valid_for_its_own_month_only(ada: Person, made: str) -> None:
    cursor = (await statement(ada, made, "?month=2026-02&limit=1"))["next_cursor"]
    for path in (
        f"/accounts/{made}/statement?month=2026-01",
        f"/accounts/{made}/statement?month=2026-03",
        f"/accounts/{made}/statements?limit=1",
        f"/accounts/{made}/transactions?limit=1",
    ):
        refused(await ada.get(f"{path}&cursor={cursor}"), 422, "validation_failed", "query.cursor")
    others = (await listed(ada, made, "?limit=1"))["next_cursor"]
    answer = await ada.get(f"/accounts/{made}/statement?month=2026-02&cursor={others}")
    refused(answer, 422, "validation_failed", "query.cursor")


async def test_statements_are_listed_newest_first_in_pages(ada: Person, made: str) -> None:
    whole = await listed(ada, made)
    assert [item["period"] for item in whole["items"]] == ["2026-02", "2026-01"]
    assert (whole["limit"], whole["offset"], whole["next_cursor"]) == (100, 0, None)
    first = await listed(ada, made, "?limit=1")
    then = await listed(ada, made, f"?limit=1&cursor={first['next_cursor']}")
    assert first["items"] + then["items"] == whole["items"]
    assert then["next_cursor"] is None
    assert (await listed(ada, made, "?offset=1"))["items"] == whole["items"][1:]
    for item in whole["items"]:
        found = (await ada.get(f"/statements/{item['id']}")).json()
        assert {name: found[name] for name in item} == item


# --- requesting a statement ---


async def test_a_statement_is_requested_polled_and_made(ada: Person, account: str, database: Database) -> None:
    answer = await ask(ada, account)
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/statements/{body['id']}"
    assert answer.headers["retry-after"] == "1"
    given = {"id": body["id"], "account_id": account, "period": "2026-02", "status": "pending", "currency": "USD"}
    assert {name: value for name, value in body.items() if value is not None} == given
    polled = await ada.get(answer.headers["location"])
    assert polled.json() == body | {"transactions": [], "limit": 100, "next_cursor": None}
    assert (polled.headers["retry-after"], polled.headers["vary"]) == ("1", "Accept")
    assert (await listed(ada, account))["items"] == [body]
    assert make_requested(database) == 2
    polled = await ada.get(answer.headers["location"])
    assert (polled.json()["status"], polled.json()["id"], polled.json()["number"]) == ("final", body["id"], 2)
    assert "retry-after" not in polled.headers


async def test_a_repeated_request_returns_the_same_statement(ada: Person, account: str, database: Database) -> None:
    first, second = await ask(ada, account), await ask(ada, account)
    assert (second.status_code, second.content) == (202, first.content)
    make_requested(database)
    third = await ask(ada, account)
    assert (third.status_code, third.json()["id"], third.json()["status"]) == (202, first.json()["id"], "final")
    assert third.headers["location"] == first.headers["location"]
    assert "retry-after" not in third.headers


async def test_the_current_month_or_a_later_one_cannot_be_requested(
    ada: Person, account: str, database: Database
) -> None:
    for month in ("2026-03", "2026-04"):
        refused(await ask(ada, account, month), 422, "validation_failed", "body.month")
    refused(await ask(ada, account, "2025-12"), 404, "statement_not_found")
    assert months_of(database, UUID(account)) == []


@pytest.mark.parametrize("month", [None, 202602, "2026-2", "2026-02-01", "\x00", ["2026-02"], {}])
async def test_an_invalid_month_cannot_be_requested(ada: Person, account: str, month: Json) -> None:
    refused(await ask(ada, account, month), 422, "validation_failed", "body.month")


async def test_a_lone_surrogate_in_a_request_is_rejected(ada: Person, account: str) -> None:
    path, body = f"/accounts/{account}/statements", written({"month": "\ud800"})
    answer = await ada.request("POST", path, content=body, headers={"Content-Type": JSON})
    refused(answer, 422, "validation_failed", "body.month")


async def test_a_request_accepts_only_a_month(ada: Person, account: str) -> None:
    path = f"/accounts/{account}/statements"
    refused(await ada.post(path, {}), 422, "validation_failed", "body.month")
    refused(await ada.post(path, {"month": "2026-02", "status": "final"}), 422, "validation_failed", "body.status")
    refused(await ada.post(f"{path}?month=2026-02", {"month": "2026-02"}), 422, "validation_failed", "query.month")
    refused(await ada.post("/accounts/x/statements", {"month": "2026-02"}), 422, "validation_failed", "path.account_id")
    refused(await ada.request("POST", path, content=b"{", headers={"Content-Type": JSON}), 400, "malformed_body")
    answer = await ada.request("POST", path, content=b"{}", headers={"Content-Type": "text/plain"})
    refused(answer, 415, "unsupported_media_type")
    refused(await ada.request("PUT", path, json={}), 405, "method_not_allowed")


async def test_a_request_while_the_database_is_locked_records_nothing(
    start: Start, database: Database, clock: Clock
) -> None:
    async with start(intake_seconds=0.05) as api:
        ada = join(api, database, "ada")
        with unit_of_work(database) as connection:
            account = str(builders.open_account(connection, owner_of(connection, ada)))
        clock.set(2026, 3, 10)
        with locked(database):
            refused(await ask(ada, account), 503, "unavailable")
        assert months_of(database, UUID(account)) == []


# --- documents ---------------------------------------------------------------------------------------------------


async def test_a_document_has_the_whole_month_oldest_first(ada: Person, made: str) -> None:
    (item, _) = (await listed(ada, made))["items"]
    for media_type, extension in {CSV: "csv", PDF: "pdf", XML: "xml"}.items():
        for path in (f"/accounts/{made}/statement?month=2026-02&limit=1", f"/statements/{item['id']}?limit=1"):
            answer = await ada.get(path, headers={"Accept": media_type})
            assert answer.status_code == 200
            assert answer.headers["content-type"].partition(";")[0] == media_type
            assert amounts_in(media_type, answer.content) == ["0.01", "0.02", "0.03"]
            name = f"statement-{item['account_number']}-2026-02.{extension}"
            assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
            assert answer.headers["vary"] == "Accept"
            assert answer.headers["cache-control"] == "private, no-cache"


async def test_a_document_is_provisional_until_the_statement_is_made(ada: Person, account: str) -> None:
    for media_type in documents.FORMATS:
        answer = await ada.get(f"/accounts/{account}/statement?month=2026-02", headers={"Accept": media_type})
        assert amounts_in(media_type, answer.content) == ["0.01", "0.02", "0.03"]
        assert "2026-02-provisional." in answer.headers["content-disposition"]
        answer = await ada.get(f"/accounts/{account}/statement", headers={"Accept": media_type})
        assert amounts_in(media_type, answer.content) == []


@EVERY_DOCUMENT
async def test_a_pending_statement_has_no_document(ada: Person, account: str, media_type: str) -> None:
    location = (await ask(ada, account)).headers["location"]
    refused(await ada.get(location, headers={"Accept": media_type}), 409, "statement_pending")
    assert (await ada.get(location, headers={"Accept": f"{media_type};q=0.1, {JSON}"})).status_code == 200


@EVERY_DOCUMENT
async def test_a_month_with_too_many_transactions_is_json_only(
    start: Start, ada: Person, made: str, media_type: str
) -> None:
    (item, _) = (await listed(ada, made))["items"]
    async with start(statement_transactions=2) as api:
        person = Person(api.client, ada.email, ada.token, "")
        for path in (f"/accounts/{made}/statement?month=2026-02", f"/statements/{item['id']}"):
            refused(await person.get(path, headers={"Accept": media_type}), 409, "statement_too_large")
            assert len((await person.get(path)).json()["transactions"]) == 3


async def test_a_month_with_exactly_the_maximum_of_transactions_is_a_document(
    start: Start, ada: Person, made: str
) -> None:
    async with start(statement_transactions=3) as api:
        person = Person(api.client, ada.email, ada.token, "")
        answer = await person.get(f"/accounts/{made}/statement?month=2026-02", headers={"Accept": CSV})
        assert answer.status_code == 200


@pytest.mark.processes
async def test_a_killed_drawing_is_unavailable_and_the_next_one_is_drawn(
    ada: Person, made: str, own_drawing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, headers = f"/accounts/{made}/statement?month=2026-02", {"Accept": PDF}
    with monkeypatch.context() as patch:
        patch.setattr(reading, "draw", end_the_process)
        refused(await ada.get(path, headers=headers), 503, "unavailable")
    assert (await ada.get(path, headers=headers)).status_code == 200


def end_the_process(*_ignored: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- negotiation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        (JSON, JSON),
        (CSV, CSV),
        (PDF, PDF),
        (XML, XML),
        ("TEXT/CSV", CSV),
        ("text/csv;charset=utf-8", CSV),
        ("text/csv, application/pdf", CSV),
        ("application/pdf, text/csv", CSV),
        ("text/csv;q=0.5, application/pdf", PDF),
        ("text/csv;q=0.5, application/pdf;q=0.6", PDF),
        ("text/csv; q=0.5 , */*;q=0.1", CSV),
        ("application/json;q=0, */*", CSV),
        ("application/*;q=0, */*;q=0.1", CSV),
        ("application/*, application/json;q=0", PDF),
        ("*/*;q=0.1, application/xml", XML),
        ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", XML),
        ("text/csv;q=1.000, application/json;q=0.999", CSV),
        ("text/csv;q=0", None),
        ("text/csv;q=0.0", None),
        ("*/*;q=0", None),
        ("text/html", None),
        ("image/*", None),
        ("application/problem+json", None),
        ("csv", None),
        # An invalid weight (RFC 9110, 12.4.2) counts as a missing one.
        ("text/csv;q=nan, application/json;q=0.9", CSV),
        ("text/csv;q=9, application/json", JSON),
        ("text/csv;q=-1, application/json;q=0.9", CSV),
        ("text/csv;q=inf", CSV),
        ("text/csv;q=, application/json;q=0.9", CSV),
    ],
)
def test_the_preferred_format_is_chosen(accept: str, chosen: str | None) -> None:
    assert negotiate(accept, (JSON, *documents.FORMATS)) == chosen


@pytest.mark.parametrize("accept", ["text/html", "text/csv;q=0", "image/png, text/html;q=0.9"])
async def test_an_unsupported_format_is_rejected_before_the_statement_is_looked_up(
    api: Api, ada: Person, account: str, accept: str
) -> None:
    headers = {"Accept": accept}
    for path in (
        f"/accounts/{account}/statement",
        f"/accounts/{account}/statement?month=x",
        f"/accounts/{account}/statement?month=2030-01",
        f"/accounts/{uuid4()}/statement",
        "/accounts/x/statement",
        f"/statements/{uuid4()}",
        "/statements/x",
    ):
        refused(await ada.get(path, headers=headers), 406, "not_acceptable")
        refused(await api.client.get(path, headers=headers), 401, "unauthenticated")


async def test_accept_can_be_sent_in_several_lines(ada: Person, made: str) -> None:
    lines = [("Accept", "text/html"), ("Accept", "text/csv;q=0.5"), ("Accept", "application/pdf;q=0.6")]
    answer = await ada.get(f"/accounts/{made}/statement", headers=lines)
    assert answer.headers["content-type"] == PDF


@EVERY_DOCUMENT
async def test_only_statements_are_documents(ada: Person, made: str, media_type: str) -> None:
    for path in ("/accounts", f"/accounts/{made}", f"/accounts/{made}/statements", f"/accounts/{made}/transactions"):
        refused(await ada.get(path, headers={"Accept": media_type}), 406, "not_acceptable")
    answer = await ada.post(f"/accounts/{made}/statements", {"month": "2026-02"}, headers={"Accept": media_type})
    refused(answer, 406, "not_acceptable")
