"""Cards: issued and shown once, listed, frozen and cancelled, only by the owners of their accounts."""

import asyncio
import re
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.schemas.cards import IssuedCardOut
from core.clock import to_datetime
from core.domain.cards import is_card_number
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import Pair, Person, Start, join, masked, refused
from tests.api.contract import Json

CARD_KEYS = {"id", "account_id", "type", "expiry", "expires_on", "last4", "masked_number", "status"}
SHOWN_ONCE = {"card_number", "cvc"}
ACTS = ("freeze", "unfreeze", "cancel")


async def issue(person: Person, account: Json, kind: str = "debit") -> Json:
    """Issue a card; fails if it is not issued."""
    answer = await person.post("/cards", {"account_id": account["id"], "type": kind})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def status_of(person: Person, card: Json) -> str:
    return str((await person.get(f"/cards/{card['id']}")).json()["status"])


@pytest.fixture
async def account(ada: Person) -> Json:
    return await ada.open()


@pytest.fixture
async def card(ada: Person, account: Json) -> Json:
    return await issue(ada, account)


class TestIssuing:
    @pytest.mark.parametrize("kind", ["debit", "credit"])
    async def test_shows_number_and_cvc_only_once(self, ada: Person, account: Json, kind: str) -> None:
        answer = await ada.post("/cards", {"account_id": account["id"], "type": kind})
        assert answer.status_code == 201
        issued = answer.json()
        assert answer.headers["location"] == f"/cards/{issued['id']}"
        assert answer.headers["cache-control"] == "no-store"
        assert issued.keys() == CARD_KEYS | SHOWN_ONCE
        assert (issued["type"], issued["status"], issued["account_id"]) == (kind, "active", account["id"])
        assert is_card_number(issued["card_number"])
        assert issued["last4"] == issued["card_number"][-4:]
        assert issued["masked_number"] == f"999999******{issued['last4']}"
        assert re.fullmatch(r"\d{3}", issued["cvc"])
        assert re.fullmatch(r"(0[1-9]|1[0-2])/\d\d", issued["expiry"])
        again = await ada.get(answer.headers["location"])
        assert again.json() == {name: issued[name] for name in CARD_KEYS}
        assert (await ada.get("/cards")).json()["items"] == [again.json()]

    async def test_gives_each_card_a_unique_number(self, ada: Person, account: Json) -> None:
        issued = await asyncio.gather(*(issue(ada, account) for _ in range(10)))
        assert len({card["card_number"] for card in issued}) == 10

    async def test_ignores_the_idempotency_key(self, ada: Person, account: Json) -> None:
        body = {"account_id": account["id"], "type": "debit"}
        answers = [await ada.post("/cards", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        assert answers[0].json()["id"] != answers[1].json()["id"]

    @pytest.mark.parametrize("years", [1, 7])
    async def test_lasts_as_many_years_as_the_setting(self, start: Start, database: Database, years: int) -> None:
        async with start(card_years=years) as api:
            ada = join(api, database, "ada")
            issued = await issue(ada, await ada.open())
        (row,) = builders.rows(database, "SELECT expiry, created_at FROM cards")
        assert int(row["expiry"][:4]) - years == to_datetime(row["created_at"]).year
        assert issued["expiry"] == f"{row['expiry'][5:]}/{row['expiry'][2:4]}"
        last_day = date.fromisoformat(issued["expires_on"])
        assert (f"{last_day:%Y-%m}", (last_day + timedelta(days=1)).day) == (row["expiry"], 1)

    @pytest.mark.parametrize(
        ("change", "location"),
        [
            ({"account_id": None}, "body.account_id"),
            ({"account_id": "x"}, "body.account_id"),
            ({"account_id": 5}, "body.account_id"),
            ({"type": "gift"}, "body.type"),
            ({"type": "DEBIT"}, "body.type"),
            ({"type": None}, "body.type"),
            ({"card_number": "9999990000000006"}, "body.card_number"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    async def test_rejects_an_invalid_body(self, ada: Person, account: Json, change: Json, location: str) -> None:
        body = {"account_id": account["id"], "type": "debit"} | change
        refused(await ada.post("/cards", body), 422, "validation_failed", location)

    @pytest.mark.parametrize("field", ["account_id", "type"])
    async def test_needs_both_fields(self, ada: Person, account: Json, field: str) -> None:
        body = {"account_id": account["id"], "type": "debit"}
        del body[field]
        refused(await ada.post("/cards", body), 422, "validation_failed", f"body.{field}")

    async def test_answers_another_users_account_like_a_missing_one(
        self, ada: Person, grace: Person, database: Database
    ) -> None:
        missing = await ada.post("/cards", {"account_id": str(uuid4()), "type": "debit"})
        refused(missing, 404, "account_not_found", "body.account_id")
        foreign = (await grace.open())["id"]
        external = str(UUID(bytes=builders.external_account(database)["public_id"]))
        for account_id in (foreign, external):
            answer = await ada.post("/cards", {"account_id": account_id, "type": "debit"})
            assert masked(answer) == masked(missing)

    async def test_needs_an_account_that_is_neither_frozen_nor_closed(
        self, ada: Person, account: Json, database: Database
    ) -> None:
        body = {"account_id": account["id"], "type": "debit"}
        builders.freeze(database, UUID(account["id"]), "debit")
        refused(await ada.post("/cards", body), 409, "account_frozen")
        other = await ada.open()
        await ada.post(f"/accounts/{other['id']}/close")
        refused(await ada.post("/cards", body | {"account_id": other["id"]}), 409, "account_closed")

    async def test_issuing_and_cancelling_again_and_again_comes_to_an_end(
        self, start: Start, database: Database
    ) -> None:
        async with start(cards_per_user=3) as api:
            ada = join(api, database, "ada")
            for account in (await ada.open(), await ada.open(), await ada.open()):
                card = await issue(ada, account)
                await ada.post(f"/cards/{card['id']}/cancel")
            body = {"account_id": account["id"], "type": "debit"}
            refused(await ada.post("/cards", body), 409, "too_many_cards_issued")

    async def test_stops_at_the_limit_of_each_account(self, start: Start, database: Database) -> None:
        async with start(cards_per_account=2) as api:
            ada = join(api, database, "ada")
            account, other = await ada.open(), await ada.open()
            body = {"account_id": account["id"], "type": "debit"}
            answers = await asyncio.gather(*(ada.post("/cards", body) for _ in range(4)))
            assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]
            refused(await ada.post("/cards", body), 409, "too_many_cards")
            await issue(ada, other)
            (first, *_) = (await ada.get("/cards")).json()["items"]
            await ada.post(f"/cards/{first['id']}/cancel")
            await issue(ada, account)

    async def test_is_in_the_audit_log_with_author_and_address(
        self, ada: Person, operator: Person, account: Json
    ) -> None:
        body = {"account_id": account["id"], "type": "debit"}
        answer = await ada.post("/cards", body, headers={"X-Request-ID": "card-1"})
        issued = answer.json()
        (entry,) = (await operator.get("/operator/audit")).json()["items"]
        assert entry["author_id"] == (await ada.get("/users/me")).json()["id"]
        assert (entry["action"], entry["object_id"]) == ("card_revealed", issued["id"])
        assert entry["details"] == {"account_id": account["id"], "last4": issued["last4"]}
        assert (entry["request_id"], entry["address"]) == (answer.headers["x-request-id"], "127.0.0.1")
        assert entry["request_id"] != "card-1"


class TestACard:
    @pytest.mark.parametrize(("method", "tail"), [("GET", ""), *[("POST", f"/{act}") for act in ACTS]])
    async def test_of_another_user_is_answered_like_a_missing_one(
        self, ada: Person, grace: Person, operator: Person, card: Json, method: str, tail: str
    ) -> None:
        missing = await grace.request(method, f"/cards/{uuid4()}{tail}")
        refused(missing, 404, "card_not_found", "path.card_id")
        for person in (grace, operator):
            foreign = await person.request(method, f"/cards/{card['id']}{tail}")
            assert masked(foreign) == masked(missing)
        assert await status_of(ada, card) == "active"

    @pytest.mark.parametrize(("method", "tail"), [("GET", ""), *[("POST", f"/{act}") for act in ACTS]])
    async def test_has_an_id_and_needs_a_token(self, ada: Person, card: Json, method: str, tail: str) -> None:
        refused(await ada.request(method, f"/cards/x{tail}"), 422, "validation_failed", "path.card_id")
        refused(await ada.request(method, f"/cards/{card['id']}{tail}?x=1"), 422, "validation_failed", "query.x")
        refused(await ada.client.request(method, f"/cards/{card['id']}{tail}"), 401, "unauthenticated")

    @pytest.mark.parametrize(
        ("acts", "status"),
        [
            (["freeze"], "frozen"),
            (["freeze", "freeze"], "frozen"),
            (["freeze", "unfreeze"], "active"),
            (["unfreeze"], "active"),
            (["cancel"], "cancelled"),
            (["cancel", "cancel"], "cancelled"),
            (["freeze", "cancel"], "cancelled"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, list) else None,
    )
    async def test_is_returned_with_its_new_status_after_each_act(
        self, ada: Person, card: Json, acts: list[str], status: str
    ) -> None:
        for act in acts:
            answer = await ada.post(f"/cards/{card['id']}/{act}")
            assert answer.status_code == 200
        assert answer.json() == {name: card[name] for name in CARD_KEYS} | {"status": status}
        assert (await ada.get(f"/cards/{card['id']}")).json() == answer.json()

    @pytest.mark.parametrize("act", ["freeze", "unfreeze"])
    async def test_that_is_cancelled_stays_cancelled(self, ada: Person, card: Json, act: str) -> None:
        await ada.post(f"/cards/{card['id']}/cancel")
        refused(await ada.post(f"/cards/{card['id']}/{act}"), 409, "card_cancelled")
        assert await status_of(ada, card) == "cancelled"

    @pytest.mark.parametrize("scope", ["debit", "all"])
    async def test_is_frozen_while_its_account_is(
        self, ada: Person, operator: Person, account: Json, card: Json, scope: str
    ) -> None:
        await operator.post(f"/operator/accounts/{account['id']}/freeze", {"scope": scope})
        assert await status_of(ada, card) == "frozen"
        assert [item["status"] for item in (await ada.get("/cards")).json()["items"]] == ["frozen"]
        refused(await ada.post(f"/cards/{card['id']}/unfreeze"), 409, "account_frozen")
        await operator.post(f"/operator/accounts/{account['id']}/unfreeze")
        assert await status_of(ada, card) == "active"

    async def test_is_cancelled_with_its_account(self, ada: Person, account: Json, card: Json) -> None:
        await ada.post(f"/accounts/{account['id']}/close")
        assert await status_of(ada, card) == "cancelled"


class TestTheListOfCards:
    @pytest.fixture
    async def five(self, ada: Person, grace: Person, account: Json) -> list[str]:
        """Five cards of Ada, on two accounts, with one of Grace issued between them."""
        other = await ada.open()
        issued = [await issue(ada, account), await issue(ada, other)]
        await issue(grace, await grace.open())
        issued += [await issue(ada, account) for _ in range(3)]
        await ada.post(f"/cards/{issued[1]['id']}/cancel")
        return [card["id"] for card in issued]

    async def test_is_empty_at_first(self, ada: Person) -> None:
        assert (await ada.get("/cards")).json() == {"items": [], "limit": 100, "offset": 0, "next_cursor": None}

    async def test_shows_the_callers_cards_oldest_first_including_cancelled_ones(
        self, ada: Person, five: list[str]
    ) -> None:
        page = (await ada.get("/cards")).json()
        assert [card["id"] for card in page["items"]] == five
        assert [card["status"] for card in page["items"]].count("cancelled") == 1
        assert all(card.keys() == CARD_KEYS for card in page["items"])
        assert page["next_cursor"] is None

    async def test_pages_by_limit_and_offset(self, ada: Person, five: list[str]) -> None:
        page = (await ada.get("/cards?limit=2&offset=1")).json()
        assert [card["id"] for card in page["items"]] == five[1:3]
        assert (page["limit"], page["offset"]) == (2, 1)
        assert (await ada.get("/cards?offset=5")).json()["items"] == []
        assert (await ada.get("/cards?limit=5")).json()["next_cursor"] is None

    async def test_pages_by_cursor_while_cards_are_issued(self, ada: Person, account: Json, five: list[str]) -> None:
        seen: list[str] = []
        page: Json = {"next_cursor": ""}
        while page["next_cursor"] is not None:
            cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""
            page = (await ada.get(f"/cards?limit=2{cursor}")).json()
            seen += [card["id"] for card in page["items"]]
            if len(seen) == 2:
                five.append((await issue(ada, account))["id"])
        assert seen == five

    async def test_rejects_a_cursor_of_another_user_or_list(
        self, ada: Person, grace: Person, pair: Pair, five: list[str]
    ) -> None:
        cursor = (await ada.get("/cards?limit=1")).json()["next_cursor"]
        refused(await grace.get(f"/cards?cursor={cursor}"), 422, "validation_failed", "query.cursor")
        refused(await ada.get(f"/accounts?cursor={cursor}"), 422, "validation_failed", "query.cursor")


def test_an_issued_card_hides_its_secrets_when_printed() -> None:
    values: Any = {
        "id": UUID(int=1), "account_id": UUID(int=2), "type": "debit", "expiry": "11/30", "last4": "0006",
        "expires_on": date(2030, 11, 30),
        "masked_number": "999999******0006", "status": "active", "card_number": "9999990000000006", "cvc": "042",
    }  # fmt: skip
    shown = IssuedCardOut(**values)
    assert "9999990000000006" not in repr(shown) + str(shown)
    assert "042" not in repr(shown) + str(shown)
