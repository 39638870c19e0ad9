"""Deposits and withdrawals, which operators make."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.domain.money import EXTERNAL_BALANCE_BOUND
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import Api, Pair, Person, masked, refused

Settle = Callable[[], int]


def sums(database: Database) -> dict[str, int]:
    """The sum of all balances of each currency."""
    found = builders.rows(database, "SELECT currency, sum(balance) AS total FROM accounts GROUP BY currency")
    return {row["currency"]: row["total"] for row in found}


def external_id(database: Database, currency: str = "USD") -> str:
    return str(UUID(bytes=builders.external_account(database, currency)["public_id"]))


def set_external(database: Database, balance: int) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE accounts SET balance = ? WHERE kind = 'external'", (balance,))


class TestADeposit:
    async def test_is_accepted_settled_and_polled_like_a_transfer(
        self, operator: Person, ada: Person, database: Database, settle: Settle
    ) -> None:
        account = await ada.open()
        body = {"to_account_id": account["id"], "amount": 5_000, "description": "cash"}
        answer = await operator.post("/deposits", body)
        assert answer.status_code == 202
        deposit = answer.json()
        assert answer.headers["location"] == f"/transfers/{deposit['id']}"
        assert answer.headers["retry-after"] == "1"
        assert (deposit["kind"], deposit["status"], deposit["description"]) == ("deposit", "pending", "cash")
        assert (deposit["from_account_id"], deposit["to_account_id"]) == (external_id(database), account["id"])
        assert settle() == 1
        assert (await operator.get(answer.headers["location"])).json()["status"] == "completed"
        assert (await ada.get(answer.headers["location"])).json()["status"] == "completed"
        assert (await ada.account(account["id"]))["balance"] == 5_000

    async def test_waits_on_request(self, operator: Person, ada: Person) -> None:
        body = {"to_account_id": (await ada.open())["id"], "amount": 1}
        answer = await operator.post("/deposits", body, headers={"Prefer": "wait=0"})
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0")

    async def test_beyond_the_maximum_balance_of_an_account_is_rejected(
        self, operator: Person, ada: Person, database: Database, settle: Settle
    ) -> None:
        account = await ada.open()
        for _ in range(9):
            body = {"to_account_id": account["id"], "amount": 10**15}
            assert (await operator.post("/deposits", body)).status_code == 202
        assert settle() == 9
        answer = await operator.post("/deposits", {"to_account_id": account["id"], "amount": 1})
        refused(answer, 400, "balance_limit_exceeded", "body.amount")
        shown = await ada.account(account["id"])
        assert (shown["balance"], shown["balance_decimal"]) == (9 * 10**15, "90000000000000.00")
        assert sums(database) == {"USD": 0}

    async def test_that_exceeds_the_limit_together_with_earlier_ones_fails(
        self, operator: Person, ada: Person, database: Database, settle: Settle
    ) -> None:
        account = await ada.open()
        builders.set_account(database, UUID(account["id"]), balance=9 * 10**15 - 10**15)
        locations = []
        for _ in range(2):
            answer = await operator.post("/deposits", {"to_account_id": account["id"], "amount": 10**15})
            locations.append(answer.headers["location"])
        settle()
        ends = [(await operator.get(location)).json() for location in locations]
        assert [end["status"] for end in ends] == ["completed", "failed"]
        assert ends[1]["failure"]["code"] == "balance_limit_exceeded"

    async def test_beyond_the_external_accounts_limit_is_rejected(
        self, operator: Person, ada: Person, database: Database
    ) -> None:
        account = await ada.open()
        set_external(database, -EXTERNAL_BALANCE_BOUND + 100)
        body = {"to_account_id": account["id"], "amount": 101}
        refused(await operator.post("/deposits", body), 400, "balance_limit_exceeded", "body.amount")
        assert (await operator.post("/deposits", body | {"amount": 100})).status_code == 202

    @pytest.mark.parametrize(("scope", "status"), [("debit", 202), ("all", 409)])
    async def test_reaches_an_account_that_is_frozen_for_debits_only(
        self, operator: Person, ada: Person, database: Database, scope: str, status: int
    ) -> None:
        account = await ada.open()
        builders.freeze(database, UUID(account["id"]), scope)
        answer = await operator.post("/deposits", {"to_account_id": account["id"], "amount": 1})
        assert answer.status_code == status


class TestAWithdrawal:
    async def test_takes_money_out_of_any_account(
        self, operator: Person, ada: Person, pair: Pair, database: Database, settle: Settle
    ) -> None:
        answer = await operator.post("/withdrawals", {"from_account_id": pair.payer["id"], "amount": 4_000})
        assert answer.status_code == 202
        assert (answer.json()["kind"], answer.json()["to_account_id"]) == ("withdrawal", external_id(database))
        assert (await ada.account(pair.payer["id"]))["available"] == 6_000
        assert (await ada.get(answer.headers["location"])).json()["status"] == "pending"
        settle()
        assert (await ada.account(pair.payer["id"]))["balance"] == 6_000
        assert sums(database) == {"USD": 0}

    async def test_beyond_the_available_funds_is_rejected(self, operator: Person, pair: Pair) -> None:
        answer = await operator.post("/withdrawals", {"from_account_id": pair.payer["id"], "amount": 10_001})
        refused(answer, 400, "insufficient_funds", "body.amount")

    async def test_beyond_the_external_accounts_limit_is_rejected(
        self, operator: Person, pair: Pair, database: Database
    ) -> None:
        set_external(database, EXTERNAL_BALANCE_BOUND)
        answer = await operator.post("/withdrawals", {"from_account_id": pair.payer["id"], "amount": 1})
        refused(answer, 400, "balance_limit_exceeded", "body.amount")


async def test_every_currency_sums_to_zero(
    operator: Person, ada: Person, grace: Person, database: Database, settle: Settle
) -> None:
    for currency in ("USD", "JPY", "BHD"):
        payer, payee = await ada.open(currency), await grace.open(currency)
        await operator.post("/deposits", {"to_account_id": payer["id"], "amount": 900})
        settle()
        await ada.pay(payer, payee, 500)
        await operator.post("/withdrawals", {"from_account_id": payer["id"], "amount": 300})
        settle()
        assert builders.external_account(database, currency)["balance"] == -600
    assert sums(database) == {"USD": 0, "JPY": 0, "BHD": 0}


PATHS = pytest.mark.parametrize(
    ("path", "field"), [("/deposits", "to_account_id"), ("/withdrawals", "from_account_id")]
)


@PATHS
async def test_both_are_for_operators_only(
    api: Api, ada: Person, pair: Pair, database: Database, path: str, field: str
) -> None:
    before = builders.rows(database, "SELECT id FROM transfers")
    body = {field: pair.payer["id"], "amount": 1}
    refused(await ada.post(path, body), 403, "forbidden")
    refused(await api.client.post(path, json=body), 401, "unauthenticated")
    assert builders.rows(database, "SELECT id FROM transfers") == before


@PATHS
async def test_both_are_rejected_after_the_role_was_taken_away(
    operator: Person, pair: Pair, database: Database, path: str, field: str
) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET role = 'customer' WHERE email = ?", (operator.email,))
    refused(await operator.post(path, {field: pair.payer["id"], "amount": 1}), 403, "forbidden")


@PATHS
async def test_both_answer_a_missing_account_and_the_external_one_alike(
    operator: Person, pair: Pair, database: Database, path: str, field: str
) -> None:
    missing = await operator.post(path, {field: str(uuid4()), "amount": 1})
    refused(missing, 404, "account_not_found", f"body.{field}")
    external = await operator.post(path, {field: external_id(database), "amount": 1})
    assert masked(external) == masked(missing)


@PATHS
@pytest.mark.parametrize(
    "changed",
    [{"amount": 0}, {"amount": -1}, {"amount": 10**15 + 1}, {"amount": 1.0}, {"amount": "1"}, {"amount": True},
     {"amount": None}, {"currency": "USD"}, {"to_account_number": "x"}, {"description": "x" * 141}],
    ids=str,
)  # fmt: skip
async def test_both_are_validated_as_strictly_as_transfers(
    operator: Person, path: str, field: str, changed: Any
) -> None:
    body = {field: str(uuid4()), "amount": 1} | changed
    refused(await operator.post(path, body), 422, "validation_failed", f"body.{next(iter(changed))}")


async def test_an_operator_cannot_transfer_between_accounts_of_others(operator: Person, pair: Pair) -> None:
    body = {"from_account_id": pair.payer["id"], "to_account_id": pair.payee["id"], "amount": 1}
    refused(await operator.post("/transfers", body), 404, "account_not_found", "body.from_account_id")
