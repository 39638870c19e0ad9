"""Idempotency keys: one effect for each key of a user, and the same answer for as long as the transfer exists."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api.schemas.transfers import render_accepted
from core.domain.transfers import AcceptedTransfer, TransferKind
from core.storage.sqlite.engine import Database
from core.storage.transfers import find_by_keys
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import Api, Pair, Person, Start, add_operator, payment, refused
from tests.api.contract import Json

Settle = Callable[[], int]


def with_key(key: str | bytes, **more: str) -> list[tuple[bytes, bytes]]:
    """Headers with an idempotency key, and other headers."""
    value = key if isinstance(key, bytes) else key.encode()
    return [(b"Idempotency-Key", value), *((name.encode(), text.encode()) for name, text in more.items())]


def transfers_in(database: Database) -> int:
    (row,) = builders.rows(database, "SELECT count(*) AS n FROM transfers WHERE kind = 'transfer'")
    found: int = row["n"]
    return found


def assert_replay(answer: httpx2.Response, first: httpx2.Response) -> None:
    assert (answer.status_code, answer.content) == (202, first.content)
    assert answer.headers["idempotent-replayed"] == "true"
    for name in ("location", "retry-after", "content-type"):
        assert answer.headers[name] == first.headers[name]


class TestTheSameRequestUnderTheSameKey:
    async def test_is_answered_with_the_same_bytes_and_done_once(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        body = payment(pair.payer, pair.payee, 700, description="Miete für März ☂")
        first = await ada.post("/transfers", body, headers=with_key("rent"))
        assert "idempotent-replayed" not in first.headers
        for _ in range(3):
            assert_replay(await ada.post("/transfers", body, headers=with_key("rent")), first)
        assert transfers_in(database) == 1
        assert (await ada.account(pair.payer["id"]))["available"] == 9_300

    async def test_is_answered_with_the_same_bytes_in_any_status_of_the_transfer(
        self, ada: Person, pair: Pair, database: Database, settle: Settle
    ) -> None:
        body = payment(pair.payer, pair.payee)
        completed = await ada.post("/transfers", body, headers=with_key("completed"))
        settle()
        cancelled = await ada.post("/transfers", body, headers=with_key("cancelled"))
        await ada.post(f"{cancelled.headers['location']}/cancel")
        failed = await ada.post("/transfers", body, headers=with_key("failed"))
        builders.freeze(database, UUID(pair.payer["id"]))
        settle()
        for key, first in (("completed", completed), ("cancelled", cancelled), ("failed", failed)):
            assert_replay(await ada.post("/transfers", body, headers=with_key(key)), first)
            assert (await ada.get(first.headers["location"])).json()["status"] == key

    async def test_is_the_same_in_any_json_notation(self, ada: Person, pair: Pair) -> None:
        first = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=with_key("k"))
        spelled = (
            f'{{ "amount" : 100,\n"description": null, "to_account_id":"{pair.payee["id"].upper()}",'
            f'"from_account_id" :"{pair.payer["id"]}" }}'
        )
        headers = [*with_key("k"), (b"Content-Type", b"application/json; charset=utf-8")]
        assert_replay(await ada.request("POST", "/transfers/", content=spelled.encode(), headers=headers), first)

    async def test_is_recognised_after_a_restart(self, start: Start, database: Database) -> None:
        async with start() as api:
            ada, grace = await api.sign_up("ada"), await api.sign_up("grace")
            payer, payee = await ada.open(), await grace.open()
            builders.fund(database, UUID(payer["id"]), 100)
            first = await ada.post("/transfers", payment(payer, payee), headers=with_key("k"))
        async with start() as api:
            ada.client = api.client
            assert_replay(await ada.post("/transfers", payment(payer, payee), headers=with_key("k")), first)

    async def test_can_wait_like_the_first_request(self, ada: Person, pair: Pair, settle: Settle) -> None:
        body = payment(pair.payer, pair.payee)
        first = await ada.post("/transfers", body, headers=with_key("k"))
        at_once = await ada.post("/transfers", body, headers=with_key("k", Prefer="wait=0"))
        assert_replay(at_once, first)
        assert at_once.headers["preference-applied"] == "wait=0"
        waiting = asyncio.create_task(ada.post("/transfers", body, headers=with_key("k", Prefer="wait=20")))
        await asyncio.to_thread(settle)
        answer = await waiting
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")
        assert answer.headers["idempotent-replayed"] == "true"
        assert answer.json()["id"] == first.json()["id"]

    async def test_sent_many_times_at_once_is_done_once(self, ada: Person, pair: Pair, database: Database) -> None:
        body = payment(pair.payer, pair.payee, 6_000)
        answers = await asyncio.gather(*(ada.post("/transfers", body, headers=with_key("k")) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
        assert transfers_in(database) == 1

    async def test_sent_at_once_with_different_bodies_is_accepted_for_one_body(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        calls = [
            ada.post("/transfers", payment(pair.payer, pair.payee, 1 + n % 4), headers=with_key("k")) for n in range(20)
        ]
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status_code for answer in answers) == [202] * 5 + [422] * 15
        assert len({answer.content for answer in answers if answer.status_code == 202}) == 1
        assert transfers_in(database) == 1


class TestAnotherRequestUnderTheSameKey:
    @pytest.mark.parametrize(
        "changed",
        [{"amount": 101}, {"description": "x"}, {"description": ""}, {"currency": "USD"}, {"to": "other"}, {"by": 1}],
        ids=str,
    )
    async def test_is_rejected(self, ada: Person, grace: Person, pair: Pair, changed: Json) -> None:
        body = payment(pair.payer, pair.payee)
        assert (await ada.post("/transfers", body, headers=with_key("k"))).status_code == 202
        if "to" in changed:
            changed = {"to_account_id": (await grace.open())["id"]}
        if "by" in changed:
            del body["to_account_id"]
            changed = {"to_account_number": pair.payee["account_number"]}
        answer = await ada.post("/transfers", body | changed, headers=with_key("k"))
        refused(answer, 422, "idempotency_key_reused", "header.Idempotency-Key")

    async def test_is_detected_before_the_rules_of_the_call(self, ada: Person, pair: Pair) -> None:
        await ada.post("/transfers", payment(pair.payer, pair.payee), headers=with_key("k"))
        for body in (
            payment(pair.payer, pair.payer),
            payment(pair.payee, pair.payer),
            payment(pair.payer, pair.payee, 10**15),
        ):
            refused(await ada.post("/transfers", body, headers=with_key("k")), 422, "idempotency_key_reused")

    async def test_is_detected_after_validation(self, ada: Person, pair: Pair) -> None:
        await ada.post("/transfers", payment(pair.payer, pair.payee), headers=with_key("k"))
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 0), headers=with_key("k"))
        refused(answer, 422, "validation_failed", "body.amount")

    async def test_on_another_path_is_another_request(self, operator: Person, ada: Person, pair: Pair) -> None:
        deposit = {"to_account_id": pair.payer["id"], "amount": 5}
        first = await operator.post("/deposits", deposit, headers=with_key("k"))
        withdrawal = {"from_account_id": pair.payer["id"], "amount": 5}
        answer = await operator.post("/withdrawals", withdrawal, headers=with_key("k"))
        refused(answer, 422, "idempotency_key_reused", "header.Idempotency-Key")
        assert_replay(await operator.post("/deposits", deposit, headers=with_key("k")), first)


async def test_a_key_belongs_to_one_user(ada: Person, grace: Person, pair: Pair, settle: Settle) -> None:
    await ada.post("/transfers", payment(pair.payer, pair.payee, 500), headers=with_key("k"))
    settle()
    answer = await grace.post("/transfers", payment(pair.payee, pair.payer, 200), headers=with_key("k"))
    assert answer.status_code == 202
    assert "idempotent-replayed" not in answer.headers


async def test_keys_are_case_sensitive(ada: Person, pair: Pair, database: Database) -> None:
    for key in ("key", "KEY", "Key"):
        await ada.post("/transfers", payment(pair.payer, pair.payee), headers=with_key(key))
    assert transfers_in(database) == 3


async def test_a_rejected_transfer_does_not_bind_its_key(ada: Person, pair: Pair) -> None:
    too_much = payment(pair.payer, pair.payee, 10_001)
    for _ in range(2):
        refused(await ada.post("/transfers", too_much, headers=with_key("k")), 400, "insufficient_funds")
    answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 1), headers=with_key("k"))
    assert answer.status_code == 202
    refused(await ada.post("/transfers", too_much, headers=with_key("k")), 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        (b"k", True), (b"k" * 255, True), (b'"' + b"k" * 255 + b'"', True), (b"!~#$%&'()*+,-./:;<=>?@[]^_`{|}", True),
        (b'"', True), (b'"k', True), (b" k ", True), (b'a"b', True),
        (b"k" * 256, False), (b'"' + b"k" * 256 + b'"', False), (b"", False), (b" ", False), (b'""', False),
        (b"a b", False), (b'"a b"', False), (b'" k"', False), (b"a\tb", False), (b"\xe4", False),
        ("ä".encode(), False), ("€".encode(), False), (b"k\xa0", False), (b"\x85k", False), (b"a\x7fb", False),
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
async def test_a_key_is_1_to_255_visible_ascii_characters(ada: Person, pair: Pair, key: bytes, valid: bool) -> None:
    answer = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=with_key(key))
    if valid:
        assert answer.status_code == 202
    else:
        refused(answer, 400, "idempotency_key_invalid", "header.Idempotency-Key")


async def test_one_pair_of_quotes_around_a_key_is_ignored(ada: Person, pair: Pair) -> None:
    body = payment(pair.payer, pair.payee)
    first = await ada.post("/transfers", body, headers=with_key('"k"'))
    assert_replay(await ada.post("/transfers", body, headers=with_key("k")), first)
    twice_quoted = await ada.post("/transfers", body, headers=with_key('""k""'))
    assert "idempotent-replayed" not in twice_quoted.headers


async def test_two_keys_are_invalid(ada: Person, pair: Pair) -> None:
    for other in ("a", "b"):
        headers = [*with_key("a"), *with_key(other)]
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=headers)
        refused(answer, 400, "idempotency_key_invalid", "header.Idempotency-Key")


async def test_a_setting_makes_the_key_required_for_calls_that_move_money(start: Start, database: Database) -> None:
    add_operator(database)
    async with start(idempotency_key_required=True) as api:
        ada, operator = await api.sign_up("ada"), await api.log_in("operator")
        account, other = await ada.open(), await ada.open()  # other POSTs need no key
        builders.fund(database, UUID(account["id"]), 100)
        deposit = {"to_account_id": account["id"], "amount": 5}
        withdrawal = {"from_account_id": account["id"], "amount": 5}
        calls = (
            (ada, "/transfers", payment(account, other)),
            (operator, "/deposits", deposit),
            (operator, "/withdrawals", withdrawal),
        )
        for who, path, body in calls:
            refused(await who.post(path, body), 400, "idempotency_key_missing", "header.Idempotency-Key")
            refused(await who.post(path, body, headers=with_key("")), 400, "idempotency_key_invalid")
            accepted = await who.post(path, body, headers=with_key(f"k{path}"))
            assert accepted.status_code == 202
            await who.post(f"{accepted.headers['location']}/cancel")


async def test_other_posts_ignore_the_key(api: Api, ada: Person) -> None:
    first = await ada.post("/accounts", {"currency": "USD"}, headers=with_key("k"))
    second = await ada.post("/accounts", {"currency": "USD"}, headers=with_key("k"))
    third = await ada.post("/accounts", {"currency": "USD"}, headers=with_key("not valid"))
    assert [answer.status_code for answer in (first, second, third)] == [201] * 3
    assert first.json()["id"] != second.json()["id"]


# --- the fixed rendering ---

GOLDEN: list[tuple[Json, bytes]] = [
    (
        {"description": "rent"},
        (
            b'{"id":"01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f","sequence":42,'
            b'"from_account_id":"01932f4e-8c1a-7b3d-9e5f-000000000001","to_account_id":"01932f4e-8c1a-7b3d-9e5f-000000000002",'
            b'"amount":1050,"amount_decimal":"10.50","currency":"USD","description":"rent","kind":"transfer",'
            b'"status":"pending","failure":null,"created_at":"2026-02-03T04:05:06.789012Z","settled_at":null}'
        ),
    ),
    (
        {
            "currency": "JPY",
            "description": None,
            "kind": TransferKind.DEPOSIT,
            "created_at": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
            "replayed": True,
            "request_id": "another",
        },
        (
            b'{"id":"01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f","sequence":42,'
            b'"from_account_id":"01932f4e-8c1a-7b3d-9e5f-000000000001","to_account_id":"01932f4e-8c1a-7b3d-9e5f-000000000002",'
            b'"amount":1050,"amount_decimal":"1050","currency":"JPY","description":null,"kind":"deposit",'
            b'"status":"pending","failure":null,"created_at":"2026-02-03T04:05:06Z","settled_at":null}'
        ),
    ),
    (
        {
            "amount": 10**15,
            "currency": "BHD",
            "description": 'Mäuse "&" \\ </b> \u2028',
            "kind": TransferKind.WITHDRAWAL,
        },
        (
            b'{"id":"01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f","sequence":42,'
            b'"from_account_id":"01932f4e-8c1a-7b3d-9e5f-000000000001","to_account_id":"01932f4e-8c1a-7b3d-9e5f-000000000002",'
            b'"amount":1000000000000000,"amount_decimal":"1000000000000.000","currency":"BHD",'
            b'"description":"M\xc3\xa4use \\"&\\" \\\\ </b> \xe2\x80\xa8","kind":"withdrawal",'
            b'"status":"pending","failure":null,"created_at":"2026-02-03T04:05:06.789012Z","settled_at":null}'
        ),
    ),
]


@pytest.mark.parametrize(("changed", "expected"), GOLDEN, ids=["transfer", "deposit", "withdrawal"])
def test_the_first_rendering_of_a_202_never_changes(changed: Any, expected: bytes) -> None:
    accepted = AcceptedTransfer(
        **{
            "id": UUID("01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"),
            "sequence": 42,
            "kind": TransferKind.TRANSFER,
            "from_account_id": UUID("01932f4e-8c1a-7b3d-9e5f-000000000001"),
            "to_account_id": UUID("01932f4e-8c1a-7b3d-9e5f-000000000002"),
            "amount": 1050,
            "currency": "USD",
            "created_at": datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC),
            "answer_version": 1,
            "request_id": "a-request",
        }
        | changed
    )
    assert render_accepted(accepted) == expected


async def test_a_stored_transfer_is_always_rendered_like_the_first_answer(
    ada: Person, pair: Pair, database: Database
) -> None:
    first = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=with_key("k"))
    with unit_of_work(database) as connection:
        (scope,) = connection.exec_driver_sql(
            "SELECT idempotency_key, submitted_by FROM transfers WHERE idempotency_key = 'k'"
        )
        ((accepted, _),) = find_by_keys(connection, [tuple(scope)]).values()
    assert accepted.answer_version == 1
    assert render_accepted(accepted) == first.content
