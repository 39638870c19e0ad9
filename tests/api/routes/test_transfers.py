"""Submitting and cancelling transfers: which are accepted, which are rejected, and the order of the checks."""

import asyncio
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import fakeredis
import pytest

from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import JSON, Api, Pair, Person, masked, payment, refused, until, written
from tests.api.contract import Json

TRANSFER_KEYS = {
    "id", "sequence", "from_account_id", "to_account_id", "amount", "amount_decimal", "currency", "description",
    "kind", "status", "failure", "created_at", "settled_at",
}  # fmt: skip


class TestAnAcceptedTransfer:
    async def test_is_answered_as_pending(self, ada: Person, pair: Pair) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 1050, description="rent"))
        assert answer.status_code == 202
        transfer = answer.json()
        assert transfer.keys() == TRANSFER_KEYS
        assert answer.headers["location"] == f"/transfers/{transfer['id']}"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "private, no-cache"
        for absent in ("preference-applied", "vary", "idempotent-replayed", "etag"):
            assert absent not in answer.headers
        assert UUID(transfer["id"]).version == 7
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", transfer["created_at"])
        assert transfer | {"id": 0, "created_at": 0, "sequence": 0} == {
            "id": 0,
            "sequence": 0,
            "from_account_id": pair.payer["id"],
            "to_account_id": pair.payee["id"],
            "amount": 1050,
            "amount_decimal": "10.50",
            "currency": "USD",
            "description": "rent",
            "kind": "transfer",
            "status": "pending",
            "failure": None,
            "created_at": 0,
            "settled_at": None,
        }

    async def test_is_on_disk_and_its_funds_are_reserved(self, ada: Person, pair: Pair, database: Database) -> None:
        transfer = await ada.pay(pair.payer, pair.payee, 4_000)
        kept = builders.look_up(database, UUID(transfer["id"]))
        assert (kept.sequence, kept.amount, kept.status) == (transfer["sequence"], 4_000, "pending")
        account = await ada.account(pair.payer["id"])
        assert (account["balance"], account["available"]) == (10_000, 6_000)

    async def test_stores_its_request_id(self, ada: Person, pair: Pair, database: Database) -> None:
        body = payment(pair.payer, pair.payee)
        answer = await ada.post("/transfers", body, headers={"X-Request-ID": "order-66"})
        (row,) = builders.rows(database, "SELECT request_id FROM transfers WHERE id = ?", answer.json()["sequence"])
        assert row["request_id"] == answer.headers["x-request-id"] != "order-66"
        assert answer.headers["x-client-request-id"] == "order-66"

    async def test_can_name_the_payee_by_account_number(self, ada: Person, pair: Pair) -> None:
        body = {
            "from_account_id": pair.payer["id"],
            "to_account_number": pair.payee["account_number"],
            "amount": 1,
            "currency": "USD",
        }
        answer = await ada.post("/transfers", body)
        assert answer.status_code == 202
        assert answer.json()["to_account_id"] == pair.payee["id"]

    async def test_can_go_between_two_accounts_of_one_person(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        savings = await ada.open()
        await ada.pay(pair.payer, savings, 2_500)
        assert settle() == 1
        assert (await ada.account(savings["id"]))["balance"] == 2_500

    async def test_gets_a_higher_sequence_than_the_one_before(self, ada: Person, pair: Pair) -> None:
        sequences = [(await ada.pay(pair.payer, pair.payee))["sequence"] for _ in range(3)]
        assert sequences == list(range(sequences[0], sequences[0] + 3))

    async def test_wakes_the_settlement_worker(self, ada: Person, pair: Pair, api: Api) -> None:
        queue = fakeredis.FakeRedis(server=api.queue)
        await ada.pay(pair.payer, pair.payee)
        await until(lambda: queue.llen("dramatiq:settlement") == 1)
        assert queue.exists("giro:woken")

    async def test_is_accepted_even_while_the_queue_is_down(self, ada: Person, pair: Pair, api: Api) -> None:
        api.queue.connected = False
        await ada.pay(pair.payer, pair.payee)

    async def test_may_use_all_available_funds(self, ada: Person, pair: Pair) -> None:
        await ada.pay(pair.payer, pair.payee, 9_999)
        await ada.pay(pair.payer, pair.payee, 1)
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 1))
        refused(answer, 400, "insufficient_funds", "body.amount")

    async def test_with_concurrent_others_never_exceeds_the_available_funds(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        orders = (ada.post("/transfers", payment(pair.payer, pair.payee, 3_000)) for _ in range(8))
        answers = await asyncio.gather(*orders)
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [400] * 5
        assert settle() == 3
        assert (await ada.account(pair.payer["id"]))["balance"] == 1_000

    async def test_cannot_use_pending_incoming_funds(self, ada: Person, grace: Person, pair: Pair) -> None:
        await ada.pay(pair.payer, pair.payee, 500)
        answer = await grace.post("/transfers", payment(pair.payee, pair.payer, 1))
        refused(answer, 400, "insufficient_funds", "body.amount")


# --- fields ---


@pytest.mark.parametrize(
    ("written_amount", "status", "code"),
    [
        ("1", 202, None),
        ("10000", 202, None),
        ("10001", 400, "insufficient_funds"),
        (str(10**15), 400, "insufficient_funds"),
        (str(10**15 + 1), 422, "validation_failed"),
        (str(2**63), 422, "validation_failed"),
        (str(2**64), 422, "validation_failed"),
        ("1" + "0" * 4000, 422, "validation_failed"),
        ("1" + "0" * 5000, 400, "malformed_body"),
        ("0", 422, "validation_failed"),
        ("-0", 422, "validation_failed"),
        ("-1", 422, "validation_failed"),
        (str(-(2**63) - 1), 422, "validation_failed"),
        ("1.0", 422, "validation_failed"),
        ("1.5", 422, "validation_failed"),
        ("1e2", 422, "validation_failed"),
        ("1e400", 422, "validation_failed"),
        ('"1"', 422, "validation_failed"),
        ('"\u0661"', 422, "validation_failed"),
        ("true", 422, "validation_failed"),
        ("null", 422, "validation_failed"),
        ("[1]", 422, "validation_failed"),
        ("{}", 422, "validation_failed"),
        ("NaN", 400, "malformed_body"),
        ("Infinity", 400, "malformed_body"),
        ("-Infinity", 400, "malformed_body"),
        ("01", 400, "malformed_body"),
        ("+1", 400, "malformed_body"),
        ("0x1", 400, "malformed_body"),
        ("1_0", 400, "malformed_body"),
        ("\u0661", 400, "malformed_body"),
        ("", 400, "malformed_body"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_an_amount_is_a_json_integer_from_1_to_10_to_the_15th(
    ada: Person, pair: Pair, database: Database, written_amount: str, status: int, code: str | None
) -> None:
    before = builders.ledger(database)
    text = written(payment(pair.payer, pair.payee, 42)).decode().replace("42}", f"{written_amount}}}")
    answer = await ada.request("POST", "/transfers", content=text.encode(), headers=JSON)
    if code is None:
        assert answer.status_code == status
        return
    refused(answer, status, code, "body.amount" if status == 422 or code == "insufficient_funds" else None)
    assert builders.ledger(database) == before


async def test_the_largest_amount_goes_through(
    ada: Person, pair: Pair, database: Database, settle: Callable[[], int]
) -> None:
    builders.fund(database, UUID(pair.payer["id"]), 10**15)
    answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 10**15))
    assert answer.json()["amount_decimal"] == "10000000000000.00"
    assert settle() == 1


@pytest.mark.parametrize(
    ("description", "status"),
    [
        ("x" * 140, 202), ("€" * 140, 202), ("\U0001f3e6" * 140, 202), ("", 202), (None, 202), ("O'Brien; --", 202),
        ("x" * 141, 422), ("\U0001f3e6" * 141, 422), ("a\x00b", 422), ("a\nb", 422), ("a\x1bb", 422), ("a\x7fb", 422),
        ("a\x85b", 422), ("\ud800", 422), ("\udc00\ud800", 422), (5, 422), (True, 422), (["x"], 422), ({}, 422),
    ],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
async def test_a_description_has_140_characters_and_no_control_characters(
    ada: Person, pair: Pair, description: Any, status: int
) -> None:
    body = payment(pair.payer, pair.payee, description=description)
    answer = await ada.request("POST", "/transfers", content=written(body), headers=JSON)
    assert answer.status_code == status, answer.text
    if status == 202:
        assert answer.json()["description"] == description
    else:
        refused(answer, 422, "validation_failed", "body.description")


class TestABodyThatIsNotATransfer:
    @pytest.mark.parametrize("name", ["from_account_id", "to_account_id", "amount"])
    async def test_lacks_a_field(self, ada: Person, name: str) -> None:
        body = payment({"id": str(uuid4())}, {"id": str(uuid4())})
        del body[name]
        location = "body" if name == "to_account_id" else f"body.{name}"
        refused(await ada.post("/transfers", body), 422, "validation_failed", location)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("from_account_id", "x"), ("from_account_id", 1), ("from_account_id", None),
            ("from_account_id", str(2**63)),
            ("to_account_id", "x"), ("to_account_id", []), ("from_account_id", "\ud800" * 36),
            ("currency", "usd"), ("currency", "XAU"), ("currency", "US"), ("currency", 840), ("currency", "\ud800SD"),
            ("status", "completed"), ("kind", "deposit"), ("from_account_number", "XG46GIRO00000000000042"),
            ("\ud800", 1), ("x" * 1000, 1),
        ],
        ids=lambda value: ascii(value)[:24],
    )  # fmt: skip
    async def test_has_a_field_with_an_invalid_value(self, ada: Person, field: str, value: Any) -> None:
        body = payment({"id": str(uuid4())}, {"id": str(uuid4())}) | {field: value}
        answer = await ada.request("POST", "/transfers", content=written(body), headers=JSON)
        problem = refused(answer, 422, "validation_failed")
        (error,) = problem["errors"]
        assert error["location"].startswith("body")
        assert len(error["location"]) <= 80

    @pytest.mark.parametrize("number", ["", "x" * 35, None, 5, "\ud800"], ids=ascii)
    async def test_has_an_invalid_account_number(self, ada: Person, number: Any) -> None:
        body = {"from_account_id": str(uuid4()), "amount": 1, "to_account_number": number}
        answer = await ada.request("POST", "/transfers", content=written(body), headers=JSON)
        refused(answer, 422, "validation_failed")

    @pytest.mark.parametrize("number", ["\x00", "XG00GIRO00000000000000", "'; --", "ｘ"], ids=ascii)
    async def test_has_an_account_number_that_does_not_exist(self, ada: Person, pair: Pair, number: str) -> None:
        body = {"from_account_id": pair.payer["id"], "amount": 1, "to_account_number": number}
        refused(await ada.post("/transfers", body), 404, "account_not_found", "body.to_account_number")

    async def test_names_the_payee_twice(self, ada: Person, pair: Pair) -> None:
        body = payment(pair.payer, pair.payee, to_account_number=pair.payee["account_number"])
        refused(await ada.post("/transfers", body), 422, "validation_failed", "body")

    @pytest.mark.parametrize("body", ["null", "[]", '"x"', "1", "true", "[[]]"])
    async def test_is_another_json_value(self, ada: Person, body: str) -> None:
        answer = await ada.request("POST", "/transfers", content=body.encode(), headers=JSON)
        refused(answer, 422, "validation_failed", "body")


# --- refusals ----------------------------------------------------------------------------------------------------


class TestARefusal:
    async def test_names_the_same_account_on_both_sides(self, ada: Person, pair: Pair) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payer))
        refused(answer, 400, "same_account")
        by_number = {
            "from_account_id": pair.payer["id"],
            "to_account_number": pair.payer["account_number"],
            "amount": 1,
        }
        refused(await ada.post("/transfers", by_number), 400, "same_account")

    async def test_of_another_users_source_equals_that_of_a_missing_one(
        self, ada: Person, grace: Person, pair: Pair, database: Database
    ) -> None:
        external = {"id": str(UUID(bytes=builders.external_account(database)["public_id"]))}
        missing = await grace.post("/transfers", payment({"id": str(uuid4())}, pair.payee))
        refused(missing, 404, "account_not_found", "body.from_account_id")
        for payer in (pair.payer, external):
            assert masked(await grace.post("/transfers", payment(payer, pair.payee))) == masked(missing)

    async def test_of_a_missing_destination(self, ada: Person, pair: Pair, database: Database) -> None:
        external = {"id": str(UUID(bytes=builders.external_account(database)["public_id"]))}
        for payee in ({"id": str(uuid4())}, external):
            answer = await ada.post("/transfers", payment(pair.payer, payee))
            refused(answer, 404, "account_not_found", "body.to_account_id")

    async def test_of_another_currency(self, ada: Person, grace: Person, pair: Pair) -> None:
        euros = await grace.open("EUR")
        refused(await ada.post("/transfers", payment(pair.payer, euros)), 400, "currency_mismatch")
        stated = payment(pair.payer, pair.payee, currency="EUR")
        refused(await ada.post("/transfers", stated), 400, "currency_mismatch", "body.currency")

    @pytest.mark.parametrize(
        ("side", "state", "status", "code"),
        [
            ("payer", "debit", 409, "account_frozen"),
            ("payer", "all", 409, "account_frozen"),
            ("payer", "closed", 409, "account_closed"),
            ("payee", "debit", 202, None),
            ("payee", "all", 409, "payee_cannot_receive"),
            ("payee", "closed", 409, "payee_cannot_receive"),
        ],
    )
    async def test_of_a_frozen_or_closed_account(
        self, ada: Person, pair: Pair, database: Database, side: str, state: str, status: int, code: str | None
    ) -> None:
        put_in_state(database, getattr(pair, side), state)
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee))
        if code is None:
            assert answer.status_code == status
        else:
            refused(answer, status, code)

    async def test_of_an_amount_beyond_the_available_funds_records_nothing(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        await ada.pay(pair.payer, pair.payee, 6_000)
        before = builders.ledger(database)
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 4_001))
        refused(answer, 400, "insufficient_funds", "body.amount")
        assert builders.ledger(database) == before

    async def test_of_an_amount_beyond_the_payees_maximum_balance(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        builders.set_account(database, UUID(pair.payee["id"]), balance=9 * 10**15 - 100)
        assert (await ada.post("/transfers", payment(pair.payer, pair.payee, 100))).status_code == 202
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 101))
        refused(answer, 400, "balance_limit_exceeded", "body.amount")

    async def test_occurs_only_beyond_the_overdraft_limit(self, ada: Person, pair: Pair, database: Database) -> None:
        builders.set_account(database, UUID(pair.payer["id"]), overdraft_limit=500)
        refused(await ada.post("/transfers", payment(pair.payer, pair.payee, 10_501)), 400, "insufficient_funds")
        await ada.pay(pair.payer, pair.payee, 10_500)


def put_in_state(database: Database, account: Json, state: str) -> None:
    """Freeze an account for `debit` or `all`, or close it."""
    account_id = UUID(account["id"])
    if state == "closed":
        builders.close(database, account_id)
    else:
        builders.freeze(database, account_id, state)


@pytest.mark.parametrize(
    ("faults", "code", "location"),
    [
        ("missing_source same_account", "same_account", None),
        ("same_account funds payer_frozen", "same_account", None),
        ("missing_source missing_destination", "account_not_found", "body.from_account_id"),
        ("missing_destination currency payer_frozen", "currency_mismatch", "body.currency"),
        ("missing_destination funds payer_frozen", "account_frozen", None),
        ("missing_destination funds", "insufficient_funds", "body.amount"),
        ("currency payer_frozen", "currency_mismatch", "body.currency"),
        ("payer_frozen payee_closed", "account_frozen", None),
        ("payer_closed payee_frozen", "account_closed", None),
        ("payee_frozen funds", "insufficient_funds", "body.amount"),
        ("payee_closed funds", "insufficient_funds", "body.amount"),
        ("payee_frozen payee_full", "payee_cannot_receive", "body.to_account_id"),
        ("funds payee_full", "insufficient_funds", "body.amount"),
    ],
)
async def test_has_the_first_applicable_reason_in_the_published_order(
    ada: Person, pair: Pair, database: Database, faults: str, code: str, location: str | None
) -> None:
    body = payment(pair.payer, pair.payee)
    changes: dict[str, Callable[[], Any]] = {
        "same_account": lambda: body.update(to_account_id=body["from_account_id"]),
        "missing_source": lambda: body.update(from_account_id=str(uuid4())),
        "missing_destination": lambda: body.update(to_account_id=str(uuid4())),
        "currency": lambda: body.update(currency="EUR"),
        "payer_frozen": lambda: put_in_state(database, pair.payer, "all"),
        "payer_closed": lambda: put_in_state(database, pair.payer, "closed"),
        "payee_frozen": lambda: put_in_state(database, pair.payee, "all"),
        "payee_closed": lambda: put_in_state(database, pair.payee, "closed"),
        "payee_full": lambda: builders.set_account(database, UUID(pair.payee["id"]), balance=9 * 10**15),
        "funds": lambda: body.update(amount=10_001),
    }
    for fault in faults.split():
        changes[fault]()
    answer = await ada.post("/transfers", body)
    assert answer.json()["code"] == code
    if location:
        assert answer.json()["errors"][0]["location"] == location


async def test_of_the_same_account_by_number_comes_after_the_funds(ada: Person, pair: Pair) -> None:
    body = {"from_account_id": pair.payer["id"], "to_account_number": pair.payer["account_number"]}
    refused(await ada.post("/transfers", body | {"amount": 10_001}), 400, "insufficient_funds")
    refused(await ada.post("/transfers", body | {"amount": 1}), 400, "same_account", "body.to_account_number")


# --- cancelling --------------------------------------------------------------------------------------------------


class TestCancelling:
    async def test_a_pending_transfer_releases_its_funds(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        transfer = await ada.pay(pair.payer, pair.payee, 6_000)
        answer = await ada.post(f"/transfers/{transfer['id']}/cancel")
        assert answer.status_code == 200
        cancelled = answer.json()
        assert cancelled == transfer | {"status": "cancelled", "settled_at": cancelled["settled_at"]}
        assert cancelled["settled_at"] >= transfer["created_at"]
        assert (await ada.account(pair.payer["id"]))["available"] == 10_000
        assert settle() == 0
        assert (await ada.account(pair.payer["id"]))["balance"] == 10_000

    async def test_again_returns_the_same_answer(self, ada: Person, pair: Pair) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        path = f"/transfers/{transfer['id']}/cancel"
        answers = await asyncio.gather(*(ada.post(path) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert (await ada.account(pair.payer["id"]))["available"] == 10_000

    async def test_a_settled_transfer_is_rejected(self, ada: Person, pair: Pair, settle: Callable[[], int]) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        settle()
        refused(await ada.post(f"/transfers/{transfer['id']}/cancel"), 409, "transfer_not_cancellable")

    async def test_a_failed_transfer_is_rejected(
        self, ada: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        builders.freeze(database, UUID(pair.payer["id"]))
        settle()
        refused(await ada.post(f"/transfers/{transfer['id']}/cancel"), 409, "transfer_not_cancellable")

    async def test_is_allowed_for_the_submitter_only(
        self, ada: Person, grace: Person, operator: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        missing = await grace.post(f"/transfers/{uuid4()}/cancel")
        refused(missing, 404, "transfer_not_found")
        for stranger in (grace, operator):
            assert masked(await stranger.post(f"/transfers/{transfer['id']}/cancel")) == masked(missing)
        settle()
        refused(await grace.post(f"/transfers/{transfer['id']}/cancel"), 409, "transfer_not_cancellable")

    async def test_a_withdrawal_is_not_allowed_for_the_payer(self, ada: Person, operator: Person, pair: Pair) -> None:
        body = {"from_account_id": pair.payer["id"], "amount": 100}
        withdrawal = (await operator.post("/withdrawals", body)).json()
        path = f"/transfers/{withdrawal['id']}/cancel"
        refused(await ada.post(path), 409, "transfer_not_cancellable")
        assert (await operator.post(path)).json()["status"] == "cancelled"

    async def test_during_settlement_has_one_winner(self, ada: Person, pair: Pair, settle: Callable[[], int]) -> None:
        transfers = [await ada.pay(pair.payer, pair.payee) for _ in range(6)]
        cancels = [ada.post(f"/transfers/{transfer['id']}/cancel") for transfer in transfers]
        settled, *answers = await asyncio.gather(asyncio.to_thread(settle), *cancels)
        won = sum(answer.status_code == 200 for answer in answers)
        assert won + settled == 6
        account = await ada.account(pair.payer["id"])
        assert account["balance"] == account["available"] == 10_000 - 100 * settled

    @pytest.mark.parametrize("name", ["x", str(2**63), "%00"])
    async def test_needs_an_id(self, ada: Person, name: str) -> None:
        refused(await ada.post(f"/transfers/{name}/cancel"), 422, "validation_failed", "path.transfer_id")
