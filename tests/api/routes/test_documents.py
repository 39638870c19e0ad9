"""Large documents over HTTP: asked for with 202, made by a job, fetched by their owner until they expire."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from core import documents
from core.services.statements import documents as large
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.api.conftest import Api, Pair, Person, Start, join, masked, refused
from tests.builders import rows
from tests.months import make_statements
from tests.time_travel import Clock

Settle = Callable[[], int]
Make = Callable[[], Awaitable[int]]

CSV, PDF, XML = documents.FORMATS
LARGE = {"document_rows": 2}


@pytest.fixture
def account(clock: Clock, pair: Pair) -> str:
    """Ada's account, with one transaction. It is 10 February."""
    clock.set(2026, 2, 10)
    account: str = pair.payer["id"]
    return account


@pytest.fixture
async def month(account: str, pair: Pair, ada: Person, settle: Settle, clock: Clock) -> str:
    """The path of a month with three transactions, which is over and not made yet."""
    for amount in (1, 2, 3):
        await ada.pay(pair.payer, pair.payee, amount)
        settle()
    clock.set(2026, 3, 10)
    return f"/accounts/{account}/statement?month=2026-02"


@pytest.fixture
def make(database: Database, settings: Settings) -> Make:
    """Makes all pending documents in another thread, like the job, and returns their number."""

    def make() -> int:
        pending = rows(database, "SELECT id FROM documents WHERE made_at IS NULL ORDER BY id")
        return sum(large.make(database, settings, row["id"]) > 0 for row in pending)

    return lambda: asyncio.to_thread(make)


def on(api: Api, person: Person) -> Person:
    return Person(api.client, person.email, person.token, "")


async def ask(person: Person, path: str, media_type: str = CSV) -> Any:
    answer = await person.get(path, headers={"Accept": media_type})
    assert answer.status_code == 202, answer.text
    return answer


async def test_a_large_document_is_asked_for_made_and_fetched(
    start: Start, ada: Person, month: str, account: str, make: Make, database: Database
) -> None:
    whole = (await ada.get(month, headers={"Accept": CSV})).content
    async with start(**LARGE) as api:
        person = on(api, ada)
        asked = await ask(person, month)
        said = asked.json()
        path = f"/documents/{said['id']}"
        assert (asked.headers["location"], asked.headers["retry-after"], asked.headers["vary"]) == (path, "1", "Accept")
        assert said == {
            "id": said["id"],
            "account_id": account,
            "period": "2026-02",
            "media_type": CSV,
            "status": "pending",
            "transaction_count": 3,
            "asked_at": "2026-03-10T00:00:00Z",
            "expires_at": "2026-03-10T12:00:00Z",
        }
        pending = await person.get(path)
        assert (pending.status_code, pending.headers["retry-after"], pending.json()) == (202, "1", said)
        assert await make() == 1
        for accept in ("*/*", CSV, PDF):
            ready = await person.get(path, headers={"Accept": accept})
            assert (ready.status_code, ready.content) == (200, whole)
        assert ready.headers["content-type"] == "text/csv; charset=utf-8"
        assert ready.headers["content-length"] == str(len(whole))
        assert ready.headers["content-disposition"].endswith('-2026-02-provisional.csv"')
        head = await person.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("media_type", documents.FORMATS)
async def test_a_document_of_at_most_the_limit_is_drawn_at_once(
    start: Start, ada: Person, month: str, media_type: str
) -> None:
    async with start(document_rows=3) as api:
        assert (await on(api, ada).get(month, headers={"Accept": media_type})).status_code == 200


async def test_a_statement_that_was_made_has_large_documents_too(
    start: Start, ada: Person, month: str, database: Database, make: Make
) -> None:
    assert make_statements(database) == 4
    statement = (await ada.get(month)).json()["id"]
    async with start(**LARGE) as api:
        asked = await ask(on(api, ada), f"/statements/{statement}", PDF)
        same = await ask(on(api, ada), month, PDF)
        assert same.json() == asked.json()
        await make()
        ready = await on(api, ada).get(asked.headers["location"])
        assert (ready.headers["content-type"], ready.content[:5]) == (PDF, b"%PDF-")
        assert "provisional" not in ready.headers["content-disposition"]


async def test_asking_again_returns_the_same_document_pending_or_made(
    start: Start, ada: Person, month: str, make: Make, database: Database, clock: Clock
) -> None:
    async with start(**LARGE) as api:
        first = (await ask(on(api, ada), month)).json()
        assert (await ask(on(api, ada), month)).json() == first
        assert (await ask(on(api, ada), month, XML)).json()["id"] != first["id"]
        await make()
        clock.advance(hours=11)
        again = (await ask(on(api, ada), month)).json()
        assert (again["id"], again["status"]) == (first["id"], "ready")


async def test_two_simultaneous_requests_get_one_document(
    start: Start, ada: Person, month: str, database: Database
) -> None:
    async with start(**LARGE) as api:
        answers = await asyncio.gather(*(ask(on(api, ada), month) for _ in range(4)))
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(rows(database, "SELECT id FROM documents")) == 1


async def test_a_provisional_document_has_the_state_in_which_it_was_asked_for(
    clock: Clock,
    start: Start,
    ada: Person,
    pair: Pair,
    month: str,
    make: Make,
    settle: Settle,
    database: Database,
) -> None:
    current = f"/accounts/{pair.payer['id']}/statement"
    for amount in (4, 5, 6):
        await ada.pay(pair.payer, pair.payee, amount)
        settle()
    async with start(**LARGE, document_hours=720) as api:
        as_asked = (await ada.get(current, headers={"Accept": CSV})).content
        first = (await ask(on(api, ada), current)).json()
        await ada.pay(pair.payer, pair.payee, 7)
        settle()
        assert (await ask(on(api, ada), current)).json()["id"] == first["id"], "pending documents are not multiplied"
        clock.set(2026, 4, 1)
        make_statements(database)
        await make()
        assert (await on(api, ada).get(f"/documents/{first['id']}")).content == as_asked
        second = (await ask(on(api, ada), f"{current}?month=2026-03")).json()
        assert second["id"] != first["id"], "the month has another transaction, and is final"


async def test_only_its_owner_finds_a_document(
    start: Start, ada: Person, month: str, make: Make, database: Database
) -> None:
    async with start(**LARGE) as api:
        path = (await ask(on(api, ada), month)).headers["location"]
        eve = join(api, database, "eve")
        for _ in range(2):
            unknown, foreign = await eve.get(f"/documents/{uuid4()}"), await eve.get(path)
            refused(foreign, 404, "document_not_found")
            assert masked(foreign) == masked(unknown)
            refused(await api.client.get(path), 401, "unauthenticated")
            await make()
        refused(await on(api, ada).get("/documents/x"), 422, "validation_failed", "path.document_id")


async def test_an_expired_document_is_not_found_and_another_one_is_made_on_request(
    start: Start, ada: Person, month: str, make: Make, clock: Clock, database: Database, settings: Settings
) -> None:
    async with start(**LARGE) as api:
        asked = await ask(on(api, ada), month)
        clock.advance(hours=11)
        await make()
        clock.advance(hours=11)
        assert (await on(api, ada).get(asked.headers["location"])).status_code == 200, "it is kept since it was made"
        clock.advance(hours=1)
        refused(await on(api, ada).get(asked.headers["location"]), 404, "document_not_found")
        assert large.forget_expired(database, settings) == 1
        assert list(settings.documents_path.iterdir()) == []
        refused(await on(api, ada).get(asked.headers["location"]), 404, "document_not_found")
        assert (await ask(on(api, ada), month)).json()["status"] == "pending"


async def test_a_document_whose_file_is_gone_is_not_found_and_another_one_is_made_on_request(
    start: Start, ada: Person, month: str, make: Make, settings: Settings
) -> None:
    async with start(**LARGE) as api:
        asked = await ask(on(api, ada), month)
        await make()
        (settings.documents_path / asked.json()["id"]).unlink()  # as after the restore of a backup
        refused(await on(api, ada).get(asked.headers["location"]), 404, "document_not_found")
        again = await ask(on(api, ada), month)
        assert (again.json()["status"], again.json()["id"] != asked.json()["id"]) == ("pending", True)
        await make()
        assert (await on(api, ada).get(again.headers["location"])).status_code == 200


async def test_the_pending_documents_of_a_user_are_limited(start: Start, ada: Person, month: str, make: Make) -> None:
    before = REGISTRY.get_sample_value("giro_documents_refused_total", {"code": "too_many_documents"}) or 0
    async with start(**LARGE, documents_pending=2) as api:
        person = on(api, ada)
        for media_type in (CSV, PDF):
            await ask(person, month, media_type)
        answer = await person.get(month, headers={"Accept": XML})
        refused(answer, 429, "too_many_documents")
        assert answer.headers["retry-after"] == "1"
        await ask(person, month, PDF)  # one that is pending already takes no place
        await make()
        await ask(person, month, XML)
    assert REGISTRY.get_sample_value("giro_documents_refused_total", {"code": "too_many_documents"}) == before + 1


# --- the budget of rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document_rows", [2, 1000])
async def test_rows_beyond_the_budget_of_a_user_are_refused(
    start: Start, ada: Person, month: str, clock: Clock, document_rows: int, database: Database
) -> None:
    async with start(limit_document_rows="7/70", limit_reads="off", document_rows=document_rows) as api:
        person = on(api, ada)
        first = await person.get(month, headers={"Accept": CSV})
        assert first.headers["ratelimit-policy"] == '"document-rows";q=7;w=70'
        assert first.headers["ratelimit"] == '"document-rows";r=4;t=10'
        assert (await person.get(month, headers={"Accept": PDF})).is_success
        over = await person.get(month, headers={"Accept": XML})
        refused(over, 429, "rate_limited")
        assert over.headers["retry-after"] == "20"
        assert over.headers["ratelimit"] == '"document-rows";r=1;t=10'
        assert (await person.get(month)).status_code == 200, "JSON is paged, and takes nothing"
        clock.advance(seconds=20)
        assert (await person.get(month, headers={"Accept": XML})).is_success


async def test_the_budget_is_the_same_for_both_routes(
    start: Start, ada: Person, month: str, clock: Clock, database: Database
) -> None:
    make_statements(database)
    statement = (await ada.get(month)).json()["id"]
    async with start(limit_document_rows="3/60") as api:
        assert (await on(api, ada).get(month, headers={"Accept": CSV})).status_code == 200
        refused(await on(api, ada).get(f"/statements/{statement}", headers={"Accept": CSV}), 429, "rate_limited")


async def test_a_document_larger_than_the_budget_needs_all_of_it(
    start: Start, ada: Person, month: str, clock: Clock
) -> None:
    async with start(limit_document_rows="2/60") as api:
        assert (await on(api, ada).get(month, headers={"Accept": CSV})).status_code == 200
        refused(await on(api, ada).get(month, headers={"Accept": CSV}), 429, "rate_limited")
        clock.advance(seconds=59)
        refused(await on(api, ada).get(month, headers={"Accept": CSV}), 429, "rate_limited")
        clock.advance(seconds=1)
        assert (await on(api, ada).get(month, headers={"Accept": CSV})).status_code == 200


async def test_a_repeated_request_for_a_large_document_takes_nothing_from_the_budget(
    start: Start, ada: Person, month: str, clock: Clock
) -> None:
    async with start(limit_document_rows="3/60", **LARGE) as api:
        for _ in range(3):
            await ask(on(api, ada), month)


async def test_the_budget_of_one_user_is_not_that_of_another(
    start: Start, ada: Person, grace: Person, month: str, pair: Pair, clock: Clock
) -> None:
    of_grace = f"/accounts/{pair.payee['id']}/statement?month=2026-02"
    async with start(limit_document_rows="3/60") as api:
        assert (await on(api, ada).get(month, headers={"Accept": CSV})).status_code == 200
        assert (await on(api, grace).get(of_grace, headers={"Accept": CSV})).status_code == 200
