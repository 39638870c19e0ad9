"""The audit log over the API: author, action, object, address and request of every act, and never a secret."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from core.security.access_tokens import Claims
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import PASSWORD, Api, Pair, Person, Start, add_operator, join, locked, masked, refused
from tests.api.contract import Json

ADDRESS = "127.0.0.1"
NEW_PASSWORD = "another horse battery"
NOT_THE_PASSWORD = "not the password"


@pytest.fixture
async def mary(api: Api) -> Person:
    """A user who has signed up with a password, and has logged in once."""
    return await api.sign_up("mary")


async def id_of(person: Person) -> str:
    return (await person.get("/users/me")).json()["id"]


async def entries(operator: Person, **filters: Any) -> list[Json]:
    answer = await operator.get("/operator/audit", params=filters)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def entry(answer: httpx2.Response, action: str, author_id: str | None, object_id: str | None, **details: Any) -> Json:
    """The expected entry of a request, without its number and its time."""
    return {
        "author_id": author_id,
        "action": action,
        "object_id": object_id,
        "details": details,
        "request_id": answer.headers["x-request-id"],
        "address": ADDRESS,
    }


async def newest(operator: Person, action: str) -> Json:
    """The newest entry of an action, without its number and its time."""
    found = await entries(operator, action=action, limit=1)
    return {name: value for name, value in found[0].items() if name not in ("sequence", "at")} if found else None


async def log_in(api: Api, email: str, password: str) -> httpx2.Response:
    return await api.client.post("/login", data={"username": email, "password": password})


async def refusals(api: Api, operator: Person) -> list[Json]:
    """The refusals of access once they are written, oldest first, without number and time."""
    await api.runtime.refusals.flush()
    await api.runtime.refusals.stop()  # waits for a write in progress, too
    found = await entries(operator, action="access_refused")
    return [{name: value for name, value in item.items() if name not in ("sequence", "at")} for item in found[::-1]]


# --- logging in and out ------------------------------------------------------------------------------------------


class TestALogIn:
    async def test_is_recorded(self, api: Api, mary: Person, operator: Person) -> None:
        answer = await log_in(api, mary.email.upper(), PASSWORD)
        mary_id = await id_of(mary)
        assert await newest(operator, "logged_in") == entry(answer, "logged_in", mary_id, mary_id)

    async def test_with_a_wrong_password_is_recorded_for_the_user(
        self, api: Api, mary: Person, operator: Person
    ) -> None:
        answer = await log_in(api, mary.email, NOT_THE_PASSWORD)
        refused(answer, 401, "unauthenticated")
        assert await newest(operator, "log_in_failed") == entry(answer, "log_in_failed", None, await id_of(mary))

    async def test_with_an_unknown_address_is_recorded_without_a_user(self, api: Api, operator: Person) -> None:
        answer = await log_in(api, "nobody@example.com", NOT_THE_PASSWORD)
        refused(answer, 401, "unauthenticated")
        assert await newest(operator, "log_in_failed") == entry(answer, "log_in_failed", None, None)

    async def test_of_a_deactivated_user_is_recorded_as_failed(self, api: Api, mary: Person, operator: Person) -> None:
        mary_id = await id_of(mary)
        await operator.post(f"/operator/users/{mary_id}/deactivate")
        answer = await log_in(api, mary.email, PASSWORD)
        refused(answer, 401, "unauthenticated")
        assert await newest(operator, "log_in_failed") == entry(answer, "log_in_failed", None, mary_id)

    async def test_during_a_deactivation_is_recorded_as_failed(
        self, api: Api, mary: Person, operator: Person, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def deactivated_meanwhile(_hash: str) -> bool:
            with unit_of_work(database) as connection:
                connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE email = ?", (mary.email,))
            return False

        mary_id = await id_of(mary)
        monkeypatch.setattr(api.runtime.passwords, "is_outdated", deactivated_meanwhile)
        answer = await log_in(api, mary.email, PASSWORD)
        refused(answer, 401, "unauthenticated")
        assert await newest(operator, "log_in_failed") == entry(answer, "log_in_failed", None, mary_id)

    async def test_that_cannot_be_recorded_has_the_same_answer_for_known_and_unknown_users(
        self, start: Start, database: Database
    ) -> None:
        add_operator(database)
        async with start(intake_seconds=0.02) as api:
            with locked(database):
                answers = [
                    await log_in(api, email, NOT_THE_PASSWORD)
                    for email in ("operator@example.com", "nobody@example.com")
                ]
        for answer in answers:
            refused(answer, 503, "unavailable")
        assert masked(answers[0]) == masked(answers[1])


async def test_a_log_out_is_recorded(mary: Person, operator: Person) -> None:
    mary_id = await id_of(mary)
    answer = await mary.post("/logout")
    assert await newest(operator, "logged_out") == entry(answer, "logged_out", mary_id, mary_id)


async def test_a_change_of_password_is_recorded(mary: Person, operator: Person) -> None:
    mary_id = await id_of(mary)
    answer = await mary.post("/users/me/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
    assert await newest(operator, "password_changed") == entry(answer, "password_changed", mary_id, mary_id)


async def test_reuse_of_a_refresh_token_is_recorded(api: Api, mary: Person, operator: Person) -> None:
    body = {"refresh_token": mary.refresh_token}
    assert (await api.client.post("/token/refresh", json=body)).status_code == 200
    assert await entries(operator, action="refresh_token_reused") == []
    answer = await api.client.post("/token/refresh", json=body)
    refused(answer, 401, "unauthenticated")
    assert await newest(operator, "refresh_token_reused") == entry(
        answer, "refresh_token_reused", None, await id_of(mary)
    )


# --- refusals of access ------------------------------------------------------------------------------------------


def forged(_api: Api, _database: Database, _ada: Person) -> str:
    return "no token at all"


def of_nobody(api: Api, _database: Database, _ada: Person) -> str:
    return api.runtime.access_tokens.issue(Claims(uuid4(), 0))


def ended(_api: Api, database: Database, ada: Person) -> str:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET token_version = 1 WHERE email = ?", (ada.email,))
    return ada.token


class TestARefusal:
    async def test_for_a_missing_role_is_recorded_with_the_user(self, api: Api, ada: Person, operator: Person) -> None:
        answer = await ada.post(f"/operator/users/{uuid4()}/deactivate")
        refused(answer, 403, "forbidden")
        assert await refusals(api, operator) == [
            entry(
                answer, "access_refused", await id_of(ada), None,
                status=403, route="/operator/users/{user_id}/deactivate", times=1,
            )
        ]  # fmt: skip

    @pytest.mark.parametrize("make", [forged, of_nobody, ended])
    async def test_of_an_access_token_is_recorded_without_a_user(
        self, api: Api, ada: Person, operator: Person, database: Database, make: Callable[..., str]
    ) -> None:
        token = make(api, database, ada)
        answer = await api.client.get("/accounts", headers={"Authorization": f"Bearer {token}"})
        refused(answer, 401, "unauthenticated")
        assert await refusals(api, operator) == [
            entry(answer, "access_refused", None, None, status=401, route="/accounts", times=1)
        ]

    async def test_of_a_refresh_token_is_recorded(self, api: Api, operator: Person) -> None:
        answer = await api.client.post("/token/refresh", json={"refresh_token": "made up"})
        refused(answer, 401, "unauthenticated")
        assert await refusals(api, operator) == [
            entry(answer, "access_refused", None, None, status=401, route="/token/refresh", times=1)
        ]

    async def test_of_the_current_password_is_recorded_with_the_user(
        self, api: Api, mary: Person, operator: Person
    ) -> None:
        body = {"current_password": NOT_THE_PASSWORD, "new_password": NEW_PASSWORD}
        answer = await mary.post("/users/me/password", body)
        refused(answer, 401, "unauthenticated")
        assert await refusals(api, operator) == [
            entry(answer, "access_refused", await id_of(mary), None, status=401, route="/users/me/password", times=1)
        ]

    @pytest.mark.parametrize("authorization", [None, "Basic YWRhOnNlY3JldA==", "Bearer", "Bearer  ", "token"])
    async def test_without_a_token_is_not_recorded(self, api: Api, operator: Person, authorization: str | None) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        refused(await api.client.get("/accounts", headers=headers), 401, "unauthenticated")
        refused(await api.client.get("/operator/audit", headers=headers), 401, "unauthenticated")
        assert await refusals(api, operator) == []

    async def test_that_repeats_is_one_entry_with_the_first_request(
        self, api: Api, ada: Person, operator: Person
    ) -> None:
        paths = [f"/operator/accounts/{uuid4()}" for _ in range(5)]
        first, *_ = [await ada.get(path) for path in paths] + [await ada.request("HEAD", paths[0])]
        assert await refusals(api, operator) == [
            entry(
                first, "access_refused", await id_of(ada), None,
                status=403, route="/operator/accounts/{account_id}", times=6,
            )
        ]  # fmt: skip

    async def test_is_written_before_the_service_has_stopped(self, start: Start, database: Database) -> None:
        async with start() as api:
            await join(api, database, "ada").get("/operator/queue")
        assert builders.rows(database, "SELECT action FROM audit_entries") == [{"action": "access_refused"}]

    async def test_of_another_users_object_is_not_found_and_not_recorded(
        self, api: Api, grace: Person, pair: Pair, operator: Person
    ) -> None:
        refused(await grace.get(f"/accounts/{pair.payer['id']}"), 404, "account_not_found")
        assert await refusals(api, operator) == []


# --- orders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "side", "action"),
    [
        ("/deposits", "to_account_id", "deposit_ordered"),
        ("/withdrawals", "from_account_id", "withdrawal_ordered"),
    ],
)
async def test_an_order_of_an_operator_is_recorded_once(
    operator: Person, pair: Pair, path: str, side: str, action: str
) -> None:
    body, headers = {side: pair.payer["id"], "amount": 70, "description": "cash"}, {"Idempotency-Key": "once"}
    answer = await operator.post(path, body, headers=headers)
    again = await operator.post(path, body, headers=headers)
    assert (answer.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    operator_id, transfer_id = await id_of(operator), answer.json()["id"]
    assert await newest(operator, action) == entry(answer, action, operator_id, transfer_id, amount=70, currency="USD")
    assert len(await entries(operator, author_id=operator_id)) == 1


async def test_a_customers_transfer_is_not_recorded(operator: Person, ada: Person, pair: Pair) -> None:
    before = await entries(operator)
    await ada.pay(pair.payer, pair.payee)
    assert await entries(operator) == before


# --- secrets -----------------------------------------------------------------------------------------------------


async def test_no_entry_contains_a_password_a_token_or_a_mistyped_address(
    api: Api, operator: Person, database: Database
) -> None:
    mary = await api.sign_up("mary")
    typed = "my password is battery@example.com"
    for email, password in ((typed, NOT_THE_PASSWORD), (PASSWORD, mary.email), (mary.email, NOT_THE_PASSWORD)):
        refused(await log_in(api, email, password), 401, "unauthenticated")
    body = {"refresh_token": mary.refresh_token}
    renewed = (await api.client.post("/token/refresh", json=body)).json()
    refused(await api.client.post("/token/refresh", json=body), 401, "unauthenticated")
    refused(await mary.get(f"/operator/users?token={mary.token}"), 403, "forbidden")
    await mary.post("/users/me/password", {"current_password": NOT_THE_PASSWORD, "new_password": NEW_PASSWORD})
    await mary.post("/users/me/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
    refused(await mary.get("/users/me"), 401, "unauthenticated")
    await (await api.log_in("mary", NEW_PASSWORD)).post("/logout")
    await api.runtime.refusals.flush()
    await api.runtime.refusals.stop()
    found = builders.rows(database, "SELECT * FROM audit_entries")
    assert {row["action"] for row in found} == {
        "logged_in", "log_in_failed", "refresh_token_reused", "access_refused", "password_changed", "logged_out"
    }  # fmt: skip
    everything = repr(found)
    secrets = [
        *(PASSWORD, NEW_PASSWORD, NOT_THE_PASSWORD, typed, mary.email),
        *(mary.token, mary.refresh_token, renewed["access_token"], renewed["refresh_token"]),
    ]
    assert [secret for secret in secrets if secret in everything] == []


# --- the list ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def acts(operator: Person, ada: Person, pair: Pair) -> list[Json]:
    """Eight acts of an operator on two accounts, newest first, as the list shows them."""
    for amount in range(1, 4):
        for account in (pair.payer, pair.payee):
            path = f"/operator/accounts/{account['id']}/overdraft-limit"
            assert (await operator.request("PUT", path, json={"amount": amount})).status_code == 200
    for account in (pair.payer, pair.payee):
        answer = await operator.post(f"/operator/accounts/{account['id']}/freeze", {"scope": "debit"})
        assert answer.status_code == 200
    found = await entries(operator, author_id=await id_of(operator))
    assert len(found) == 8
    return found


class TestTheList:
    async def test_filters_by_action(self, operator: Person, acts: list[Json]) -> None:
        found = await entries(operator, action="account_frozen")
        assert found == [item for item in acts if item["action"] == "account_frozen"]
        assert len(found) == 2

    async def test_filters_by_object(self, operator: Person, acts: list[Json], pair: Pair) -> None:
        found = await entries(operator, object_id=pair.payer["id"])
        assert found == [item for item in acts if item["object_id"] == pair.payer["id"]]
        assert len(found) == 4

    async def test_filters_by_author(self, operator: Person, ada: Person, acts: list[Json], database: Database) -> None:
        (bank,) = builders.rows(database, "SELECT public_id FROM users WHERE role = 'system'")
        deposits = await entries(operator, author_id=str(UUID(bytes=bank["public_id"])))
        assert [(item["action"], item["address"]) for item in deposits] == [("deposit_ordered", None)]
        assert await entries(operator) == acts + deposits
        assert await entries(operator, author_id=await id_of(ada)) == []

    async def test_filters_by_time_and_excludes_the_end(self, operator: Person, acts: list[Json]) -> None:
        start, end = acts[5]["at"], acts[2]["at"]
        assert await entries(operator, created_from=start, created_to=end) == acts[3:6]
        assert await entries(operator, created_from=start) == acts[:6]
        later = (datetime.fromisoformat(end) + timedelta(microseconds=1)).isoformat()
        assert await entries(operator, created_to=later) == await entries(operator, offset=2)

    async def test_combines_all_filters(self, operator: Person, acts: list[Json], pair: Pair) -> None:
        found = await entries(
            operator,
            action="overdraft_limit_set",
            object_id=pair.payee["id"],
            author_id=acts[0]["author_id"],
            created_from=acts[6]["at"],
            created_to=acts[2]["at"],
        )
        assert [item["details"]["after"] for item in found] == [2, 1]

    async def test_pages_by_cursor_within_its_filters(self, operator: Person, acts: list[Json]) -> None:
        seen, cursor = [], ""
        for _ in range(3):
            answer = await operator.get(f"/operator/audit?action=overdraft_limit_set&limit=2{cursor}")
            seen += answer.json()["items"]
            cursor = f"&cursor={answer.json()['next_cursor']}"
        assert answer.json()["next_cursor"] is None
        assert seen == [item for item in acts if item["action"] == "overdraft_limit_set"]

    @pytest.mark.parametrize(
        "others", ["", "action=account_frozen", "created_from=2026-01-01T00:00:00Z", f"object_id={UUID(int=7)}"]
    )
    async def test_rejects_the_cursor_of_other_filters(self, operator: Person, acts: list[Json], others: str) -> None:
        page = (await operator.get("/operator/audit?action=overdraft_limit_set&limit=2")).json()
        answer = await operator.get(f"/operator/audit?{others}&cursor={page['next_cursor']}")
        refused(answer, 422, "validation_failed", "query.cursor")

    @pytest.mark.parametrize(
        ("query", "location"),
        [
            ("action=sung", "query.action"), ("action=", "query.action"), ("author_id=1", "query.author_id"),
            ("object_id=x", "query.object_id"), ("created_from=1700000000", "query.created_from"),
            ("created_from=2026-11-24", "query.created_from"), ("created_to=2026-11-24T00:00:00", "query.created_to"),
            ("address=127.0.0.1", "query.address"),
        ],
    )  # fmt: skip
    async def test_rejects_an_invalid_filter(self, operator: Person, query: str, location: str) -> None:
        refused(await operator.get(f"/operator/audit?{query}"), 422, "validation_failed", location)
