"""Opening, reading and closing accounts, and their transactions."""

import asyncio
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.accounts import is_account_number
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import Api, Pair, Person, Start, masked, refused

ACCOUNT_KEYS = {
    "id", "account_number", "currency", "balance", "balance_decimal", "available", "available_decimal",
    "overdraft_limit", "overdraft_limit_decimal", "status", "created_at",
}  # fmt: skip
TRANSACTION_KEYS = {
    "id", "sequence", "account_id", "transfer_id", "type", "amount", "amount_decimal", "balance_after",
    "balance_after_decimal", "related_account_id", "description", "timestamp",
}  # fmt: skip


class TestOpening:
    async def test_returns_an_account_with_a_zero_balance(self, ada: Person) -> None:
        answer = await ada.post("/accounts", {"currency": "USD"})
        assert answer.status_code == 201
        account = answer.json()
        assert answer.headers["location"] == f"/accounts/{account['id']}"
        assert account.keys() == ACCOUNT_KEYS
        assert (account["balance"], account["available"], account["overdraft_limit"]) == (0, 0, 0)
        assert account["status"] == "active"
        assert is_account_number(account["account_number"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", account["created_at"])
        assert (await ada.get(answer.headers["location"])).json() == account

    @pytest.mark.parametrize(
        ("currency", "amount", "decimal", "zero"),
        [("JPY", 1050, "1050", "0"), ("USD", 1050, "10.50", "0.00"), ("BHD", 1050, "1.050", "0.000"),
         ("CLF", 1050, "0.1050", "0.0000"), ("USD", 5, "0.05", "0.00")],
    )  # fmt: skip
    async def test_derives_the_decimals_from_the_currency(
        self, ada: Person, database: Database, currency: str, amount: int, decimal: str, zero: str
    ) -> None:
        account = await ada.open(currency)
        assert (account["balance_decimal"], account["overdraft_limit_decimal"]) == (zero, zero)
        builders.fund(database, UUID(account["id"]), amount)
        account = await ada.account(account["id"])
        assert (account["balance"], account["balance_decimal"]) == (amount, decimal)
        assert (account["available"], account["available_decimal"]) == (amount, decimal)
        booked = (await ada.get(f"/accounts/{account['id']}/transactions")).json()["items"][0]
        assert (booked["amount_decimal"], booked["balance_after_decimal"]) == (decimal, decimal)

    @pytest.mark.parametrize(
        "currency",
        ["XAU", "XDR", "XXX", "XTS", "usd", "Usd", "US", "USDX", "", "U\x00D", "ＵＳＤ", "€", None, 840, True],
    )
    async def test_rejects_a_currency_without_an_exponent(self, ada: Person, currency: Any) -> None:
        refused(await ada.post("/accounts", {"currency": currency}), 422, "validation_failed", "body.currency")

    @pytest.mark.parametrize(
        ("body", "location"),
        [({}, "body.currency"), ({"currency": "USD", "balance": 5}, "body.balance"), ([], "body"), ("USD", "body")],
    )
    async def test_rejects_an_invalid_body(self, ada: Person, body: Any, location: str) -> None:
        refused(await ada.post("/accounts", body), 422, "validation_failed", location)

    async def test_stops_at_the_limit_of_each_user(self, start: Start) -> None:
        async with start(accounts_per_user=3) as api:
            ada, grace = await api.sign_up("ada"), await api.sign_up("grace")
            answers = await asyncio.gather(*(ada.post("/accounts", {"currency": "USD"}) for _ in range(6)))
            assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 3
            refused(await ada.post("/accounts", {"currency": "EUR"}), 409, "too_many_accounts")
            await grace.open()
            assert len((await ada.get("/accounts")).json()["items"]) == 3

    async def test_gives_each_currency_one_external_account(self, ada: Person, database: Database) -> None:
        await asyncio.gather(*(ada.open(currency) for currency in ("USD", "USD", "EUR", "USD")))
        kept = builders.rows(database, "SELECT currency FROM accounts WHERE kind = 'external' ORDER BY currency")
        assert [row["currency"] for row in kept] == ["EUR", "USD"]


class TestReading:
    async def test_shows_reserved_funds_as_not_available(self, ada: Person, pair: Pair, database: Database) -> None:
        builders.set_account(database, UUID(pair.payer["id"]), overdraft_limit=500)
        await ada.pay(pair.payer, pair.payee, 300)
        account = await ada.account(pair.payer["id"])
        assert (account["balance"], account["overdraft_limit"], account["available"]) == (10_000, 500, 10_200)
        assert account["available_decimal"] == "102.00"

    async def test_shows_a_negative_balance(self, ada: Person, pair: Pair, database: Database) -> None:
        builders.set_account(database, UUID(pair.payer["id"]), overdraft_limit=500)
        await ada.pay(pair.payer, pair.payee, 10_005)
        builders.settle_all(database)
        account = await ada.account(pair.payer["id"])
        assert (account["balance"], account["balance_decimal"], account["available"]) == (-5, "-0.05", 495)

    @pytest.mark.parametrize("tail", ["", "/transactions"])
    async def test_answers_another_users_account_like_a_missing_one(
        self, ada: Person, grace: Person, database: Database, tail: str
    ) -> None:
        account = await grace.open()
        external = UUID(bytes=builders.external_account(database)["public_id"])
        missing = await ada.get(f"/accounts/{uuid4()}{tail}")
        refused(missing, 404, "account_not_found", "path.account_id")
        for account_id in (account["id"], external, UUID(int=0)):
            answer = await ada.get(f"/accounts/{account_id}{tail}")
            assert masked(answer) == masked(missing)
            assert answer.headers.keys() == missing.headers.keys()

    async def test_does_not_show_an_operator_another_users_account(self, operator: Person, ada: Person) -> None:
        account = await ada.open()
        refused(await operator.get(f"/accounts/{account['id']}"), 404, "account_not_found")

    @pytest.mark.parametrize("name", ["x", "1", str(2**63), "%00", "%ff", "%ed%a0%80", "0" * 33])
    async def test_rejects_an_invalid_id(self, ada: Person, name: str) -> None:
        for tail in ("", "/transactions"):
            refused(await ada.get(f"/accounts/{name}{tail}"), 422, "validation_failed", "path.account_id")


class TestTheListOfAccounts:
    @pytest.fixture
    async def five(self, ada: Person, grace: Person) -> list[str]:
        await grace.open()
        return [(await ada.open(currency))["id"] for currency in ("USD", "EUR", "JPY", "BHD", "USD")]

    async def test_is_empty_at_first(self, ada: Person) -> None:
        answer = await ada.get("/accounts")
        assert answer.json() == {"items": [], "limit": 100, "offset": 0, "next_cursor": None}

    async def test_shows_the_callers_accounts_oldest_first(self, ada: Person, five: list[str]) -> None:
        page = (await ada.get("/accounts")).json()
        assert [account["id"] for account in page["items"]] == five
        assert page["items"][0].keys() == ACCOUNT_KEYS
        assert page["next_cursor"] is None

    async def test_pages_by_limit_and_offset(self, ada: Person, five: list[str]) -> None:
        page = (await ada.get("/accounts?limit=2&offset=1")).json()
        assert [account["id"] for account in page["items"]] == five[1:3]
        assert (page["limit"], page["offset"]) == (2, 1)
        assert (await ada.get("/accounts?offset=5")).json()["items"] == []

    async def test_pages_by_cursor_while_accounts_are_added(self, ada: Person, five: list[str]) -> None:
        seen, cursor = [], ""
        while True:
            page = (await ada.get(f"/accounts?limit=2{cursor}")).json()
            seen += [account["id"] for account in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
            if len(seen) == 2:
                five.append((await ada.open())["id"])
        assert seen == five

    async def test_has_no_next_page_when_the_last_one_is_exactly_full(self, ada: Person, five: list[str]) -> None:
        assert (await ada.get("/accounts?limit=5")).json()["next_cursor"] is None

    async def test_rejects_a_cursor_of_another_user_or_list(
        self, ada: Person, grace: Person, pair: Pair, five: list[str]
    ) -> None:
        cursor = (await ada.get("/accounts?limit=1")).json()["next_cursor"]
        for path in ("/transfers", f"/accounts/{pair.payer['id']}/transactions"):
            refused(await ada.get(f"{path}?cursor={cursor}"), 422, "validation_failed", "query.cursor")
        refused(await grace.get(f"/accounts?cursor={cursor}"), 422, "validation_failed", "query.cursor")


class TestTheListOfTransactions:
    async def test_shows_the_newest_first_with_the_balance_after_each(
        self, ada: Person, grace: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        rent = await ada.pay(pair.payer, pair.payee, 300, description="rent")
        await ada.pay(pair.payer, pair.payee, 50)
        settle()
        await grace.pay(pair.payee, pair.payer, 10)
        settle()
        page = (await ada.get(f"/accounts/{pair.payer['id']}/transactions")).json()
        assert all(item.keys() == TRANSACTION_KEYS for item in page["items"])
        assert [(item["type"], item["amount"], item["balance_after"]) for item in page["items"]] == [
            ("credit", 10, 9_660), ("debit", 50, 9_650), ("debit", 300, 9_700), ("credit", 10_000, 10_000)
        ]  # fmt: skip
        debit = page["items"][2]
        assert (debit["transfer_id"], debit["description"]) == (rent["id"], "rent")
        assert (debit["account_id"], debit["related_account_id"]) == (pair.payer["id"], pair.payee["id"])
        sequences = [item["sequence"] for item in page["items"]]
        assert sequences == sorted(sequences, reverse=True)
        other = (await grace.get(f"/accounts/{pair.payee['id']}/transactions")).json()["items"][-1]
        assert (other["type"], other["related_account_id"]) == ("credit", pair.payer["id"])
        assert other["id"] != debit["id"]
        assert other["timestamp"] == debit["timestamp"]

    async def test_is_empty_before_anything_is_settled(self, grace: Person, ada: Person, pair: Pair) -> None:
        await ada.pay(pair.payer, pair.payee)
        answer = await grace.get(f"/accounts/{pair.payee['id']}/transactions")
        assert answer.json() == {"items": [], "limit": 100, "offset": 0, "next_cursor": None}

    async def test_pages_by_offset_and_by_cursor_while_transactions_are_posted(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        path = f"/accounts/{pair.payer['id']}/transactions"
        for amount in (1, 2, 3, 4):
            await ada.pay(pair.payer, pair.payee, amount)
        settle()
        by_offset = (await ada.get(f"{path}?limit=2&offset=1")).json()
        assert [item["amount"] for item in by_offset["items"]] == [3, 2]
        first = (await ada.get(f"{path}?limit=2")).json()
        await ada.pay(pair.payer, pair.payee, 5)
        settle()
        second = (await ada.get(f"{path}?limit=2&cursor={first['next_cursor']}")).json()
        third = (await ada.get(f"{path}?limit=2&cursor={second['next_cursor']}")).json()
        assert [item["amount"] for page in (first, second, third) for item in page["items"]] == [4, 3, 2, 1, 10_000]
        assert third["next_cursor"] is None
        assert (await ada.get(f"{path}?offset=10000")).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("limit=0", "query.limit"), ("limit=-1", "query.limit"), ("limit=1001", "query.limit"),
        ("limit=100000", "query.limit"), (f"limit={2**63}", "query.limit"), ("limit=1.5", "query.limit"),
        ("limit=", "query.limit"), ("limit=x", "query.limit"), ("limit=%D9%A1%D9%A2x", "query.limit"),
        ("offset=-1", "query.offset"), ("offset=10001", "query.offset"), (f"offset={2**64}", "query.offset"),
        ("offset=0&cursor=x", "query"), ("cursor=", "query.cursor"), ("cursor=x", "query.cursor"),
        ("cursor=%00", "query.cursor"), ("cursor=%ff", "query.cursor"), ("cursor=1.x", "query.cursor"),
        ("page=2", "query.page"), ("limit=5&Limit=5", "query.Limit"),
    ],
)  # fmt: skip
async def test_every_list_rejects_an_invalid_parameter(api: Api, ada: Person, query: str, location: str) -> None:
    account = await ada.open()
    for path in ("/accounts", f"/accounts/{account['id']}/transactions", "/transfers", "/cards"):
        refused(await ada.get(f"{path}?{query}"), 422, "validation_failed", location)


@pytest.mark.parametrize("query", ["limit=1", "limit=1000", "offset=0", "offset=10000"])
async def test_every_list_accepts_parameters_within_the_limits(ada: Person, query: str) -> None:
    account = await ada.open()
    for path in ("/accounts", f"/accounts/{account['id']}/transactions", "/transfers", "/cards"):
        assert (await ada.get(f"{path}?{query}")).status_code == 200


async def test_a_call_without_parameters_rejects_every_parameter(ada: Person) -> None:
    account = await ada.open()
    for path in ("/users/me", f"/accounts/{account['id']}"):
        refused(await ada.get(f"{path}?verbose=1"), 422, "validation_failed", "query.verbose")
    refused(await ada.post("/accounts?currency=USD", {"currency": "USD"}), 422, "validation_failed", "query.currency")


class TestClosing:
    async def test_returns_the_closed_account_and_the_same_when_repeated(self, ada: Person) -> None:
        account = await ada.open("USD")
        first, again = [await ada.post(f"/accounts/{account['id']}/close") for _ in range(2)]
        assert (first.status_code, first.json()["status"]) == (200, "closed")
        assert (again.status_code, again.json()) == (200, first.json())
        assert (await ada.account(account["id"]))["status"] == "closed"

    async def test_is_rejected_while_the_balance_is_not_zero(self, ada: Person, pair: Pair) -> None:
        refused(await ada.post(f"/accounts/{pair.payer['id']}/close"), 409, "account_not_empty")

    async def test_is_rejected_while_a_transfer_from_or_to_the_account_is_pending(
        self, ada: Person, grace: Person, pair: Pair
    ) -> None:
        await ada.pay(pair.payer, pair.payee)
        refused(await ada.post(f"/accounts/{pair.payer['id']}/close"), 409, "account_has_pending")
        refused(await grace.post(f"/accounts/{pair.payee['id']}/close"), 409, "account_has_pending")

    async def test_another_users_account_is_answered_like_a_missing_one(self, ada: Person, grace: Person) -> None:
        account = await ada.open("USD")
        foreign, missing = [await grace.post(f"/accounts/{name}/close") for name in (account["id"], uuid4())]
        refused(foreign, 404, "account_not_found")
        assert masked(foreign) == masked(missing)
        assert (await ada.account(account["id"]))["status"] == "active"

    async def test_the_owner_cannot_close_a_frozen_account(self, ada: Person, database: Database) -> None:
        account = await ada.open("USD")
        builders.freeze(database, UUID(account["id"]))
        refused(await ada.post(f"/accounts/{account['id']}/close"), 409, "account_frozen")
