"""Batches: many transfers in one request, independent or atomic."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from api.schemas.batches import NewBatch
from api.schemas.batches import written as said
from api.server import request_bounds
from core.services.verification import verify
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import JSON, Api, Pair, Person, Start, join, locked, masked, payment, refused, until
from tests.api.contract import Json

BULK = "/transfers/bulk"
Settle = Callable[[], int]


def batch(lines: list[Json], mode: str = "independent") -> Json:
    return {"mode": mode, "transfers": lines}


def key(name: str = "payroll") -> dict[str, str]:
    return {"Idempotency-Key": name}


async def submit(person: Person, lines: list[Json], mode: str = "independent", name: str = "payroll") -> Json:
    answer = await person.post(BULK, batch(lines, mode), headers=key(name))
    assert answer.status_code == 202, answer.text
    return answer.json()


async def fates(person: Person, accepted: Json) -> list[tuple[str, str | None, int | None]]:
    """Status, reason and the line that caused a failure, of each transfer of a batch in order."""
    page = (await person.get("/transfers", params={"batch_id": accepted["batch_id"], "limit": 1000})).json()
    failures = [(item["status"], item["failure"] or {}) for item in reversed(page["items"])]
    return [(status, failure.get("code"), failure.get("index")) for status, failure in failures]


def recorded(database: Database) -> list[Json]:
    return [builders.ledger(database), builders.rows(database, "SELECT * FROM batches")]


class TestAnIndependentBatch:
    async def test_reports_for_each_line_whether_it_was_accepted(self, ada: Person, pair: Pair) -> None:
        lines = [
            payment(pair.payer, pair.payee, 100),
            payment(pair.payer, pair.payer, 100),
            payment(pair.payer, pair.payee, 10_000),
            payment(pair.payer, {"id": str(uuid4())}, 100),
            payment(pair.payer, pair.payee, 9_900, currency="USD", description="rest"),
        ]
        answer = await ada.post(BULK, batch(lines), headers=key())
        assert answer.status_code == 202
        body = answer.json()
        assert [(line["index"], line["status"], line.get("code")) for line in body["results"]] == [
            (0, "accepted", None),
            (1, "refused", "same_account"),
            (2, "refused", "insufficient_funds"),
            (3, "refused", "account_not_found"),
            (4, "accepted", None),
        ]
        assert (body["accepted"], body["refused"]) == (2, 3)
        assert answer.headers["location"] == f"/transfers?batch_id={body['batch_id']}"
        assert answer.headers["retry-after"] == "1"

    async def test_settles_line_by_line_in_order(self, ada: Person, pair: Pair, settle: Settle) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee, amount) for amount in (1, 2, 3)])
        assert settle() == 3
        assert await fates(ada, accepted) == [("completed", None, None)] * 3
        page = (await ada.get("/transfers", params={"batch_id": accepted["batch_id"]})).json()
        assert [item["id"] for item in reversed(page["items"])] == [line["id"] for line in accepted["results"]]
        assert (await ada.account(pair.payer["id"]))["balance"] == 10_000 - 6

    async def test_can_fail_in_one_line_only(
        self, ada: Person, pair: Pair, database: Database, settle: Settle, grace: Person
    ) -> None:
        other = await grace.open()
        accepted = await submit(ada, [payment(pair.payer, other), payment(pair.payer, pair.payee)])
        builders.freeze(database, builders.UUID(other["id"]))
        settle()
        assert await fates(ada, accepted) == [("failed", "payee_cannot_receive", None), ("completed", None, None)]

    async def test_can_name_a_payee_by_number(self, ada: Person, pair: Pair, settle: Settle) -> None:
        line = {"from_account_id": pair.payer["id"], "to_account_number": pair.payee["account_number"], "amount": 7}
        accepted = await submit(ada, [line])
        settle()
        assert await fates(ada, accepted) == [("completed", None, None)]

    async def test_with_every_line_rejected_does_not_bind_its_key(
        self, ada: Person, pair: Pair, database: Database
    ) -> None:
        before = recorded(database)
        answer = await ada.post(BULK, batch([payment(pair.payer, pair.payer)]), headers=key())
        assert answer.json() == {
            "batch_id": None,
            "accepted": 0,
            "refused": 1,
            "results": [{"index": 0, "status": "refused", "code": "same_account"}],
        }
        assert "location" not in answer.headers
        assert recorded(database) == before
        assert (await submit(ada, [payment(pair.payer, pair.payee)]))["accepted"] == 1

    async def test_can_have_a_transfer_cancelled(self, ada: Person, pair: Pair, settle: Settle) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee)] * 2)
        answer = await ada.post(f"/transfers/{accepted['results'][0]['id']}/cancel")
        assert answer.status_code == 200
        settle()
        assert await fates(ada, accepted) == [("cancelled", None, None), ("completed", None, None)]


class TestAnAtomicBatch:
    async def test_is_accepted_whole(self, ada: Person, pair: Pair, settle: Settle) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee, 5_000)] * 2, "atomic")
        assert (accepted["accepted"], accepted["refused"]) == (2, 0)
        settle()
        assert await fates(ada, accepted) == [("completed", None, None)] * 2

    @pytest.mark.parametrize(
        ("line", "status", "code", "location"),
        [
            ({"amount": 9_901}, 400, "insufficient_funds", "body.transfers.1.amount"),
            ({"to_account_id": str(uuid4())}, 404, "account_not_found", "body.transfers.1.to_account_id"),
            ({"from_account_id": str(uuid4())}, 404, "account_not_found", "body.transfers.1.from_account_id"),
            ({"currency": "EUR"}, 400, "currency_mismatch", "body.transfers.1.currency"),
        ],
    )
    async def test_is_rejected_whole_for_its_first_invalid_line(
        self, line: Json, status: int, code: str, location: str, ada: Person, pair: Pair, database: Database
    ) -> None:
        before = recorded(database)
        lines = [
            payment(pair.payer, pair.payee),
            payment(pair.payer, pair.payee) | line,
            payment(pair.payer, pair.payer),
        ]
        answer = await ada.post(BULK, batch(lines, "atomic"), headers=key())
        refused(answer, status, code, location)
        assert recorded(database) == before

    async def test_fails_whole_and_names_the_line_that_caused_it(
        self, ada: Person, grace: Person, pair: Pair, database: Database, settle: Settle
    ) -> None:
        other = await grace.open()
        lines = [payment(pair.payer, pair.payee), payment(pair.payer, other), payment(pair.payer, pair.payee)]
        accepted = await submit(ada, lines, "atomic")
        builders.freeze(database, builders.UUID(other["id"]))
        settle()
        assert await fates(ada, accepted) == [
            ("failed", "batch_failed", 1),
            ("failed", "payee_cannot_receive", None),
            ("failed", "batch_failed", 1),
        ]
        payer = await ada.account(pair.payer["id"])
        assert (payer["balance"], payer["available"]) == (10_000, 10_000)
        assert verify(database).holds

    async def test_cannot_have_a_single_transfer_cancelled(self, ada: Person, pair: Pair, settle: Settle) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee)] * 2, "atomic")
        answer = await ada.post(f"/transfers/{accepted['results'][1]['id']}/cancel")
        refused(answer, 409, "transfer_not_cancellable")
        settle()
        assert await fates(ada, accepted) == [("completed", None, None)] * 2


class TestItsKey:
    async def test_is_required(self, ada: Person, pair: Pair) -> None:
        answer = await ada.post(BULK, batch([payment(pair.payer, pair.payee)]))
        refused(answer, 400, "idempotency_key_missing", "header.Idempotency-Key")

    @pytest.mark.parametrize("mode", ["independent", "atomic"])
    async def test_replays_the_same_bytes_in_any_status_of_the_transfers(
        self, mode: str, ada: Person, pair: Pair, settle: Settle, database: Database
    ) -> None:
        lines = [payment(pair.payer, pair.payee, amount) for amount in (1, 2, 3)]
        if mode == "independent":
            lines[1] = payment(pair.payer, pair.payer)
            lines.insert(0, payment(pair.payer, pair.payee, 10_001))
        first = await ada.post(BULK, batch(lines, mode), headers=key())
        settle()
        written = recorded(database)
        again = await ada.post(BULK, batch(lines, mode), headers=key())
        assert (again.status_code, masked(again)) == (first.status_code, masked(first))
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert "idempotent-replayed" not in first.headers
        assert recorded(database) == written

    async def test_replays_for_the_same_values_in_any_notation(self, ada: Person, pair: Pair) -> None:
        line = payment(pair.payer, pair.payee)
        first = await ada.post(BULK, batch([line]), headers=key())
        turned = {"transfers": [dict(reversed(line.items()))], "mode": "independent"}
        again = await ada.post(BULK, turned, headers=key())
        assert masked(again) == masked(first)

    @pytest.mark.parametrize("change", ["an amount", "the order", "the mode", "a line more"])
    async def test_is_rejected_for_another_batch(
        self, change: str, ada: Person, pair: Pair, database: Database
    ) -> None:
        lines = [payment(pair.payer, pair.payee, 1), payment(pair.payer, pair.payee, 2)]
        await submit(ada, lines)
        written = recorded(database)
        others: dict[str, Json] = {
            "an amount": batch([lines[0] | {"amount": 3}, lines[1]]),
            "the order": batch(lines[::-1]),
            "the mode": batch(lines, "atomic"),
            "a line more": batch([*lines, lines[0]]),
        }
        answer = await ada.post(BULK, others[change], headers=key())
        refused(answer, 422, "idempotency_key_reused", "header.Idempotency-Key")
        assert recorded(database) == written

    async def test_cannot_be_the_key_of_a_single_transfer(self, ada: Person, pair: Pair) -> None:
        line = payment(pair.payer, pair.payee)
        await submit(ada, [line])
        refused(await ada.post("/transfers", line, headers=key()), 422, "idempotency_key_reused")
        await ada.post("/transfers", line, headers=key("rent"))
        refused(await ada.post(BULK, batch([line]), headers=key("rent")), 422, "idempotency_key_reused")

    async def test_belongs_to_one_user(self, api: Api, ada: Person, grace: Person, pair: Pair) -> None:
        await submit(ada, [payment(pair.payer, pair.payee)])
        answer = await grace.post(BULK, batch([payment(pair.payee, pair.payer)]), headers=key())
        assert answer.json()["results"] == [{"index": 0, "status": "refused", "code": "insufficient_funds"}]

    @pytest.mark.parametrize("count", [1, 250, 251, 600])
    def test_is_bound_to_a_digest_of_the_whole_batch(self, count: int) -> None:
        line = {"from_account_id": str(uuid4()), "to_account_number": "[]é", "amount": 1, "description": '"[]"'}
        body = NewBatch.model_validate(batch([line] * count, "atomic"))
        assert b"".join(said(BULK, body)) == f"{BULK}\n{body.model_dump_json()}".encode()

    async def test_used_twice_at_once_has_one_effect(self, ada: Person, pair: Pair, database: Database) -> None:
        lines = [payment(pair.payer, pair.payee)] * 3
        answers = await asyncio.gather(*(ada.post(BULK, batch(lines), headers=key()) for _ in range(4)))
        assert {masked(answer) for answer in answers} == {masked(answers[0])}
        assert len(builders.rows(database, "SELECT 1 FROM transfers WHERE kind = 'transfer'")) == 3


class TestItsPath:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
    async def test_is_not_the_path_of_a_transfer_and_accepts_one_method(self, ada: Person, method: str) -> None:
        answer = await ada.request(method, BULK)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


class TestItsOwner:
    async def test_lines_from_another_users_account_are_rejected(self, grace: Person, pair: Pair) -> None:
        accepted = await submit(grace, [payment(pair.payer, pair.payee)])
        assert accepted["results"][0]["code"] == "account_not_found"

    async def test_another_users_batch_reads_like_a_missing_one(self, ada: Person, grace: Person, pair: Pair) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee)])
        theirs = await grace.get("/transfers", params={"batch_id": accepted["batch_id"]})
        nobodys = await grace.get("/transfers", params={"batch_id": str(uuid4())})
        assert (theirs.status_code, theirs.json()) == (nobodys.status_code, nobodys.json())
        assert theirs.json()["items"] == []


class TestItsTransfers:
    async def test_are_listed_page_by_page(self, ada: Person, pair: Pair) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee, amount) for amount in range(1, 8)])
        await ada.pay(pair.payer, pair.payee, 99)
        found: list[int] = []
        query: dict[str, Any] = {"batch_id": accepted["batch_id"], "limit": 3}
        while query:
            page = (await ada.get("/transfers", params=query)).json()
            found += [item["amount"] for item in page["items"]]
            query = query | {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
        assert found == [7, 6, 5, 4, 3, 2, 1]

    async def test_are_filtered_like_others(self, ada: Person, pair: Pair, settle: Settle) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee)] * 3)
        await ada.post(f"/transfers/{accepted['results'][1]['id']}/cancel")
        settle()
        query = {"batch_id": accepted["batch_id"]}
        for status, count in (("completed", 2), ("cancelled", 1), ("pending", 0)):
            page = (await ada.get("/transfers", params=query | {"status": status})).json()
            assert len(page["items"]) == count

    async def test_are_filtered_by_account_and_time_as_well(self, ada: Person, pair: Pair) -> None:
        other = await ada.open()
        lines = [payment(pair.payer, pair.payee, 1), payment(pair.payer, other, 2), payment(pair.payer, other, 3)]
        accepted = await submit(ada, lines)
        query = {"batch_id": accepted["batch_id"], "account_id": other["id"]}
        page = (await ada.get("/transfers", params=query | {"limit": 1})).json()
        assert [item["amount"] for item in page["items"]] == [3]
        page = (await ada.get("/transfers", params=query | {"cursor": page["next_cursor"]})).json()
        assert ([item["amount"] for item in page["items"]], page["next_cursor"]) == ([2], None)
        query = {"batch_id": accepted["batch_id"], "created_from": "2100-01-01T00:00:00Z"}
        assert (await ada.get("/transfers", params=query)).json()["items"] == []

    async def test_are_skipped_by_offset(self, ada: Person, pair: Pair) -> None:
        accepted = await submit(ada, [payment(pair.payer, pair.payee, amount) for amount in (1, 2, 3)])
        page = (await ada.get("/transfers", params={"batch_id": accepted["batch_id"], "offset": 1, "limit": 1})).json()
        assert [item["amount"] for item in page["items"]] == [2]
        assert page["next_cursor"]

    async def test_are_numbered_without_a_gap(self, ada: Person, pair: Pair) -> None:
        lines = [payment(pair.payer, pair.payee, 1)] * 20
        singles = [ada.pay(pair.payer, pair.payee, 1) for _ in range(20)]
        bulk = [submit(ada, lines, name=name) for name in ("one", "two")]
        _, (one, two) = await asyncio.gather(asyncio.gather(*singles), asyncio.gather(*bulk))
        for accepted in (one, two):
            page = (await ada.get("/transfers", params={"batch_id": accepted["batch_id"]})).json()
            sequences = [item["sequence"] for item in reversed(page["items"])]
            assert sequences == list(range(sequences[0], sequences[0] + 20))


class TestTooManyPendingTransfers:
    async def test_reject_batches_but_not_single_transfers(self, start: Start, database: Database) -> None:
        async with start(bulk_pending=3) as api:
            ada = join(api, database, "ada")
            payer, payee = await ada.open(), await ada.open()
            builders.fund(database, builders.UUID(payer["id"]), 100)
            lines = [payment(payer, payee, 1)] * 3
            first = await submit(ada, lines)
            answer = await ada.post(BULK, batch(lines), headers=key("next"))
            refused(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            assert (await ada.post(BULK, batch(lines), headers=key())).json() == first, "a replay needs no room"
            await ada.pay(payer, payee, 1)
            builders.settle_all(database)
            assert (await submit(ada, lines, name="next"))["accepted"] == 3

    async def test_a_batch_beyond_the_number_in_progress_is_unavailable(self, start: Start, database: Database) -> None:
        """One user may take half of the places, so no single user blocks all others."""
        async with start(bulk_requests=4) as api:
            ada, bob, eve = [join(api, database, name) for name in ("ada", "bob", "eve")]
            lines = {person.email: await _one_payment(person, database) for person in (ada, bob, eve)}
            with locked(database):
                held = [asyncio.create_task(submit(ada, lines[ada.email], name=name)) for name in ("one", "two")]
                await until(lambda: len(api.runtime.intake._jobs) == 2)
                refused(await ada.post(BULK, batch(lines[ada.email]), headers=key("three")), 503, "unavailable")
                held += [asyncio.create_task(submit(bob, lines[bob.email], name=name)) for name in ("one", "two")]
                await until(lambda: len(api.runtime.intake._jobs) == 4)
                refused(await eve.post(BULK, batch(lines[eve.email]), headers=key()), 503, "unavailable")
            assert [accepted["accepted"] for accepted in await asyncio.gather(*held)] == [1] * 4
            assert (await submit(ada, lines[ada.email], name="three"))["accepted"] == 1
            assert (await submit(eve, lines[eve.email]))["accepted"] == 1

    async def test_a_request_without_a_valid_token_takes_no_place(self, start: Start, database: Database) -> None:
        """Otherwise it would occupy a place for as long as a body may take, and a few connections would occupy all."""
        async with start(bulk_requests=2) as api:
            ada = join(api, database, "ada")
            lines, may_end = await _one_payment(ada, database), asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                yield b"{"
                await may_end.wait()

            forged = {"Authorization": f"Bearer {ada.token[:-4]}AAAA"}
            slow = [
                asyncio.create_task(api.client.post(BULK, content=body(), headers=JSON | key() | headers))
                for headers in ({}, {}, forged, forged)
            ]
            await asyncio.sleep(0.05)
            assert (await submit(ada, lines))["accepted"] == 1
            may_end.set()
            for answer in await asyncio.gather(*slow):
                refused(answer, 401, "unauthenticated")

    async def test_a_large_batch_without_a_valid_token_is_rejected_like_a_small_one(
        self, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client must learn that its token has expired, not that its size is too large. Nothing is buffered."""
        handed_on: list[bytes] = []
        monkeypatch.setattr(request_bounds, "_replay", _noting(handed_on, request_bounds._replay))
        async with start() as giro:
            for size in (giro.runtime.settings.body_bytes, giro.runtime.settings.bulk_body_bytes):
                answer = await giro.client.post(BULK, content=_in_pieces(size), headers=JSON | key())
                refused(answer, 401, "unauthenticated")
            assert list(map(len, handed_on)) == [giro.runtime.settings.body_bytes, 0]
            answer = await giro.client.post(BULK, content=_in_pieces(size + 1024), headers=JSON | key())
            refused(answer, 413, "body_too_large")


async def _in_pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b"[" * 1024


def _noting(noted: list[bytes], replay: Callable[..., Any]) -> Callable[..., Any]:
    def noting(body: bytes, receive: Any) -> Any:
        noted.append(body)
        return replay(body, receive)

    return noting


async def _one_payment(person: Person, database: Database) -> list[Json]:
    payer, payee = await person.open(), await person.open()
    builders.fund(database, builders.UUID(payer["id"]), 100)
    return [payment(payer, payee, 1)]
