"""Bodies of batches: invalid ones, and how they are parsed."""

import asyncio

import pytest

from api.http.long_json import PIECE_BYTES
from core import turns
from core.services.verification import verify
from core.storage.sqlite.engine import Database
from tests.api.conftest import JSON, Pair, Person, Start, join, payment, refused, written
from tests.api.contract import Json
from tests.api.routes.test_batches import BULK, Settle, batch, key, recorded
from tests.unit.test_turns import Ticks


class TestItsForm:
    @pytest.mark.parametrize(
        ("body", "location"),
        [
            ({"mode": "independent", "transfers": []}, "body.transfers"),
            ({"mode": "both", "transfers": [{}]}, "body.mode"),
            ({"transfers": []}, "body.mode"),
            ({"mode": "atomic"}, "body.transfers"),
            ({"mode": "atomic", "transfers": {}}, "body.transfers"),
            ({"mode": "atomic", "transfers": [], "more": 1}, "body.more"),
        ],
    )
    async def test_that_is_invalid_is_rejected(self, body: Json, location: str, ada: Person) -> None:
        answer = await ada.post(BULK, body, headers=key())
        assert location in {error["location"] for error in refused(answer, 422, "validation_failed")["errors"]}

    @pytest.mark.parametrize(
        ("line", "location"),
        [
            ({"amount": 0}, "body.transfers.1.amount"),
            ({"amount": 1.0}, "body.transfers.1.amount"),
            ({"amount": True}, "body.transfers.1.amount"),
            ({"to_account_id": "me"}, "body.transfers.1.to_account_id"),
            ({"description": "x" * 141}, "body.transfers.1.description"),
            ({"description": "line\nfeed"}, "body.transfers.1.description"),
            ({"currency": "XXX"}, "body.transfers.1.currency"),
            ({"status": "completed"}, "body.transfers.1.status"),
            ({"to_account_number": "XG46GIRO00000000000042"}, "body.transfers.1"),
        ],
    )
    async def test_with_an_invalid_line_is_rejected_whole_and_the_line_is_named(
        self, line: Json, location: str, ada: Person, pair: Pair, database: Database
    ) -> None:
        before = recorded(database)
        good = payment(pair.payer, pair.payee)
        answer = await ada.post(BULK, batch([good, good | line]), headers=key())
        refused(answer, 422, "validation_failed", location)
        assert recorded(database) == before

    @pytest.mark.parametrize(
        ("lines", "count", "listed", "first"),
        [
            ([{"amount": 0}] * 49 + [{}], 49 * 2 + 2, 50, "body.transfers.0.from_account_id"),
            ([dict.fromkeys(map(str, range(98)), 1)] * 5000, 500_000, 50, "body.transfers.0.from_account_id"),
        ],
        ids=["a few lines", "very many lines"],
    )
    async def test_with_many_errors_lists_the_first_ones_and_the_total(
        self, lines: list[Json], count: int, listed: int, first: str | None, ada: Person
    ) -> None:
        answer = await ada.post(BULK, batch(lines), headers=key())
        body = refused(answer, 422, "validation_failed")
        errors = body.get("errors", [])
        assert (len(errors), errors[0]["location"] if errors else None) == (listed, first)
        assert f"There are {count} errors, and {listed} of them are listed." in body["detail"]

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (batch([dict.fromkeys(map(str, range(101)), 1)]), "more than 100 members."),
            (batch([dict.fromkeys(map(str, range(100_000)), 1)]), "or longer than 8192 characters."),
            (batch([{"description": "x" * 20_000}]), "or longer than 8192 characters."),
            (batch([]) | dict.fromkeys(map(str, range(100_000)), 1), "more than 100 members."),
            (dict.fromkeys(map(str, range(100_000)), 1), "more than 100 members."),
        ],
        ids=[
            "a line of many fields",
            "a line of very many fields",
            "a line of a long text",
            "very many fields beside",
            "very many fields",
        ],
    )
    async def test_with_more_than_any_batch_needs_is_malformed(self, body: Json, told: str, ada: Person) -> None:
        answer = await ada.post(BULK, body, headers=key())
        assert refused(answer, 400, "malformed_body")["detail"].endswith(told)

    @pytest.mark.parametrize(
        ("behind", "told"), [([], "not 5001"), ([{}] * 10_000, "not more"), ([{}] * 10_000 + [[[]] * 64], "not more")]
    )
    async def test_with_too_many_lines_is_not_read_to_its_end(
        self, behind: list[Json], told: str, ada: Person, pair: Pair
    ) -> None:
        lines = [payment(pair.payer, pair.payee, 1)] * 5001 + behind
        body = refused(await ada.post(BULK, batch(lines), headers=key()), 422, "validation_failed", "body.transfers")
        assert body["errors"][0]["message"] == f"List should have at most 5000 items after validation, {told}"

    async def test_lists_errors_in_lines_before_unknown_fields(self, ada: Person) -> None:
        body = {"more": 1, "mode": "both", "transfers": [{"amount": 1}, 1]}
        errors = refused(await ada.post(BULK, body, headers=key()), 422, "validation_failed")["errors"]
        assert [error["location"] for error in errors] == [
            "body.mode",
            "body.transfers.0.from_account_id",
            "body.transfers.1",
            "body.more",
        ]

    async def test_with_fifty_errors_lists_them_all(self, ada: Person) -> None:
        body = refused(await ada.post(BULK, batch([{}] * 25), headers=key()), 422, "validation_failed")
        assert (len(body["errors"]), "errors" in body["detail"]) == (50, False)

    @pytest.mark.parametrize(("count", "status"), [(5000, 202), (5001, 422)])
    async def test_can_contain_five_thousand_transfers(
        self, count: int, status: int, ada: Person, pair: Pair, settle: Settle, database: Database
    ) -> None:
        answer = await ada.post(BULK, batch([payment(pair.payer, pair.payee, 1)] * count), headers=key())
        assert answer.status_code == status
        assert settle() == (count if status == 202 else 0)
        assert verify(database).holds

    async def test_has_a_maximum_of_bytes(self, start: Start, database: Database) -> None:
        async with start(bulk_body_bytes=2048) as api:
            ada = join(api, database, "ada")
            for size, status in ((2048, 400), (2049, 413)):
                answer = await ada.request("POST", BULK, content=b" " * size, headers=key() | JSON)
                assert answer.status_code == status

    async def test_can_be_larger_than_that_of_other_calls(self, ada: Person) -> None:
        for path, status in ((BULK, 400), ("/transfers", 413)):
            answer = await ada.request("POST", path, content=b" " * 70_000, headers=key() | JSON)
            assert answer.status_code == status


class TestTheEventLoop:
    @pytest.mark.parametrize("amount", [1, 0], ids=["good lines", "bad lines"])
    async def test_turns_many_times_while_a_long_batch_is_read(
        self, amount: int, ada: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted with a turn after each piece: in production several pieces share a few milliseconds."""
        monkeypatch.setattr(turns, "SLICE_SECONDS", 0)
        body = written(batch([payment(pair.payer, pair.payee, amount)] * 5000))
        counted = Ticks()
        ticking = asyncio.create_task(counted.run())
        answer = await ada.request("POST", BULK, content=body, headers=key() | JSON)
        ticking.cancel()
        assert answer.status_code == (202 if amount else 422)
        assert counted.count > 2 * len(body) / PIECE_BYTES
