"""Error details that tell the client how to fix the request. No detail repeats a value that was sent."""

from typing import Any

import pytest

from tests.api.conftest import Api, Pair, Person, payment, refused
from tests.api.contract import Json

AMOUNTS: list[Any] = [12.5, 12.0, "1250", "12.50", True, None]


def first_message(problem: Json) -> str:
    message: str = problem["errors"][0]["message"]
    return message


class TestAmounts:
    @pytest.mark.parametrize("amount", AMOUNTS)
    async def test_a_number_that_is_not_an_integer_is_explained_by_a_fixed_example(
        self, pair: Pair, ada: Person, amount: Any
    ) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, amount))
        problem = refused(answer, 422, "validation_failed", "body.amount")
        assert first_message(problem) == "Amounts are integers in minor units: 1250 for 12.50 EUR"

    @pytest.mark.parametrize(
        ("currency", "example"),
        [("USD", "12.50 USD"), ("JPY", "1250 JPY"), ("BHD", "1.250 BHD"), ("XXX", "12.50 EUR"), (1, "12.50 EUR")],
    )
    async def test_the_example_has_the_decimals_of_the_currency_that_the_request_names(
        self, pair: Pair, ada: Person, currency: Any, example: str
    ) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, "99.9", currency=currency))
        messages = {error["location"]: error["message"] for error in answer.json()["errors"]}
        assert messages["body.amount"] == f"Amounts are integers in minor units: 1250 for {example}"

    async def test_each_line_of_a_batch_has_an_example_in_its_currency(self, pair: Pair, ada: Person) -> None:
        lines = [payment(pair.payer, pair.payee, 1.5, currency=currency) for currency in ("JPY", "EUR")]
        body = {"mode": "independent", "transfers": lines}
        answer = await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "k"})
        problem = refused(answer, 422, "validation_failed")
        examples = [error["message"].partition(" for ")[2] for error in problem["errors"]]
        assert examples == ["1250 JPY", "12.50 EUR"]

    async def test_deposits_and_overdraft_limits_are_explained_too(self, operator: Person, pair: Pair) -> None:
        deposit = await operator.post("/deposits", {"to_account_id": pair.payer["id"], "amount": 1.5})
        path = f"/operator/accounts/{pair.payer['id']}/overdraft-limit"
        limit = await operator.request("PUT", path, json={"amount": "10"})
        for answer in (deposit, limit):
            problem = refused(answer, 422, "validation_failed", "body.amount")
            assert first_message(problem).endswith("1250 for 12.50 EUR")


async def test_a_text_that_is_too_long_is_answered_with_both_lengths(pair: Pair, ada: Person) -> None:
    answer = await ada.post("/transfers", payment(pair.payer, pair.payee, description="€" * 141))
    problem = refused(answer, 422, "validation_failed", "body.description")
    assert first_message(problem) == "must have at most 140 characters, 141 were sent"


@pytest.mark.parametrize("month", ["2026-13", "october", "2026-1"])
async def test_an_invalid_month_is_answered_with_an_example(pair: Pair, ada: Person, month: str) -> None:
    path = f"/accounts/{pair.payer['id']}/statement"
    problem = refused(await ada.get(f"{path}?month={month}"), 422, "validation_failed", "query.month")
    assert first_message(problem) == "must be a month such as 2026-10, from 1970-01 to 9998-12"


class TestMediaTypes:
    async def test_not_acceptable_names_the_types_that_the_call_can_return(self, pair: Pair, ada: Person) -> None:
        headers = {"Accept": "text/html"}
        lists = refused(await ada.get("/accounts", headers=headers), 406, "not_acceptable")
        statement = await ada.get(f"/accounts/{pair.payer['id']}/statement", headers=headers)
        assert "answers with application/json only" in lists["detail"]
        detail = refused(statement, 406, "not_acceptable")["detail"]
        assert all(name in detail for name in ("application/json", "text/csv", "application/pdf", "application/xml"))

    @pytest.mark.parametrize(
        ("path", "expected"), [("/signup", "application/json"), ("/login", "application/x-www-form-urlencoded")]
    )
    async def test_unsupported_media_type_names_the_type_that_the_call_accepts(
        self, api: Api, path: str, expected: str
    ) -> None:
        answer = await api.client.post(path, content=b"x", headers={"Content-Type": "text/plain"})
        problem = refused(answer, 415, "unsupported_media_type")
        assert problem["detail"] == f"This call accepts a body of {expected} only."


class TestTransfers:
    async def test_a_currency_mismatch_names_both_currencies(self, pair: Pair, ada: Person) -> None:
        euros = await ada.open("EUR")
        between = refused(await ada.post("/transfers", payment(pair.payer, euros)), 400, "currency_mismatch")
        assert between["detail"] == "The payer's account is in USD; the payee's account is in EUR."
        named = await ada.post("/transfers", payment(pair.payer, pair.payee, currency="JPY"))
        problem = refused(named, 400, "currency_mismatch", "body.currency")
        assert problem["detail"] == "The request names JPY; the payer's account is in USD."

    @pytest.mark.parametrize("side", ["payer", "payee"])
    async def test_an_own_frozen_account_is_named_as_payer_or_payee(
        self, pair: Pair, ada: Person, operator: Person, side: str
    ) -> None:
        own = await ada.open()
        account = pair.payer if side == "payer" else own
        path = f"/operator/accounts/{account['id']}/freeze"
        assert (await operator.post(path, {"scope": "all"})).status_code == 200
        problem = refused(await ada.post("/transfers", payment(pair.payer, own)), 409, "account_frozen")
        assert problem["detail"] == f"The {side}'s account is frozen."

    async def test_a_closed_payee_is_named_also_in_an_atomic_batch(self, pair: Pair, ada: Person) -> None:
        closed = await ada.open()
        assert (await ada.post(f"/accounts/{closed['id']}/close")).status_code == 200
        alone = refused(await ada.post("/transfers", payment(pair.payer, closed)), 409, "account_closed")
        body = {"mode": "atomic", "transfers": [payment(pair.payer, closed)]}
        batch = await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "k"})
        for problem in (alone, refused(batch, 409, "account_closed", "body.transfers.0")):
            assert problem["detail"] == "The payee's account is closed."
