"""Reading transfers: a single one, waiting for its end, and lists."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import pytest

from api.schemas.transfers import TransferQuery
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import Api, Pair, Person, Start, masked, payment, refused
from tests.tampering import tamper


class TestGettingOne:
    async def test_shows_a_pending_transfer(self, ada: Person, pair: Pair) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        answer = await ada.get(f"/transfers/{transfer['id']}")
        assert answer.status_code == 200
        assert answer.json() == transfer
        assert answer.headers["retry-after"] == "1"
        assert "preference-applied" not in answer.headers

    async def test_shows_a_completed_transfer(self, ada: Person, pair: Pair, settle: Callable[[], int]) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        settle()
        answer = await ada.get(f"/transfers/{transfer['id']}")
        found = answer.json()
        assert found == transfer | {"status": "completed", "settled_at": found["settled_at"]}
        assert found["settled_at"] >= found["created_at"]
        assert "retry-after" not in answer.headers

    @pytest.mark.parametrize(
        ("what", "code"),
        [
            ("payer frozen", "account_frozen"),
            ("payer closed", "account_closed"),
            ("payee closed", "payee_cannot_receive"),
            ("payee frozen", "payee_cannot_receive"),
            ("payee full", "balance_limit_exceeded"),
            ("payer poorer", "insufficient_funds"),
        ],
    )
    async def test_shows_why_a_transfer_failed(
        self, ada: Person, pair: Pair, database: Database, settle: Callable[[], int], what: str, code: str
    ) -> None:
        transfer = await ada.pay(pair.payer, pair.payee, 500)
        changes: dict[str, dict[str, Any]] = {
            "payer frozen": {"status": "frozen", "freeze_scope": "debit"},
            "payer closed": {"status": "closed", "closed_at": 1},
            "payee frozen": {"status": "frozen", "freeze_scope": "all"},
            "payee closed": {"status": "closed", "closed_at": 1},
            "payee full": {"balance": 9 * 10**15},
            "payer poorer": {"balance": 499},
        }
        builders.set_account(database, UUID(getattr(pair, what.split(maxsplit=1)[0])["id"]), **changes[what])
        settle()
        found = (await ada.get(f"/transfers/{transfer['id']}")).json()
        assert (found["status"], found["failure"]["code"]) == ("failed", code)
        assert found["failure"].keys() == {"code", "message"}
        assert found["settled_at"] is not None

    async def test_shows_that_the_owner_was_deactivated(
        self, api: Api, ada: Person, operator: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        body = {"from_account_id": pair.payer["id"], "amount": 100}
        withdrawal = (await operator.post("/withdrawals", body)).json()
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE email = ?", (ada.email,))
        settle()
        found = (await operator.get(f"/transfers/{withdrawal['id']}")).json()
        assert (found["status"], found["failure"]["code"]) == ("failed", "owner_inactive")

    async def test_is_allowed_for_payer_and_submitter_and_after_completion_for_the_payee(
        self, api: Api, ada: Person, grace: Person, operator: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        eve = await api.sign_up("eve")
        transfer = await ada.pay(pair.payer, pair.payee)
        path = f"/transfers/{transfer['id']}"
        missing = await eve.get(f"/transfers/{uuid4()}")
        refused(missing, 404, "transfer_not_found")
        for stranger in (grace, eve, operator):
            assert masked(await stranger.get(path)) == masked(missing)
        settle()
        assert (await grace.get(path)).content == (await ada.get(path)).content
        for stranger in (eve, operator):
            assert masked(await stranger.get(path)) == masked(missing)

    async def test_stays_hidden_from_the_payee_of_a_failed_or_cancelled_transfer(
        self, ada: Person, grace: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        cancelled, failed = [await ada.pay(pair.payer, pair.payee) for _ in range(2)]
        await ada.post(f"/transfers/{cancelled['id']}/cancel")
        builders.freeze(database, UUID(pair.payer["id"]))
        settle()
        for transfer in (cancelled, failed):
            assert (await ada.get(f"/transfers/{transfer['id']}")).status_code == 200
            refused(await grace.get(f"/transfers/{transfer['id']}"), 404, "transfer_not_found")
        assert (await grace.get("/transfers")).json()["items"] == []

    @pytest.mark.parametrize("name", ["x", "1", str(2**63), "%00", "%ff", "%ed%a0%80"])
    async def test_rejects_an_invalid_id(self, ada: Person, name: str) -> None:
        refused(await ada.get(f"/transfers/{name}"), 422, "validation_failed", "path.transfer_id")


class TestWaiting:
    async def settled_meanwhile(
        self, call: Any, database: Database, settle: Callable[[], int], expected: int = 1
    ) -> httpx2.Response:
        """Start a call, settle once its transfer is on disk, and return the answer to the call."""
        waiting = asyncio.create_task(call)
        settled = 0
        while settled < expected:
            assert not waiting.done(), waiting.result().text
            settled += await asyncio.to_thread(settle)
            await asyncio.sleep(0.002)
        return await waiting

    async def test_on_submission_returns_the_final_transfer(
        self, ada: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        call = ada.post("/transfers", payment(pair.payer, pair.payee), headers={"Prefer": "wait=20"})
        answer = await self.settled_meanwhile(call, database, settle)
        assert answer.status_code == 200
        assert answer.json()["status"] == "completed"
        assert answer.headers["preference-applied"] == "wait=20"
        assert answer.headers["vary"] == "Prefer"
        assert answer.headers["location"] == f"/transfers/{answer.json()['id']}"
        assert "retry-after" not in answer.headers

    async def test_on_submission_returns_a_failed_transfer_too(
        self, ada: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        def freeze_and_settle() -> int:
            if not builders.reserved_of(database, UUID(pair.payer["id"])):
                return 0  # not accepted yet
            builders.freeze(database, UUID(pair.payer["id"]))
            return settle()

        call = ada.post("/transfers", payment(pair.payer, pair.payee), headers={"Prefer": "wait=20"})
        answer = await self.settled_meanwhile(call, database, freeze_and_settle)
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["failure"]["code"]) == ("failed", "account_frozen")

    async def test_on_reading_returns_the_final_transfer(
        self, ada: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        tag = (await ada.get(path)).headers["etag"]
        call = ada.get(path, headers={"Prefer": "wait=20", "If-None-Match": tag})
        answer = await self.settled_meanwhile(call, database, settle)
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")
        assert answer.headers["preference-applied"] == "wait=20"
        assert answer.headers["vary"] == "Prefer"

    async def test_on_reading_an_ended_transfer_does_not_delay(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        settle()
        async with asyncio.timeout(5):
            answer = await ada.get(path, headers={"Prefer": "wait=30"})
        tag = answer.headers["etag"]
        again = await ada.get(path, headers={"Prefer": "wait=30", "If-None-Match": tag})
        assert again.status_code == 304
        assert again.headers["preference-applied"] == "wait=30"

    async def test_ends_when_the_transfer_is_cancelled(self, ada: Person, pair: Pair) -> None:
        transfer = await ada.pay(pair.payer, pair.payee)
        waiting = asyncio.create_task(ada.get(f"/transfers/{transfer['id']}", headers={"Prefer": "wait=20"}))
        await ada.post(f"/transfers/{transfer['id']}/cancel")
        assert (await waiting).json()["status"] == "cancelled"

    async def test_has_a_maximum_and_ends_when_time_is_up(self, start: Start, database: Database) -> None:
        async with start(wait_seconds=1) as api:
            ada, grace = await api.sign_up("ada"), await api.sign_up("grace")
            payer, payee = await ada.open(), await grace.open()
            builders.fund(database, UUID(payer["id"]), 100)
            earlier = await ada.pay(payer, payee, 1)
            prefer = {"Prefer": "wait=99"}
            tag = (await ada.get(f"/transfers/{earlier['id']}")).headers["etag"]
            submitted, read, unchanged = await asyncio.gather(
                ada.post("/transfers", payment(payer, payee, 1), headers=prefer),
                ada.get(f"/transfers/{earlier['id']}", headers=prefer),
                ada.get(f"/transfers/{earlier['id']}", headers=prefer | {"If-None-Match": tag}),
            )
            assert [answer.status_code for answer in (submitted, read, unchanged)] == [202, 200, 304]
            for answer in (submitted, read, unchanged):
                assert answer.headers["preference-applied"] == "wait=1"
                assert answer.headers["vary"] == "Prefer"
                assert answer.headers["retry-after"] == "1"
            assert submitted.json()["status"] == read.json()["status"] == "pending"

    @pytest.mark.parametrize(
        ("prefer", "applied"),
        [
            (["wait=0"], "wait=0"), (["respond-async, wait=0"], "wait=0"), (["wait = 0"], "wait=0"),
            (['wait="0"'], "wait=0"), (["WAIT=0"], "wait=0"), (["wait=0;x=y"], "wait=0"),
            (["handling=strict", "wait=0"], "wait=0"), (["wait=0, wait=9"], "wait=0"),
            (["wait"], None), (["wait="], None), (["wait=x"], None), (["wait=-1"], None), (["wait=1.5"], None),
            (["wait=0x1"], None), (["wait=NaN"], None), (["await=5"], None), ([""], None), ([",;=\""], None),
            (["wait='1'"], None), (["wait= "], None),
        ],
        ids=str,
    )  # fmt: skip
    async def test_needs_a_valid_preference(
        self, ada: Person, pair: Pair, prefer: list[str], applied: str | None
    ) -> None:
        headers = [("Prefer", value) for value in prefer]
        submitted = await ada.post("/transfers", payment(pair.payer, pair.payee), headers=headers)
        read = await ada.get(submitted.headers["location"], headers=headers)
        assert (submitted.status_code, read.status_code) == (202, 200)
        for answer in (submitted, read):
            assert answer.headers.get("preference-applied") == applied

    async def test_longer_than_any_number_is_cut_to_the_maximum(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
        settle()
        for seconds in ("31", "9999999999", "9" * 5000):
            answer = await ada.get(path, headers={"Prefer": f"wait={seconds}"})
            assert answer.headers.get("preference-applied") == "wait=30"


class TestTheList:
    async def ids(self, who: Person, query: str = "") -> list[str]:
        answer = await who.get(f"/transfers{query}")
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    async def test_is_empty_at_first(self, ada: Person) -> None:
        assert (await ada.get("/transfers")).json() == {"items": [], "limit": 100, "offset": 0, "next_cursor": None}

    async def test_shows_sent_transfers_and_completed_incoming_ones_newest_first(
        self, ada: Person, grace: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        first = await ada.pay(pair.payer, pair.payee, 300)
        settle()
        back = await grace.pay(pair.payee, pair.payer, 100)
        second = await ada.pay(pair.payer, pair.payee, 5)
        deposit = (await self.ids(ada))[-1]
        assert await self.ids(ada) == [second["id"], first["id"], deposit]
        assert await self.ids(grace) == [back["id"], first["id"]]
        settle()
        assert await self.ids(ada) == [second["id"], back["id"], first["id"], deposit]
        assert await self.ids(grace) == [second["id"], back["id"], first["id"]]
        items = (await ada.get("/transfers")).json()["items"]
        assert items[0] == (await ada.get(f"/transfers/{second['id']}")).json()

    async def test_shows_a_transfer_between_two_accounts_of_the_caller_once(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        savings = await ada.open()
        moved = await ada.pay(pair.payer, savings)
        assert (await self.ids(ada)).count(moved["id"]) == 1
        settle()
        assert (await self.ids(ada)).count(moved["id"]) == 1
        for account in (pair.payer, savings):
            assert (await self.ids(ada, f"?account_id={account['id']}")).count(moved["id"]) == 1

    async def test_pages_by_offset_and_by_cursor_while_transfers_are_added(
        self, ada: Person, grace: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        for amount in range(1, 6):
            await ada.pay(pair.payer, pair.payee, amount)
        settle()
        await grace.pay(pair.payee, pair.payer, 6)
        everything = await self.ids(ada)
        assert await self.ids(ada, "?limit=2&offset=1") == everything[1:3]
        assert await self.ids(ada, "?offset=6") == []
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await ada.get(f"/transfers?limit=2{cursor}")).json()
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
            await ada.pay(pair.payer, pair.payee, 50)
        assert seen == everything

    async def test_a_cursor_of_an_older_release_is_refused(
        self, api: Api, ada: Person, pair: Pair, database: Database
    ) -> None:
        await ada.pay(pair.payer, pair.payee)
        (user,) = builders.rows(database, "SELECT id FROM users WHERE email = ?", ada.email)
        filters = TransferQuery().model_dump_json(exclude={"limit", "offset", "cursor"})
        cursor = api.runtime.cursors.seal(cast(int, (4, [1, 2])), of=f"transfers:{user['id']}:{filters}")
        refused(await ada.get(f"/transfers?cursor={cursor}"), 422, "validation_failed")

    async def test_a_cursor_stays_under_200_characters_with_a_thousand_accounts(
        self, ada: Person, pair: Pair, database: Database, settle: Callable[[], int]
    ) -> None:
        (owner,) = builders.rows(database, "SELECT id FROM users WHERE email = ?", ada.email)
        with unit_of_work(database) as connection:
            others = [builders.open_account(connection, owner["id"]) for _ in range(999)]
        builders.accept(
            database,
            *(
                builders.transfer_request(submitted_by=owner["id"], payer=UUID(pair.payer["id"]), payee=other, amount=1)
                for other in others
            ),
        )
        settle()
        everything = await self.ids(ada, "?limit=1000")
        assert len(everything) >= 999
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await ada.get(f"/transfers?limit=300{cursor}")).json()
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            assert len(page["items"]) == 300
            assert len(page["next_cursor"]) < 200
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == everything

    async def test_filters_by_status(self, ada: Person, pair: Pair, settle: Callable[[], int]) -> None:
        completed = await ada.pay(pair.payer, pair.payee)
        settle()
        cancelled = await ada.pay(pair.payer, pair.payee)
        await ada.post(f"/transfers/{cancelled['id']}/cancel")
        pending = await ada.pay(pair.payer, pair.payee)
        assert await self.ids(ada, "?status=pending") == [pending["id"]]
        assert await self.ids(ada, "?status=cancelled") == [cancelled["id"]]
        assert (await self.ids(ada, "?status=completed"))[0] == completed["id"]
        assert await self.ids(ada, "?status=failed") == []

    async def test_filters_by_an_account_of_the_caller(
        self, ada: Person, grace: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        savings = await ada.open()
        sent = await ada.pay(pair.payer, pair.payee)
        assert await self.ids(ada, f"?account_id={savings['id']}") == []
        assert (await self.ids(ada, f"?account_id={pair.payer['id']}"))[0] == sent["id"]
        missing = await ada.get(f"/transfers?account_id={uuid4()}")
        refused(missing, 404, "account_not_found", "query.account_id")
        foreign = await ada.get(f"/transfers?account_id={pair.payee['id']}")
        assert masked(foreign) == masked(missing)

    async def test_combines_key_and_batch(self, ada: Person, pair: Pair) -> None:
        await ada.post("/transfers", payment(pair.payer, pair.payee), headers={"Idempotency-Key": "alone"})
        body = {"mode": "independent", "transfers": [payment(pair.payer, pair.payee)]}
        made = (await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "together"})).json()
        of_batch = f"&batch_id={made['batch_id']}"
        assert len(await self.ids(ada, "?idempotency_key=alone")) == 1
        assert await self.ids(ada, f"?idempotency_key=alone{of_batch}") == []
        assert len(await self.ids(ada, f"?idempotency_key=together{of_batch}")) == 1
        assert await self.ids(ada, f"?idempotency_key=together&batch_id={uuid4()}") == []

    @pytest.mark.parametrize(
        "cut",
        [
            "DELETE FROM transactions WHERE id = (SELECT max(id) FROM transactions)",
            "DELETE FROM transfers WHERE id = (SELECT max(id) FROM transfers)",
            "DELETE FROM endings WHERE id = (SELECT max(id) FROM endings)",
        ],
    )
    async def test_ends_even_if_the_end_of_the_ledger_was_cut_off(
        self, ada: Person, grace: Person, pair: Pair, database: Database, settle: Callable[[], int], cut: str
    ) -> None:
        await ada.pay(pair.payer, pair.payee)
        settle()
        tamper(database, cut)
        async with asyncio.timeout(20):
            for person in (ada, grace):
                assert (await person.get("/transfers")).status_code == 200

    async def test_filters_by_the_callers_idempotency_key(self, ada: Person, grace: Person, pair: Pair) -> None:
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee), headers={"Idempotency-Key": "b&c"})
        await ada.pay(pair.payer, pair.payee)
        query = f"?idempotency_key={quote('b&c')}"
        assert await self.ids(ada, query) == [answer.json()["id"]]
        assert await self.ids(ada, f"{query}&status=pending") == [answer.json()["id"]]
        assert await self.ids(ada, f"{query}&status=completed") == []
        assert await self.ids(ada, f"{query}&offset=1") == []
        assert await self.ids(ada, "?idempotency_key=B%26C") == []
        assert await self.ids(grace, query) == []

    async def test_filters_by_key_and_account_together(self, ada: Person, pair: Pair) -> None:
        savings = await ada.open()
        await ada.post("/transfers", payment(pair.payer, pair.payee), headers={"Idempotency-Key": "k"})
        assert len(await self.ids(ada, f"?idempotency_key=k&account_id={pair.payer['id']}")) == 1
        assert await self.ids(ada, f"?idempotency_key=k&account_id={savings['id']}") == []
        foreign = await ada.get(f"/transfers?idempotency_key=k&account_id={pair.payee['id']}")
        refused(foreign, 404, "account_not_found", "query.account_id")

    async def test_filters_by_time_from_one_moment_to_before_another(self, ada: Person, pair: Pair) -> None:
        made = []
        for _ in range(3):
            made.append(await ada.pay(pair.payer, pair.payee))
            await asyncio.sleep(0.001)  # times differ by at least a microsecond
        ids = [item["id"] for item in made]
        times = [quote(item["created_at"]) for item in made]
        assert await self.ids(ada, f"?created_from={times[1]}") == [ids[2], ids[1]]
        assert (await self.ids(ada, f"?created_to={times[1]}"))[0] == ids[0]
        assert await self.ids(ada, f"?created_from={times[1]}&created_to={times[2]}") == [ids[1]]
        assert await self.ids(ada, f"?created_from={times[2]}&created_to={times[1]}") == []
        elsewhere = datetime.fromisoformat(made[1]["created_at"]).astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert await self.ids(ada, f"?created_from={quote(elsewhere.isoformat())}") == [ids[2], ids[1]]

    async def test_with_a_filter_ends_when_its_cursors_are_followed(
        self, ada: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        kept = []
        for number in range(6):
            transfer = await ada.pay(pair.payer, pair.payee, 1)
            if number % 2:
                await ada.post(f"/transfers/{transfer['id']}/cancel")
                kept.insert(0, transfer["id"])
        settle()
        seen: list[str] = []
        query = "?status=cancelled&limit=2"
        page = (await ada.get(f"/transfers{query}")).json()
        while True:
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            page = (await ada.get(f"/transfers{query}&cursor={page['next_cursor']}")).json()
        assert seen == kept

    @pytest.mark.parametrize(
        ("query", "location"),
        [
            ("status=done", "query.status"), ("status=PENDING", "query.status"), ("status=", "query.status"),
            ("account_id=x", "query.account_id"), (f"account_id={2**63}", "query.account_id"),
            ("idempotency_key=", "query.idempotency_key"),
            (f"idempotency_key={'k' * 256}", "query.idempotency_key"),
            ("created_from=yesterday", "query.created_from"), ("created_from=2026-01-01", "query.created_from"),
            ("created_from=2026-01-01T00:00:00", "query.created_from"),
            ("created_to=2026-13-01T00:00:00Z", "query.created_to"),
            ("created_to=9e999", "query.created_to"), ("created_to=", "query.created_to"),
            ("kind=deposit", "query.kind"), ("Status=pending", "query.Status"), ("sort=asc", "query.sort"),
        ],
    )  # fmt: skip
    async def test_rejects_an_invalid_filter(self, ada: Person, query: str, location: str) -> None:
        refused(await ada.get(f"/transfers?{query}"), 422, "validation_failed", location)

    @pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"])
    async def test_accepts_the_earliest_and_latest_times(self, ada: Person, pair: Pair, moment: str) -> None:
        for name in ("created_from", "created_to"):
            assert (await ada.get(f"/transfers?{name}={moment}")).status_code in (200, 422)

    async def test_rejects_a_cursor_of_another_list(
        self, ada: Person, grace: Person, pair: Pair, settle: Callable[[], int]
    ) -> None:
        for _ in range(2):
            await ada.pay(pair.payer, pair.payee)
        settle()
        cursor = (await ada.get("/transfers?limit=1")).json()["next_cursor"]
        forged = ("A" if cursor[0] != "A" else "B") + cursor[1:]
        for who, query in (
            (ada, f"?cursor={forged}"),
            (ada, f"?cursor={cursor[:-1]}"),
            (ada, f"?status=pending&cursor={cursor}"),
            (ada, f"?account_id={pair.payer['id']}&cursor={cursor}"),
            (grace, f"?cursor={cursor}"),
        ):
            refused(await who.get(f"/transfers{query}"), 422, "validation_failed", "query.cursor")
        assert (await ada.get(f"/transfers?limit=50&cursor={cursor}")).status_code == 200
